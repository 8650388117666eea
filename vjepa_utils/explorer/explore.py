"""`explore`: encode a clip, pack the features, show them in a notebook or write them as a page."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vjepa_utils.checks import UserError
from vjepa_utils.encoder import Encoder
from vjepa_utils.explorer.components import pack
from vjepa_utils.explorer.exploration import Exploration, View, check_size
from vjepa_utils.explorer.pixels import packed_decoder
from vjepa_utils.explorer.prediction import packed_prediction
from vjepa_utils.load import load_encoder
from vjepa_utils.predict import masks as hiding
from vjepa_utils.predict.predictor import predictor_of
from vjepa_utils.video import Clip, Context, Size, as_video

if TYPE_CHECKING:
    from vjepa_utils.explorer.widget import Explorer


def explore(
    video: Clip,
    encoders: str | Encoder | list[str | Encoder] = "vjepa2-demo",
    size: Size = None,
    layers: tuple[int | None, ...] = (None,),
    masks: list[str] | dict[str, np.ndarray] | None = None,
    context: Context = "pair",
) -> Explorer | Exploration:
    """Explore the latent space of a clip; shown if it is the last value of a notebook cell.

    Args:
        video: Video, path, array or tensor (see `as_video`).
        encoders: a name, or a list of names or `Encoder`s; all are put on the grid of the first.
        size: of the encoded picture for the first encoder, as for `Encoder.encode`.
        layers: blocks of every encoder, from 1 to its depth; None is its final norm.
        masks: for which to show what the predictor recovers: a list of names (`masks.NAMES`),
            recovered at the usual size at most, as all frames are encoded jointly; or {name: bool
            array of the grid that `Encoder.grid(video, size, "clip")` gives}.
        context: as for `Encoder.encode`; with an image encoder "pair" or "frame".
    Returns:
        Explorer, a widget: `point`, (x, y) in pixels of the clip or None, `step` and `mask`, a bool
        array (steps, rows, columns) or None, are what is chosen in it, and may be set.
        `save("page.html")` writes one HTML file. Without anywidget: an Exploration, which writes
        the page too, but has no kernel behind it.
    Raises:
        UserError: an argument is out of range, or the page would be larger than 50 MB.
    """
    names = encoders if isinstance(encoders, (list, tuple)) else [encoders]
    loaded = [load_encoder(name) if isinstance(name, (str, Path)) else name for name in names]
    layers = (layers,) if layers is None or isinstance(layers, int) else tuple(layers)
    exploration = look(video, loaded, size, layers, masks, context)
    try:
        from vjepa_utils.explorer.widget import Explorer
    except ImportError:
        missing = "Without anywidget the explorer has no kernel behind it: pip install anywidget"
        warnings.warn(missing, stacklevel=2)
        return exploration
    return Explorer(exploration, loaded, size, layers, masks)


def look(video, encoders, size=None, layers=(None,), masks=None, context="pair") -> Exploration:
    """What `explore` shows; `encoders` is a list of `Encoder`s, `layers` a tuple."""
    video, masks = as_video(video), [masks] if isinstance(masks, str) else masks
    _check(encoders, layers, masks)
    grid = encoders[0].grid(video, size, context)
    check_size(grid, [encoder.channels for encoder in encoders for _ in layers])
    views = []
    for encoder in encoders:
        if encoder is not encoders[0]:  # as many rows and columns, of its own patches
            size_here = tuple(count * encoder.patch_size for count in grid[1:])
        else:
            size_here = size
        features_of = encoder.encode(video, context, size_here, layers=list(layers))
        for layer, features in features_of.items():
            if views and features.grid != views[0].features.grid:
                raise UserError(
                    f"{encoder.name} has {features.grid[0]} steps where {encoders[0].name} has "
                    f"{views[0].features.grid[0]}: choose another context."
                )
            components, colours = pack(features, *views[:1])
            pixels = packed_decoder(features, components, video)
            views.append(View(features, layer, components, colours, pixels))
    predictions = []
    for encoder in filter(predicts, encoders if masks else []):
        view = next(view for view in views if view.features.encoder == encoder.name)
        predictions += _predictions(encoder, video, size, masks, view)
    return Exploration(video, views, context, predictions)


def predicts(encoder) -> bool:
    """Whether an encoder has a predictor of its own features."""
    try:
        return predictor_of(encoder) is not None
    except UserError:
        return False


def _check(encoders, layers, masks):
    if not encoders:
        raise UserError("encoders is empty: name at least one.")
    names = [encoder.name for encoder in encoders]
    double = [name for place, name in enumerate(names) if name in names[:place]]
    if double:
        raise UserError(f"{double[0]} is named twice: each encoder is shown once.")
    if not layers or len(set(layers)) < len(layers):
        raise UserError(f"layers must name at least one block, and each once, not {layers!r}.")
    if masks and not any(map(predicts, encoders)):
        raise UserError(
            f"{' and '.join(names)} has no predictor, so masks show nothing: add a V-JEPA 2 "
            "checkpoint, or leave masks out."
        )
    unknown = [] if isinstance(masks, dict) else [n for n in masks or [] if n not in hiding.NAMES]
    if unknown:
        raise UserError(f"There is no mask {unknown[0]!r}: choose among {', '.join(hiding.NAMES)}.")


def _predictions(encoder, video, size, masks, view):
    """What one encoder recovers, by mask, as the page takes it."""
    if not isinstance(masks, dict):  # names: at the usual size at most
        usual, asked = (encoder.grid(video, each, "clip") for each in (None, size))
        if math.prod(usual) < math.prod(asked):
            size, asked = None, usual
        masks = {name: hiding.named(name, asked) for name in masks}
    held = encoder.hold(video, size)
    return [packed_prediction(name, held.recover(mask), view) for name, mask in masks.items()]
