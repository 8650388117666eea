"""Latents to pixels: a ridge regression in closed form from a clip's tokens to its own pixels.

Each token predicts the pixels of its patch, and of a window of twice its width, in both frames.
Where windows overlap they are averaged, with weights that fall towards the rim and with the error
of the fit: patches meet without seams. Only normal equations, sums over tokens, are held in
float64, so the fit passes over the steps once.
"""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from scipy.ndimage import binary_erosion

from vjepa_utils.checks import UserError
from vjepa_utils.decoding.pixels import (
    agreement,
    as_frames,
    checked,
    overlaid,
    true_pixels,
    windows,
)
from vjepa_utils.features import Features
from vjepa_utils.files import read_safetensors, replacing
from vjepa_utils.predict.predictor import normalised
from vjepa_utils.predict.recovery import Recovery

if TYPE_CHECKING:
    from vjepa_utils.annotations import Clip, File

    Tokens = Features | Recovery

STRENGTHS = [10.0**power for power in range(-4, 6)]
EVERY = 7  # one in so many numbers of a patch is enough to choose one of them


class PixelDecoder:
    """Pixels from tokens, by ridge regression.

    Tokens are layer-normalised first, the form in which features and predictions are comparable;
    `normalise` False takes them as they are, such as principal components or raw colours.

    After `fit`: kind, the encoder, layer and size it is for; strength, the penalty on squared
    weights (scikit-learn's alpha) with the least error on tokens held out, in blocks of places;
    weights, float32 (channels + 1, numbers), the last row the offset, of the window's pixels from 0
    to 1 as (frame, colour, row, column); trust, float32 (numbers,), their weight in the average.
    """

    def __init__(self, normalise: bool = True):
        self.normalise = normalise

    def __repr__(self):
        if not hasattr(self, "kind"):
            return "PixelDecoder(not fitted)"
        return f"PixelDecoder({self.kind}, strength {self.strength:g})"

    def fit(self, features: Tokens | list, video: Clip | list, where=None) -> PixelDecoder:
        """Fit to a clip, or to several given as lists; returns self.

        Args:
            features: of one encoder, layer and size. Of a `Recovery` the visible tokens, which
                were encoded without the hidden pixels.
            video: the clip they are of.
            where: bool (steps, rows, columns), the tokens to learn from; no other pixels are used.
                None for all, of a `Recovery` the visible ones.
        Raises:
            UserError: no token to learn from; features not of this clip, not finite, of different
                kinds, or of a stride smaller than the patch.
        """
        if not isinstance(features, (list, tuple)):
            features, video, where = [features], [video], [where]
        parts, around, kinds = 4 * [_Sums()], _Sums(), set()
        where = where or len(features) * [None]
        for each, clip, chosen in zip(features, video, where, strict=True):
            if isinstance(each, Recovery):
                each, chosen = each.filled, ~each.hidden if chosen is None else chosen
            kinds.add(_kind(each))
            if len(kinds) > 1:
                raise UserError(f"One decoder cannot be for {' and for '.join(sorted(kinds))}.")
            self.patch, part = each.patch_size, blocks(each.grid[1:])
            steps = zip(each.values, true_pixels(each, clip), checked(chosen, each), strict=True)
            inside, near = _window(self.patch)
            for x, y, place in steps:
                x, y = self._input(x), windows(y.double(), self.patch, self.patch // 2)
                around += _Sums.over(x, y, binary_erosion(place, np.ones((3, 3))))
                for number in range(4):
                    parts[number] += _Sums.over(x, y[:, inside], place & (part == number))
        (self.kind,), whole = kinds, sum(parts, _Sums())
        tokens, channels = whole.tokens, len(whole.gram) - 1
        few = tokens < channels
        self.strength = _best([s for s in STRENGTHS if s >= channels or not few], parts)
        if few:
            warnings.warn(
                f"There are {tokens} tokens to learn pixels from ({self.kind}), fewer than their "
                f"{channels} channels: the strength of the ridge went up to {self.strength:g}.",
                stacklevel=2,
            )
        self.weights = torch.zeros(channels + 1, len(inside))
        error = torch.full((len(inside),), torch.inf)  # where too little is known of neighbours
        if around.tokens > 1:
            self.weights[:], error[:] = around.solved(self.strength)
        self.weights[:, inside], error[inside] = whole.solved(self.strength)
        self.trust = near / (error + 1e-9)
        return self

    def decode(self, features: Tokens | torch.Tensor | np.ndarray) -> np.ndarray:
        """Frames uint8 (2 · steps, height, width, 3), both of each step, at the encoded size.

        Args:
            features: of the encoder, layer and size of the fit, or values alone (steps, rows,
                columns, channels). Of a `Recovery` its tokens as `filled`; predictions keep their
                length, which is shorter where they are unsure.
        """
        self._check()
        whole = features.filled if isinstance(features, Recovery) else features
        kind = _kind(whole) if isinstance(whole, Features) else self.kind
        values = whole.values if isinstance(whole, Features) else torch.as_tensor(whole)
        if kind != self.kind or values.shape[-1] != len(self.weights) - 1:
            raise UserError(
                f"Tokens of {kind}, {values.shape[-1]} channels, cannot be decoded by a fit to "
                f"{self.kind}, {len(self.weights) - 1} channels."
            )
        frames, at = [], (values.shape[1:3], self.patch, self.patch // 2)
        for x in values:
            x = x if isinstance(features, Recovery) else self._input(x)  # normalised already
            numbers = x.flatten(0, 1) @ self.weights[:-1] + self.weights[-1]
            trust = self.trust.expand_as(numbers)
            frames.append(as_frames(overlaid(numbers * trust, *at) / overlaid(trust, *at)))
        return np.concatenate(frames)

    def score(self, features: Tokens, video: Clip, where=None) -> dict[str, float]:
        """{"r2", "psnr"}, see `agreement`, at some tokens, bool (steps, rows, columns); None for
        all, of a `Recovery` the hidden ones.
        """
        where = getattr(features, "hidden", None) if where is None else where
        return agreement(self.decode(features), getattr(features, "whole", features), video, where)

    def save(self, path: File) -> None:
        """Write a safetensors file."""
        self._check()
        metadata = dict(vars(self))
        tensors = {name: metadata.pop(name) for name in ("weights", "trust")}
        with replacing(path) as temporary:
            save_file(tensors, temporary, {"decoder": json.dumps(metadata)})

    @classmethod
    def load(cls, path: File) -> PixelDecoder:
        """Read what `save` wrote."""
        tensors, metadata = read_safetensors(path, "decoder")
        self = cls()
        vars(self).update(tensors, **metadata)
        return self

    def _input(self, tokens):
        if not tokens.isfinite().all():
            raise UserError("These features hold NaN or infinite values.")
        return normalised(tokens.float()) if self.normalise else tokens.float()

    def _check(self):
        if not hasattr(self, "kind"):
            raise UserError("This PixelDecoder is not fitted yet; call fit(features, video) first.")


class _Sums(NamedTuple):
    """Normal equations of a regression: sums over tokens, of which none is kept."""

    gram: torch.Tensor | float = 0.0  # (channels + 1, channels + 1), the last for the offset
    cross: torch.Tensor | float = 0.0  # (channels + 1, numbers)
    squares: torch.Tensor | float = 0.0  # (numbers,)

    @classmethod
    def over(cls, x, y, chosen):
        """Of those chosen, bool (rows, columns), of the tokens (rows, columns, channels) and their
        numbers (tokens, numbers).
        """
        x, y = F.pad(x[chosen].double(), (0, 1), value=1.0), y[chosen.flatten()]
        return cls(x.T @ x, x.T @ y, y.square().sum(0))

    def __add__(self, other):
        return _Sums(*(a + b for a, b in zip(self, other, strict=True)))

    @property
    def tokens(self):
        return int(self.gram[-1, -1])

    def root(self, strength):
        """Cholesky factor of the penalised equations; the offset has no penalty."""
        penalty = torch.full((len(self.gram),), strength, dtype=torch.float64)
        penalty[-1] = 0
        return torch.linalg.cholesky(self.gram + penalty.diag())

    def solved(self, strength):
        """Weights (channels + 1, numbers) and their error to be expected elsewhere, (numbers,), by
        generalised cross-validation (Golub, Heath, Wahba 1979).
        """
        root = self.root(strength)
        weights = torch.cholesky_solve(self.cross, root)
        free = 1 - torch.cholesky_solve(self.gram, root).trace() / self.tokens
        error = self.errors(weights) / self.tokens / free.clamp(min=1e-6) ** 2
        return weights.float(), error.float()

    def errors(self, weights):
        """Squared errors of such weights, summed over the tokens: (numbers,)."""
        products = weights * (self.gram @ weights - 2 * self.cross)
        return (self.squares + products.sum(0)).clamp(min=0)


def _best(strengths, parts):
    """The one with the least error on each part of the tokens, held out in turn; the largest if
    there is nothing to hold out.
    """
    parts = [_Sums(p.gram, p.cross[:, ::EVERY], p.squares[::EVERY]) for p in parts if p.tokens]
    rests = [sum((part for part in parts if part is not held), _Sums()) for held in parts]

    def error(strength):
        solved = [torch.cholesky_solve(rest.cross, rest.root(strength)) for rest in rests]
        return sum(p.errors(weights).sum() for p, weights in zip(parts, solved, strict=True))

    return min(strengths, key=error) if len(parts) > 1 else strengths[-1]


def blocks(place: tuple) -> np.ndarray:
    """A picture in four parts, 0 to 3, of blocks a quarter of its short side wide, because a
    token's neighbours nearly repeat it: int (rows, columns).
    """
    rows, columns = (np.arange(n) // max(1, min(place) // 4) % 2 for n in place)
    return 2 * rows[:, None] + columns


def _window(patch):
    """Of a window, twice as wide as its patch: which numbers lie in the patch, and how near they
    are to its centre, from 1 to 0 at the rim.
    """
    at = torch.arange(2 * patch) - patch + 0.5
    inside, near = at.abs() < patch / 2, 1 - at.abs() / patch
    return [(x[:, None] * x).expand(2, 3, -1, -1).flatten() for x in (inside, near)]


def _kind(features):
    layer = "final norm" if features.layer is None else f"layer {features.layer}"
    return f"{features.encoder}, {layer}, short side {min(features.picture_size)}"
