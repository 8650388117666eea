"""The page: one HTML file that holds the explorer and its data and needs nothing else."""

import base64
import html
import json
import zlib
from pathlib import Path
from string import Template

import numpy as np

HERE = Path(__file__).parent

# One idea each; together they are one module, without a build step.
SCRIPTS = "data cosine segment pixels colours places address elements queries things pull modes"
SCRIPTS = f"{SCRIPTS} marks tools stage cards scatter save keys layout explorer notebook".split()


def deflated(array):
    """Bytes of an array, as the browser inflates them."""
    return zlib.compress(np.ascontiguousarray(array).tobytes(), 9)


def rounded(numbers):
    """Numbers to six digits; None for NaN."""
    return [None if np.isnan(number) else float(f"{number:.6g}") for number in numbers]


def script():
    """The explorer's JavaScript, an ES module: for a page, and for a notebook's anywidget."""
    return "\n".join(_read(f"js/{name}.js") for name in SCRIPTS)


def document(page):
    """HTML of a page's data (`Exploration.page`). Names of files and encoders stay text."""
    names = ", ".join(dict.fromkeys(view["encoder"] for view in page["views"]))
    return Template(_read("page.html")).substitute(
        title=html.escape(f"{page['clip']['name']} · {names}"),
        style=_read("explorer.css"),
        script=script(),
        data=to_json(page),
    )


def to_json(page):
    """JSON that may stand in an HTML file: bytes as base64, and no "<" in it."""
    encoded = lambda data: base64.b64encode(data).decode()
    text = json.dumps(page, default=encoded, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def _read(name):
    return (HERE / name).read_text(encoding="utf-8")
