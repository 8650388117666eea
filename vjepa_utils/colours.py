"""Features to colours: one exact PCA basis and range, shared by all pictures to be compared."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from copy import copy
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file
from scipy.optimize import linear_sum_assignment
from sklearn.utils.extmath import svd_flip

from vjepa_utils.checks import UserError
from vjepa_utils.features import Features
from vjepa_utils.files import read_safetensors, replacing
from vjepa_utils.video import File

MOST_TOKENS = 200_000  # above, a seeded subsample is fitted
PERCENTILES = 1, 99  # of each component are drawn as 0 and 1
ARRAYS = {"ratio": "explained_variance_ratio", "place": "place"} | {
    name: f"_{name}" for name in ("mean", "axes", "low", "high", "front_mean", "front_axis")
}  # names in a file, and here


class PCAColours:
    """The first three principal components as red, green and blue.

    Fit on one or many `Features`; the basis and the range then stay fixed, so a colour means the
    same in every frame, clip and figure it is used for. The sign makes the largest weight of each
    component positive. Films are read step by step.

    Args:
        components: how many to fit, 3 or more; the first three are colours.
        foreground: colour only the tokens on one side of the first component (as Oquab et al. 2023
            did): it is thresholded at its mean, the side that takes up less of the picture's border
            is the foreground, and the basis is fitted again on that. The rest is black. A
            heuristic: look at the mask.
        remove: "place", to subtract from each token the mean over all fitted steps at its place;
            or such means of other clips, float (rows, columns, channels).

    After `fit`: explained_variance_ratio, (components,) float64, of the tokens that were fitted;
    place, the means that are subtracted, or None.
    """

    matched: np.ndarray  # |correlation| of each colour with the other basis', after `match`
    _front_axis: Any  # None, or of the foreground
    removed = "places"  # whose means are taken out, in headings

    def __init__(self, components=3, foreground=False, remove=None):
        if components < 3:
            raise UserError(f"components must be at least 3, a colour each, not {components}.")
        if isinstance(remove, str) and remove != "place":
            raise UserError(f'remove must be "place", means of places or None, not {remove!r}.')
        self.components, self.foreground, self.remove = components, foreground, remove

    def __repr__(self):
        if not hasattr(self, "_axes"):
            return "PCAColours(not fitted)"
        share = 100 * self.explained_variance_ratio[:3].sum()
        kind = ", foreground only" if self.foreground else ""
        return f"PCAColours(first three components: {share:.0f} % of the variance{kind})"

    def fit(
        self,
        features: Features | Iterable[Features],
        *more: Features,
        weights: torch.Tensor | np.ndarray | None = None,
    ) -> PCAColours:
        """Fit on the tokens of one or more `Features`, or of a `Collection`, together.

        Args:
            features, more: Features of one encoder.
            weights: of the tokens of a single `Features`, float (steps, rows, columns), at least 0,
                such as the share of each patch that a mask covers.
        """
        sets: Any = [features, *more] if more or isinstance(features, Features) else features
        weights = _weights(weights, sets)
        self.place = place_means(sets) if isinstance(self.remove, str) else self.remove
        tokens, weights = self._sample(sets, weights)
        self._front_mean = self._front_axis = None
        if self.foreground:
            mean, (axis,), _ = _principal_axes(tokens, weights, 1)
            edge = self._sample(sets, np.concatenate([_border(each.grid) for each in sets]))[0]
            outside = ((edge - mean) @ axis > 0).mean() > 0.5
            self._front_mean, self._front_axis = mean, -axis if outside else axis
            front = (tokens - mean) @ self._front_axis >= 0  # all, where all are equal
            tokens, weights = tokens[front], weights[front]
        self._mean, self._axes, self.explained_variance_ratio = _principal_axes(
            tokens, weights, self.components
        )
        x = (tokens - self._mean) @ self._axes[:3].T
        # between tokens, as is usual, where all count the same
        kind: Any = {} if np.ptp(weights) == 0 else {"weights": weights, "method": "inverted_cdf"}
        self._low, self._high = np.percentile(x, PERCENTILES, axis=0, **kind)  # (3,) each
        # What float32 cannot distinguish from a constant is not shown as a colour.
        flat = self._high - self._low <= 1e-6 * np.abs(tokens).max()
        self._high[flat] = self._low[flat]
        if flat.any():
            warnings.warn(
                f"These features vary along {3 - flat.sum()} of 3 components only: the others are "
                "drawn as grey.",
                stacklevel=2,
            )
        return self

    def match(self, features: Features, other: PCAColours, others: Features) -> PCAColours:
        """A new `PCAColours`, its colours reordered and flipped to correlate best with another's.

        Each of the three is assigned to the one of the others that it correlates with most over the
        tokens (the assignment with the highest sum), and flipped where that is negative. Below a
        correlation of 0.5 or so, `matched` (3,), a colour means something else.

        Args:
            features: of this basis.
            other: a fitted `PCAColours`.
            others: its features, of the same clip on the same grid.
        """
        if features.grid != others.grid:
            raise UserError(
                f"Colours match on one grid only, not on {features.grid} and {others.grid}."
            )
        theirs, ours = other._projected(others), self._projected(features)
        correlation = np.corrcoef(theirs.reshape(-1, 3), ours.reshape(-1, 3), rowvar=False)
        # (theirs, ours); what does not vary correlates with nothing
        correlation = np.nan_to_num(correlation[:3, 3:])
        order = linear_sum_assignment(np.abs(correlation), maximize=True)[1]
        correlation = correlation[range(3), order]
        sign = np.where(correlation < 0, -1, 1)
        new, rest = copy(self), range(3, self.components)
        new.matched = np.abs(correlation)
        new._low, new._high = np.sort([self._low[order] * sign, self._high[order] * sign], 0)
        new._axes = np.concatenate([self._axes[order] * sign[:, None], self._axes[3:]])
        new.explained_variance_ratio = self.explained_variance_ratio[[*order, *rest]]
        return new

    def project(self, features: Features) -> torch.Tensor:
        """Principal components: float32 tensor (steps, rows, columns, components)."""
        return torch.from_numpy(self._projected(features, self.components, np.float32))

    def colours(self, features: Features) -> np.ndarray:
        """Float32 array (steps, rows, columns, 3), red, green, blue from 0 to 1."""
        x = self._projected(features)
        span = self._high - self._low
        x = np.where(span, np.clip((x - self._low) / np.where(span, span, 1), 0, 1), 0.5)
        if self.foreground:
            x = x * self.foreground_mask(features)[..., None]
        return x.astype(np.float32)

    def foreground_mask(self, features: Features) -> np.ndarray:
        """Bool array (steps, rows, columns); needs `foreground=True`."""
        if not self.foreground:
            raise UserError("This basis was fitted on all tokens; use PCAColours(foreground=True).")
        self._check(features)
        front = [(x - self._front_mean) @ self._front_axis >= 0 for x in self._steps(features)]
        return np.reshape(front, features.grid)

    def share_of(self, features: Features) -> float:
        """Share of the variance of these tokens that the three colours hold, 0 to 1; of those in
        the foreground, where these alone are coloured.
        """
        self._check(features)
        shown = self.foreground_mask(features) if self.foreground else np.ones(features.grid)
        tokens, _ = self._sample([features], shown.flatten())
        total = tokens.var(0, dtype=np.float64).sum() if len(tokens) else 0
        return float((tokens @ self._axes[:3].T).var(0).sum() / total) if total else 0.0

    def save(self, path: File) -> None:
        """Write the basis and its range as safetensors."""
        self._check()
        arrays = {key: getattr(self, name) for key, name in ARRAYS.items()}
        arrays = {key: np.ascontiguousarray(a) for key, a in arrays.items() if a is not None}
        with replacing(path) as temporary:
            save_file(arrays, temporary, {"colours": "{}"})

    @classmethod
    def load(cls, path: File) -> PCAColours:
        """Read what `save` wrote."""
        arrays, _ = read_safetensors(path, "colours")
        self = cls(len(arrays["axes"]), "front_axis" in arrays)
        for key, name in ARRAYS.items():
            setattr(self, name, arrays[key].numpy() if key in arrays else None)
        return self

    def _check(self, features=None):
        if not hasattr(self, "_axes"):
            raise UserError("This PCAColours has no basis yet; call fit(features) first.")
        if features is not None and features.values.shape[-1] != len(self._mean):
            raise UserError(
                f"These features have {features.values.shape[-1]} channels, the basis "
                f"{len(self._mean)}: it belongs to another encoder."
            )

    def _projected(self, features, count=3, dtype=np.float64):
        """The first components of the tokens: (steps, rows, columns, count)."""
        self._check(features)
        x = [(x - self._mean) @ self._axes[:count].T for x in self._steps(features)]
        return np.reshape(np.asarray(x, dtype), (*features.grid, count))

    def _steps(self, features):
        """The tokens of each step, less the mean of their place: float64 (tokens, channels)."""
        place = 0 if self.place is None else np.asarray(self.place, np.float64)
        if self.place is not None and place.shape != features.values.shape[1:]:
            raise UserError(
                f"The means of places have the shape {place.shape}, and these features "
                f"{tuple(features.values.shape[1:])}: take means of this encoder on this grid."
            )
        for step in features.values:
            if not step.isfinite().all():
                raise UserError("These features hold NaN or infinite values.")
            yield (step.double().numpy() - place).reshape(-1, step.shape[-1])

    def _sample(self, sets, weights):
        """At most `MOST_TOKENS` tokens, seeded, of those with a weight: float32 (n, channels); and
        the weights of these, (n,).
        """
        chosen = np.flatnonzero(weights)
        if len(chosen) > MOST_TOKENS:
            chosen = np.sort(np.random.default_rng(0).choice(chosen, MOST_TOKENS, replace=False))
        parts, start = [], 0
        for tokens in (step for each in sets for step in self._steps(each)):
            first, last = np.searchsorted(chosen, [start, start + len(tokens)])
            parts.append(tokens[chosen[first:last] - start].astype(np.float32))
            start += len(tokens)
        channels = {part.shape[1] for part in parts}
        if len(channels) > 1:
            raise UserError(
                f"Features of {sorted(channels)} channels cannot share a basis: they are of "
                "different encoders."
            )
        return np.concatenate(parts), weights[chosen]


def _weights(weights, sets):
    """A weight for each token, float64 (tokens,)."""
    for each in sets:
        if not isinstance(each, Features):
            kind = type(each).__name__
            raise UserError(f"fit takes Features, what Encoder.encode gives, not {kind}.")
    grids = [each.grid for each in sets]
    if weights is None:
        return np.ones(sum(map(math.prod, grids)))
    weights = np.asarray(weights, np.float64)
    if grids != [weights.shape] or not (weights.min() >= 0 and 0 < weights.max() < np.inf):
        raise UserError(
            "weights must be numbers of at least 0, not all of them 0, in the shape (steps, rows, "
            f"columns) of the only features, {grids[0]}; these are {weights.shape}."
        )
    return weights.flatten()


def place_means(sets: Iterable[Features]) -> np.ndarray:
    """Mean of each place over all steps of `Features`, which are taken one by one: float64 (rows,
    columns, channels).
    """
    total: torch.Tensor | None = None
    steps = 0
    for each in sets:
        added = each.values.sum(0, dtype=torch.float64)
        if total is not None and total.shape != added.shape:
            raise UserError(
                "Means of places need features of one encoder on one grid, not of the shapes "
                f"{tuple(total.shape)} and {tuple(added.shape)}."
            )
        total, steps = added if total is None else total + added, steps + len(each.values)
    if total is None:
        raise UserError("Means of places need the features of at least one clip.")
    return (total / steps).numpy()


def _border(grid):
    """Which tokens lie on the edge of the picture: bool (tokens,)."""
    border = np.ones(grid, bool)
    border[:, 1:-1, 1:-1] = False
    return border.flatten()


def _principal_axes(tokens, weights, components):
    """Weighted mean (channels,), axes (components, channels) and explained variance ratio
    (components,), zeros where there is none. Axes and signs as scikit-learn's PCA.
    """
    share = weights / weights.sum()
    mean = share @ tokens  # float64, as the weights are
    possible = min(components, *tokens.shape)
    axes, ratio = np.zeros((components, tokens.shape[1])), np.zeros(components)
    if np.ptp(tokens, axis=0).max() > 1e-7 * np.abs(tokens).max():
        centred = tokens - mean
        # ascending; (channels, channels), an axis a column
        variance, vectors = np.linalg.eigh((centred.T * share) @ centred)
        axes[:possible] = svd_flip(None, vectors.T[::-1][:possible], u_based_decision=False)[1]
        ratio[:possible] = variance[::-1][:possible] / variance.sum()
    return mean, axes, ratio
