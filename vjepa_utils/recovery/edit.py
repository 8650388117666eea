"""Change what the predictor reads, and see whether its forecast follows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure

from vjepa_utils import drawing
from vjepa_utils.checks import UserError, is_whole
from vjepa_utils.encoder import Encoder
from vjepa_utils.predict.masks import future, pixels
from vjepa_utils.predict.recovery import Held, Recovery
from vjepa_utils.video import Clip, Size


@dataclass
class Edit:
    """The predictor's answer to a changed context, beside its answer to the context as it is and to
    random changes of equal length.

    plain, edited: Recovery from the context as it is, and from the changed one.
    controls: float32 (controls, n hidden, channels), predictions after random changes.
    where: bool (steps, rows, columns), the tokens that were changed.
    seen, norms: least and largest norm of the context's tokens, and of those changed, after it.
    """

    plain: Recovery
    edited: Recovery
    controls: torch.Tensor
    where: np.ndarray
    seen: tuple[float, float]
    norms: tuple[float, float]

    @property
    def change(self) -> np.ndarray:
        """How far the prediction moved, 1 − cosine: float32 (n hidden,)."""
        return 1 - F.cosine_similarity(self.edited.predicted, self.plain.predicted).numpy()

    @property
    def control_change(self) -> np.ndarray:
        """The same for the random changes: float32 (controls, n hidden)."""
        return 1 - F.cosine_similarity(self.controls, self.plain.predicted, dim=-1).numpy()

    def read(self, probe: Callable[[torch.Tensor], np.ndarray]) -> dict[str, float | np.ndarray]:
        """{"plain", "edited": float, "controls": (controls,)}: means of what a probe, of float32
        (n, channels), says of the predictions: did the speed that was added arrive? Of angles give
        a sine or cosine, as means of angles have a seam.
        """
        mean = lambda tokens: float(np.mean(np.asarray(probe(tokens))))
        plain, edited = mean(self.plain.predicted), mean(self.edited.predicted)
        return {"plain": plain, "edited": edited, "controls": np.array([*map(mean, self.controls)])}


def edit(
    encoder: Encoder,
    video: Clip | Held,
    where: np.ndarray,
    change: torch.Tensor | np.ndarray | str,
    hidden: np.ndarray | None = None,
    strength: float = 1.0,
    controls: int = 8,
    seed: int = 0,
    size: Size = None,
) -> Edit:
    """Change visible tokens, after the encoder and before the predictor, and predict; nothing of
    the hidden part reaches the context.

    Args:
        encoder: with a predictor.
        video: a clip, or what `Encoder.hold` gives.
        where: bool (steps, rows, columns), the tokens to change; visible ones.
        change: a direction, float (channels,), that tokens are pushed along; a bool mask of as many
            other visible tokens, which are put in their place in token order; as many tokens,
            float (n, channels), such as some of `Held.context` of another clip; or "shuffle",
            which puts each token of `where` in another's place.
        hidden: bool (steps, rows, columns), what to predict; None for the later half of the steps.
        strength: 0 changes nothing, 1 replaces wholly, or pushes as far as a token lies from the
            mean of all visible ones (root mean square).
        controls: how many random changes of equal length to compare with.
        seed: of shuffling and random changes.
        size: as for `Encoder.encode`.
    Raises:
        UserError: a mask or direction does not fit, or there is no predictor.
    """
    held = video if isinstance(video, Held) else encoder.hold(video, size)
    hidden = held.checked(future(held.grid) if hidden is None else hidden)
    if not is_whole(controls, 1):
        raise UserError(f"controls must be a whole number of at least 1, not {controls!r}.")
    places = _places(where, hidden, "where")
    context, random = held.context(hidden), torch.Generator().manual_seed(seed)
    tokens = context.float().cpu()
    moved = strength * _displacement(tokens, places, change, hidden, random)

    def predicted(by):
        changed = tokens.clone()
        changed[places] += by
        return held.predict(changed.to(context), hidden)

    directions = F.normalize(torch.randn(controls, *moved.shape, generator=random), dim=-1)
    if (moved == moved[0]).all():  # a push is the same for all tokens
        directions = directions[:, :1].expand_as(directions)
    pushes = moved.norm(dim=-1, keepdim=True) * directions
    answers = torch.stack([predicted(push).predicted for push in pushes])
    norms = lambda x: tuple(map(float, x.norm(dim=1).aminmax()))
    ends = norms(tokens), norms(tokens[places] + moved)
    plain, edited = held.predict(context, hidden), predicted(moved)
    return Edit(plain, edited, answers, np.asarray(where, bool), *ends)


def edit_strip(
    video: Clip,
    result: Edit,
    most: int | None = None,
    probe: Callable[[torch.Tensor], np.ndarray] | None = None,
    decoded: dict[str, np.ndarray] | None = None,
) -> Figure:
    """What was changed (bright) and hidden (grey), how far the prediction moved, and how far random
    changes of equal length move it.

    Args:
        video: the clip that was encoded.
        result: what `edit` gave.
        most: steps; None takes as many as can be read.
        probe: as for `Edit.read`; the heading says what it reads.
        decoded: {label: frames uint8 (2 · steps, height, width, 3)}, rows to add: pixels and
            nearest patches of `decoding.recovered(video, result.edited).rows`.
    """
    plain, whole = result.plain, result.plain.whole
    video, chosen, frames, titles = drawing.shown_of(video, whole, most)
    hidden, changed = (
        pixels(mask[chosen], video.height, video.width)[..., None]
        for mask in (plain.hidden, result.where)
    )
    shown = np.where(hidden, drawing.GREY, np.where(changed, frames, frames // 3)).astype(np.uint8)
    change, controls = result.change, result.control_change
    top = max(float(change.max()), float(controls.max()), 1e-6)
    heat = lambda values: drawing.Heat(plain.on_grid(values)[chosen], 0, top, "1 − cosine")
    rows = [("changed", shown), ("forecast moved", heat(change))]
    rows.append(("by random changes", heat(controls.mean(0))))
    rows += [(label, pictures[2 * chosen]) for label, pictures in (decoded or {}).items()]
    captions = [
        drawing.features_caption(video, whole, plain.hidden[-1].all()),
        whole.encoder,
        f"tokens changed: {result.where.sum()}; the prediction moved by {change.mean():.3g}, by "
        f"random changes of equal length {controls.mean():.3g} ± {controls.mean(1).std():.2g}",
    ]
    if probe:
        read = result.read(probe)
        captions.append(
            f"a probe reads {read['plain']:.3g} without and {read['edited']:.3g} with the change, "
            f"{read['controls'].mean():.3g} ± {read['controls'].std():.2g} with random ones"
        )
    (low, high), (least, largest) = result.seen, result.norms
    if least < low or largest > high:
        captions.append(
            f"norms of the changed tokens, {least:.3g} to {largest:.3g}, leave the range of the "
            f"clip's, {low:.3g} to {high:.3g}"
        )
    return drawing.picture_rows(rows, titles, " · ".join(captions))


def _places(mask, hidden, name):
    """Which visible tokens a mask chooses, as numbers among the visible ones."""
    mask = np.asarray(mask)
    if mask.dtype != bool or mask.shape != hidden.shape or not mask.any() or mask[hidden].any():
        raise UserError(
            f"{name} must be bool of the shape {hidden.shape} and choose visible tokens alone, at "
            "least one."
        )
    return torch.from_numpy(np.flatnonzero(mask[~hidden]))


def _displacement(tokens, places, change, hidden, random):
    """What a change of strength 1 adds to the tokens at some places: (n, channels)."""
    chosen = tokens[places]
    if isinstance(change, str):
        if change != "shuffle":
            raise UserError(f'change must be a direction, a mask or "shuffle", not {change!r}.')
        turn = 1 + int(torch.randint(max(len(chosen) - 1, 1), (), generator=random))
        order = torch.randperm(len(chosen), generator=random)
        return chosen[order.roll(turn)][order.argsort()] - chosen  # nothing stays in its place
    change = torch.as_tensor(change)
    if change.dtype == torch.bool:
        source = _places(change.numpy(), hidden, "change")
        if len(source) != len(places):
            raise UserError(
                f"change chooses {len(source)} tokens and where {len(places)}: choose as many."
            )
        return tokens[source] - chosen
    if change.shape == chosen.shape:
        return change.float() - chosen
    if change.shape != tokens.shape[1:] or not change.any():
        raise UserError(
            f"change must be a direction of {tokens.shape[1]} channels, not zero, or tokens of the "
            f"shape {tuple(chosen.shape)}, not of {tuple(change.shape)}."
        )
    spread = (tokens - tokens.mean(0)).square().sum(1).mean().sqrt()
    return (spread * F.normalize(change.float(), dim=0)).expand_as(chosen)
