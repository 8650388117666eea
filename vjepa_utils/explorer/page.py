"""The page: one HTML file that holds the explorer and its data and needs nothing else."""

import base64
import html
import io
import json
import zlib
from pathlib import Path
from string import Template

import numpy as np
from PIL import Image

HERE = Path(__file__).parent


def deflated(array):
    """Bytes of an array, as the browser inflates them."""
    return zlib.compress(np.ascontiguousarray(array).tobytes(), 9)


def rounded(numbers):
    """Numbers to six digits; None for NaN."""
    return [None if np.isnan(number) else float(f"{number:.6g}") for number in numbers]


def webp(frame, side):
    """WebP bytes of a frame, its short side at most so many pixels."""
    picture, file = Image.fromarray(frame), io.BytesIO()
    picture.thumbnail([round(length * side / min(picture.size)) for length in picture.size])
    picture.save(file, "WEBP", quality=74)
    return file.getvalue()


def script():
    """The explorer's JavaScript, an ES module: for a page, and for a notebook's anywidget. Files of
    one idea each, joined in the order of their names without a build step.
    """
    return "\n".join(_read(path) for path in sorted((HERE / "js").glob("*.js")))


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
