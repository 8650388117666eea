"""Features to colours: one exact PCA basis and range, shared by all pictures to be compared."""

from __future__ import annotations

import json
import math
import warnings
from copy import copy
from itertools import permutations
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.numpy import save_file

from vjepa_utils.checks import UserError
from vjepa_utils.features import Features
from vjepa_utils.files import read_safetensors, replacing

if TYPE_CHECKING:
    from vjepa_utils.annotations import File

MOST_TOKENS = 200_000  # above, a seeded subsample is fitted
PERCENTILES = 1, 99  # of each component are drawn as 0 and 1


class PCAColours:
    """The first three principal components as red, green and blue.

    Fit on one or many `Features`; the basis and the range then stay fixed, so a colour means the
    same in every frame, clip and figure it is used for. The sign makes the largest weight of each
    component positive.

    Args:
        components: how many to fit, 3 or more; the first three are colours.
        foreground: colour only the tokens on one side of the first component (as Oquab et al. 2023
            did): it is thresholded at its mean, the side that takes up less of the picture's border
            is the foreground, and the basis is fitted again on that. The rest is black. A
            heuristic: look at the mask.

    After `fit`: explained_variance_ratio, (components,) float64, of the tokens that were fitted.
    """

    def __init__(self, components=3, foreground=False):
        if components < 3:
            raise UserError(
                f"components must be at least 3, one for each colour, not {components}."
            )
        self.components, self.foreground = components, foreground

    def __repr__(self):
        if not hasattr(self, "_axes"):
            return "PCAColours(not fitted)"
        share = 100 * self.explained_variance_ratio[:3].sum()
        kind = ", foreground only" if self.foreground else ""
        return f"PCAColours(first three components: {share:.0f} % of the variance{kind})"

    def fit(self, features: Features, *more: Features) -> PCAColours:
        """Fit on the tokens of one or more `Features`, or of a `Collection`, together; returns
        self. ValueError on NaN or unequal channels.
        """
        every = [features, *more] if more or isinstance(features, Features) else features
        total = sum(math.prod(f.grid) for f in every)
        tokens = _tokens((f.values for f in every), total, MOST_TOKENS)
        self._front = None
        if self.foreground:
            mean, axis, _ = _principal_axes(tokens, 1)
            edge = _tokens([_border(f.values) for f in every], most=MOST_TOKENS)
            border = (edge - mean) @ axis[0]
            self._front = mean, -axis[0] if (border > 0).mean() > 0.5 else axis[0]
            front = tokens[(tokens - mean) @ self._front[1] > 0]
            tokens = front if len(front) else tokens
        self._mean, self._axes, self.explained_variance_ratio = _principal_axes(
            tokens, self.components
        )
        projected = (tokens - self._mean) @ self._axes[:3].T
        self._low, self._high = np.percentile(projected, PERCENTILES, axis=0)  # (3,) each
        # What float32 cannot distinguish from a constant is not shown as a colour.
        self._flat = self._high - self._low <= 1e-6 * np.abs(tokens).max()
        if self._flat.any():
            vary = 3 - self._flat.sum()
            warnings.warn(
                f"These features vary along {vary} of 3 components only: the others are drawn as "
                "grey.",
                stacklevel=2,
            )
        return self

    def match(self, features: Features, other: PCAColours, others: Features) -> PCAColours:
        """A new `PCAColours`, its colours reordered and flipped to correlate best with another's.

        Components of different encoders have nothing in common but the tokens. Each of these three
        is assigned to the one of the others that it correlates with most over those tokens (the
        assignment with the highest sum), and flipped where the correlation is negative. What each
        component shows does not change.

        Args:
            features: of this basis.  other: a fitted `PCAColours`.  others: its features, of the
                same clip on the same grid.
        In what it returns `matched` holds the three correlations, 0 to 1, float64: below 0.5 or so
        a colour means something else.
        """
        if features.grid != others.grid:
            raise UserError(
                f"Colours can be matched on one grid only, and these are {features.grid} and "
                f"{others.grid}."
            )
        # (tokens, 3) each
        both = [
            basis._check(f) @ basis._axes[:3].T for basis, f in ((self, features), (other, others))
        ]
        # (theirs, ours); what does not vary correlates with nothing
        correlation = np.nan_to_num(np.corrcoef(*both, rowvar=False)[3:, :3])
        strength = np.abs(correlation)
        order = list(max(permutations(range(3)), key=lambda order: strength[range(3), order].sum()))
        sign = np.where(correlation[range(3), order] < 0, -1, 1)
        low, high = self._low[order] * sign, self._high[order] * sign
        new, rest = copy(self), range(3, self.components)
        new.matched = strength[range(3), order]
        (new._low, new._high), new._flat = np.sort([low, high], 0), self._flat[order]
        new._axes = np.concatenate([self._axes[order] * sign[:, None], self._axes[3:]])
        new.explained_variance_ratio = self.explained_variance_ratio[[*order, *rest]]
        return new

    def project(self, features: Features) -> torch.Tensor:
        """Principal components: float32 tensor (steps, rows, columns, components)."""
        x = (self._check(features) - self._mean) @ self._axes.T
        return torch.from_numpy(x.reshape(*features.grid, -1).astype(np.float32))

    def colours(self, features: Features) -> np.ndarray:
        """Float32 array (steps, rows, columns, 3), red, green, blue from 0 to 1."""
        x = (self._check(features) - self._mean) @ self._axes[:3].T
        span = np.where(self._flat, 1, self._high - self._low)
        x = np.where(self._flat, 0.5, np.clip((x - self._low) / span, 0, 1)).reshape(
            *features.grid, 3
        )
        if self.foreground:
            x = x * self.foreground_mask(features)[..., None]
        return x.astype(np.float32)

    def foreground_mask(self, features: Features) -> np.ndarray:
        """Bool array (steps, rows, columns); needs `foreground=True`."""
        if not self.foreground:
            raise UserError("This basis was fitted on all tokens; use PCAColours(foreground=True).")
        mean, axis = self._front
        front = (self._check(features) - mean) @ axis > 0
        # where all tokens are equal, all are foreground
        return (front | (not axis.any())).reshape(features.grid)

    def save(self, path: File) -> None:
        """Write the basis and its range as safetensors."""
        self._check()
        arrays = {
            name: getattr(self, f"_{name}") for name in ("mean", "axes", "low", "high", "flat")
        }
        arrays["ratio"] = self.explained_variance_ratio
        if self.foreground:
            arrays["front_mean"], arrays["front_axis"] = self._front
        with replacing(path) as temporary:
            save_file(
                {n: np.ascontiguousarray(a) for n, a in arrays.items()},
                temporary,
                {"colours": json.dumps({})},
            )

    @classmethod
    def load(cls, path: File) -> PCAColours:
        """Read what `save` wrote."""
        arrays = {
            name: tensor.numpy() for name, tensor in read_safetensors(path, "colours")[0].items()
        }
        self = cls(len(arrays["axes"]), foreground="front_axis" in arrays)
        self._front = (
            (arrays.pop("front_mean"), arrays.pop("front_axis")) if self.foreground else None
        )
        self.explained_variance_ratio = arrays.pop("ratio")
        for name, array in arrays.items():
            setattr(self, f"_{name}", array)
        return self

    def _check(self, features=None):
        """Tokens of `features`, float64 (tokens, channels), if there is a basis and they fit it."""
        if not hasattr(self, "_axes"):
            raise UserError("This PCAColours has no basis yet; call fit(features) first.")
        if features is None:
            return None
        tokens = _tokens([features.values])
        if tokens.shape[1] != self._axes.shape[1]:
            found = f"{tokens.shape[1]} channels, the basis {self._axes.shape[1]}"
            raise UserError(f"These features have {found}: it belongs to another encoder.")
        return tokens


def _tokens(every, total=None, most=None):
    """All tokens of tensors (…, channels), or a seeded subsample: float64 (tokens, channels).

    every: an iterable; only the chosen tokens of each are kept.  total: the tokens of all, if they
    are loaded one at a time.
    """
    if total is None:
        total = sum(values.shape[:-1].numel() for values in every)
    chosen = None
    if most and total > most:
        chosen = np.sort(np.random.default_rng(0).choice(total, most, replace=False))
    parts, start = [], 0
    for values in every:
        parts.append(values.flatten(0, -2))
        stop = start + len(parts[-1])
        if chosen is not None:
            first, last = np.searchsorted(chosen, [start, stop])
            parts[-1] = parts[-1][chosen[first:last] - start]
        start = stop
    channels = {part.shape[1] for part in parts}
    if len(channels) > 1:
        raise UserError(
            f"Features of {sorted(channels)} channels cannot share a basis: they are of "
            "different encoders."
        )
    tokens = torch.cat(parts).double().numpy()
    if not np.isfinite(tokens).all():
        raise UserError("These features hold NaN or infinite values.")
    return tokens


def _border(v):
    """The tokens of (steps, rows, columns, channels) on the edge of the picture."""
    return torch.cat([v[:, 0], v[:, -1], v[:, :, 0], v[:, :, -1]], 1)  # (steps, edge, channels)


def _principal_axes(tokens, components):
    """Mean (channels,), axes (components, channels) and explained variance ratio (components,),
    zeros where there is none.
    """
    mean = tokens.mean(0)
    possible = min(components, *tokens.shape)
    axes, ratio = np.zeros((components, tokens.shape[1])), np.zeros(components)
    if len(tokens) > 1 and np.ptp(tokens, axis=0).max() > 1e-7 * np.abs(tokens).max():
        centred = tokens - mean
        # ascending; (channels, channels), an axis a column
        variance, vectors = np.linalg.eigh(centred.T @ centred)
        found = vectors.T[::-1][:possible]
        largest = np.take_along_axis(found, np.abs(found).argmax(1, keepdims=True), 1)
        axes[:possible], ratio[:possible] = (
            found * np.sign(largest),
            variance[::-1][:possible] / variance.sum(),
        )
    return mean, axes, ratio
