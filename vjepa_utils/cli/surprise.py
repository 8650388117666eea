"""The command `surprise`."""

from vjepa_utils.cli import (
    add_encoder,
    add_frames,
    add_output,
    add_size,
    add_video,
    check_output,
    clip,
)


def register(commands):
    parser = commands.add_parser(
        "surprise",
        help="where and when a clip surprises the predictor",
        description=surprise.__doc__,
    )
    add_video(parser)
    add_frames(parser)
    add_encoder(parser)
    add_size(parser, about="(default: 256, or the training size if larger)")
    parser.add_argument(
        "--context",
        type=int,
        default=8,
        help="frames that a prediction is made from, an even number (default: %(default)s)",
    )
    parser.add_argument(
        "--horizon",
        type=int,
        default=1,
        help="predict so many steps of two frames, and show the last (default: %(default)s)",
    )
    parser.add_argument(
        "--target",
        choices=["window", "step"],
        default="window",
        help="what the features to predict are computed from: the visible and the predicted frames "
        "jointly, as in training (default), or each predicted step alone",
    )
    parser.add_argument(
        "--error", choices=["cosine", "l1"], default="cosine", help="(default: %(default)s)"
    )
    parser.add_argument("--save", metavar="OUT.npz", help="write the numbers too")
    add_output(parser, "an .mp4, .gif or .png file")
    parser.set_defaults(run=surprise)


def surprise(arguments):
    """How far each step of a clip is from what the predictor expects, as a film or a figure."""
    import vjepa_utils as vj

    check_output(arguments, ".png", ".mp4", ".gif")
    if arguments.save:
        check_output(arguments, ".npz", output=arguments.save, flag="--save")
    video = clip(arguments)
    encoder = vj.load_encoder(arguments.encoder)
    found = encoder.surprise(
        video, arguments.context, arguments.horizon, arguments.size, arguments.target
    )
    shown = dict(error=arguments.error, ahead=found.horizon)
    if str(arguments.output).lower().endswith(".png"):
        vj.figures.save(vj.surprise.surprise_strip(video, found, **shown), arguments.output)
    else:
        vj.surprise.animate_surprise(video, found, arguments.output, **shown)
    if arguments.save:
        found.save(arguments.save)
    print(found.table(found.horizon))
    curve, frames = found.over_time(**shown)["prediction"], found.frames[found.at(found.horizon)]
    for rank, step in enumerate(found.moments(**shown), 1):
        first, second = frames[step]
        seconds = video.times[video.indices == first][0]
        print(f"({rank}) frames {first}+{second}, {seconds:.2f} s: {curve[step]:.3f}")
    print(
        f"{arguments.output}: {len(frames)} steps, each predicted from {found.context} frames, "
        f"{encoder.name}"
    )
