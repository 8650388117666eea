"""Command line: python -m vjepa_utils pca | recover | compare | similarity | track | classify VIDEO, tapvid PATH, probe FOLDER, figures."""

import argparse
import sys
import warnings
from pathlib import Path

ROOT = Path(__file__).parent.parent
MASKS = ["block", "multiblock", "multiblock-long", "tubes", "tokens", "window", "future"]


def pca(arguments):
    """Colours of a clip: .png is a strip of its steps, .mp4 and .gif the frames beside their colours."""
    import vjepa_utils as vj

    _check_output(arguments, ".png", ".mp4", ".gif")
    video = _clip(arguments)
    encoder = vj.load_encoder(arguments.encoder)
    features = encoder.encode(video, arguments.context, arguments.size)
    colours = vj.PCAColours().fit(features)
    if arguments.output.lower().endswith(".png"):
        vj.figures.save(vj.figures.pca_strip(video, features, colours), arguments.output)
    else:
        vj.figures.animate(video, features, colours, arguments.output)
    print(f"{arguments.output}: {features.grid[0]} steps of {features.grid[1]}×{features.grid[2]} patches, {encoder.name}")


def recover(arguments):
    """What the predictor recovers of hidden tokens, as a figure and a table; all frames are encoded jointly."""
    import vjepa_utils as vj

    _check_output(arguments, ".png")
    video = _clip(arguments)
    encoder = vj.load_encoder(arguments.encoder)
    grid, seed = encoder.grid(video, arguments.size, "clip"), arguments.seed
    share = {} if arguments.share is None else {"share": arguments.share}
    make = {
        "block": lambda: vj.masks.block(grid, **share),
        "multiblock": lambda: vj.masks.multiblock(grid, "short", seed),
        "multiblock-long": lambda: vj.masks.multiblock(grid, "long", seed),
        "tubes": lambda: vj.masks.tubes(grid, **share, seed=seed),
        "tokens": lambda: vj.masks.tokens(grid, **share, seed=seed),
        "window": lambda: vj.masks.window(grid, **share),
        "future": lambda: vj.masks.future(grid, (grid[0] - 1) // 2 if arguments.after is None else arguments.after),
    }
    found = encoder.recover(video, {name: make[name]() for name in arguments.mask}, size=arguments.size)
    vj.figures.save(vj.figures.recovery_strip(video, found), arguments.output)
    for name, recovery in found.items():
        print(f"{name}\n{recovery.table()}\n")
    print(f"{arguments.output}: {grid[0]} steps of {grid[1]}×{grid[2]} patches, {encoder.name}")


def _features_of_all(arguments):
    """The clip, and {encoder: its features} on one grid."""
    import vjepa_utils as vj

    _check_output(arguments, ".png")
    video = _clip(arguments)
    encoders = [vj.load_encoder(name) for name in arguments.encoders]
    return video, vj.comparison.on_one_grid(encoders, video, arguments.size, arguments.context)


def compare(arguments):
    """The same pairs of frames through several encoders, on one grid, each in its own colours."""
    import vjepa_utils as vj

    video, features = _features_of_all(arguments)
    vj.figures.save(vj.figures.encoders_strip(video, features), arguments.output)
    print(f"{arguments.output}: {', '.join(features)}")


def similarity(arguments):
    """Where each encoder finds what a point of one frame shows: cosine over the clip, without training."""
    import vjepa_utils as vj

    video, features = _features_of_all(arguments)
    frame = int(video.indices[0]) if arguments.frame is None else arguments.frame
    vj.figures.save(vj.figures.similarity_strip(video, features, arguments.point, frame), arguments.output)
    print(f"{arguments.output}: ({arguments.point[0]:g}, {arguments.point[1]:g}) of frame {frame}, {', '.join(features)}")


def track(arguments):
    """Follow points: .mp4 and .gif are the clip with its tracks, .png some of its frames. A ring is a point that is hidden."""
    import vjepa_utils as vj

    _check_output(arguments, ".mp4", ".gif", ".png")
    if arguments.save:
        _check_output(arguments, ".npz", ".csv", output=arguments.save, flag="--save")
    if arguments.points and arguments.grid is not None:
        raise ValueError("Give either --points or --grid, not both.")
    if arguments.grid is not None and arguments.grid < 1:
        raise ValueError(f"--grid must be at least 1, not {arguments.grid}.")
    video = _clip(arguments)
    frame = int(video.indices[0]) if arguments.frame is None else arguments.frame
    points = arguments.points or vj.tracking.grid_points(video, 16 if arguments.grid is None else arguments.grid)
    head = arguments.head and vj.tracking.load_head(arguments.head)
    tracks = vj.track(video, [(frame, x, y) for x, y in points], vj.load_encoder(arguments.encoder), head, arguments.size)
    if arguments.save:
        tracks.save(arguments.save)
    if arguments.output.lower().endswith(".png"):
        vj.figures.save(vj.figures.track_strip(video, tracks), arguments.output)
    else:
        vj.figures.animate_tracks(video, tracks, arguments.output)
    print(f"{arguments.output}: {len(points)} points of frame {frame} in {len(video)} frames, {tracks.encoder}")


def tapvid(arguments):
    """The table of TAP-Vid for a file of its (tapvid_davis.pkl, tapvid_rgb_stacking.pkl) or a folder of such (Kinetics), in per cent.

    Frames are resized to 256×256 first; --size encodes them at another size.
    """
    import vjepa_utils as vj

    if arguments.clips is not None and arguments.clips < 1:
        raise ValueError(f"--clips must be at least 1, not {arguments.clips}.")
    head = arguments.head and vj.tracking.load_head(arguments.head)
    encoder = vj.load_encoder(arguments.encoder)
    print(f"{encoder.name}{' with ' + head.name if head else ''}, {arguments.mode}")
    for line in vj.tracking.tapvid.table(arguments.path, encoder, head, arguments.size, arguments.mode, arguments.clips):
        print(line, flush=True)


def classify(arguments):
    """The likeliest actions of a clip, by a checkpoint with a classification head or by a probe of your own."""
    import vjepa_utils as vj

    if arguments.output:
        _check_output(arguments, ".png")
    if arguments.top < 1:
        raise ValueError(f"--top must be at least 1, not {arguments.top}.")
    if arguments.encoder and not arguments.probe:
        raise ValueError("--encoder goes with --probe: a checkpoint with a head has its own.")
    video = _clip(arguments)
    if arguments.probe:
        probe = vj.Probe.load(arguments.probe)
        found = probe.classify(video, vj.load_encoder(arguments.encoder or probe.encoder), arguments.top)
    else:
        found = vj.classify(video, arguments.checkpoint, arguments.top)
    print(found.table())
    if arguments.output:
        vj.figures.save(vj.figures.action_bars(video, found), arguments.output)


def probe(arguments):
    """Train a probe on a folder that has a sub-folder of clips for each class, and measure it on clips held out."""
    import vjepa_utils as vj

    if arguments.output:
        _check_output(arguments, ".png")
    if arguments.save:
        _check_output(arguments, ".safetensors", output=arguments.save, flag="--save")
    if arguments.seed < 0:
        raise ValueError(f"--seed must be at least 0, not {arguments.seed}.")
    how = dict(size=arguments.size, context=arguments.context)
    encoder = vj.load_encoder(arguments.encoder)
    features, labels, skipped = vj.actions.probes.folder_features(arguments.folder, encoder, **how, **_frames(arguments))
    for why in skipped.values():
        print(f"skipped: {why}", file=sys.stderr)
    seen, held = vj.actions.probes.hold_out(labels, arguments.seed)
    truth, results = [labels[i] for i in held], []
    for kind in ("linear", "attentive"):
        trained = vj.train_probe([features[i] for i in seen], [labels[i] for i in seen], kind, encoder, **how, seed=arguments.seed)
        predicted = trained.predict([features[i] for i in held])
        right, low, high = vj.actions.probes.accuracy(truth, predicted)
        results.append(f"{kind} probe: {right:.0%} of {len(truth)} held-out clips right (95 %: {low:.0%} to {high:.0%})")
        print(results[-1])
    lost = f", {len(skipped)} of the files skipped" if skipped else ""
    print(f"{len(seen)} clips to train on, {len(trained.classes)} classes, chance {1 / len(trained.classes):.0%}; {encoder.name}{lost}")
    if arguments.output:
        heading = f"{Path(arguments.folder).name} · {encoder.name} · {results[-1]} · rows in per cent"
        vj.figures.save(vj.figures.confusion(truth, predicted, heading), arguments.output)
    if arguments.save:
        trained.save(arguments.save)


def figures(arguments):
    """The figures of the README, from the clips in videos/ and rendered scenes, in float32 on one thread: a second run changes no file."""
    import torch
    from tqdm import tqdm

    import vjepa_utils as vj
    from demo.scenes import unseen_scenes

    torch.set_num_threads(1)  # with more, sums are taken in an order that changes from run to run
    encoder = vj.load_encoder(arguments.encoder, dtype=torch.float32)
    has_predictor = hasattr(encoder.model, "predictor")
    beside = vj.load_encoder("dino-demo" if has_predictor else "vjepa2-demo", dtype=torch.float32)
    assets = ROOT / "assets"
    folder = Path(arguments.output or (assets if arguments.encoder == "vjepa2-demo" else assets / encoder.name.replace("/", "--")))
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"-o must be a folder, and {folder} is a file.")
    every = 4 if arguments.every is None else arguments.every
    files = (ROOT / "videos" / f"{name}.mp4" for name in ("kitesurfing", "monkey"))
    clips = {file.stem: vj.read_video(file, arguments.start, every, arguments.count) for file in files}
    if min(map(len, clips.values())) < 4:
        raise ValueError("The figures need at least four frames of each clip: take a smaller --every or --start, or a larger --count.")
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {}
    for name, video in tqdm(clips.items(), desc="drawing"):
        latents = encoder.encode(video, arguments.context or "pair", arguments.size)
        colours = vj.PCAColours().fit(latents)  # one basis for a clip: a colour means the same in all its figures
        moved = [abs(video.frames[i + 1].astype(int) - video.frames[i]).mean() for i in range(0, len(video) - 1, 2)]
        step = moved.index(max(moved))  # the pair in which most moves
        both = vj.comparison.on_one_grid([encoder, beside], video, arguments.size)
        frame = int(video.indices[0])
        drawn |= {
            f"{name}-pair": vj.figures.pair_panel(video, latents, colours, step),
            f"{name}-pca": vj.figures.pca_strip(video, latents, colours),
            f"{name}-change": vj.figures.change_strip(video, latents),
            f"{name}-overlay": vj.figures.overlay(video, latents, colours, step),
            f"{name}-compare": vj.figures.encoders_strip(video, both),
            f"{name}-similarity": vj.figures.similarity_strip(video, both, _on_largest_thing(name, frame), frame),
        }
        if has_predictor:
            hidden = {"block": vj.masks.block(encoder.grid(video, None, "clip"))}
            drawn[f"{name}-recovery"] = vj.figures.recovery_strip(video, encoder.recover(video, hidden))
    if has_predictor:
        scenes = [scene.frames for scene in unseen_scenes(8, 12, 160, 160)]
        grid = encoder.grid(scenes[0], (160, 160), "clip")
        hidden = {share: vj.masks.block(grid, share) for share in (0.25, 0.4, 0.6, 0.8)} | {"future": vj.masks.future(grid, 1)}
        found = [encoder.recover(scene, hidden, size=(160, 160)) for scene in tqdm(scenes, desc="recovering scenes")]
        about = f"centred block, then future, of {len(scenes)} unseen rendered scenes"
        drawn["recovery-curves"] = vj.figures.recovery_curves(found, about)
    if arguments.encoder == "vjepa2-demo":
        clip = vj.read_video(ROOT / "videos" / "monkey.mp4", arguments.start, 2, arguments.count)  # points need a finer step
        points = [(int(clip.indices[0]), x, y) for x, y in vj.tracking.grid_points(clip, 16)]
        drawn["monkey-tracks"] = vj.figures.track_strip(clip, vj.track(clip, points, encoder, head="track-head"), most=4)
    for name, figure in drawn.items():
        vj.figures.save(figure, folder / f"{name}.png")
    print(f"{folder}: {len(drawn)} figures with {encoder.name}")


def _on_largest_thing(name, frame):
    """The pixel (x, y) of the largest moving thing in a shipped clip that is nearest to the thing's middle."""
    import numpy as np

    mask = np.load(ROOT / "videos" / f"{name}.npz")["masks"][frame]
    places = np.argwhere(mask == np.bincount(mask[mask > 0]).argmax())
    y, x = places[((places - places.mean(0)) ** 2).sum(1).argmin()]
    return x + 0.5, y + 0.5


def parser():
    main = argparse.ArgumentParser(prog="python -m vjepa_utils", description="Look inside V-JEPA 2.")
    commands = main.add_subparsers(dest="command", required=True, metavar="COMMAND")
    frames = argparse.ArgumentParser(add_help=False)
    frames.add_argument("--start", type=_whole, default=0, help='first frame: its number, or seconds such as "5.2s"')
    frames.add_argument("--every", type=int, help="take every n-th frame (default: 1; 4 for figures)")
    frames.add_argument("--count", type=int, help="how many frames to take (default: all)")
    shared = argparse.ArgumentParser(add_help=False, parents=[frames])
    encoders = "a shipped encoder, a Hugging Face id or a local folder (default: %(default)s)"
    shared.add_argument("--encoder", default="vjepa2-demo", help=encoders)
    side = "short side of the encoded picture, or HEIGHTxWIDTH"
    encoded = argparse.ArgumentParser(add_help=False, parents=[shared])
    encoded.add_argument("--size", type=_size, default=512, help=side + " (default: %(default)s)")
    contexts = 'frames that see each other: "pair" (default), "clip", "frame" or an even number'
    encoded.add_argument("--context", type=_whole, help=contexts)
    pca_ = commands.add_parser("pca", parents=[encoded], help="colours of a clip", description=pca.__doc__)
    pca_.add_argument("video", help="a video file, a GIF or a folder of images")
    pca_.add_argument("-o", dest="output", required=True, metavar="OUT", help="a .png, .mp4 or .gif file")
    pca_.set_defaults(run=pca)
    recover_ = commands.add_parser("recover", parents=[shared], help="what the predictor recovers", description=recover.__doc__)
    recover_.add_argument("video", help="a video file, a GIF or a folder of images")
    recover_.add_argument("--size", type=_size, help=side + " (default: 256, or the training size if larger)")
    recover_.add_argument("--mask", nargs="+", action="extend", choices=MASKS, required=True, help="what to hide; one or several")
    recover_.add_argument("--share", type=float, help="how much to hide (default: 0.6; 0.25 for window); not for multiblock and future")
    recover_.add_argument("--after", type=int, help="for future: the last visible step, two frames each, from 0 (default: the middle one)")
    recover_.add_argument("--seed", type=int, default=0, help="of random masks (default: %(default)s)")
    recover_.add_argument("-o", dest="output", required=True, metavar="OUT", help="a .png file")
    recover_.set_defaults(run=recover)
    several = argparse.ArgumentParser(add_help=False, parents=[frames])
    several.add_argument("video", help="a video file, a GIF or a folder of images")
    names = "shipped ones, Hugging Face ids or local folders (default: vjepa2-demo dino-demo)"
    several.add_argument("--encoders", "--encoder", nargs="+", default=["vjepa2-demo", "dino-demo"], metavar="ENCODER", help=names)
    several.add_argument("--size", type=_size, default=512, help=f"{side}, of the first encoder (default: %(default)s)")
    several.add_argument("--context", choices=["pair", "frame"], default="pair", help="frames that see each other (default: %(default)s)")
    several.add_argument("-o", dest="output", required=True, metavar="OUT", help="a .png file")
    compare_ = commands.add_parser("compare", parents=[several], help="several encoders on one grid", description=compare.__doc__)
    compare_.set_defaults(run=compare)
    similarity_ = commands.add_parser("similarity", parents=[several], help="where a point is found again", description=similarity.__doc__)
    similarity_.add_argument("--point", type=_point, required=True, metavar="X,Y", help="in pixels of the clip, from its upper left corner")
    similarity_.add_argument("--frame", type=int, help="file number of the frame that the point is in (default: the first taken)")
    similarity_.set_defaults(run=similarity)
    heads = 'a shipped head ("track-head", for vjepa2-demo) or a folder; without it features are compared as they are'
    track_ = commands.add_parser("track", parents=[shared], help="follow points", description=track.__doc__)
    track_.add_argument("video", help="a video file, a GIF or a folder of images")
    track_.add_argument("--points", nargs="+", type=_point, metavar="X,Y", help="in pixels of the picture")
    track_.add_argument("--grid", type=int, metavar="N", help="points on a regular grid, N along the longer side (default: 16)")
    track_.add_argument("--frame", type=int, help="number of the frame in which the points are picked (default: the first)")
    track_.add_argument("--head", help=heads)
    track_.add_argument("--size", type=_size, help=side + " (default: 512; with a head, the one it was trained at)")
    track_.add_argument("--save", metavar="NUMBERS", help="an .npz or .csv file for the tracks")
    track_.add_argument("-o", dest="output", required=True, metavar="OUT", help="an .mp4, .gif or .png file")
    track_.set_defaults(run=track)
    tapvid_ = commands.add_parser("tapvid", help="the table of TAP-Vid", description=tapvid.__doc__)
    tapvid_.add_argument("path", help="a .pkl file or a folder of such")
    tapvid_.add_argument("--encoder", default="vjepa2-demo", help=encoders)
    tapvid_.add_argument("--head", help=heads)
    tapvid_.add_argument("--size", type=_size, default=256, help=side + " (default: %(default)s)")
    tapvid_.add_argument("--mode", choices=["first", "strided"], default="first", help="where queries are (default: %(default)s)")
    tapvid_.add_argument("--clips", type=int, help="how many clips of the data set to take (default: all)")
    tapvid_.set_defaults(run=tapvid)
    classify_ = commands.add_parser("classify", parents=[frames], help="the action in a clip", description=classify.__doc__)
    classify_.add_argument("video", help="a video file, a GIF or a folder of images")
    by = classify_.add_mutually_exclusive_group(required=True)
    by.add_argument("--checkpoint", metavar="ID", help="with a head, such as facebook/vjepa2-vitl-fpc16-256-ssv2, or a folder")
    by.add_argument("--probe", metavar="FILE", help="what probe --save wrote")
    classify_.add_argument("--encoder", help="for --probe, where the encoder is a local folder (default: the probe's)")
    classify_.add_argument("--top", type=int, default=5, help="how many classes to tell (default: %(default)s)")
    classify_.add_argument("-o", dest="output", metavar="OUT", help="a .png file: the frames used, and bars")
    classify_.set_defaults(run=classify)
    probe_ = commands.add_parser("probe", parents=[shared], help="train a probe on your own classes", description=probe.__doc__)
    probe_.add_argument("folder", metavar="FOLDER", help="a folder with a sub-folder of clips for each class")
    probe_.add_argument("--size", type=_size, help=side + " (default: 256, or the training size if larger)")
    probe_.add_argument("--context", type=_whole, help=contexts)
    probe_.add_argument("--seed", type=int, default=0, help="of the clips held out and of the training (default: %(default)s)")
    probe_.add_argument("--save", metavar="FILE", help="write the attentive probe, a .safetensors file")
    probe_.add_argument("-o", dest="output", metavar="OUT", help="a .png file: which class is taken for which")
    probe_.set_defaults(run=probe)
    figures_ = commands.add_parser("figures", parents=[encoded], help="the figures of the README", description=figures.__doc__)
    figures_.add_argument("-o", dest="output", metavar="FOLDER", help="default: assets/, with another encoder a folder in it")
    figures_.set_defaults(run=figures)
    return main


def _clip(arguments):
    """The frames that were asked for."""
    import vjepa_utils as vj

    return vj.read_video(arguments.video, **_frames(arguments))


def _frames(arguments):
    return dict(start=arguments.start, every=1 if arguments.every is None else arguments.every, count=arguments.count)


def _check_output(arguments, *kinds, output=None, flag="-o"):
    """ValueError or OSError now, not after the encoding."""
    import vjepa_utils as vj

    output = Path(output or arguments.output)
    if output.suffix.lower() not in kinds:
        *others, last = kinds
        raise ValueError(f"{flag} must end in {', '.join(others)}{' or ' if others else ''}{last}, not {output}.")
    vj.features.check_writable(output)
    if "video" in arguments and output.exists() and output.resolve() == Path(arguments.video).resolve():
        raise ValueError(f"{flag} names the clip itself, {arguments.video}: give another file.")


def _size(text):
    try:
        parts = tuple(int(part) for part in text.lower().split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"a number of pixels or HEIGHTxWIDTH is needed, not {text!r}") from None
    return parts[0] if len(parts) == 1 else parts


def _point(text):
    try:
        x, y = (float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"X,Y is needed, such as 320,200, not {text!r}") from None
    return x, y


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
