"""The command `extract`."""

import sys

from vjepa_utils.cli import add_context, add_encoder, add_output, add_size


def register(commands):
    parser = commands.add_parser(
        "extract", help="features of many clips", description=extract.__doc__
    )
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="folders, searched with all in them; files; or .txt and .csv files that list them",
    )
    add_output(parser, "a folder: a file for each clip, and the table index.parquet")
    add_encoder(parser)
    add_size(parser, about="(default: 256, or the training size if larger)")
    add_context(parser)
    parser.add_argument(
        "--every", type=int, default=1, help="take every n-th frame (default: %(default)s)"
    )
    parser.add_argument(
        "--layer", type=int, help="the output of this block (default: the final norm's)"
    )
    parser.add_argument(
        "--pool",
        choices=["none", "mean", "both"],
        default="none",
        help="write the grid, the mean over all tokens, or both (default: %(default)s)",
    )
    parser.add_argument(
        "--dtype",
        choices=["float16", "float32"],
        default="float16",
        help="of the values in the files (default: %(default)s)",
    )
    parser.add_argument("--workers", type=int, help="encode in so many processes, by Ray")
    parser.add_argument("--address", help="of a Ray cluster (default: one on this machine)")
    parser.set_defaults(run=extract)


def extract(arguments):
    """Features of many clips, a file each, and a table of all. The same command again does missing,
    changed and failed clips only. Exit status 1 if a clip failed.
    """
    from vjepa_utils.collection.extraction import run

    words = "sources", "encoder", "size", "context", "every", "layer", "pool", "dtype"
    how = {word: getattr(arguments, word) for word in (*words, "workers", "address")}
    _, summary = run(out=arguments.output, **how)
    for path, why in summary.failed.items():
        print(f"failed: {why if path in why else f'{path}: {why}'}", file=sys.stderr)
    print(f"{arguments.output}: {summary}")
    if summary.failed:
        sys.exit(1)
