"""Frames to the size that is encoded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    import numpy as np


def resized(frame: np.ndarray, size: tuple[int, int]) -> torch.Tensor:
    """uint8 (H, W, 3) to float32 (3, height, width), 0 to 255: bilinear and antialiased, skipped
    where the size is right.
    """
    out = torch.empty(3, *size)
    for channel, plane in enumerate(out):  # in float32 a large frame is large: a third at a time
        x = torch.tensor(frame[..., channel], dtype=torch.float32)
        if x.shape != plane.shape:
            x = F.interpolate(
                x[None, None], size, mode="bilinear", align_corners=False, antialias=True
            )[0, 0]
        plane.copy_(x)
    return out
