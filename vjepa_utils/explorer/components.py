"""Features packed for a browser: int8 principal components that keep the cosine of any two tokens.

The basis is that of `PCAColours`, so the components that colour a picture are the ones the cosine
is computed from. It is centred; the cosine is of the uncentred features, so the mean is kept beside
the components, and the part of it outside their span is one more coordinate, equal for all tokens.
Nothing is whitened.
"""

import zlib
from dataclasses import dataclass, replace

import numpy as np
import torch

from vjepa_utils.colours import PERCENTILES, PCAColours

PAIRS = 20_000  # sampled pairs of tokens that the error is measured on
MEAN_ERROR, WORST_ERROR = 0.01, 0.018  # of the cosine, over those pairs
COARSENESS = 1, 0.5, 0.25, 0  # no component is stored in finer steps than this times the first's
BLACK = 5  # percentile of the cosine over the pairs that is drawn black


@dataclass
class Components:
    """Leading principal components of the features of a clip; vectors are float32 (components,)."""

    values: np.ndarray  # int8 (steps, rows, columns, components); times `scale` the components
    scale: np.ndarray
    mean: np.ndarray  # coordinates of the mean of all tokens
    rest: float  # length of the part of the mean that the components do not span
    low: np.ndarray  # percentiles drawn as 0 and 1 in a colour
    high: np.ndarray
    explained: np.ndarray  # share of the variance
    error: dict  # "mean", "p99", "worst" of the cosine, absolute, over sampled pairs of tokens
    black: float  # 5th percentile of the true cosine over those pairs

    VECTORS = "scale", "mean", "low", "high", "explained"

    def packed(self):
        """JSON values and bytes, as the page takes them: `values` are component after component, as
        differences from the step before, deflated.
        """
        moved = self.values.copy()
        moved[1:] -= self.values[:-1]  # wraps around, and so does the sum that undoes it
        moved = np.ascontiguousarray(np.moveaxis(moved, -1, 0))
        vectors = {
            name: [float(f"{number:.6g}") for number in getattr(self, name)]
            for name in self.VECTORS
        }
        return {
            "components": self.values.shape[-1],
            "values": zlib.compress(moved.tobytes(), 9),
            "rest": self.rest,
            "black": round(self.black, 4),
            "error": {name: round(value, 5) for name, value in self.error.items()},
            "pairs": PAIRS,
            **vectors,
        }


def pack(features, other=None):
    """As few components as keep the cosine of sampled pairs close, on average and at worst.

    Returns Components, and the PCAColours of all components. `other`, None or a View on the same
    grid, has the colours that the first three are matched to. Where even all components are too
    coarse in int8, all are kept: `error` says so.
    """
    channels = features.values.shape[-1]
    colours = PCAColours(components=max(3, channels)).fit(features)
    if other is not None:
        colours = colours.match(features, other.colours, other.features)
    projected = colours.project(features).flatten(0, 2).numpy()  # (tokens, components)
    nothing = replace(features, values=torch.zeros(1, 1, 1, channels), frames=features.frames[:1])
    mean = -colours.project(nothing).flatten().double().numpy()  # (components,)
    length = float(features.values.flatten(0, 2).mean(0, dtype=torch.float64).square().sum())
    outside = np.maximum(length - np.cumsum(mean**2), 0)  # squared, after each component

    first, second, true = _pairs(features)
    finest = np.maximum(np.abs(projected).max(0) / 127, 1e-12)
    for coarseness in COARSENESS:
        scale = np.maximum(finest, coarseness * finest[0])
        # (pairs, components)
        a, b = (np.rint(projected[i] / scale) * scale + mean for i in (first, second))
        error = _errors(a, b, outside, true)
        enough = np.flatnonzero((error.mean(0) <= MEAN_ERROR) & (error.max(0) <= WORST_ERROR))
        if len(enough):
            break
    count = max(3, enough[0] + 1) if len(enough) else len(scale)
    values = (
        np.rint(projected[:, :count] / scale[:count]).astype(np.int8).reshape(*features.grid, count)
    )
    low, high = np.percentile(projected[:, :count], PERCENTILES, axis=0)
    vectors = scale[:count], mean[:count], low, high, colours.explained_variance_ratio[:count]
    scale, mean, low, high, explained = (np.asarray(vector, np.float32) for vector in vectors)
    rest, black = float(outside[count - 1] ** 0.5), float(np.percentile(true, BLACK))
    error = _summary(error[:, count - 1])
    return Components(values, scale, mean, rest, low, high, explained, error, black), colours


def _pairs(features):
    """Tokens of seeded random pairs, (pairs,) twice, and the true cosine of each, (pairs,)."""
    tokens = features.values.flatten(0, 2)
    first, second = np.random.default_rng(0).integers(len(tokens), size=(2, PAIRS))
    return first, second, torch.cosine_similarity(tokens[first], tokens[second]).numpy()


def _errors(a, b, outside, true):
    """Absolute error of the cosine from the first 1, 2, … components: (pairs, components)."""
    a, b, outside = (np.asarray(x, np.float32) for x in (a, b, outside))
    product, left, right = (np.cumsum(x, 1) + outside for x in (a * b, a * a, b * b))
    return np.abs(product / np.maximum(np.sqrt(left) * np.sqrt(right), 1e-12) - true[:, None])


def _summary(error):
    return {
        "mean": float(error.mean()),
        "p99": float(np.percentile(error, 99)),
        "worst": float(error.max()),
    }
