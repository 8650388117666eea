"""A clip with its packed features, as the explorer shows it."""

from __future__ import annotations

import io
import math
import warnings
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from vjepa_utils.checks import UserError
from vjepa_utils.colours import PCAColours
from vjepa_utils.explorer.components import PAIRS, Components, pack
from vjepa_utils.explorer.page import document, framed, to_json
from vjepa_utils.features import Features
from vjepa_utils.files import check_writable, replacing
from vjepa_utils.predict import masks as hiding
from vjepa_utils.predict.recovery import predictor_of
from vjepa_utils.video import as_video

if TYPE_CHECKING:
    from vjepa_utils.annotations import Clip, Context, File, Size
    from vjepa_utils.encoder import Encoder
    from vjepa_utils.explorer.widget import Explorer

LIMIT = 50e6  # bytes of a page; above, browsers open it slowly or not at all
SMALL = 350_000  # bytes of the data that a notebook stores: its cell stays below 1 MB
PICTURE_SIDE, QUALITY = 512, 74  # short side of the stored frames in pixels at most; of WebP
# What a small page drops, step by step: (steps, components, views, side of the frames)
SMALLER = [(12, None, None, 320), (6, None, None, 320), (4, None, None, 256)]
SMALLER += [(8, None, 1, 256), (4, None, 1, 256), (3, 48, 1, 256), (2, 32, 1, 256)]
SMALLER += [(1, 32, 1, 192), (1, 8, 1, 128), (1, 3, 1, 64)]


@dataclass
class View:
    """One encoder, or one layer of it, on the clip.

    features: Features.  layer: the block, None for the final norm.
    components: Components of the features.  colours: PCAColours, the basis that they are of.
    """

    features: Features
    layer: int | None
    components: Components
    colours: PCAColours


class Exploration:
    """What several encoders make of a clip. `look` makes one, `save` writes it as a page.

    video: Video.  views: list of View, all on one grid.  context: that they were encoded with.
    predictions: list of what `prediction` gives.
    """

    def __init__(self, video, views, context, predictions=()):
        self.video, self.views, self.context = video, views, context
        self.predictions = list(predictions)
        self._pictures = {}

    def __repr__(self):
        names = ", ".join(dict.fromkeys(view.features.encoder for view in self.views))
        steps, rows, columns = self.grid
        return f"Exploration({names}: {steps} steps of {rows}×{columns} patches)"

    @property
    def grid(self):
        """(steps, rows, columns) of every view."""
        return self.views[0].features.grid

    @property
    def frames(self):
        """int array (steps, 2), file numbers of the frames that each step covers."""
        return self.views[0].features.frames.numpy()

    def page(self, steps=None, components=None, views=None, side=PICTURE_SIDE, predictions=True):
        """What a page shows: JSON values and bytes, of everything, or of less for a small page.

        Args:
            steps: which steps, None for all.  components: at most so many of each view.
            views: at most so many.  side: of the frames, short side in pixels at most.
            predictions: whether to take them.
        """
        steps = np.arange(self.grid[0]) if steps is None else steps
        video, frames = self.video, self.frames[steps]
        places = video.positions(frames[:, 0])
        size = {"width": video.width, "height": video.height, "frames": len(video)}
        return {
            "clip": {"name": video.path.name if video.path else "clip", **size},
            "context": str(self.context),
            "whole": self.grid[0],
            "steps": [
                {
                    "frames": pair.tolist(),
                    "time": round(float(video.times[place]), 3),
                    "picture": self._picture(place, side),
                }
                for pair, place in zip(frames, places, strict=True)
            ],
            "views": [_view(view, steps, components) for view in self.views[:views]],
            "predictions": self.predictions if predictions else [],
        }

    def small_page(self, limit=SMALL):
        """As much of `page` as fits into `limit` bytes of JSON: fewer steps, views, components."""
        for most, components, views, side in SMALLER:
            page = self.page(_spread(self.grid[0], most), components, views, side, False)
            if len(to_json(page)) <= limit:
                break
        return page

    def save(self, path: File) -> None:
        """Write the page: one HTML file that needs no server, no network and no Python.

        Raises:
            ValueError: it would be larger than 50 MB; the sentence says what fits.
            OSError: it cannot be written.
        """
        check_writable(path)
        data = document(self.page()).encode()
        if len(data) > LIMIT:
            raise UserError(_too_large(len(data), self.grid[0]))
        with replacing(path) as temporary:
            temporary.write_bytes(data)

    def still(self, most=6):
        """JPEG bytes: some frames above the colours of their features, where no script may run."""
        view, steps = self.views[0], _spread(self.grid[0], most)
        frames = self.video[self.video.positions(self.frames[steps, 0])].frames
        shown = replace(view.features, values=view.features.values[steps])
        painted = (view.colours.colours(shown) * 255).round().astype(np.uint8)
        wide, tall = 160, max(1, round(160 * self.video.height / self.video.width))
        sheet = Image.new("RGB", ((wide + 4) * len(steps) - 4, 2 * tall + 4), "white")
        for place, (frame, patches) in enumerate(zip(frames, painted, strict=True)):
            left, small = place * (wide + 4), Image.fromarray(frame).resize((wide, tall))
            sheet.paste(small, (left, 0))
            patches = Image.fromarray(patches).resize((wide, tall), Image.Resampling.NEAREST)
            sheet.paste(patches, (left, tall + 4))
        return _written(sheet, "JPEG", quality=80)

    def fallback(self, name="explorer"):
        """HTML below 1 MB for a notebook without a kernel: a small page, or a still picture."""
        return framed(self.small_page(), self.still(), name)

    def _repr_html_(self):
        return self.fallback()

    def _picture(self, place, side):
        """WebP bytes of the frame at a position in the clip."""
        if (place, side) not in self._pictures:
            picture = Image.fromarray(self.video[[place]].frames[0])
            ratio = min(1, side / min(picture.size))
            picture = picture.resize([max(1, round(length * ratio)) for length in picture.size])
            self._pictures[place, side] = _written(picture, "WEBP", quality=QUALITY)
        return self._pictures[place, side]


def explore(
    video: Clip,
    encoders: str | Encoder | list[str | Encoder] = "vjepa2-demo",
    size: Size = None,
    layers: tuple[int | None, ...] = (None,),
    masks: list[str] | dict[str, np.ndarray] | None = None,
    context: Context = "pair",
) -> Explorer:
    """Explore the latent space of a clip; shown if it is the last value of a notebook cell.

    Args:
        video: Video, path, array or tensor (see `as_video`).
        encoders: a name, or a list of names or `Encoder`s; all are put on the grid of the first.
        size: of the encoded picture for the first encoder, as for `Encoder.encode`.
        layers: blocks of every encoder, from 1 to its depth; None is its final norm.
        masks: for which to show what the predictor recovers: a list of names (those of the command
            `recover`), recovered at the usual size at most, as all frames are encoded jointly; or
            {name: bool array of the grid that `Encoder.grid(video, size, "clip")` gives}.
        context: as for `Encoder.encode`; with an image encoder "pair" or "frame".
    Returns:
        Explorer, a widget: `point`, (x, y) in pixels of the clip or None, `step` and `mask`, a bool
        array (steps, rows, columns) or None, are what is chosen in it, and may be set.
        `save("page.html")` writes one HTML file. Without anywidget: an Exploration, which writes
        the page too, but has no kernel behind it.
    Raises:
        ValueError: an argument is out of range, or the page would be larger than 50 MB.
    """
    from vjepa_utils.load import load_encoder

    names = list(encoders) if isinstance(encoders, (list, tuple)) else [encoders]
    loaded = [load_encoder(name) if isinstance(name, (str, Path)) else name for name in names]
    layers = (layers,) if layers is None or isinstance(layers, int) else tuple(layers)
    found = look(video, loaded, size, layers, masks, context)
    try:
        from vjepa_utils.explorer.widget import Explorer
    except ImportError:
        missing = "Without anywidget the explorer has no kernel behind it: pip install anywidget"
        warnings.warn(missing, stacklevel=2)
        return found
    return Explorer(found, loaded, size, layers, masks)


def look(video, encoders, size=None, layers=(None,), masks=None, context="pair"):
    """What `explore` shows, as an Exploration; `encoders` is a list of `Encoder`s."""
    video = as_video(video)
    if not encoders:
        raise UserError("encoders is empty: name at least one.")
    names = [encoder.name for encoder in encoders]
    double = [name for place, name in enumerate(names) if name in names[:place]]
    if double:
        raise UserError(f"{double[0]} is named twice: each encoder is shown once.")
    if not layers or len(set(layers)) < len(layers):
        raise UserError(f"layers must name at least one block, and each once, not {layers!r}.")
    predicting = [encoder for encoder in encoders if predicts(encoder)]
    if masks and not predicting:
        without = f"{' and '.join(names)} has no predictor, so masks show nothing"
        raise UserError(f"{without}: add a V-JEPA 2 checkpoint, or leave masks out.")
    grid = encoders[0].grid(video, size, context)
    estimate = _estimate(grid, [encoder.channels for encoder in encoders for _ in layers])
    if estimate > LIMIT:
        raise UserError(_too_large(estimate, grid[0]))
    if masks and not isinstance(masks, dict):
        masks = _known([masks] if isinstance(masks, str) else masks)
    views = []
    for encoder in encoders:
        own = size
        if encoder is not encoders[0]:  # as many rows and columns of its own patches
            own = tuple(count * encoder.patch_size for count in grid[1:])
        for layer in layers:
            features = encoder.encode(video, context, own, layer)
            if views and features.grid != views[0].features.grid:
                steps = f"{features.grid[0]} steps where {names[0]} has {views[0].features.grid[0]}"
                raise UserError(f"{encoder.name} has {steps}: choose another context.")
            views.append(View(features, layer, *pack(features, *views[:1])))
    found = [
        one
        for encoder in predicting
        if masks
        for one in _predictions(encoder, video, size, masks, views)
    ]
    return Exploration(video, views, context, found)


def predicts(encoder):
    """Whether an encoder has a predictor of its own features."""
    try:
        return predictor_of(encoder) is not None
    except ValueError:
        return False


def prediction(name, recovery, view):
    """One mask and what was recovered of it: JSON values and bytes, as the page takes them.

    The target is layer-normalised and its frames are encoded jointly, so it has a basis of its own,
    with colours reordered and flipped to correlate best with the view's.

    Args:
        name: of the mask.  recovery: Recovery.  view: the View of the same encoder.
    """
    whole, hidden = recovery.whole, recovery.hidden
    colours = PCAColours().fit(whole)
    there = np.flatnonzero(np.isin(view.features.frames[:, 0], whole.frames[:, 0]))
    if len(there) == len(whole.frames):
        values = view.features.values[there].permute(0, 3, 1, 2)  # (steps, channels, rows, columns)
        values = torch.nn.functional.adaptive_avg_pool2d(values, whole.grid[1:])
        same = replace(view.features, values=values.permute(0, 2, 3, 1).contiguous())
        colours = colours.match(whole, view.colours, same)
    every = [recovery.cosine, *(errors["cosine"] for errors in recovery.baselines.values())]
    cosine = np.stack(every)  # (prediction and baselines, hidden)
    cosine = np.where(np.isnan(cosine), -128, np.rint(np.nan_to_num(cosine) * 127)).astype(np.int8)
    means = [[guess, _rounded(mean)] for guess, mean in recovery.means().items()]
    painted = {
        part: _deflated((colours.colours(features) * 255).round().astype(np.uint8))
        for part, features in (("whole", whole), ("filled", recovery.filled))
    }
    return {
        "name": name,
        "encoder": whole.encoder,
        "grid": list(hidden.shape),
        "picture": list(whole.picture_size),
        "frames": whole.frames.tolist(),
        "hidden": _deflated(hidden),
        "cosine": _deflated(cosine),
        "means": means,
        "share": float(hidden.mean()),
        "beaten": _rounded(recovery.beaten["all"]),
        **painted,
    }


def _predictions(encoder, video, size, masks, views):
    """What one encoder recovers, by mask."""
    view = next(view for view in views if view.features.encoder == encoder.name)
    if not isinstance(masks, dict):  # names
        usual, asked = (encoder.grid(video, each, "clip") for each in (None, size))
        size = None if math.prod(usual) < math.prod(asked) else size
        masks = {name: hiding.named(name, min(usual, asked, key=math.prod)) for name in masks}
    found = encoder.recover(video, masks, size=size)
    return [prediction(name, recovery, view) for name, recovery in found.items()]


def _known(names):
    unknown = [name for name in names if name not in hiding.NAMES]
    if unknown:
        raise UserError(f"There is no mask {unknown[0]!r}: choose among {', '.join(hiding.NAMES)}.")
    return list(names)


def _view(view, steps, most):
    """A View as the page takes it: of some steps, and at most so many components."""
    features, packed = view.features, view.components
    if most:
        packed = packed.fewer(most, features)
    values = np.ascontiguousarray(packed.values[steps])
    vectors = {name: getattr(packed, name).tolist() for name in packed.VECTORS}
    return {
        "encoder": features.encoder,
        "layer": view.layer,
        "grid": list(values.shape[:3]),
        "picture": list(features.picture_size),
        "channels": features.values.shape[-1],
        "components": packed.count,
        "values": replace(packed, values=values).deflated,
        "rest": packed.rest,
        "black": round(packed.black, 4),
        "error": {name: round(value, 5) for name, value in packed.error.items()},
        "pairs": PAIRS,
        **{name: [float(f"{number:.6g}") for number in vector] for name, vector in vectors.items()},
    }


def _estimate(grid, channels):
    """About how many bytes a page takes, as measured on the shipped clips."""
    steps, rows, columns = grid
    return steps * (rows * columns * sum(0.33 * min(c, 192) for c in channels) + 45e3) * 4 / 3


def _too_large(size, steps):
    fits = int(steps * 0.95 * LIMIT / size)
    advice = "take a smaller size"
    if fits:
        advice = f"{fits} of its {steps} steps fit, so take fewer frames or a smaller size"
    return f"The page would take about {size / 1e6:.0f} MB of at most {LIMIT / 1e6:.0f}: {advice}."


def _spread(count, most):
    """At most `most` of `count` positions, evenly spaced."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))


def _rounded(value):
    return None if math.isnan(value) else round(value, 4)


def _deflated(array):
    return zlib.compress(np.ascontiguousarray(array).tobytes(), 9)


def _written(picture, kind, **how):
    out = io.BytesIO()
    picture.save(out, kind, **how)
    return out.getvalue()
