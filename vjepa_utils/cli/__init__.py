"""What the commands share: the arguments that mean the same everywhere, and their checks."""

import argparse
import warnings
from pathlib import Path

from vjepa_utils.checks import UserError

SIDE = "short side of the encoded picture, or HEIGHTxWIDTH"


def add_video(parser):
    parser.add_argument("video", help="a video file, a GIF or a folder of images")


def add_frames(parser, every=1):
    parser.add_argument(
        "--start", type=whole, default=0, help='first frame: its number, or seconds such as "5.2s"'
    )
    parser.add_argument("--every", type=int, help=f"take every n-th frame (default: {every})")
    parser.add_argument("--count", type=int, help="how many frames to take (default: all)")


def add_encoder(parser, default="vjepa2-demo"):
    text = (
        "a shipped encoder, a Hugging Face id, a local folder, or a V-JEPA 2.1 by name or .pt file "
        "(default: %(default)s)"
    )
    parser.add_argument("--encoder", default=default, help=text)


def add_size(parser, default=None, about="(default: %(default)s)"):
    parser.add_argument("--size", type=size, default=default, help=f"{SIDE} {about}")


def add_context(parser):
    text = 'frames that attend to each other: "pair" (default), "clip", "frame" or an even number'
    parser.add_argument("--context", type=whole, help=text)


def add_output(parser, kinds, required=True):
    parser.add_argument("-o", dest="output", required=required, metavar="OUT", help=kinds)


def clip(arguments):
    """The frames that were asked for."""
    import vjepa_utils as vj

    return vj.read_video(arguments.video, **frames(arguments))


def frames(arguments):
    return dict(
        start=arguments.start,
        every=1 if arguments.every is None else arguments.every,
        count=arguments.count,
    )


def check_output(arguments, *kinds, output=None, flag="-o"):
    """ValueError or OSError now, not after the encoding."""
    import vjepa_utils as vj

    output = Path(output or arguments.output)
    if output.suffix.lower() not in kinds:
        *others, last = kinds
        raise UserError(
            f"{flag} must end in {', '.join(others)}{' or ' if others else ''}{last}, not {output}."
        )
    vj.files.check_writable(output)
    if (
        "video" in arguments
        and output.exists()
        and output.resolve() == Path(arguments.video).resolve()
    ):
        raise UserError(f"{flag} names the clip itself, {arguments.video}: give another file.")


def say_cuts(features):
    """Warn once about tubelets that span two scenes."""
    if features.cuts:
        pairs = ", ".join(f"{a}+{b}" for a, b in features.cuts)
        warnings.warn(
            f"A cut seems to lie between frames {pairs}: these tubelets mix two scenes.",
            stacklevel=2,
        )


def size(text):
    try:
        parts = tuple(int(part) for part in text.lower().split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"a number of pixels or HEIGHTxWIDTH is needed, not {text!r}"
        ) from None
    return parts[0] if len(parts) == 1 else parts


def point(text):
    try:
        x, y = (float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"X,Y is needed, such as 320,200, not {text!r}") from None
    return x, y


def whole(text):
    """A whole number where it is one, else the word."""
    return int(text) if text.isdigit() else text
