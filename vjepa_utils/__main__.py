"""Command line: python -m vjepa_utils COMMAND, or vjepa-utils COMMAND. Each study registers its own
commands.
"""

import argparse
import importlib
import runpy
import sys
import warnings
from pathlib import Path

from vjepa_utils.checks import UserError

REGISTERED = ["pca", "recover", "compare", "track", "classify", "explore", "extract", "surprise"]
# of a checkout: its pictures need the scenes of demo/
FIGURES = Path(__file__).parents[1] / "make_figures.py"


def parser():
    main = argparse.ArgumentParser(
        prog="python -m vjepa_utils", description="Look inside V-JEPA 2."
    )
    commands = main.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in REGISTERED:
        importlib.import_module(f"vjepa_utils.cli.{module}").register(commands)
    commands.add_parser("figures", help="the figures of the README (in a checkout)")
    return main


def make_figures(words):
    """Run make_figures.py, which stands beside the package in a checkout."""
    if not FIGURES.exists():
        raise FileNotFoundError(
            "The README's figures are drawn in a checkout of the repository: clone it, and run "
            "this there."
        )
    sys.path.insert(0, str(FIGURES.parent))
    runpy.run_path(str(FIGURES))["main"](words)


def main(words=None):
    words = sys.argv[1:] if words is None else words
    warnings.simplefilter("always")
    warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)
    try:
        if words[:1] == ["figures"]:
            return make_figures(words[1:])
        arguments = parser().parse_args(words)
        arguments.run(arguments)
    except (UserError, OSError, MemoryError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("stopped")


if __name__ == "__main__":
    main()
