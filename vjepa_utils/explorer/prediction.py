"""What the predictor recovered of a hidden region, packed for a browser."""

import math
import zlib
from dataclasses import replace

import numpy as np
import torch

from vjepa_utils.colours import PCAColours


def packed_prediction(name, recovery, view):
    """One mask and what was recovered of it: JSON values and bytes, as the page takes them.

    The target is layer-normalised and its frames are encoded jointly, so it has a basis of its own,
    with colours reordered and flipped to correlate best with those of the encoder's View.
    """
    whole, hidden = recovery.whole, recovery.hidden
    colours = PCAColours().fit(whole)
    steps = np.flatnonzero(np.isin(view.features.frames[:, 0], whole.frames[:, 0]))
    if len(steps) == len(whole.frames):
        values = view.features.values[steps].permute(0, 3, 1, 2)  # (steps, channels, rows, columns)
        values = torch.nn.functional.adaptive_avg_pool2d(values, whole.grid[1:])
        same = replace(whole, values=values.permute(0, 2, 3, 1).contiguous())
        colours = colours.match(whole, view.colours, same)
    errors = [recovery.cosine, *(errors["cosine"] for errors in recovery.baselines.values())]
    cosine = np.stack(errors)  # (prediction and baselines, hidden)
    cosine = np.where(np.isnan(cosine), -128, np.rint(np.nan_to_num(cosine) * 127)).astype(np.int8)
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
        "means": [[guess, _rounded(mean)] for guess, mean in recovery.means().items()],
        "share": float(hidden.mean()),
        "beaten": _rounded(recovery.beaten["all"]),
        **painted,
    }


def _rounded(value):
    return None if math.isnan(value) else round(value, 4)


def _deflated(array):
    return zlib.compress(np.ascontiguousarray(array).tobytes(), 9)
