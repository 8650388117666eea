"""The page: one HTML file that holds the explorer and its data and needs nothing else."""

import base64
import html
import json
from pathlib import Path
from string import Template

HERE = Path(__file__).parent


# One idea each; together they are one module, without a build step.
SCRIPTS = "data cosine segment pixels colours places address elements queries things modes marks"
SCRIPTS = f"{SCRIPTS} tools stage cards scatter save keys layout explorer notebook".split()


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


def framed(page, still, name):
    """HTML for a notebook: a page's data, if any, in a frame; a still picture, JPEG bytes, where
    scripts are taken out. `name` is the id of the element, which a widget hides.
    """
    picture = base64.b64encode(still).decode()
    frame = page and (
        "<iframe onload=\"this.previousElementSibling.style.display='none'\" "
        'sandbox="allow-scripts" style="width:100%;height:840px;border:0" '
        f'srcdoc="{html.escape(document(page))}"></iframe>'
    )
    return (
        f'<div id="{name}"><img alt="Frames above the colours of their features" '
        f'style="max-width:100%" src="data:image/jpeg;base64,{picture}">{frame or ""}</div>'
    )


def to_json(page):
    """JSON that may stand in an HTML file: bytes as base64, and no "<" in it."""

    def encoded(data):
        return {"base64": base64.b64encode(data).decode()}

    text = json.dumps(page, default=encoded, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def to_buffers(page):
    """The same data for a message to a notebook: JSON, and the bytes as a list beside it."""
    buffers = []

    def numbered(data):
        buffers.append(data)
        return {"buffer": len(buffers) - 1}

    return json.loads(json.dumps(page, default=numbered, allow_nan=False)), buffers


def _read(name):
    return (HERE / name).read_text(encoding="utf-8")
