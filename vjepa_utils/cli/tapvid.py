import numpy as np

import vjepa_utils as vj
from vjepa_utils import cli
from vjepa_utils.cli.track import HEAD


def register(commands):
    parser = cli.add(commands, tapvid, cli.ENCODER, HEAD, cli.size(256))
    parser.add_argument("path", help="a .pkl file or a folder of such")
    text = "which frames points are picked in (default: %(default)s)"
    parser.add_argument("--mode", choices=["first", "strided"], default="first", help=text)


def tapvid(arguments):
    """The table of TAP-Vid, in per cent, for one of its files or a folder of them.

    Frames are resized to 256×256 first; --size encodes them at another size.
    """
    from vjepa_utils.tracking.tapvid import COLUMNS, clips, evaluate

    head = vj.tracking.load_head(arguments.head) if arguments.head else None
    encoder = vj.load_encoder(arguments.encoder)
    print(f"{encoder.name}{f' with {head.name}' if head else ''}, {arguments.mode}")
    print("".join(f"{title:>8}" for title in COLUMNS.values()) + "  clip")
    line = lambda shares, name: "".join(f"{100 * share:8.1f}" for share in shares) + f"  {name}"
    follow = lambda frames, queries: vj.track(frames, queries, encoder, head, arguments.size)
    rows = []
    for name, *clip in clips(arguments.path):
        measures = evaluate(*clip, follow, arguments.mode)
        rows.append([measures[column] for column in COLUMNS])
        print(line(rows[-1], name), flush=True)
    counted = np.isfinite(rows).any(-1).sum()
    if not counted:
        raise vj.UserError(f"{arguments.path} holds no clip with a visible point.")
    print(line(np.nanmean(rows, 0), f"mean of {counted}"))
