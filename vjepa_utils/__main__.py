"""Command line: python -m vjepa_utils COMMAND, or vjepa-utils COMMAND."""

import sys
import warnings

from vjepa_utils.checks import UserError
from vjepa_utils.cli import (
    Parser,
    classify,
    compare,
    convert,
    explore,
    extract,
    figures,
    info,
    pca,
    probe,
    recover,
    segment,
    similarity,
    surprise,
    tapvid,
    track,
)

COMMANDS = [figures, pca, recover, compare, similarity, track, tapvid, classify, probe, explore]
COMMANDS += [extract, surprise, segment, info, convert]


def parser():
    """The parser of all commands; torch is loaded only when one runs."""
    main = Parser(prog="python -m vjepa_utils", description="Look inside V-JEPA 2.")
    commands = main.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.register(commands)
    return main


def main(words=None):
    words = sys.argv[1:] if words is None else words
    sys.stdout.reconfigure(errors="replace")  # redirected, it may lack δ and ×, as on Windows
    warnings.onceregistry.clear()  # once a command
    warnings.simplefilter("once")
    warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)
    try:
        arguments = parser().parse_args(words)
        arguments.run(arguments)
    except (UserError, OSError, MemoryError) as error:
        if "--debug" in words:
            raise
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("stopped")


if __name__ == "__main__":
    main()
