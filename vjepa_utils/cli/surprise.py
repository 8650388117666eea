import vjepa_utils as vj
from vjepa_utils import cli


def register(commands):
    context = cli.context(8, "an even number, from which the next frames are predicted")
    save = cli.output(".npz", flag="--save", required=False, text=" for the numbers")
    parents = cli.CLIP, cli.ENCODER, cli.size(), context, save, cli.output(".png", ".mp4", ".gif")
    parser = cli.add(commands, surprise, *parents)
    text = "predict so many steps of two frames, and show the last (default: %(default)s)"
    parser.add_argument("--horizon", type=cli.positive, default=1, metavar="N", help=text)
    text = "of the features to predict: from the visible and the predicted frames jointly, as in "
    text += "training (window), or from each predicted step alone (default: %(default)s)"
    parser.add_argument("--target", choices=["window", "step"], default="window", help=text)
    text = "which to show (default: %(default)s)"
    parser.add_argument("--error", choices=["cosine", "l1"], default="cosine", help=text)
    text = "of a .png: show the pixels that were expected too, decoded from the prediction"
    parser.add_argument("--pixels", action="store_true", help=text)


def surprise(arguments):
    """How far each step of a clip is from what the predictor expects, as a film or a figure."""
    if arguments.pixels and arguments.output.suffix.lower() != ".png":
        raise vj.UserError(f"--pixels goes with a .png: the film {arguments.output} shows none.")
    video = cli.read_clip(arguments)
    encoder = vj.load_encoder(arguments.encoder)
    options = arguments.context, arguments.horizon, arguments.size, arguments.target
    surprise = encoder.surprise(video, *options)
    shown = dict(error=arguments.error, ahead=surprise.horizon)
    pixels = lambda step: vj.decoding.expected(surprise, encoder, video, arguments.size, step)
    drawn = shown | {"expected": pixels if arguments.pixels else None}
    strip = lambda: vj.surprise.surprise_strip(video, surprise, **drawn)
    film = lambda path: vj.surprise.animate_surprise(video, surprise, path, **shown)
    cli.draw(arguments.output, strip, film)
    if arguments.save:
        surprise.save(arguments.save)
    print(surprise.table(surprise.horizon))
    curve, frames = surprise.over_time(**shown)["prediction"], surprise.frames[:: surprise.horizon]
    for rank, step in enumerate(surprise.moments(**shown), 1):
        first, second = frames[step]
        seconds = video.times[video.positions([first])][0]
        print(f"({rank}) frames {first}+{second}, {seconds:.2f} s: {curve[step]:.3f}")
    counts = f"{len(frames)} steps, each predicted from {surprise.context} frames"
    print(f"{arguments.output}: {counts}, {encoder.name}")
