"""Tables in Markdown, and how the benchmarks write them into pages: no number is typed by hand."""

from pathlib import Path

from vjepa_utils.files import replacing


def table(head, rows):
    """A table in Markdown. head: names of the columns; rows: lists of as many texts."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write_between(path, name, text):
    """Replace what is between <!-- NAME --> and <!-- /NAME --> in a file; ValueError unless each
    occurs exactly once, in this order.
    """
    first, last = f"<!-- {name} -->", f"<!-- /{name} -->"
    page = Path(path).read_text(encoding="utf-8")
    before, _, rest = page.partition(first)
    _, found, after = rest.partition(last)
    if not found or page.count(first) + page.count(last) > 2:
        raise ValueError(f"{path} must contain {first} and, after it, {last}, once each.")
    with replacing(path) as temporary:
        temporary.write_text(f"{before}{first}\n{text}\n\n{last}{after}", encoding="utf-8")


def add_into(parser):
    parser.add_argument("--into", type=Path, metavar="FILE.md", help="also write the tables there")


def publish(texts, into=None):
    """Print texts, {name: Markdown}, and write each between the comments of its name in a file."""
    for name, text in texts.items():
        print(text, end="\n\n", flush=True)
        if into:
            write_between(into, name, text)
