"""Features packed for a browser: int8 principal components that keep the cosine of any two tokens.

The basis is that of `PCAColours`, so the components that colour a picture are the ones the cosine
is computed from. It is centred, not whitened; the cosine is of the uncentred features, so the mean
is kept, and the part of it outside the components' span is one more coordinate of all tokens.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch

from vjepa_utils.colours import PERCENTILES, PCAColours
from vjepa_utils.explorer.page import deflated, rounded

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
    low: np.ndarray  # percentiles drawn as 0 and 1 in a colour
    high: np.ndarray
    explained: np.ndarray  # share of the variance
    rest: float  # length of the part of the mean that the components do not span
    error: dict  # "mean", "p99", "worst" of the cosine, absolute, over sampled pairs of tokens
    black: float  # 5th percentile of the true cosine over those pairs

    def packed(self, steps):
        """Some steps as the page takes them: `values` are component after component, as differences
        from the step before.
        """
        values = self.values[steps]
        moved = np.diff(values, axis=0, prepend=np.int8(0))  # wraps around, and so does the sum
        vectors = {name: x for name, x in vars(self).items() if isinstance(x, np.ndarray)}
        return {
            "grid": values.shape[:3],
            "components": len(self.scale),
            "rest": self.rest,
            "black": self.black,
            "error": self.error,
            "pairs": PAIRS,
            **{name: rounded(vector) for name, vector in vectors.items() if vector.ndim == 1},
            "values": deflated(np.moveaxis(moved, -1, 0)),
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
    nothing = replace(features, values=torch.zeros(1, 1, 1, channels))
    mean = -colours.project(nothing).flatten().double().numpy()  # (components,)
    length = float(features.values.flatten(0, 2).mean(0, dtype=torch.float64).square().sum())
    outside = np.maximum(length - np.cumsum(mean**2), 0)  # squared, after each component

    tokens = features.values.flatten(0, 2)
    pairs = np.random.default_rng(0).integers(len(tokens), size=(2, PAIRS))
    true = torch.cosine_similarity(*(tokens[i] for i in pairs)).numpy()
    finest = np.maximum(np.abs(projected).max(0) / 127, 1e-12)
    for coarseness in COARSENESS:
        scale = np.maximum(finest, coarseness * finest[0])
        # (pairs, components)
        a, b = (np.rint(projected[i] / scale) * scale + mean for i in pairs)
        error = np.abs(_cosines(a, b, outside) - true[:, None])
        enough = np.flatnonzero((error.mean(0) <= MEAN_ERROR) & (error.max(0) <= WORST_ERROR))
        if len(enough):
            break
    count = max(3, enough[0] + 1) if len(enough) else len(scale)
    values = np.rint(projected[:, :count] / scale[:count]).astype(np.int8)
    low, high = np.percentile(projected[:, :count], PERCENTILES, axis=0)
    vectors = [scale[:count], mean[:count], low, high, colours.explained_variance_ratio[:count]]
    off = error[:, count - 1]
    errors = {"mean": off.mean(), "p99": np.percentile(off, 99), "worst": off.max()}
    return Components(
        values.reshape(*features.grid, count),
        *(np.asarray(vector, np.float32) for vector in vectors),
        rest=float(outside[count - 1] ** 0.5),
        error={name: float(value) for name, value in errors.items()},
        black=float(np.percentile(true, BLACK)),
    ), colours


def _cosines(a, b, outside):
    """From the first 1, 2, … components of pairs of tokens: (pairs, components)."""
    a, b, outside = (np.asarray(x, np.float32) for x in (a, b, outside))
    product, left, right = (np.cumsum(x, 1) + outside for x in (a * b, a * a, b * b))
    return product / np.maximum(np.sqrt(left) * np.sqrt(right), 1e-12)
