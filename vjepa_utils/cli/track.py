"""The command `track`, and the head that `tapvid` takes too."""

import vjepa_utils as vj
from vjepa_utils import cli

TEXT = '"track-head", shipped for vjepa2-demo, or a folder (default: zero-shot)'
HEAD = cli.argument("--head", help=TEXT)


def register(commands):
    save = cli.output(".npz", ".csv", flag="--save", required=False, text=" for the tracks")
    out = cli.output(".mp4", ".gif", ".png")
    size = cli.size(usual="512; with a head, the one it was trained at")
    parser = cli.add(commands, track, cli.CLIP, cli.ENCODER, size, HEAD, cli.FRAME, save, out)
    points = parser.add_mutually_exclusive_group()
    text = "in pixels of the clip, from its upper left corner"
    points.add_argument("--points", nargs="+", type=cli.point, metavar="X,Y", help=text)
    text = "points on a regular grid, N along the longer side (default: %(default)s)"
    points.add_argument("--grid", type=cli.positive, default=16, metavar="N", help=text)


def track(arguments):
    """Track points: .mp4 and .gif are the clip with its tracks, .png some of its frames.

    A ring is a hidden point.
    """
    video = cli.read_clip(arguments)
    frame = int(video.indices[0]) if arguments.frame is None else arguments.frame
    points = arguments.points or vj.tracking.grid_points(video, arguments.grid)
    queries = [(frame, x, y) for x, y in points]
    encoder = vj.load_encoder(arguments.encoder)
    tracks = vj.track(video, queries, encoder, arguments.head, arguments.size)
    if arguments.save:
        tracks.save(arguments.save)
    film = lambda path: vj.tracking.animate_tracks(video, tracks, path)
    cli.draw(arguments.output, lambda: vj.tracking.track_strip(video, tracks), film)
    counts = f"{len(points)} points of frame {frame} in {len(video)} frames"
    print(f"{arguments.output}: {counts}, {tracks.encoder}")
