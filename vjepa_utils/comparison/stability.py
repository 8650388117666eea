"""How much of a token is content, and how much the place of its frames in the encoded window."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure

from vjepa_utils.checks import UserError, is_whole
from vjepa_utils.drawing import Heat, heat_maps, new_figure, with_heading
from vjepa_utils.encoder import Encoder
from vjepa_utils.video import Clip, Size, as_video

MOST = 8  # steps that are compared; bounds memory


@dataclass
class Stability:
    """The same frames at every place in a window.

    shares: {"content", "place", "other frames"} of the variance, which add up to 1: what a token is
        on average over the places; what tokens at a place have in common; the rest.
    map: float32 (rows, columns), the share of each patch's variance that is not content.
    curve: float32 (places,), mean cosine of a token with its mean over the other places.
    context: frames of a window; steps: how many stood at every place; encoder: its name.
    """

    shares: dict[str, float]
    map: np.ndarray
    curve: np.ndarray
    context: int
    steps: int
    encoder: str


def stability(video: Clip, encoder: Encoder, context: int = 16, size: Size = None) -> Stability:
    """Encode a clip in all windows of `context` frames, two frames apart, and compare what the same
    frames give at every place in a window.

    Args:
        video: of at least 2 · context − 2 frames; see `as_video`.
        encoder: of videos.
        context: frames of a window, an even number of at least 4.
        size: as for `Encoder.encode`.
    """
    video = as_video(video)
    if not is_whole(context, 4) or context % 2:
        raise UserError(f"context must be an even number of at least 4 frames, not {context!r}.")
    places = context // 2
    steps = range(places - 1, len(video) // 2 - places + 1)[:MOST]
    if not steps:
        raise UserError(
            f"The clip has {len(video)} frames; {2 * context - 2} are needed for one step to stand "
            f"at every place of a window of {context}: take more frames, or a smaller context."
        )
    at = lambda step, p: encoder.encode(video[2 * (step - p) :][:context], context, size).values[p]
    # (steps, places, rows, columns, channels)
    values = torch.stack([torch.stack([at(step, p) for p in range(places)]) for step in steps])
    content, squares = values.mean(1, keepdim=True), lambda x: x.square().sum(-1)
    total = squares(values - values.mean((0, 1, 2, 3)))  # (steps, places, rows, columns)
    place = squares((values - content).mean((0, 2, 3)))  # (places,)
    rest = squares(values - content)
    constant, by_place = 1 - float(rest.mean() / total.mean()), float(place.mean() / total.mean())
    shares = {"content": constant, "place": by_place, "other frames": 1 - constant - by_place}
    others = (content * places - values) / (places - 1)
    cosine = F.cosine_similarity(values, others, dim=-1).mean((0, 2, 3))
    within = rest.mean((0, 1)) / total.mean((0, 1)).clamp(min=1e-30)
    return Stability(shares, within.numpy(), cosine.numpy(), context, len(steps), encoder.name)


def stability_figure(stable: Stability) -> Figure:
    """Where and at which place in the window tokens depend on more than their frames."""
    figure = new_figure(2.6)
    left, right = figure.subplots(1, 2, width_ratios=(2, 3))
    heat_maps([left], Heat(stable.map[None], 0, max(stable.map.max(), 1e-6), "share not content"))
    right.plot(stable.curve, ".-", color="black", linewidth=1)
    right.set_xlabel("place in the window, steps", fontsize=8)
    right.set_ylabel("cosine with the other places", fontsize=8)
    right.tick_params(labelsize=7)
    shares = ", ".join(f"{100 * share:.1f} % {name}" for name, share in stable.shares.items())
    heading = f"{stable.encoder}, windows of {stable.context} frames: variance is {shares}"
    return with_heading(figure, heading)
