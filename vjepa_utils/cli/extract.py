import sys
from functools import partial

from vjepa_utils import cli

OTHERS = "command", "run", "debug"  # of what the parser gives


def register(commands):
    parser = cli.add(commands, extract, cli.ENCODER, cli.size(), cli.context(), cli.rate())
    text = "folders, searched with all in them; files; or .txt, .csv and .tsv files that list them"
    parser.add_argument("sources", nargs="+", metavar="SOURCE", help=text)
    text = "a folder: a file for each clip, and the table index.parquet"
    parser.add_argument("-o", dest="out", required=True, metavar="FOLDER", help=text)
    text = "write the grid, the mean over all tokens, or both (default: %(default)s)"
    parser.add_argument("--pool", choices=["none", "mean", "both"], default="none", help=text)
    text = "of the values in the files (default: %(default)s)"
    parser.add_argument("--dtype", choices=["float16", "float32"], default="float16", help=text)
    number = partial(parser.add_argument, type=cli.positive, metavar="N")
    number("--layer", help="the output of this block (default: the final norm's)")
    number("--split", help="make each stretch of so many frames a clip of its own (default: no)")
    number("--workers", help="encode in so many processes, by Ray")
    parser.add_argument("--address", help="of a Ray cluster (default: one on this machine)")


def extract(arguments):
    """Features of many clips, a file each, and a table of all.

    The same command again does missing, changed and failed clips only. Exit status 1 if a clip
    failed.
    """
    from vjepa_utils.collection.extraction import run

    options = {name: value for name, value in vars(arguments).items() if name not in OTHERS}
    _, rows, summary = run(**options | dict(every=None, fps=None) | cli.rate_of(arguments))
    for row in rows:
        if row["message"]:
            kind = {"done": "warning", "failed": "failed"}[row["status"]]
            print(f"{kind}: {row['message']}", file=sys.stderr)
    print(f"{arguments.out}: {summary}")
    if any(row["status"] == "failed" for row in rows):
        sys.exit(1)
