"""Several encoders on one clip: features on a common grid; where each finds a point again."""

from __future__ import annotations

import numpy as np
import torch

from vjepa_utils.checks import UserError
from vjepa_utils.encoder import Encoder
from vjepa_utils.features import Features
from vjepa_utils.video import Clip, Size, as_video


def on_one_grid(
    encoders: list[Encoder], video: Clip, size: Size = None, context: str = "pair"
) -> dict[str, Features]:
    """Features of a clip from every encoder, all with the same steps, rows and columns.

    Args:
        encoders: list of `Encoder`s with different names.
        video: as for `encode`.
        size: of the picture for the first encoder, as for `Encoder.encode`; each of the others gets
            the size that makes as many rows and columns of its own patches.
        context: "pair" (an image encoder averages the features of the two frames) or "frame".
    Returns:
        {name: Features}, in the order of the encoders.
    Raises:
        ValueError: two encoders of one name, or an argument that an encoder does not take.
    """
    names = [encoder.name for encoder in encoders]
    double = [name for place, name in enumerate(names) if name in names[:place]]
    if double:
        raise UserError(f"{double[0]} is named twice: each encoder is compared once.")
    video = as_video(video)
    _, rows, columns = encoders[0].grid(video, size, context)
    sizes = [(rows * encoder.patch_size, columns * encoder.patch_size) for encoder in encoders]
    return {
        encoder.name: encoder.encode(video, context, size)
        for encoder, size in zip(encoders, sizes, strict=True)
    }


def similarity(features: Features, point: tuple[float, float], frame: int) -> np.ndarray:
    """Cosine similarity of every token with the one under a point: float32 array (steps, rows,
    columns), -1 to 1.

    Args:
        features: of the clip.
        point: (x, y) in pixels of the clip.
        frame: a file frame number that the features cover.
    Raises:
        ValueError: a point outside the picture, or a frame that is not covered.
    """
    row, column = features.token_at(point)
    step = step_of(features, frame)
    token = torch.nn.functional.normalize(features.values[step, row, column], dim=-1)
    steps = (torch.nn.functional.normalize(x, dim=-1) for x in features.values)
    return torch.stack([x @ token for x in steps]).numpy()


def step_of(features: Features, frame: int) -> int:
    """The step that covers a file frame number; ValueError if none does."""
    covered = (features.frames == frame).any(1).nonzero()
    if not len(covered):
        numbers = features.frames.flatten().unique().tolist()
        if len(numbers) > 6:
            numbers[3:-2] = ["…"]
        raise UserError(
            f"Frame {frame} is not among the frames that were encoded: "
            f"{', '.join(map(str, numbers))}."
        )
    return int(covered[0])
