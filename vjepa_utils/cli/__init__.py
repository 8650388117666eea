"""What the commands share: arguments that mean the same everywhere, as parents of their parsers."""

import argparse
import inspect
import math
import sys
import warnings
from functools import partial
from pathlib import Path

import vjepa_utils as vj
from vjepa_utils.checks import UserError
from vjepa_utils.files import check_writable

NAMES = "shipped, a Hugging Face id, a local folder, a V-JEPA 2.1 by name, or a .pt file"


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, without the usage."""

    def error(self, message):
        sys.exit(f"error: {message.replace(': must ', ' must ', 1)} (see {self.prog} --help)")


def add(commands, run, *parents):
    """Make a function a command, named and explained as the function is; returns its parser."""
    text, name = inspect.getdoc(run), run.__name__
    first = text.splitlines()[0]
    parser = commands.add_parser(name, help=first, description=text, parents=parents)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.set_defaults(run=run)
    return parser


def argument(*flags, **settings):
    """A parent of one argument."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument(*flags, **settings)
    return parser


def whole(text, least=0):
    """A whole number of at least `least`, and no larger than libraries take, such as for a seed."""
    if not (text.isdecimal() and least <= int(text) < 2**31):
        allowed = f"a whole number of at least {least}, at most {2**31 - 1}"
        raise argparse.ArgumentTypeError(f"must be {allowed}, not {text}")
    return int(text)


positive = partial(whole, least=1)


def number_or_word(text):
    return whole(text) if text.isdecimal() else text


def side_or_sides(text):
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdecimal() for side in sides):
        raise argparse.ArgumentTypeError(f"must be a number or HEIGHTxWIDTH, not {text}")
    return whole(text) if len(sides) == 1 else (whole(sides[0]), whole(sides[1]))


def numbers(text, form="X,Y"):
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) != len(form.split(",")) or not math.isfinite(sum(values)):
        raise argparse.ArgumentTypeError(f"must be {form}, such as 320,200, not {text}")
    return values


point, box = numbers, partial(numbers, form="LEFT,TOP,RIGHT,BOTTOM")


def rate(every=1):
    """Which of the frames to take; `rate_of` gives it to `read_video`."""
    parser = argparse.ArgumentParser(add_help=False)
    group = parser.add_mutually_exclusive_group()
    text = "take every n-th frame (default: %(default)s)"
    group.add_argument("--every", type=positive, default=every, metavar="N", help=text)
    group.add_argument("--fps", type=float, help="or so many frames a second, as on the screen")
    return parser


def frames(every=1):
    """Which frames of a clip to take; `sampling` gives them to `read_video`."""
    text = 'first frame: its number, or seconds such as "5.2s" (default: %(default)s)'
    start = argument("--start", type=number_or_word, default=0, help=text)
    parser = argparse.ArgumentParser(add_help=False, parents=[start, rate(every)])
    parser.add_argument("--count", type=positive, metavar="N", help="so many (default: all)")
    return parser


CLIP = argparse.ArgumentParser(add_help=False, parents=[frames()])
CLIP.add_argument("video", help="a video file, a GIF or a folder of images")
ENCODER = argument("--encoder", default="vjepa2-demo", help=f"{NAMES} (default: %(default)s)")
SHOWN = "of a .png: so many steps (default: as many as can be read)"
MOST = argument("--most", type=positive, metavar="N", help=SHOWN)
FRAME = argument("--frame", type=whole, metavar="N", help="of the points (default: the first)")


def encoders(*names):
    text = f"each {NAMES}; the first decides the grid (default: {' '.join(names)})"
    settings = dict(nargs="+", default=list(names), metavar="ENCODER", help=text)
    return argument("--encoders", "--encoder", **settings)


def context(default=None, values='"pair", "clip", "frame" or an even number'):
    usual = default or "pair; of an image encoder, frame"
    text = f"frames that attend to each other: {values} (default: {usual})"
    return argument("--context", type=number_or_word, default=default, help=text)


def size(default=None, usual="256, or the training size if larger"):
    text = f"short side of the encoded picture, or HEIGHTxWIDTH (default: {default or usual})"
    return argument("--size", type=side_or_sides, default=default, help=text)


def output(*suffixes, flag="-o", required=True, text="", folder=False):
    """A file to write, of these kinds, in a folder that can be written to; or a `folder`."""
    *others, last = suffixes
    kinds = f"{', '.join(others)} or {last}" if others else last

    def writable(text):
        path = Path(text)
        if path.suffix.lower() in suffixes:
            check_writable(path)
        elif path.suffix or not (folder and path.resolve().parent.is_dir()):
            raise argparse.ArgumentTypeError(f"must end in {kinds}, not {path}")
        return path

    settings = dict(type=writable, required=required, metavar="FILE", help=f"{kinds} file{text}")
    return argument(flag, dest="output" if flag == "-o" else flag.strip("-"), **settings)


def read_clip(arguments):
    """The frames that were asked for; UserError if an output would be written over them."""
    source = Path(arguments.video)
    for flag, path in (("-o", arguments.output), ("--save", getattr(arguments, "save", None))):
        for place in (path, path.parent) if path and source.exists() else ():
            if place.exists() and place.samefile(source):
                raise UserError(f"{flag} names the clip itself, {source}: give a file elsewhere.")
    return vj.read_video(arguments.video, **sampling(arguments))


def sampling(arguments):
    """Which frames to take, as `read_video` takes it."""
    return dict(start=arguments.start, count=arguments.count, **rate_of(arguments))


def rate_of(arguments):
    return {"every": arguments.every} if arguments.fps is None else {"fps": arguments.fps}


def draw(output, strip, film):
    """Save the figure that `strip` gives as a .png, or have `film` write another file."""
    if output.suffix.lower() == ".png":
        vj.figures.save(strip(), output)
    else:
        film(output)


def warn_of_cuts(features):
    """Warn once about tubelets that span two scenes."""
    if features.cuts:
        pairs = ", ".join(f"{a}+{b}" for a, b in features.cuts)
        text = f"A cut seems to lie between frames {pairs}: these tubelets mix two scenes."
        warnings.warn(text, stacklevel=2)
