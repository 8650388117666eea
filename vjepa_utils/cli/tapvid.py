import vjepa_utils as vj
from vjepa_utils import cli
from vjepa_utils.cli.track import HEAD


def register(commands):
    parser = cli.add(commands, tapvid, cli.ENCODER, HEAD, cli.size(256))
    parser.add_argument("path", help="a .pkl file or a folder of such")
    text = "which frames points are picked in (default: %(default)s)"
    parser.add_argument("--mode", choices=["first", "strided"], default="first", help=text)
    text = "how many clips of the data set to take (default: all)"
    parser.add_argument("--clips", type=cli.positive, metavar="N", help=text)


def tapvid(arguments):
    """The table of TAP-Vid, in per cent, for one of its files or a folder of them.

    Frames are resized to 256×256 first; --size encodes them at another size.
    """
    from vjepa_utils.tracking.tapvid import table

    head = vj.tracking.load_head(arguments.head) if arguments.head else None
    encoder = vj.load_encoder(arguments.encoder)
    print(f"{encoder.name}{f' with {head.name}' if head else ''}, {arguments.mode}")
    options = encoder, head, arguments.size, arguments.mode, arguments.clips
    for line in table(arguments.path, *options):
        print(line, flush=True)
