"""The commands `track` and `tapvid`."""

from vjepa_utils.checks import UserError
from vjepa_utils.cli import (
    add_encoder,
    add_frames,
    add_output,
    add_size,
    add_video,
    check_output,
    clip,
    point,
)

HEADS = (
    'a shipped head ("track-head", for vjepa2-demo) or a folder; '
    "without it features are compared directly (zero-shot)"
)


def register(commands):
    parser = commands.add_parser("track", help="track points", description=track.__doc__)
    add_video(parser)
    add_frames(parser)
    add_encoder(parser)
    parser.add_argument(
        "--points", nargs="+", type=point, metavar="X,Y", help="in pixels of the picture"
    )
    parser.add_argument(
        "--grid",
        type=int,
        metavar="N",
        help="points on a regular grid, N along the longer side (default: 16)",
    )
    parser.add_argument(
        "--frame",
        type=int,
        help="number of the frame in which the points are picked (default: the first)",
    )
    parser.add_argument("--head", help=HEADS)
    add_size(parser, about="(default: 512; with a head, the one it was trained at)")
    parser.add_argument("--save", metavar="NUMBERS", help="an .npz or .csv file for the tracks")
    add_output(parser, "an .mp4, .gif or .png file")
    parser.set_defaults(run=track)
    parser = commands.add_parser("tapvid", help="the table of TAP-Vid", description=tapvid.__doc__)
    parser.add_argument("path", help="a .pkl file or a folder of such")
    add_encoder(parser)
    parser.add_argument("--head", help=HEADS)
    add_size(parser, 256)
    parser.add_argument(
        "--mode",
        choices=["first", "strided"],
        default="first",
        help="where queries are (default: %(default)s)",
    )
    parser.add_argument(
        "--clips", type=int, help="how many clips of the data set to take (default: all)"
    )
    parser.set_defaults(run=tapvid)


def track(arguments):
    """Track points: .mp4 and .gif are the clip with its tracks, .png some of its frames. A ring is
    a hidden point.
    """
    import vjepa_utils as vj

    check_output(arguments, ".mp4", ".gif", ".png")
    if arguments.save:
        check_output(arguments, ".npz", ".csv", output=arguments.save, flag="--save")
    if arguments.points and arguments.grid is not None:
        raise UserError("Give either --points or --grid, not both.")
    if arguments.grid is not None and arguments.grid < 1:
        raise UserError(f"--grid must be at least 1, not {arguments.grid}.")
    video = clip(arguments)
    frame = int(video.indices[0]) if arguments.frame is None else arguments.frame
    points = arguments.points or vj.tracking.grid_points(
        video, 16 if arguments.grid is None else arguments.grid
    )
    head = arguments.head and vj.tracking.load_head(arguments.head)
    tracks = vj.track(
        video,
        [(frame, x, y) for x, y in points],
        vj.load_encoder(arguments.encoder),
        head,
        arguments.size,
    )
    if arguments.save:
        tracks.save(arguments.save)
    if arguments.output.lower().endswith(".png"):
        vj.figures.save(vj.tracking.track_strip(video, tracks), arguments.output)
    else:
        vj.tracking.animate_tracks(video, tracks, arguments.output)
    print(
        f"{arguments.output}: {len(points)} points of frame {frame} in {len(video)} frames, "
        f"{tracks.encoder}"
    )


def tapvid(arguments):
    """The table of TAP-Vid for a file of its (tapvid_davis.pkl, tapvid_rgb_stacking.pkl) or a
    folder of such (Kinetics), in per cent.

    Frames are resized to 256×256 first; --size encodes them at another size.
    """
    import vjepa_utils as vj

    if arguments.clips is not None and arguments.clips < 1:
        raise UserError(f"--clips must be at least 1, not {arguments.clips}.")
    head = arguments.head and vj.tracking.load_head(arguments.head)
    encoder = vj.load_encoder(arguments.encoder)
    print(f"{encoder.name}{' with ' + head.name if head else ''}, {arguments.mode}")
    for line in vj.tracking.tapvid.table(
        arguments.path, encoder, head, arguments.size, arguments.mode, arguments.clips
    ):
        print(line, flush=True)
