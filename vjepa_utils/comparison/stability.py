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

    shares: {"content", "place", "other frames"}: shares of the variance, which add up to 1:
        what a token is on average over the places; what tokens at a place in the window have in
        common; and the rest, what the other frames of the window change.
    map: float32 (rows, columns), the share of each patch's variance that is not content.
    curve: float32 (places,), mean cosine of a token at a place in the window with its mean over the
        other places.
    context: frames of a window.
    steps: how many steps of the clip stood at every place.
    encoder: name of the checkpoint.
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
    Raises:
        UserError: the clip is too short, or the encoder is one of images.
    """
    video = as_video(video)
    if not is_whole(context, 4) or context % 2:
        raise UserError(f"context must be an even number of at least 4 frames, not {context!r}.")
    places = context // 2
    complete = len(video) // 2 - 2 * (places - 1)
    if complete < 1:
        raise UserError(
            f"The clip has {len(video)} frames; {2 * context - 2} are needed for one step to stand "
            f"at every place of a window of {context}: take more frames, or a smaller context."
        )
    steps = places - 1 + np.arange(complete)[:MOST]
    x = []
    for step in steps:  # at place p in the window that starts at step − p
        windows = [video[2 * (step - p) :][:context] for p in range(places)]
        encoded = (encoder.encode(window, context, size).values for window in windows)
        x.append(torch.stack([values[p] for p, values in enumerate(encoded)]))
    values = torch.stack(x)  # (steps, places, rows, columns, channels)
    centred = values - values.mean((0, 1, 2, 3))
    total = centred.square().sum(-1).mean()
    content = values.mean(1, keepdim=True)
    place = (values - content).mean((0, 2, 3))  # (places, channels)
    rest = (values - content).square().sum(-1)  # (steps, places, rows, columns)
    shares = {
        "content": 1 - float(rest.mean() / total),
        "place": float(place.square().sum(-1).mean() / total),
    }
    others = (content * places - values) / (places - 1)
    cosine = F.cosine_similarity(values, others, dim=-1).mean((0, 2, 3))
    within = rest.mean((0, 1)) / centred.square().sum(-1).mean((0, 1)).clamp(min=1e-30)
    shares["other frames"] = 1 - shares["content"] - shares["place"]
    return Stability(shares, within.numpy(), cosine.numpy(), context, len(steps), encoder.name)


def stillness(
    video: Clip, encoder: Encoder, repeats: tuple[int, ...] = (2, 4, 8, 16), size: Size = None
) -> dict[int, float]:
    """{how often a frame is fed: mean cosine of its tokens with those of the most often fed}."""
    repeats = sorted(repeats)
    fed = {n: encoder.encode(video, "frame", size, repeat=n).values for n in repeats}
    cosine = {n: F.cosine_similarity(x, fed[repeats[-1]], dim=-1) for n, x in fed.items()}
    return {n: float(similar.mean()) for n, similar in cosine.items()}


def stability_figure(found: Stability) -> Figure:
    """Where and at which place in the window tokens depend on more than their frames."""
    figure = new_figure(2.6)
    left, right = figure.subplots(1, 2, width_ratios=(2, 3))
    heat_maps([left], Heat(found.map[None], 0, max(found.map.max(), 1e-6), "share not content"))
    right.plot(np.arange(len(found.curve)), found.curve, ".-", color="black", linewidth=1)
    right.set_xlabel("place in the window, steps", fontsize=8)
    right.set_ylabel("cosine with the other places", fontsize=8)
    right.tick_params(labelsize=7)
    shares = ", ".join(f"{100 * share:.1f} % {name}" for name, share in found.shares.items())
    heading = f"{found.encoder}, windows of {found.context} frames: variance is {shares}"
    return with_heading(figure, heading)
