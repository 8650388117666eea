"""What the predictor recovers: features of hidden tokens from the visible ones; three baselines.

The encoder sees the visible tokens only, so that nothing of the hidden pixels can leak. The target
is the encoder's features of the whole clip, layer-normalised, as in training (Assran et al. 2025).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from sklearn.metrics import pairwise_distances_argmin

from vjepa_utils.checks import UserError
from vjepa_utils.features import Features
from vjepa_utils.model.vjepa2 import encode_tokens, predict_tokens
from vjepa_utils.predict.predictor import errors, mask_token_of, normalised, predictor_of, scores
from vjepa_utils.reading.pixels import batches
from vjepa_utils.video import Size, Video

if TYPE_CHECKING:
    from vjepa_utils.encoder import Encoder


@dataclass(repr=False)
class Recovery:
    """Prediction, target and baselines at the hidden tokens of a clip, in token order (step, row,
    column).

    whole: Features of the whole clip, layer-normalised; in V-JEPA 2.1 the channels of its four
        levels, each normalised by itself.  target: its values, (steps, rows, columns, channels).
    hidden: bool array (steps, rows, columns).
    context: float32 tensor (n visible, channels), the encoder's output on the visible tokens alone,
        layer-normalised.  predicted: the same of the predictor, (n hidden, channels).
    mask_token: which of the checkpoint's mask tokens stood for the hidden ones.
    cosine, l1: float32 arrays (n hidden,), similarity of prediction and target, and their mean
        absolute difference over the channels, which is the training loss.
    baselines: {name: {"cosine", "l1": (n hidden,)}} of target features copied from visible places.
        They saw the whole clip there, the hidden part too: an advantage over the prediction.
        "mean": the mean of all visible tokens.
        "nearest": the visible token nearest in (step, row, column), the first of equally near ones.
        "same place": the same row and column in the nearest step where it is visible, of two the
            earlier; NaN where it is hidden in every step.
    """

    whole: Features
    hidden: np.ndarray
    context: torch.Tensor
    predicted: torch.Tensor
    mask_token: int

    def __post_init__(self):
        truth, visible = self.target[self.hidden], self.target[~self.hidden]
        guesses = {
            "mean": visible.mean(0).expand_as(truth),
            "nearest": visible[nearest_visible(self.hidden)],
            "same place": _same_place(self.target, self.hidden),
        }
        self.cosine, self.l1 = errors(self.predicted, truth).values()
        self.baselines = {name: errors(guess, truth) for name, guess in guesses.items()}

    def __repr__(self):
        cosine = f"mean cosine {_mean(self.cosine):.3f}"
        return f"Recovery({_count(self.hidden)}, {cosine}, {self.whole.encoder})"

    @property
    def target(self) -> torch.Tensor:
        return self.whole.values

    @property
    def filled(self) -> Features:
        """Features: `context` at the visible tokens, `predicted` at the hidden ones."""
        values = torch.empty_like(self.target)
        values[~self.hidden], values[self.hidden] = self.context, self.predicted
        return replace(self.whole, values=values)

    def on_grid(self, values: np.ndarray) -> np.ndarray:
        """Values (n hidden,), such as `cosine`, on the grid: float32, NaN where visible."""
        grid = np.full(self.hidden.shape, np.nan, np.float32)
        grid[self.hidden] = values
        return grid

    @property
    def beaten(self) -> dict[str, float]:
        """{baseline: share of the tokens it covers where the prediction has the higher cosine};
        "all": than every one there.
        """
        cosines = {name: scored["cosine"] for name, scored in self.baselines.items()}
        shares = {name: _mean((x < self.cosine)[np.isfinite(x)]) for name, x in cosines.items()}
        # where a baseline covers nothing it is beaten
        beats = [(x < self.cosine) | np.isnan(x) for x in cosines.values()]
        return shares | {"all": _mean(np.all(beats, 0))}

    def means(self, error: str = "cosine", where: np.ndarray | None = None) -> dict[str, float]:
        """{"prediction" or baseline: mean "cosine" or "l1" over the hidden tokens it covers}; NaN
        if it covers none.

        where: bool array that broadcasts to (steps, rows, columns): only hidden tokens there.
        """
        chosen = np.broadcast_to(True if where is None else where, self.hidden.shape)[self.hidden]
        return {name: _mean(x[chosen & np.isfinite(x)]) for name, x in scores(self, error).items()}

    def table(self) -> str:
        """Means of prediction and baselines as text."""
        beaten, l1, row = self.beaten, self.means("l1"), "{:12}{:>8}{:>8}{:>11}{:>8}".format
        lines = [row("", "cosine", "L1", "beaten at", "covers")]
        for name, cosine in self.means().items():
            cells = [f"{cosine:.3f}", f"{l1[name]:.3f}", "", ""]
            if name in self.baselines:
                covers = np.isfinite(self.baselines[name]["cosine"]).mean()
                cells[2:] = f"{beaten[name]:.0%}", f"{covers:.0%}"
            lines.append(row(name, *("–" if "nan" in x else x for x in cells)).rstrip())
        wins = f"the prediction beats all three at {beaten['all']:.0%}."
        lines.append(f"{_count(self.hidden)}, mask token {self.mask_token}; {wins}")
        lines.append("The baselines copy features that saw the whole clip, the prediction did not.")
        return "\n".join(lines)


class Held:
    """A clip encoded once, all frames jointly, to be asked often: `Encoder.hold` makes it.

    grid: (steps, rows, columns).
    whole: Features of the whole clip, layer-normalised: what there is to recover.
    """

    def __init__(self, encoder: Encoder, video: Video, size: Size = None):
        predictor_of(encoder)  # or it is of no use to encode
        self._encoder = encoder
        plan = encoder.plan(video, "clip", size)
        encoder.check_memory(plan, "count={}")
        pixels, cuts = next(batches(video, plan, len(video)))
        if len(pixels) < len(video):  # the file is damaged there: the clip ends before
            video = video[: len(pixels)]
            plan = encoder.plan(video, "clip", size)
        self.grid, (all_frames,) = plan.grid, plan.groups(len(video))
        # (1, frames, 3, height, width)
        self._pixels = encoder.normalised(pixels.to(encoder.device))[all_frames]
        with torch.no_grad():
            layer = encoder.model.predictor_layer
            x = encoder.finite(encode_tokens(encoder.model, self._pixels, layer=layer))
        self.whole = Features(
            normalised(x.float().cpu().view(*self.grid, -1), encoder.channels),
            plan.covered(video.indices),
            **encoder.describe(video, plan),
            cuts=tuple(cuts),
            times=plan.covered(video.times),
        )

    def recover(self, hidden: np.ndarray | torch.Tensor, mask_token: int | None = None) -> Recovery:
        """Predict the features of hidden tokens; arguments and errors as for `Encoder.recover`."""
        hidden = self.checked(hidden)
        return self.predict(self.context(hidden), hidden, mask_token)

    @torch.no_grad()
    def context(self, hidden: np.ndarray) -> torch.Tensor:
        """The encoder's output on the visible tokens alone, which the predictor reads: (n visible,
        channels) on the encoder's device. hidden: as `checked` gives it.
        """
        model, visible = self._encoder.model, self._numbers(~hidden)
        reader = self._encoder.online or model
        return encode_tokens(reader, self._pixels, visible, model.predictor_layer)[0]

    @torch.no_grad()
    def predict(
        self, context: torch.Tensor, hidden: np.ndarray, mask_token: int | None = None
    ) -> Recovery:
        """What the predictor makes of a context, as `context` gives it or changed."""
        encoder, image = self._encoder, self._pixels.shape[1] == 1
        mask_token = mask_token_of(encoder, mask_token)
        numbers = self._numbers(~hidden), self._numbers(hidden)
        options = self.grid, mask_token, image
        x = predict_tokens(encoder.model, context.unsqueeze(0), *numbers, *options)
        context = normalised(context.float().cpu(), encoder.channels)
        return Recovery(self.whole, hidden, context, x[0].float().cpu(), mask_token)

    def checked(self, hidden: np.ndarray | torch.Tensor) -> np.ndarray:
        """A mask of the grid as a bool array; UserError unless it hides some tokens and not all."""
        hidden = hidden.detach().cpu().numpy() if torch.is_tensor(hidden) else np.asarray(hidden)
        if hidden.dtype != bool or hidden.shape != self.grid:
            raise UserError(
                f"hidden must be bool of the shape {self.grid}, the grid that "
                f'Encoder.grid(video, size, "clip") gives, not {hidden.dtype} of the shape '
                f"{hidden.shape}."
            )
        if hidden.all() or not hidden.any():
            raise UserError(
                f"hidden hides {'every token' if hidden.all() else 'nothing'}: hide some tokens "
                "and leave some visible."
            )
        return hidden.copy()

    def _numbers(self, where):
        """Numbers of the tokens at which a mask is True: (1, n)."""
        return torch.from_numpy(np.flatnonzero(where)).unsqueeze(0).to(self._encoder.device)


def _count(hidden):
    return f"{hidden.sum()} of {hidden.size} tokens hidden ({hidden.mean():.0%})"


def _mean(values):
    return float(values.mean()) if len(values) else float("nan")


def nearest_visible(hidden: np.ndarray) -> np.ndarray:
    """For each hidden token, which of the visible ones is the nearest in (step, row, column), of
    equally near ones the first: (n hidden,).
    """
    return pairwise_distances_argmin(np.argwhere(hidden), np.argwhere(~hidden))


def _same_place(target, hidden):
    """Target features of the same place in the nearest step where it is visible, of two the
    earlier: (n hidden, channels), or NaN.
    """
    step, row, column = hidden.nonzero()
    # (steps, n hidden); a hidden one is farther than any
    far = abs(np.arange(len(hidden))[:, None] - step) + len(hidden) * hidden[:, row, column]
    guess = target[far.argmin(0), row, column]
    guess[hidden.all(0)[row, column]] = torch.nan
    return guess
