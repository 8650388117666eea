"""A linear decoder from the packed components of a view to pixels, small enough for the browser."""

import zlib

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.linear_model import Ridge

from vjepa_utils.drawing import evenly, frames_numbered
from vjepa_utils.reading.pixels import resized

SIDE = 8  # pixels of a patch's side, as the browser draws them
COMPONENTS, STEPS = 64, 24  # that it is fitted to, at most


def packed_decoder(features, components, video):
    """Weights from the leading components to the first frame of each step, for the page."""
    steps, (_, rows, columns) = evenly(len(features.frames), STEPS), features.grid
    frames = frames_numbered(video, features.frames[steps, 0])
    pixels = torch.stack([resized(frame, (rows * SIDE, columns * SIDE)) for frame in frames]) / 255
    pixels = F.unfold(pixels, SIDE, stride=SIDE).mT.flatten(0, 1)  # (tokens, numbers)
    values = components.values[steps, ..., :COMPONENTS] * components.scale[:COMPONENTS]
    ridge = Ridge(alpha=1.0).fit(values.reshape(len(pixels), -1), pixels.numpy())
    weights = np.vstack([ridge.coef_.T, ridge.intercept_])  # (components + 1, numbers)
    scale = np.maximum(np.abs(weights).max(1) / 127, 1e-12)
    return {
        "side": SIDE,
        "scale": [float(f"{number:.6g}") for number in scale],
        "weights": zlib.compress(np.rint(weights / scale[:, None]).astype(np.int8).tobytes(), 9),
    }
