"""Command line: python -m vjepa_utils COMMAND, or vjepa-utils COMMAND."""

import importlib
import pkgutil
import sys
import warnings
from functools import cache

from vjepa_utils import cli
from vjepa_utils.checks import UserError


def parser():
    """The parser of all commands, the modules of cli/; torch is loaded only when one runs."""
    main = cli.Parser(prog="python -m vjepa_utils", description="Look inside V-JEPA 2.")
    commands = main.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in pkgutil.iter_modules(cli.__path__):
        importlib.import_module(f"{cli.__name__}.{command.name}").register(commands)
    return main


def main(words=None):
    words = sys.argv[1:] if words is None else words
    sys.stdout.reconfigure(errors="replace")  # redirected, it may lack δ and ×, as on Windows
    warnings.simplefilter("always")
    # Once each: the filter "once" forgets whenever a library changes the filters.
    say = cache(lambda text: print(f"warning: {text}", file=sys.stderr))
    warnings.showwarning = lambda message, *_, **__: say(str(message))
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
