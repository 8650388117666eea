"""The command `figures`: make_figures.py, which stands beside the package in a checkout."""

import sys
from pathlib import Path

from vjepa_utils import cli
from vjepa_utils.checks import UserError

ROOT = Path(__file__).parents[2]  # of a checkout; beside an installed package anything may stand


def register(commands):
    parents = cli.frames(every=4), cli.ENCODER, cli.size(512), cli.context("pair")
    parser = cli.add(commands, figures, *parents)
    text = "folder (default: assets/; with another encoder, a folder in it)"
    parser.add_argument("-o", dest="output", type=Path, metavar="FOLDER", help=text)


def figures(arguments):
    """The figures of the README, in a checkout, from the clips in videos/ and rendered scenes.

    In float32 on one thread: a second run changes no file.
    """
    project = ROOT / "pyproject.toml"
    if not (project.exists() and 'name = "vjepa-utils"' in project.read_text("utf-8")):
        raise UserError("The README's figures are drawn in a checkout of the repository: clone it.")
    sys.path.insert(0, str(ROOT))
    from make_figures import draw

    draw(arguments)
