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
    x = torch.tensor(frame, dtype=torch.float32).permute(2, 0, 1)
    if x.shape[1:] == tuple(size):
        return x
    return F.interpolate(
        x.unsqueeze(0), size, mode="bilinear", align_corners=False, antialias=True
    )[0]
