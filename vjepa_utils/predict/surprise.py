"""Surprise: the error of predicting the next steps from the steps before alone.

A window slides over the clip by one step, two frames. The encoder is given its first `context`
frames alone, so nothing of the future can leak into the prediction of the next `horizon` steps;
surprise is its error (Garrido et al. 2025, arXiv 2502.11831).
"""

from __future__ import annotations

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
from vjepa_utils.model.vjepa2 import encode_tokens, predict_tokens
from vjepa_utils.predict.predictor import errors, mask_token_of, normalised, scores
from vjepa_utils.reading.pixels import batches

if TYPE_CHECKING:
    from vjepa_utils.encoder import Encoder
    from vjepa_utils.video import File, Video

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

    cosine, l1: float32 (predictions, rows, columns), similarity of prediction and target, and their
        mean absolute difference over the channels, which is the training loss. NaN where a window
        does not fit: in the first steps, and with horizon > 1 in the last.
    baselines: {name: {"cosine", "l1": as these}}. None has access to the future:
        "last step": the features of the last visible step, at the same place.
        "mean": the mean of all visible tokens of the window.
        "pixels": the pixels of the last visible step, at the same place: l1 in standard deviations
            of pixels, so compare its shape, not its level; cosine NaN.
        The first two are features of the visible frames without the future if the target is
        "window", of each visible step encoded alone if it is "step".
    frames: int64 (predictions, 2), file numbers of the frames that are predicted.
    ahead: int64 (predictions,), how many steps ahead, 1…horizon.
    context, horizon: visible frames, and predicted steps, of a window.  target: "window" or "step".
    mask_token: which of the checkpoint's mask tokens stood for the future.  encoder: its name.
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
        counts = f"{len(self.frames) // self.horizon} steps × {rows}×{columns}, {self.context}"
        counts += f" frames of context, {self.horizon} ahead"
        return f"Surprise({counts}, target: {self.target}, {self.encoder})"

    def at(self, ahead: int = 1) -> slice:
        """The rows of one distance: one for each step of the clip."""
        if ahead not in range(1, self.horizon + 1):
            raise UserError(f"ahead must be from 1 to the horizon, {self.horizon}, not {ahead!r}.")
        return slice(ahead - 1, None, self.horizon)

    def errors(self, error: str = "cosine", ahead: int = 1) -> dict[str, np.ndarray]:
        """{"prediction" or baseline: float32 (steps, rows, columns)}: 1 − cosine, or L1."""
        rows, values = self.at(ahead), scores(self, error)
        return {name: (1 - e if error == "cosine" else e)[rows] for name, e in values.items()}

    def over_time(self, error: str = "cosine", ahead: int = 1) -> dict[str, np.ndarray]:
        """{"prediction" or baseline: float32 (steps,)}: `errors`, mean over the picture."""
        return {name: e.mean((1, 2)) for name, e in self.errors(error, ahead).items()}

    def moments(self, most: int = 3, error: str = "cosine", ahead: int = 1) -> np.ndarray:
        """The steps of most surprise, the most surprising first: int (at most `most`,). They are
        peaks more than half a context apart: one event is one moment.
        """
        curve = np.nan_to_num(self.over_time(error, ahead)["prediction"], nan=-np.inf)
        curve = np.pad(curve, 1, constant_values=-np.inf)  # the ends can be peaks
        peaks, _ = find_peaks(curve, distance=max(1, self.context // 4) + 1)
        return peaks[np.argsort(-curve[peaks], kind="stable")][:most] - 1

    def table(self, ahead: int = 1) -> str:
        """Mean and largest error over time of prediction and baselines, as text."""
        lines = [f"{'':12}{'1 - cosine':>20}{'L1':>20}"]
        lines += [f"{'':12}" + 2 * f"{'mean':>10}{'largest':>10}"]
        curves = self.over_time("cosine", ahead), self.over_time("l1", ahead)
        for name in curves[0]:
            line = f"{name:12}"
            for curve in (each[name][np.isfinite(each[name])] for each in curves):
                cells = (f"{curve.mean():.3f}", f"{curve.max():.3f}") if len(curve) else "––"
                line += "".join(f"{cell:>10}" for cell in cells)
            lines.append(line)
        note = "Prediction and baselines have no access to the future; pixels have their own unit."
        return "\n".join([*lines, note])

    def save(self, path: File) -> None:
        """Write all of it to an .npz; a baseline's arrays are named "last step cosine" and so."""
        arrays = vars(self).copy()
        for name, each in arrays.pop("baselines").items():
            arrays |= {f"{name} {error}": values for error, values in each.items()}
        with replacing(path) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, **arrays)

    @classmethod
    def load(cls, path: File) -> Surprise:
        """Read what `save` wrote; else UserError."""
        if not zipfile.is_zipfile(path):
            raise UserError(f"{path} is no surprise file: it was not written by save().")
        with np.load(path) as file:
            fields = {name: array if array.ndim else array.item() for name, array in file.items()}
        baselines = {
            name: {error: fields.pop(f"{name} {error}") for error in ("cosine", "l1")}
            for name in BASELINES
        }
        return cls(**fields, baselines=baselines)


def surprise(encoder: Encoder, video: Video, context, horizon, size, target, mask_token):
    """What `Encoder.surprise` does."""
    if not is_whole(context, 2) or context % 2:
        raise UserError(f"context must be an even number of visible frames, not {context!r}.")
    if not is_whole(horizon, 1):
        raise UserError(f"horizon must be a number of steps of at least 1, not {horizon!r}.")
    if target not in TARGETS:
        raise UserError(f'target must be "window" or "step", not {target!r}.')
    mask_token, seen = mask_token_of(encoder, mask_token), context // 2
    window = context + 2 * horizon
    plan = encoder.plan(video, window, size, overlap=window - 2)
    encoder.check_memory(plan, "a window of {} frames")
    steps, done = -(-len(video) // 2), 0
    shape = len(BASELINES) + 1, 2, steps, horizon, *plan.picture_grid
    table = np.full(shape, np.nan, np.float32)  # prediction and baselines; cosine and L1
    bar = dict(desc=f"predicting with {encoder.name}", unit="step", delay=2, leave=False)
    with tqdm(total=steps - plan.steps + 1, **bar) as progress:
        for pixels, _ in batches(video, plan, encoder.at_once(plan)):
            pixels = encoder.normalised(pixels.to(encoder.device))
            for windows in plan.groups(len(pixels)):  # (n, frames) positions in `pixels`
                if windows.shape[1] < window:
                    raise UserError(
                        f"The clip has {len(pixels)} frames, fewer than a window of {window}, "
                        f"{context} visible and {2 * horizon} predicted: take more frames, or a "
                        "smaller context."
                    )
                values = _errors(encoder, pixels[windows], seen, target, mask_token)
                for h in range(horizon):
                    table[:, :, done + seen + h :, h][:, :, : len(windows)] = values[:, :, :, h]
                done += len(windows)
                progress.update(len(windows))
    steps = done + plan.steps - 1  # of a damaged file fewer
    (cosine, l1), *others = table[:, :, :steps].reshape(*shape[:2], -1, *plan.picture_grid)
    baselines = {name: dict(cosine=a, l1=b) for name, (a, b) in zip(BASELINES, others, strict=True)}
    numbers = np.concatenate([video.indices, video.indices[-1:]])[: 2 * steps].reshape(-1, 2)
    frames = numbers.astype(np.int64).repeat(horizon, 0)
    ahead = np.tile(np.arange(1, horizon + 1), steps)
    settings = int(context), int(horizon), target, mask_token, encoder.name
    return Surprise(cosine, l1, baselines, frames, ahead, *settings)


def _errors(encoder, pixels, seen, target, mask_token):
    """Errors of the predictions and the baselines of some windows, (batch, frames, 3, height,
    width), of which so many steps are `seen`: (prediction and baselines, cosine and L1, batch,
    horizon, rows, columns). Positions count from the window's first step, as in training.
    """
    model, patch = encoder.model, encoder.patch_size
    # (batch, tokens, channels), as the predictor reads them
    layer = model.predictor_layer
    encoded = lambda pixels, by=model: encoder.finite(encode_tokens(by, pixels, layer=layer))
    grid = pixels.shape[1] // 2, *(side // patch for side in pixels.shape[3:])
    numbers = torch.arange(np.prod(grid), device=pixels.device).unsqueeze(0)
    step = grid[1] * grid[2]  # tokens of one
    visible, hidden = numbers[:, : seen * step], numbers[:, seen * step :]
    context = encoded(pixels[:, : 2 * seen])
    read = encoded(pixels[:, : 2 * seen], encoder.online) if encoder.online else context
    predicted = predict_tokens(model, read, visible, hidden, grid, mask_token)
    if target == "window":
        known, truth = context, encoded(pixels)[:, seen * step :]
    else:  # (batch · steps, rows · columns, channels) to (batch, tokens, channels)
        alone = encoded(pixels.unflatten(1, (-1, 2)).flatten(0, 1))
        known, truth = alone.unflatten(0, (-1, grid[0])).split([seen, grid[0] - seen], 1)
        known, truth = known.flatten(1, 2), truth.flatten(1, 2)
    known, truth = (normalised(x.float(), encoder.channels) for x in (known, truth))
    last = known[:, -step:].repeat(1, grid[0] - seen, 1)
    guesses = predicted.float(), last, known.mean(1, keepdim=True).expand_as(truth)
    table = [[*errors(guess, truth).values()] for guess in guesses]
    # (batch, steps, 2, 3, height, width)
    pairs = pixels.unflatten(1, (-1, 2))
    changed = (pairs[:, seen:] - pairs[:, seen - 1 : seen]).abs().mean((2, 3))
    changed = F.avg_pool2d(changed, patch).flatten(1).cpu().numpy()
    table.append([np.full_like(changed, np.nan), changed])
    return np.array(table).reshape(len(table), 2, len(pixels), -1, *grid[1:])
