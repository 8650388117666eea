"""The pixels that tokens stand for, what copying gives, and how well pictures agree with a clip."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import mean_squared_error, r2_score

from vjepa_utils.checks import UserError
from vjepa_utils.drawing import clip_of, frames_numbered
from vjepa_utils.features import Features
from vjepa_utils.predict import masks
from vjepa_utils.predict.recovery import nearest_visible
from vjepa_utils.reading.pixels import resized
from vjepa_utils.video import Clip


def true(features: Features, video: Clip) -> Iterator[torch.Tensor]:
    """The two frames of each step as they were encoded: float32 (2, 3, height, width), 0 to 1."""
    if features.stride != features.patch_size:
        raise UserError(
            f"These tokens are {features.stride} pixels apart, and pixels are decoded in whole "
            "patches: encode without stride."
        )
    video = clip_of(video, features.source_size)
    for pair in features.frames:
        frames = frames_numbered(video, pair)
        yield torch.stack([resized(frame, features.picture_size) for frame in frames]) / 255


def windows(frames: torch.Tensor, patch: int, border: int = 0) -> torch.Tensor:
    """(2, 3, height, width) to the pixels of every patch and its border, zero outside the picture:
    (tokens, numbers), numbers as (frame, colour, row, column).
    """
    frames = frames.flatten(0, 1).unsqueeze(0)
    return F.unfold(frames, patch + 2 * border, padding=border, stride=patch)[0].T


def overlaid(numbers: torch.Tensor, place: tuple, patch: int, border: int = 0) -> torch.Tensor:
    """The sum of such windows on a grid (rows, columns): (2, 3, height, width)."""
    size = [patch * count for count in place]
    frames = F.fold(numbers.T, size, patch + 2 * border, padding=border, stride=patch)
    return frames.unflatten(0, (2, 3))


def as_frames(frames: torch.Tensor) -> np.ndarray:
    """(n, 3, height, width), 0 to 1, to uint8 (n, height, width, 3)."""
    return (frames.clamp(0, 1) * 255).round().byte().movedim(1, -1).numpy()


def checked(where: np.ndarray | None, features: Features) -> np.ndarray:
    """Some tokens, bool (steps, rows, columns); all for None."""
    where = np.ones(features.grid, bool) if where is None else np.asarray(where)
    if where.dtype != bool or where.shape != features.grid or not where.any():
        raise UserError(
            f"where must be bool of the shape {features.grid} and True at some tokens, not "
            f"{where.dtype} of the shape {where.shape} and True at {np.count_nonzero(where)}."
        )
    return where


def agreement(frames: np.ndarray, features: Features, video: Clip, where=None) -> dict[str, float]:
    """{"r2": against the mean colour, "psnr": in dB} of frames decoded from features, at the pixels
    of some tokens, bool (steps, rows, columns), or of all.
    """
    where = masks.pixels(checked(where, features), *features.picture_size).repeat(2, 0)
    truth = torch.cat([*true(features, video)]).movedim(1, -1).numpy()[where]
    guess = frames[where] / np.float32(255)
    error = mean_squared_error(truth, guess)
    r2 = r2_score(truth, guess, multioutput="variance_weighted")
    return {"r2": float(r2), "psnr": -10 * math.log10(error) if error else math.inf}


def copied(features: Features, video: Clip, visible: np.ndarray, by="features") -> np.ndarray:
    """The clip with the pixels of each hidden token copied from a visible one; nothing is fitted.

    Args:
        features: such as `Recovery.filled`.
        video: the clip they are of.
        visible: bool (steps, rows, columns).
        by: "features" for the token of highest cosine similarity, "place" for the nearest.
    Returns:
        uint8 (2 · steps, height, width, 3), at the encoded size.
    """
    source = nearest_visible(~visible)
    if by == "features":
        unit = F.normalize(features.values, dim=-1)
        source = torch.cat([(x @ unit[visible].T).argmax(1) for x in unit[~visible].split(512)])
    patch, shown = features.patch_size, visible.flatten()
    numbers = torch.cat([windows(step, patch) for step in true(features, video)])
    numbers[~shown] = numbers[shown][source]
    steps = numbers.unflatten(0, (len(visible), -1))
    return np.concatenate([as_frames(overlaid(x, visible.shape[1:], patch)) for x in steps])


def raw_colours(features: Features, video: Clip) -> Features:
    """What is known without an encoder: for each token the mean colours of the 5×5 patches around
    it, in both frames, 150 numbers from 0 to 1.
    """
    values = []
    for frames in true(features, video):
        colours = F.avg_pool2d(frames, features.patch_size).flatten(0, 1).unsqueeze(0)
        around = F.unfold(F.pad(colours, (2, 2, 2, 2), mode="replicate"), 5)[0]
        values.append(around.T.unflatten(0, features.grid[1:]))
    return replace(features, values=torch.stack(values), encoder="raw colours", layer=None)
