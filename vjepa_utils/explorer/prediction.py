"""Pixels and predictions, packed for a browser."""

from dataclasses import replace

import numpy as np
import torch
from torch.nn.functional import adaptive_avg_pool2d

from vjepa_utils.checks import UserError
from vjepa_utils.colours import PCAColours
from vjepa_utils.decoding import PixelDecoder, agreement
from vjepa_utils.drawing import evenly
from vjepa_utils.explorer.page import deflated, rounded, webp
from vjepa_utils.predict.predictor import predictor_of

COMPONENTS, STEPS = 64, 8  # that pixels are decoded from, and that the decoder is fitted to


def packed_decoder(features, components, video):
    """A `PixelDecoder` from the leading components, of the first frame of each step."""
    steps = evenly(len(features.frames), STEPS)
    values = components.values[steps, ..., :COMPONENTS] * components.scale[:COMPONENTS]
    leading = replace(features, values=torch.from_numpy(values), frames=features.frames[steps])
    weights, scale = PixelDecoder(normalise=False).fit(leading, video).packed()
    first = weights[:, : weights.shape[1] // 2]
    return {"side": features.patch_size, "scale": rounded(scale), "weights": deflated(first)}


def packed_prediction(name, recovery, view):
    """One mask and what was recovered of it: JSON values and bytes, as the page takes them.

    The target is layer-normalised and its frames are encoded jointly, so it has a basis of its own,
    with colours reordered and flipped to correlate best with those of the encoder's View.
    """
    whole = recovery.whole
    colours = PCAColours().fit(whole)
    steps = np.flatnonzero(np.isin(view.features.frames[:, 0], whole.frames[:, 0]))
    if len(steps) == len(whole.frames):
        values = view.features.values[steps].movedim(-1, 1)  # (steps, channels, rows, columns)
        values = adaptive_avg_pool2d(values, whole.grid[1:]).movedim(1, -1)
        colours = colours.match(whole, view.colours, replace(whole, values=values))
    errors = [recovery.cosine, *(errors["cosine"] for errors in recovery.baselines.values())]
    cosine = np.rint(127 * np.stack(errors))  # (prediction and baselines, hidden)
    means = recovery.means()
    return {
        **_described(recovery),
        "name": name,
        "cosine": deflated(np.nan_to_num(cosine, nan=-128).astype(np.int8)),
        "means": [*zip(means, rounded(means.values()), strict=True)],
        "share": float(recovery.hidden.mean()),
        "beaten": recovery.beaten["all"],
        **{
            part: deflated(np.rint(255 * colours.colours(features)).astype(np.uint8))
            for part, features in (("whole", whole), ("filled", recovery.filled))
        },
    }


def packed_edit(edited, points):
    """How far a forecast moved after a change, and how far random changes move it."""
    maps = {"moved": edited.change, "random": edited.control_change.mean(0)}
    return {
        **_described(edited.plain),
        "points": points,
        "means": rounded(values.mean() for values in maps.values()),
        **{name: deflated(edited.plain.on_grid(values)) for name, values in maps.items()},
    }


def _described(recovery):
    return {
        "encoder": recovery.whole.encoder,
        "grid": recovery.hidden.shape,
        "picture": recovery.whole.picture_size,
        "frames": recovery.whole.frames.tolist(),
        "hidden": deflated(recovery.hidden),
    }


def packed_pixels(recovery, video):
    """The first frame of each step, decoded from the features and from the prediction; R² at the
    hidden tokens, of a decoder that was fitted to the visible ones.
    """
    decoder, packed = PixelDecoder().fit(recovery, video), {}
    for name, features in (("features", recovery.whole), ("prediction", recovery)):
        frames = decoder.decode(features)
        pictures = [webp(frame, min(frame.shape[:2])) for frame in frames[::2]]
        scores = agreement(frames, recovery.whole, video, recovery.hidden)
        packed[name] = {"pictures": pictures, "r2": scores["r2"]}
    return packed


def predicts(encoder) -> bool:
    """Whether an encoder has a predictor of its own features."""
    try:
        return predictor_of(encoder) is not None
    except UserError:
        return False
