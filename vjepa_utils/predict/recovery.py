"""What the predictor recovers: features of hidden tokens from the visible ones; three baselines.

The encoder sees the visible tokens only, so that nothing of the hidden pixels can leak. The target
is the encoder's features of the whole clip, layer-normalised, as in training (Assran et al. 2025).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from vjepa_utils.checks import UserError
from vjepa_utils.features import Features
from vjepa_utils.model.vjepa2 import encode_tokens, predict_tokens
from vjepa_utils.predict.predictor import mask_token_of, normalised, predictor_of
from vjepa_utils.reading.pixels import batches
from vjepa_utils.video import Size, Video

if TYPE_CHECKING:
    from vjepa_utils.encoder import Encoder

AT_ONCE = 512  # hidden tokens whose distances to all visible ones are held in memory


@dataclass(repr=False)
class Recovery:
    """Prediction, target and baselines at the hidden tokens of a clip, in token order (step, row,
    column).

    whole: Features of the whole clip, layer-normalised.  target: its values, (steps, rows, columns,
        channels). V-JEPA 2.1 predicts four levels: they are layer-normalised one by one, and
        `channels` are those of level 1, then of level 2, 3 and 4.
    hidden: bool array (steps, rows, columns).
    context: float32 tensor (n visible, channels), the encoder's output on the visible tokens alone,
        layer-normalised.
    predicted: float32 tensor (n hidden, channels).
    mask_token: which of the checkpoint's mask tokens stood for the hidden ones.
    cosine, l1: float32 arrays (n hidden,), similarity of prediction and target, and their mean
        absolute difference over the channels, which is the training loss.
    baselines: {name: {"cosine": (n hidden,), "l1": (n hidden,)}} of target features copied from
        visible places. They saw the whole clip there, the hidden part too: an advantage over the
        prediction.
        "mean": the mean of all visible tokens.
        "nearest": the visible token nearest in (step, row, column), Euclidean; of equally near ones
            the lowest number.
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
        self.cosine, self.l1 = _errors(self.predicted, truth)
        self.baselines = {
            name: dict(zip(("cosine", "l1"), _errors(guess, truth), strict=True))
            for name, guess in guesses.items()
        }

    def __repr__(self):
        hidden = f"{self.hidden.sum()} of {self.hidden.size} tokens hidden"
        cosine = f"mean cosine {_mean(self.cosine):.3f}"
        return f"Recovery({hidden} ({self.hidden.mean():.0%}), {cosine}, {self.whole.encoder})"

    @property
    def target(self) -> torch.Tensor:
        return self.whole.values

    @property
    def filled(self) -> Features:
        """Features of the clip as recovered: `context` at the visible tokens, `predicted` at the
        hidden ones.
        """
        values = torch.empty_like(self.target)
        values[~self.hidden], values[self.hidden] = self.context, self.predicted
        return replace(self.whole, values=values)

    def on_grid(self, values: np.ndarray) -> np.ndarray:
        """An array (n hidden,), such as `cosine`, as float32 (steps, rows, columns), NaN where
        visible.
        """
        grid = np.full(self.hidden.shape, np.nan, np.float32)
        grid[self.hidden] = values
        return grid

    @property
    def coverage(self) -> dict[str, float]:
        """{baseline: share of the hidden tokens it has a value for}: 1 but for "same place"."""
        return {
            name: float(np.isfinite(errors["cosine"]).mean())
            for name, errors in self.baselines.items()
        }

    @property
    def beaten(self) -> dict[str, float]:
        """{baseline: share of the tokens it covers where the prediction has the higher cosine};
        "all": than every one there.
        """
        worse = {name: errors["cosine"] < self.cosine for name, errors in self.baselines.items()}
        covers = {name: np.isfinite(errors["cosine"]) for name, errors in self.baselines.items()}
        shares = {name: _mean(worse[name][covers[name]]) for name in worse}
        return shares | {"all": _mean(np.all([worse[name] | ~covers[name] for name in worse], 0))}

    def means(self, error: str = "cosine", where: np.ndarray | None = None) -> dict[str, float]:
        """{"prediction" or baseline: mean "cosine" or "l1" over the hidden tokens it covers}; NaN
        if it covers none.

        where: bool array that broadcasts to (steps, rows, columns): only hidden tokens there.
        """
        chosen = np.broadcast_to(True if where is None else where, self.hidden.shape)[self.hidden]
        every = {"prediction": getattr(self, error)} | {
            name: errors[error] for name, errors in self.baselines.items()
        }
        return {name: _mean(values[chosen & np.isfinite(values)]) for name, values in every.items()}

    def table(self) -> str:
        """Means of prediction and baselines as text."""
        rows = [("", "cosine", "L1", "beaten at", "covers")]
        cosine, l1, beaten, covers = self.means(), self.means("l1"), self.beaten, self.coverage
        for name in cosine:
            shares = [f"{share[name]:.0%}" if name in share else "" for share in (beaten, covers)]
            rows.append((name, f"{cosine[name]:.3f}", f"{l1[name]:.3f}", *shares))
        lines = [
            "{:12}{:>8}{:>8}{:>11}{:>8}".format(
                *("–" if "nan" in cell else cell for cell in row)
            ).rstrip()
            for row in rows
        ]
        count = (
            f"{self.hidden.sum()} of {self.hidden.size} tokens hidden "
            f"({self.hidden.mean():.0%}), mask token {self.mask_token}"
        )
        lines.append(f"{count}; the prediction beats all three at {beaten['all']:.0%}.")
        return "\n".join(
            [*lines, "The baselines copy features that saw the whole clip, the prediction did not."]
        )


class Held:
    """A clip encoded once, all frames jointly, to be asked often: `Encoder.hold` makes it.

    video: the `Video`.
    grid: (steps, rows, columns).
    whole: Features of the whole clip, layer-normalised; `target` are their values.
    """

    def __init__(self, encoder: Encoder, video: Video, size: Size = None):
        self._encoder, self.video = encoder, video
        self._predictor, model = predictor_of(encoder), encoder.model
        plan = encoder.plan(video, "clip", size)
        encoder.check_memory(plan, "count={}")
        pixels, cuts = next(batches(video, plan, len(video)))
        if len(pixels) < len(video):  # the file is damaged there: the clip ends before
            self.video = video = video[: len(pixels)]
            plan = encoder.plan(video, "clip", size)
        self.grid, (all_frames,) = plan.grid, plan.groups(len(video))
        # (1, frames, 3, height, width)
        self._pixels = encoder.normalised(pixels.to(encoder.device))[all_frames]
        with torch.no_grad():
            x = encode_tokens(model, self._pixels, layer=model.predictor_layer)
        self.whole = Features(
            normalised(x.float().cpu().view(*self.grid, -1), encoder.channels),
            plan.covered(video.indices),
            **encoder.describe(video, plan),
            cuts=tuple(cuts),
            times=plan.covered(video.times),
        )

    @property
    def target(self) -> torch.Tensor:
        """What there is to recover: float32 (steps, rows, columns, channels)."""
        return self.whole.values

    def recover(self, hidden: np.ndarray | torch.Tensor, mask_token: int | None = None) -> Recovery:
        """Predict the features of hidden tokens; arguments and errors as for `Encoder.recover`."""
        hidden = self.checked(hidden)
        return self.predict(self.context(hidden), hidden, mask_token)

    @torch.no_grad()
    def context(self, hidden: np.ndarray) -> torch.Tensor:
        """The encoder's output on the visible tokens alone, which the predictor reads: (n visible,
        channels) on the encoder's device. hidden: as `checked` gives it.
        """
        visible, model = self._numbers(~hidden), self._encoder.model
        reader = self._encoder.online or model
        return encode_tokens(reader, self._pixels, visible, model.predictor_layer)[0]

    @torch.no_grad()
    def predict(
        self, context: torch.Tensor, hidden: np.ndarray, mask_token: int | None = None
    ) -> Recovery:
        """What the predictor makes of a context, as `context` gives it or changed."""
        encoder, model = self._encoder, self._encoder.model
        rows = self._predictor.embeddings.mask_tokens
        mask_token = mask_token_of(rows, mask_token, encoder.name)
        numbers = self._numbers(~hidden), self._numbers(hidden)
        image = self._pixels.shape[1] == 1
        x = predict_tokens(model, context.unsqueeze(0), *numbers, self.grid, mask_token, image)
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


def _errors(guess, truth):
    """Cosine similarity and mean absolute difference of each row: two arrays (n,)."""
    return F.cosine_similarity(guess, truth, dim=-1).numpy(), (guess - truth).abs().mean(-1).numpy()


def _mean(values):
    return float(values.mean()) if len(values) else float("nan")


def nearest_visible(hidden):
    """For each hidden token, which of the visible ones is the nearest in (step, row, column): (n
    hidden,).
    """
    # (n, 3); small integers, so exact
    places, sought = (np.argwhere(mask).astype(np.float32) for mask in (~hidden, hidden))
    squares = (places**2).sum(1)
    parts = np.array_split(sought, -(-len(sought) // AT_ONCE))
    # the first of equally near ones
    return np.concatenate([(squares - 2 * part @ places.T).argmin(1) for part in parts])


def _same_place(target, hidden):
    """Target features of the same place in the nearest step where it is visible: (n hidden,
    channels), or NaN.
    """
    step, row, column = hidden.nonzero()
    steps = np.arange(len(hidden))
    # (steps, n hidden); a hidden one is farther than any
    far = np.abs(steps[:, None] - step) + len(hidden) * hidden[:, row, column]
    nearest = far.argmin(0)  # the earlier of two
    return target[nearest, row, column].masked_fill(
        torch.from_numpy(hidden.all(0)[row, column]).unsqueeze(1), torch.nan
    )
