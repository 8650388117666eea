"""Command line: python -m vjepa_utils pca VIDEO -o OUT.png, and python -m vjepa_utils figures."""

import argparse
import sys
import warnings
from pathlib import Path

ROOT = Path(__file__).parent.parent


def pca(arguments):
    """Colours of a clip: .png is a strip of its steps, .mp4 and .gif the frames beside their colours."""
    import vjepa_utils as vj

    if Path(arguments.output).suffix.lower() not in (".png", ".mp4", ".gif"):
        raise ValueError(f"-o must end in .png, .mp4 or .gif, not {arguments.output}.")
    vj.features.check_writable(arguments.output)  # now, not after the encoding
    if Path(arguments.output).exists() and Path(arguments.output).resolve() == Path(arguments.video).resolve():
        raise ValueError(f"-o names the clip itself, {arguments.video}: give another file.")
    every = 1 if arguments.every is None else arguments.every
    video = vj.read_video(arguments.video, arguments.start, every, arguments.count)
    encoder = vj.load_encoder(arguments.encoder)
    features = encoder.encode(video, arguments.context, arguments.size)
    colours = vj.PCAColours().fit(features)
    if arguments.output.lower().endswith(".png"):
        vj.figures.save(vj.figures.pca_strip(video, features, colours), arguments.output)
    else:
        vj.figures.animate(video, features, colours, arguments.output)
    print(f"{arguments.output}: {features.grid[0]} steps of {features.grid[1]}×{features.grid[2]} patches, {encoder.name}")


def figures(arguments):
    """The figures of the README, from the two clips in videos/, in float32 on one thread: a second run gives the same files."""
    import torch
    from tqdm import tqdm

    import vjepa_utils as vj

    torch.set_num_threads(1)  # with more, sums are taken in an order that changes from run to run
    encoder = vj.load_encoder(arguments.encoder, dtype=torch.float32)
    assets = ROOT / "assets"
    folder = Path(arguments.output or (assets if arguments.encoder == "vjepa2-demo" else assets / encoder.name.replace("/", "--")))
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"-o must be a folder, and {folder} is a file.")
    every = 4 if arguments.every is None else arguments.every
    files = (ROOT / "videos" / f"{name}.mp4" for name in ("kitesurfing", "monkey"))
    clips = {file.stem: vj.read_video(file, arguments.start, every, arguments.count) for file in files}
    if min(map(len, clips.values())) < 4:
        raise ValueError("The figures need at least four frames of each clip: take a smaller --every or --start, or a larger --count.")
    features = {name: encoder.encode(video, arguments.context, arguments.size) for name, video in clips.items()}
    colours = vj.PCAColours().fit(*features.values())  # one basis: a colour means the same in every figure
    folder.mkdir(parents=True, exist_ok=True)
    for name, video in tqdm(clips.items(), desc="drawing"):
        latents = features[name]
        moved = [abs(video.frames[i + 1].astype(int) - video.frames[i]).mean() for i in range(0, len(video) - 1, 2)]
        step = moved.index(max(moved))  # the pair in which most moves
        drawn = {
            "pair": vj.figures.pair_panel(video, latents, colours, step),
            "pca": vj.figures.pca_strip(video, latents, colours),
            "change": vj.figures.change_strip(video, latents),
            "overlay": vj.figures.overlay(video, latents, colours, step),
        }
        for kind, figure in drawn.items():
            vj.figures.save(figure, folder / f"{name}-{kind}.png")
    print(f"{folder}: {len(drawn) * len(clips)} figures with {encoder.name}")


def parser():
    main = argparse.ArgumentParser(prog="python -m vjepa_utils", description="Look inside V-JEPA 2.")
    commands = main.add_subparsers(dest="command", required=True, metavar="COMMAND")
    shared = argparse.ArgumentParser(add_help=False)
    encoders = "a shipped encoder, a Hugging Face id or a local folder (default: %(default)s)"
    shared.add_argument("--encoder", default="vjepa2-demo", help=encoders)
    shared.add_argument("--size", type=_size, default=512, help="short side of the encoded picture, or HEIGHTxWIDTH (default: %(default)s)")
    shared.add_argument("--context", type=_whole, help='frames that see each other: "pair" (default), "clip", "frame" or an even number')
    shared.add_argument("--start", type=_whole, default=0, help='first frame: its number, or seconds such as "5.2s"')
    shared.add_argument("--every", type=int, help="take every n-th frame (default: 1; 4 for figures)")
    shared.add_argument("--count", type=int, help="how many frames to take (default: all)")
    pca_ = commands.add_parser("pca", parents=[shared], help="colours of a clip", description=pca.__doc__)
    pca_.add_argument("video", help="a video file, a GIF or a folder of images")
    pca_.add_argument("-o", dest="output", required=True, metavar="OUT", help="a .png, .mp4 or .gif file")
    pca_.set_defaults(run=pca)
    figures_ = commands.add_parser("figures", parents=[shared], help="the figures of the README", description=figures.__doc__)
    figures_.add_argument("-o", dest="output", metavar="FOLDER", help="default: assets/, with another encoder a folder in it")
    figures_.set_defaults(run=figures)
    return main


def _size(text):
    try:
        parts = tuple(int(part) for part in text.lower().split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"a number of pixels or HEIGHTxWIDTH is needed, not {text!r}") from None
    return parts[0] if len(parts) == 1 else parts


def _whole(text):
    """A whole number where it is one, else the word."""
    return int(text) if text.isdigit() else text


def main(words=None):
    arguments = parser().parse_args(words)
    warnings.simplefilter("always")
    warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)
    try:
        arguments.run(arguments)
    except (ValueError, OSError, MemoryError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("stopped")


if __name__ == "__main__":
    main()
