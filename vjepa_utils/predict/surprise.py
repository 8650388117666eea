"""Surprise: the error of predicting the next steps from the steps before alone.

A window slides over the clip, one step (two frames) at a time. The encoder is given its first
`context` frames and no others, so nothing of the future can leak into what the predictor sees; the
predictor predicts the next `horizon` steps; surprise is its error (Garrido et al. 2025,
arXiv 2502.11831).
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from scipy.signal import find_peaks
from tqdm.auto import tqdm

from vjepa_utils.checks import UserError, is_whole
from vjepa_utils.files import replacing
from vjepa_utils.model.devices import batch_tokens
from vjepa_utils.model.vjepa2 import encode_tokens, predict_tokens
from vjepa_utils.predict.predictor import mask_token_of, normalised, predictor_of
from vjepa_utils.video import File, Size, Video

if TYPE_CHECKING:
    from vjepa_utils.encoder import Encoder

TARGETS = {  # what the target was computed from, in the words of the figures
    "window": "the window with its future",
    "step": "the predicted step alone",
}
BASELINES = "last step", "mean", "pixels"


@dataclass(repr=False)
class Surprise:
    """Errors of the predictions of a clip, and of the baselines, at every token.

    One row for each step of the clip and each distance it is predicted from: step s, predicted from
    `ahead` steps before, is row s · horizon + ahead − 1. `at(ahead)` are the rows of one distance.

    cosine, l1: float32 (predictions, rows, columns), the cosine similarity of prediction and target
        and their mean absolute difference over the channels, which is the training loss. NaN where
        nothing could be predicted: in the first steps, and with horizon > 1 in the last, where the
        window does not fit.
    baselines: {name: {"cosine": …, "l1": …}}, arrays of the same shape. None has access to the
        future, exactly as the prediction:
        "last step": the features of the last visible step, at the same place.
        "mean": the mean of all visible tokens of the window.
        "pixels": the pixels of the last visible step, at the same place. Its l1 is the mean
            absolute difference of the frames, in standard deviations of the checkpoint's
            normalisation: another unit than the features', so compare its shape, not its level.
            It has no cosine: NaN.
        The features of the first two are those of the visible frames without the future if the
        target is "window", of each visible step encoded alone if it is "step".
    frames: int64 (predictions, 2), file numbers of the frames that are predicted.
    ahead: int64 (predictions,), how many steps ahead, 1…horizon.
    context, horizon: visible frames, and predicted steps, of a window.  target: "window" or "step".
    mask_token: which of the checkpoint's mask tokens stood for the future.
    encoder: name of the checkpoint.
    """

    cosine: np.ndarray
    l1: np.ndarray
    baselines: dict[str, dict[str, np.ndarray]]
    frames: np.ndarray
    ahead: np.ndarray
    context: int
    horizon: int
    target: str
    mask_token: int
    encoder: str

    def __repr__(self) -> str:
        rows, columns = self.cosine.shape[1:]
        return (
            f"Surprise({len(self.frames) // self.horizon} steps × {rows}×{columns}, "
            f"{self.context} frames of context, {self.horizon} ahead, target: {self.target}, "
            f"{self.encoder})"
        )

    def at(self, ahead: int = 1) -> slice:
        """The rows of one distance, a slice: one row for each step of the clip."""
        if ahead not in range(1, self.horizon + 1):
            raise UserError(f"ahead must be from 1 to the horizon, {self.horizon}, not {ahead!r}.")
        return slice(ahead - 1, None, self.horizon)

    def errors(self, error: str = "cosine", ahead: int = 1) -> dict[str, np.ndarray]:
        """{"prediction" or baseline: float32 (steps, rows, columns)}, the larger the worse: 1 −
        cosine, or L1.
        """
        if error not in ("cosine", "l1"):
            raise UserError(f'error must be "cosine" or "l1", not {error!r}.')
        every = {"prediction": getattr(self, error)} | {
            name: errors[error] for name, errors in self.baselines.items()
        }
        rows = self.at(ahead)
        return {name: (1 - e if error == "cosine" else e)[rows] for name, e in every.items()}

    def over_time(self, error: str = "cosine", ahead: int = 1) -> dict[str, np.ndarray]:
        """{"prediction" or baseline: float32 (steps,)}: `errors`, mean over the picture."""
        return {name: e.mean((1, 2)) for name, e in self.errors(error, ahead).items()}

    def moments(self, most: int = 3, error: str = "cosine", ahead: int = 1) -> np.ndarray:
        """The steps of most surprise, the most surprising first: int (at most `most`,).

        They are peaks more than half a context apart: one event is one moment.
        """
        curve = np.nan_to_num(self.over_time(error, ahead)["prediction"], nan=-np.inf)
        curve = np.pad(curve, 1, constant_values=-np.inf)  # the ends can be peaks
        peaks, _ = find_peaks(curve, distance=max(1, self.context // 4) + 1)
        return peaks[np.argsort(-curve[peaks], kind="stable")][:most] - 1

    def table(self, ahead: int = 1) -> str:
        """Mean and largest error over time of prediction and baselines, as text."""
        lines = [f"{'':12}{'1 - cosine':>20}{'L1':>20}"]
        lines += [f"{'':12}" + 2 * f"{'mean':>10}{'largest':>10}"]
        curves = [self.over_time(error, ahead) for error in ("cosine", "l1")]
        for name in curves[0]:
            cells = []
            for curve in (each[name][np.isfinite(each[name])] for each in curves):
                cells += [f"{curve.mean():.3f}", f"{curve.max():.3f}"] if len(curve) else ["–"] * 2
            lines.append(f"{name:12}" + "".join(f"{cell:>10}" for cell in cells))
        lines.append(
            "Prediction and baselines have no access to the future; pixels have their own unit."
        )
        return "\n".join(lines)

    def save(self, path: File) -> None:
        """Write all of it to an .npz; a baseline's arrays are named "last step cosine" and so."""
        arrays = {
            f"{name} {error}": array
            for name, errors in self.baselines.items()
            for error, array in errors.items()
        }
        own = ("cosine", "l1", "frames", "ahead")
        about = ("context", "horizon", "target", "mask_token", "encoder")
        arrays |= {name: getattr(self, name) for name in own}
        about = json.dumps({name: getattr(self, name) for name in about})
        with replacing(path) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, about=about, **arrays)

    @classmethod
    def load(cls, path: File) -> Surprise:
        """Read what `save` wrote; else ValueError."""
        if not zipfile.is_zipfile(path):
            raise UserError(f"{path} is no surprise file: it was not written by save().")
        with np.load(path) as arrays:
            own = {name: arrays[name] for name in ("cosine", "l1", "frames", "ahead")}
            baselines = {
                name: {error: arrays[f"{name} {error}"] for error in ("cosine", "l1")}
                for name in BASELINES
            }
            return cls(**own, baselines=baselines, **json.loads(str(arrays["about"])))


def surprise(
    encoder: Encoder,
    video: Video,
    context: int = 8,
    horizon: int = 1,
    size: Size = None,
    target: str = "window",
    mask_token: int | None = None,
) -> Surprise:
    """What `Encoder.surprise` does."""
    _check(context, horizon, target)
    rows = predictor_of(encoder).embeddings.mask_tokens
    mask_token = mask_token_of(rows, mask_token, encoder.name)
    frames = context + 2 * horizon  # of a window
    _check_length(len(video), frames, context, horizon)
    plan = encoder.plan(video, frames, size)  # of one window
    place = plan.picture_grid
    encoder.check_memory(plan, "a window of {} frames")
    batch = max(1, batch_tokens(encoder.device) // plan.tokens)  # windows
    windows = []
    with tqdm(
        total=-(-len(video) // 2) - frames // 2 + 1,
        desc=f"predicting with {encoder.name}",
        unit="step",
        delay=2,
        leave=False,
    ) as progress:
        for pixels in _windows(encoder, video, frames, plan.size, batch):
            pixels = pixels.to(encoder.device)
            windows.append(_errors(encoder, pixels, context // 2, place, target, mask_token))
            progress.update(len(pixels))
    if not windows:  # a damaged file turned out shorter
        _check_length(0, frames, context, horizon)
    steps = sum(len(each["prediction"]["l1"]) for each in windows) - 1 + frames // 2
    tables = {
        name: {
            error: _by_step(torch.cat([each[name][error] for each in windows]), steps, context // 2)
            for error in ("cosine", "l1")
        }
        for name in ("prediction", *BASELINES)
    }
    numbers = np.concatenate([video.indices, video.indices[-1:]])[: 2 * steps].reshape(-1, 2)
    return Surprise(
        **tables.pop("prediction"),
        baselines=tables,
        frames=numbers.astype(np.int64).repeat(horizon, 0),
        ahead=np.tile(np.arange(1, horizon + 1), steps),
        context=int(context),
        horizon=int(horizon),
        target=target,
        mask_token=mask_token,
        encoder=encoder.name,
    )


def _check(context, horizon, target):
    if not is_whole(context, 2) or context % 2:
        raise UserError(f"context must be an even number of visible frames, not {context!r}.")
    if not is_whole(horizon, 1):
        raise UserError(f"horizon must be a number of steps of at least 1, not {horizon!r}.")
    if target not in TARGETS:
        raise UserError(f'target must be "window" or "step", not {target!r}.')


def _check_length(length, frames, context, horizon):
    if length < frames - 1:  # an odd last frame is paired with itself
        raise UserError(
            f"The clip has {length} frames, fewer than a window of {frames}, {context} visible "
            f"and {2 * horizon} predicted: take more frames, or a smaller context."
        )


def _windows(encoder, video, frames, size, batch):
    """Normalised pixels of all windows, two frames apart: tensors (at most `batch`, frames, 3,
    height, width).

    No more is held than one batch needs; an odd last frame is paired with itself.
    """
    held = torch.empty(0, 3, *size)
    for piece in video.pieces(2 * batch):
        held = torch.cat([held, encoder.pixels(piece.frames, size)])
        if len(piece) % 2:  # the last one
            held = torch.cat([held, held[-1:]])
        if len(held) >= frames:
            windows = held.unfold(0, frames, 2).movedim(-1, 1)
            yield windows
            held = held[2 * len(windows) :]


def _errors(encoder, pixels, seen, place, target, mask_token):
    """Errors of the predictions and the baselines of some windows.

    Positions count from the window's first step, as in training: the same frames give the same
    numbers wherever in the clip they stand.

    Args:
        pixels: (batch, frames, 3, height, width).  seen: how many of its steps are visible.
        place: (rows, columns).
    Returns:
        {"prediction" or baseline: {"cosine": …, "l1": …}}, each (batch, horizon, rows, columns) on
        the CPU.
    """
    model = encoder.model
    # (batch, tokens, channels), as the predictor reads them
    encoded = lambda pixels, by=model: encode_tokens(by, pixels, layer=model.predictor_layer)
    steps, rows, columns = grid = pixels.shape[1] // 2, *place
    n = seen * rows * columns  # visible tokens
    numbers = torch.arange(steps * rows * columns, device=pixels.device).unsqueeze(0)
    context = encoded(pixels[:, : 2 * seen])
    read = encoded(pixels[:, : 2 * seen], encoder.online) if encoder.online else context
    predicted = predict_tokens(model, read, numbers[:, :n], numbers[:, n:], grid, mask_token)
    if target == "window":
        known, truth = context, encoded(pixels)[:, n:]
    else:  # (batch · steps, rows · columns, channels) to (batch, tokens, channels)
        alone = encoded(pixels.unflatten(1, (-1, 2)).flatten(0, 1))
        alone = alone.unflatten(0, (-1, steps)).flatten(1, 2)
        known, truth = alone[:, :n], alone[:, n:]
    known, truth = (normalised(x.float(), encoder.channels) for x in (known, truth))
    guesses = {
        "prediction": predicted.float(),
        "last step": known[:, -rows * columns :].repeat(1, steps - seen, 1),
        "mean": known.mean(1, keepdim=True).expand_as(truth),
    }
    on_grid = lambda values: values.unflatten(1, (-1, rows, columns)).cpu()
    found = {
        name: {
            "cosine": on_grid(F.cosine_similarity(guess, truth, dim=-1)),
            "l1": on_grid((guess - truth).abs().mean(-1)),
        }
        for name, guess in guesses.items()
    }
    # (batch, steps, 2, 3, height, width)
    pairs = pixels.unflatten(1, (-1, 2))
    changed = (pairs[:, seen:] - pairs[:, seen - 1 : seen]).abs().mean((2, 3))
    changed = F.avg_pool2d(changed, pixels.shape[-1] // columns).cpu()
    found["pixels"] = {"cosine": torch.full_like(changed, torch.nan), "l1": changed}
    return found


def _by_step(values, steps, seen):
    """Values (windows, horizon, rows, columns) in rows of a `Surprise`: (steps · horizon, rows,
    columns), else NaN.
    """
    windows, horizon = values.shape[:2]
    rows = np.full((steps, horizon, *values.shape[2:]), np.nan, np.float32)
    for h in range(horizon):
        rows[seen + h :][:windows, h] = values[:, h]
    return rows.reshape(-1, *values.shape[2:])
