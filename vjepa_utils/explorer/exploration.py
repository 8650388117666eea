"""`explore`: encode a clip, pack the features, show them in a notebook or write them as a page."""

from __future__ import annotations

import base64
import html
import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vjepa_utils import figures
from vjepa_utils.checks import UserError
from vjepa_utils.colours import PCAColours
from vjepa_utils.comparison.measures import measures
from vjepa_utils.drawing import evenly, frames_numbered
from vjepa_utils.encoder import Encoder
from vjepa_utils.explorer.components import Components, pack
from vjepa_utils.explorer.page import document, webp
from vjepa_utils.explorer.prediction import packed_decoder, packed_prediction, predicts
from vjepa_utils.features import Features
from vjepa_utils.files import check_writable, replacing
from vjepa_utils.load import load_encoder
from vjepa_utils.predict.masks import named
from vjepa_utils.video import Clip, Context, Size, Video, as_video

if TYPE_CHECKING:
    from vjepa_utils.explorer.widget import Explorer

LIMIT = 50e6  # bytes of a page; above, browsers open it slowly or not at all
SMALL = 650_000  # bytes of the page that a notebook stores: its cell stays below 1 MB
PICTURE_SIDE = 512  # short side of the stored frames in pixels at most
MEASURED = 16  # steps of which a representation's numbers are taken, at most
SMALL_SIDE, SMALL_STEPS = 256, (12, 8, 5, 3, 2, 1)  # its frames, and how many steps are tried


@dataclass
class View:
    """A layer of an encoder on the clip; `colours` is the basis, `pixels` a `packed_decoder`."""

    features: Features
    components: Components
    colours: PCAColours
    pixels: dict | None = None

    def numbers(self):
        """Effective rank, anisotropy, share of place and outliers (`measures`) of some steps."""
        of_some = measures(self.features[:: math.ceil(len(self.features.frames) / MEASURED)])
        outliers = len(of_some["outliers"])
        return [of_some[name] for name in ("effective rank", "anisotropy", "place")] + [outliers]


@dataclass(repr=False)
class Exploration:
    """What encoders make of a clip, on one grid; `look` makes one, `save` writes it as a page.

    encoders, context: of the views.  predictions: what `packed_prediction` gives.
    """

    video: Video
    views: list[View]
    encoders: list[Encoder]
    context: Context
    predictions: list[dict]

    def __repr__(self):
        names = ", ".join(dict.fromkeys(view.features.encoder for view in self.views))
        return "{} steps of {}×{} patches, {}".format(*self.grid, names)

    @property
    def grid(self):
        """(steps, rows, columns) of every view."""
        return self.views[0].features.grid

    @property
    def frames(self):
        """int array (steps, 2), file numbers of each step's frames."""
        return self.views[0].features.frames.numpy()

    def page(self, most=None):
        """What a page shows, JSON values and bytes; of at most so many steps, evenly spaced, a
        small one: with smaller frames, without decoders and predictions.
        """
        steps = evenly(self.grid[0], most or self.grid[0])
        side = SMALL_SIDE if most else PICTURE_SIDE
        video, frames = self.video, self.frames[steps]
        times = video.times[video.positions(frames[:, 0])]
        size = {"width": video.width, "height": video.height, "frames": len(video)}
        return {
            "clip": {"name": video.name, **size},
            "context": str(self.context),
            "whole": self.grid[0],
            "steps": [
                {"frames": pair, "time": round(float(time), 3), "picture": webp(frame, side)}
                for pair, time, frame in zip(
                    frames.tolist(), times, frames_numbered(video, frames[:, 0]), strict=True
                )
            ],
            "views": [
                {
                    "encoder": view.features.encoder,
                    "layer": view.features.layer,
                    "picture": view.features.picture_size,
                    "offset": view.features.offset,
                    "channels": view.features.values.shape[-1],
                    "numbers": view.numbers(),
                    "pixels": None if most else view.pixels,
                    **view.components.packed(steps),
                }
                for view in self.views
            ],
            "predictions": [] if most else self.predictions,
        }

    def save(self, path) -> None:
        """Write the page: one HTML file that needs no server, no network and no Python.

        Raises:
            UserError: it would be larger than 50 MB; the sentence says what fits.
            OSError: it cannot be written.
        """
        check_writable(path)
        data = document(self.page()).encode()
        _check_bytes(len(data), self.grid[0])
        with replacing(path) as temporary:
            temporary.write_bytes(data)

    def fallback(self, name="explorer", limit=SMALL):
        """HTML below 1 MB, an element with this id, for a notebook without a kernel: fewer steps in
        a frame; a still picture alone where they do not fit, or scripts are taken out.
        """
        view, file = self.views[0], io.BytesIO()
        figure = figures.pca_strip(self.video, view.features, view.colours, most=6)
        figure.savefig(file, format="jpeg")
        pages = (html.escape(document(self.page(most))) for most in SMALL_STEPS)
        frames = (
            "<iframe onload=\"this.previousElementSibling.style.display='none'\" "
            'sandbox="allow-scripts" style="width:100%;height:840px;border:0" '
            f'srcdoc="{page}"></iframe>'
            for page in pages
            if len(page) <= limit
        )
        return (
            f'<div id="{name}"><img alt="Frames above the colours of their features" '
            'style="max-width:100%" src="data:image/jpeg;base64,'
            f'{base64.b64encode(file.getvalue()).decode()}">{next(frames, "")}</div>'
        )


def explore(
    video: Clip,
    encoders: str | Encoder | list[str | Encoder] = "vjepa2-demo",
    size: Size = None,
    layers: tuple[int | None, ...] = (None,),
    masks: str | list[str] | None = None,
    context: Context = "pair",
    stride: int | None = None,
) -> Explorer:
    """Explore the latent space of a clip; shown if it is the last value of a notebook cell.

    Args:
        video: Video, path, array or tensor (see `as_video`).
        encoders: a name, or a list of names or `Encoder`s; all are put on the grid of the first.
        size: of the encoded picture for the first encoder, as for `Encoder.encode`.
        layers: blocks of every encoder, from 1 to its depth; None is its final norm.
        masks: names (`masks.NAMES`) of regions to hide, for which to show what the predictor
            recovers, at the usual size at most, as all frames are encoded jointly.
        context: as for `Encoder.encode`; with an image encoder "pair" or "frame".
        stride: of the first encoder, as for `Encoder.encode`; a finer one leaves pixels out.
    Returns:
        Explorer, a widget: what is chosen in it may be read and set, `save` writes it as a page.
    Raises:
        UserError: an argument is out of range, the page is too large, or anywidget is missing.
    """
    from vjepa_utils.explorer.widget import Explorer

    return Explorer(look(video, encoders, size, layers, masks, context, stride))


def look(video, encoders, size=None, layers=(None,), masks=None, context="pair", stride=None):
    """What `explore` shows, an Exploration."""
    names = encoders if isinstance(encoders, (list, tuple)) else [encoders]
    encoders = [load_encoder(name) if isinstance(name, (str, Path)) else name for name in names]
    video, names = as_video(video), [encoder.name for encoder in encoders]
    if not names or len(set(names)) < len(names):
        raise UserError(f"encoders must be at least one, each shown once, not {names}.")
    layers, masks = list(layers), [masks] if isinstance(masks, str) else masks or []
    if masks and not any(map(predicts, encoders)):
        raise UserError(
            f"{' and '.join(names)} has no predictor, so masks show nothing: add a V-JEPA 2 "
            "checkpoint, or leave masks out."
        )
    plan = encoders[0].plan(video, context, size, stride=stride)
    place = [side // plan.patch_size for side in plan.size]
    finer, steps = plan.patch_size // plan.stride, plan.grid[0]
    numbers = 0.33 * len(layers) * sum(min(encoder.channels, 192) for encoder in encoders)
    _check_bytes(4 / 3 * steps * (math.prod(plan.picture_grid) * numbers + 45e3), steps)
    usual = min((encoders[0].grid(video, each, "pair") for each in (size, None)), key=math.prod)
    hidden = {name: named(name, usual) for name in masks}
    sizes_of = lambda place, encoder: tuple(count * encoder.patch_size for count in place)
    views, predictions = [], []
    for encoder in encoders:
        size = sizes_of(place, encoder) if views else size  # as many rows and columns
        stride = encoder.patch_size // finer
        for features in encoder.encode(video, context, size, stride=stride, layers=layers).values():
            components, colours = pack(features, *views[:1])
            pixels = None if finer > 1 else packed_decoder(features, components, video)
            views.append(View(features, components, colours, pixels))
        if hidden and predicts(encoder):
            held, view = encoder.hold(video, sizes_of(usual[1:], encoder)), views[-len(layers)]
            predictions += [packed_prediction(n, held.recover(m), view) for n, m in hidden.items()]
    return Exploration(video, views, encoders, context, predictions)


def _check_bytes(size, steps):
    """UserError if a page of so many bytes is too large; it says how many of the steps fit."""
    if size > LIMIT:
        raise UserError(
            f"The page would take about {size / 1e6:.0f} MB of at most {LIMIT / 1e6:.0f}: "
            f"{int(steps * 0.95 * LIMIT / size)} of its {steps} steps fit, so take fewer frames or "
            "a smaller size."
        )
