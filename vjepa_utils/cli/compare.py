"""The commands `compare` and `similarity`."""

from vjepa_utils.cli import (
    add_frames,
    add_output,
    add_size,
    add_video,
    check_output,
    clip,
    point,
    say_cuts,
)


def register(commands):
    parser = commands.add_parser(
        "compare", help="several encoders on one grid", description=compare.__doc__
    )
    _add_shared(parser)
    parser.set_defaults(run=compare)
    parser = commands.add_parser(
        "similarity", help="where a point is found again", description=similarity.__doc__
    )
    _add_shared(parser)
    parser.add_argument(
        "--point",
        type=point,
        required=True,
        metavar="X,Y",
        help="in pixels of the clip, from its upper left corner",
    )
    parser.add_argument(
        "--frame",
        type=int,
        help="file number of the frame that the point is in (default: the first taken)",
    )
    parser.set_defaults(run=similarity)


def _add_shared(parser):
    add_video(parser)
    add_frames(parser)
    names = "shipped ones, Hugging Face ids or local folders (default: vjepa2-demo dino-demo)"
    parser.add_argument(
        "--encoders",
        "--encoder",
        nargs="+",
        default=["vjepa2-demo", "dino-demo"],
        metavar="ENCODER",
        help=names,
    )
    add_size(parser, 512, "of the first encoder (default: %(default)s)")
    parser.add_argument(
        "--context",
        choices=["pair", "frame"],
        default="pair",
        help="frames that attend to each other (default: %(default)s)",
    )
    add_output(parser, "a .png file")


def _features_of_all(arguments):
    """The clip, and {encoder: its features} on one grid."""
    import vjepa_utils as vj

    check_output(arguments, ".png")
    video = clip(arguments)
    encoders = [vj.load_encoder(name) for name in arguments.encoders]
    found = vj.comparison.on_one_grid(encoders, video, arguments.size, arguments.context)
    say_cuts(next(iter(found.values())))
    return video, found


def compare(arguments):
    """The same pairs of frames through several encoders, on one grid, each in its own colours."""
    import vjepa_utils as vj

    video, features = _features_of_all(arguments)
    vj.figures.save(vj.comparison.encoders_strip(video, features), arguments.output)
    print(f"{arguments.output}: {', '.join(features)}")


def similarity(arguments):
    """Where each encoder finds what a point of one frame shows: cosine over the clip, without
    training.
    """
    import vjepa_utils as vj

    video, features = _features_of_all(arguments)
    frame = int(video.indices[0]) if arguments.frame is None else arguments.frame
    vj.figures.save(
        vj.comparison.similarity_strip(video, features, arguments.point, frame), arguments.output
    )
    print(
        f"{arguments.output}: ({arguments.point[0]:g}, {arguments.point[1]:g}) of frame {frame}, "
        f"{', '.join(features)}"
    )
