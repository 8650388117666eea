"""Latents to pixels: a ridge regression in closed form from a clip's tokens to its own pixels.

Each token predicts both frames of a window of twice its patch's width. Windows overlap and are
averaged, weighted towards their middle and by the fit's error, so patches meet without seams. Only
sums over tokens are held in float64.
"""

from __future__ import annotations

import json
import warnings

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from scipy.ndimage import binary_erosion

from vjepa_utils.checks import UserError
from vjepa_utils.decoding import pixels
from vjepa_utils.features import Features
from vjepa_utils.files import read_safetensors, replacing
from vjepa_utils.predict.predictor import normalised
from vjepa_utils.predict.recovery import Recovery
from vjepa_utils.video import Clip, File

STRENGTHS = [10.0**power for power in range(-4, 6)]
EVERY = 7  # one in so many numbers of a patch is enough to choose one of them


class PixelDecoder:
    """Pixels from tokens by ridge regression.

    Tokens are layer-normalised first, the form in which features and predictions are comparable;
    `normalise` False takes them as they are, such as principal components or raw colours.

    After `fit`: kind, the encoder, layer and size it is for; strength, the penalty on squared
    weights (scikit-learn's alpha) with the least error on held-out blocks of places; weights,
    float32 (channels + 1, numbers), the last row the offset, of a window's pixels from 0 to 1 as
    (frame, colour, row, column); trust, (numbers,), their weight in the average.
    """

    kind = None

    def __init__(self, normalise: bool = True):
        self.normalise = normalise

    def __repr__(self):
        fitted = f"{self.kind}, strength {self.strength:g}" if self.kind else "not fitted"
        return f"PixelDecoder({fitted})"

    def fit(self, features: Features | Recovery | list, video: Clip | list, where=None):
        """Fit to a clip, or to several given as lists, in one pass over their steps; returns self.

        Args:
            features: of one encoder, layer and size; of a `Recovery` the visible tokens.
            video: the clip they are of.
            where: bool (steps, rows, columns), the tokens to learn from; no other pixels are used.
                None for all, of a `Recovery` the visible ones.
        Raises:
            UserError: no token to learn from, or features of several kinds or another clip.
        """
        if not isinstance(features, list):
            features, video, where = [features], [video], [where]
        parts, rim, kinds = [0.0] * 3, [0.0] * 3, set()
        for each, clip, chosen in zip(features, video, where or len(video) * [None], strict=True):
            if isinstance(each, Recovery):
                each, chosen = each.filled, ~each.hidden if chosen is None else chosen
            kinds.add(_kind(each))
            if len(kinds) > 1:
                raise UserError(f"One decoder cannot be for {' and for '.join(sorted(kinds))}.")
            self.patch, chosen = each.patch_size, pixels.checked(chosen, each)
            (inside, near), quarter = _window(self.patch), blocks(each.grid[1:])
            for x, frames, place in zip(each.values, pixels.true(each, clip), chosen, strict=True):
                x, y = self._input(x), pixels.windows(frames, self.patch, self.patch // 2)
                parts = _with(parts, x, y[:, inside], [place & (quarter == k) for k in range(4)])
                rim = _with(rim, x, y[:, ~inside], [binary_erosion(place, np.ones((3, 3)))])
        (self.kind,), counts = kinds, parts[0][:, -1, -1]
        tokens, channels = int(counts.sum()), parts[0].shape[-1] - 1
        strengths = [s for s in STRENGTHS if s >= channels or tokens >= channels]
        self.strength = _best(strengths, *parts) if (counts > 0).sum() > 1 else strengths[-1]
        if tokens < channels:
            warnings.warn(
                f"There are {tokens} tokens to learn pixels from ({self.kind}), fewer than their "
                f"{channels} channels: the strength of the ridge went up to {self.strength:g}.",
                stacklevel=2,
            )
        self.weights, error = torch.zeros(channels + 1, len(near)), torch.full_like(near, torch.inf)
        self.weights[:, inside], error[inside] = _ridge(parts, self.strength)
        if rim[0][0, -1, -1] > 1:
            self.weights[:, ~inside], error[~inside] = _ridge(rim, self.strength)
        self.trust = near / (error + 1e-9)
        return self

    def decode(self, features: Features | Recovery | torch.Tensor | np.ndarray) -> np.ndarray:
        """Frames uint8 (2 · steps, height, width, 3), both of each step, at the encoded size.

        features: of the fit's encoder, layer and size, or their values alone (steps, rows, columns,
            channels). Predictions of a `Recovery` keep their length, shorter where they are unsure.
        """
        kind, ready = self._fitted().kind, isinstance(features, Recovery)
        features = features.filled if ready else features
        if isinstance(features, Features):
            kind, features = _kind(features), features.values
        channels = len(self.weights) - 1
        if (kind, features.shape[-1]) != (self.kind, channels):
            raise UserError(
                f"Tokens of {kind}, {features.shape[-1]} channels, cannot be decoded by a fit to "
                f"{self.kind}, {channels} channels."
            )
        frames, at = [], (features.shape[1:3], self.patch, self.patch // 2)
        for x in torch.as_tensor(features):
            x = x if ready else self._input(x)
            numbers = x.flatten(0, 1) @ self.weights[:-1] + self.weights[-1]
            trust = self.trust.expand_as(numbers)
            shown = pixels.overlaid(numbers * trust, *at) / pixels.overlaid(trust, *at)
            frames.append(pixels.as_frames(shown))
        return np.concatenate(frames)

    def score(self, features: Features | Recovery, video: Clip, where=None) -> dict[str, float]:
        """{"r2", "psnr"} (`agreement`) at some tokens, bool (steps, rows, columns); None for all,
        of a `Recovery` the hidden ones.
        """
        where = getattr(features, "hidden", None) if where is None else where
        whole = getattr(features, "whole", features)
        return pixels.agreement(self.decode(features), whole, video, where)

    def packed(self) -> tuple[np.ndarray, np.ndarray]:
        """For a browser, of the patch alone: int8 (channels + 1, 2 · 3 · patch²) and float32
        (channels + 1,), which times each other are the `weights` there.
        """
        weights = self._fitted().weights[:, _window(self.patch)[0]].numpy()
        scale = np.maximum(np.abs(weights).max(1), 1e-12) / 127
        return np.rint(weights / scale[:, None]).astype(np.int8), scale.astype(np.float32)

    def save(self, path: File) -> None:
        """Write a safetensors file."""
        metadata = dict(vars(self._fitted()))
        tensors = {name: metadata.pop(name) for name in ("weights", "trust")}
        with replacing(path) as temporary:
            save_file(tensors, temporary, {"decoder": json.dumps(metadata)})

    @classmethod
    def load(cls, path: File) -> PixelDecoder:
        """Read what `save` wrote."""
        (tensors, metadata), self = read_safetensors(path, "decoder"), cls()
        vars(self).update(tensors, **metadata)
        return self

    def _fitted(self):
        if self.kind is None:
            raise UserError("This PixelDecoder is not fitted yet; call fit(features, video) first.")
        return self

    def _input(self, tokens):
        if not tokens.isfinite().all():
            raise UserError("These features hold NaN or infinite values.")
        return normalised(tokens.float()) if self.normalise else tokens.float()


def _with(sums, x, y, parts):
    """Normal equations with the tokens of a step added to each part: gram (parts, channels + 1,
    channels + 1), cross (parts, channels + 1, numbers), squares (parts, numbers). The last channel
    is a constant.
    """
    x, y, more = F.pad(x.flatten(0, 1).double(), (0, 1), value=1.0), y.double(), []
    for chosen in parts:
        a, b = x[chosen.flatten()], y[chosen.flatten()]
        more.append((a.T @ a, a.T @ b, b.square().sum(0)))
    return [s + torch.stack(each) for s, each in zip(sums, zip(*more, strict=True), strict=True)]


def _solved(gram, cross, strength):
    """The weights of least error, penalised but for the offset: (…, channels + 1, numbers)."""
    penalty = torch.full(gram.shape[-1:], strength, dtype=gram.dtype)
    penalty[-1] = 0
    return torch.cholesky_solve(cross, torch.linalg.cholesky(gram + penalty.diag()))


def _errors(gram, cross, squares, weights):
    """Squared errors over the tokens: (…, numbers)."""
    return (squares + (weights * (gram @ weights - 2 * cross)).sum(-2)).clamp(min=0)


def _best(strengths, gram, cross, squares):
    """The strength of least error on each part, held out in turn."""
    cross, squares = cross[..., ::EVERY], squares[..., ::EVERY]
    rests = gram.sum(0) - gram, cross.sum(0) - cross
    error = lambda strength: _errors(gram, cross, squares, _solved(*rests, strength)).sum()
    return min(strengths, key=error)


def _ridge(parts, strength):
    """Weights, float32, and their mean squared error elsewhere, (numbers,), as generalised
    cross-validation expects it (Golub, Heath and Wahba 1979).
    """
    gram, cross, squares = (each.sum(0) for each in parts)
    weights, tokens = _solved(gram, cross, strength), gram[-1, -1]
    free = 1 - _solved(gram, gram, strength).trace() / tokens
    error = _errors(gram, cross, squares, weights) / tokens / free.clamp(min=1e-6) ** 2
    return weights.float(), error.float()


def blocks(place: tuple) -> np.ndarray:
    """A picture in parts 0 to 3 of blocks, a quarter of its short side wide, because a token's
    neighbours nearly repeat it: int (rows, columns).
    """
    rows, columns = (np.arange(n) // max(1, min(place) // 4) % 2 for n in place)
    return 2 * rows[:, None] + columns


def _window(patch):
    """Of a window's numbers: which lie in the patch; how near they are to its centre, 1 to 0."""
    at = torch.arange(2 * patch) - patch + 0.5
    inside, near = at.abs() < patch / 2, 1 - at.abs() / patch
    return [(x[:, None] * x).expand(2, 3, -1, -1).flatten() for x in (inside, near)]


def _kind(features):
    layer = "final norm" if features.layer is None else f"layer {features.layer}"
    return f"{features.encoder}, {layer}, short side {min(features.picture_size)}"
