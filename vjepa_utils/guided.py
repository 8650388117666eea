"""Maps of patches upsampled to the frame, with the outlines of the frame."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from vjepa_utils.features import Features

RADIUS, EPSILON = 0.5, 1e-3  # of a window, in patches; variance of grey below which a place is flat


def guided(maps: torch.Tensor, frame: np.ndarray, features: Features) -> torch.Tensor:
    """Upsample maps of patches to a frame and let them follow its edges: within small windows the
    result is linear in the frame's colours (guided filter, He et al. 2010, equations 14 to 19). It
    shows nothing that the patches do not hold, only where in a patch it may lie.

    Args:
        maps: float (classes, rows, columns).
        frame: uint8 (H, W, 3), of the clip.
        features: whose grid the maps have.
    Returns:
        float32 (classes, H, W).
    """
    guide = torch.as_tensor(frame).movedim(-1, 0).float()[None] / 255  # (1, 3, H, W)
    size, full = guide.shape[2:], guide
    radius = max(1, round(RADIUS * features.stride * size[0] / features.picture_size[0]))
    if coarser := min(4, radius // 2):  # fewer pixels do for what is linear within a window
        radius = max(1, round(radius / coarser))
        small = [-(-side // coarser) for side in size]
        guide = F.interpolate(guide, small, mode="bilinear", antialias=True)

    def mean(x):  # of windows, as far as they lie in the frame
        kernel = dict(kernel_size=2 * radius + 1, stride=1, padding=radius)
        return F.avg_pool2d(x, **kernel, count_include_pad=False)

    x = upsampled(maps, guide.shape[2:], features)[None]  # (1, classes, h, w)
    centre, average = mean(guide), mean(x)
    outer = lambda a, b: (a.unsqueeze(2) * b.unsqueeze(1)).flatten(1, 2)
    # covariances of the colours with each other and with each map
    square = mean(outer(guide, guide)) - outer(centre, centre)
    cross = mean(outer(guide, x)) - outer(centre, average)
    square = square[0].unflatten(0, (3, 3)).permute(2, 3, 0, 1) + EPSILON * torch.eye(3)
    slope = torch.linalg.solve(square, cross[0].unflatten(0, (3, -1)).permute(2, 3, 0, 1))
    slope = slope.permute(2, 3, 0, 1)  # (3, classes, h, w)
    offset = average - (slope * centre[0].unsqueeze(1)).sum(0)
    linear = mean(torch.cat([slope, offset]))  # (4, classes, h, w): three slopes, the offset
    linear = F.interpolate(linear, size, mode="bilinear")
    return (linear[:3] * full[0].unsqueeze(1)).sum(0) + linear[3]


def upsampled(maps: torch.Tensor, size: tuple[int, int], features: Features) -> torch.Tensor:
    """Maps (classes, rows, columns) to (classes, H, W), bilinearly, each token at the centre of its
    patch.
    """
    if features.offset == 0:
        return F.interpolate(maps[None], size, mode="bilinear", align_corners=False)[0]
    axes = [
        2 * ((torch.arange(n) + 0.5) / n * count - features.offset) / count - 1
        for n, count in zip(size, maps.shape[1:], strict=True)
    ]
    y, x = torch.meshgrid(*axes, indexing="ij")
    place = torch.stack([x, y], -1)[None]
    return F.grid_sample(maps[None], place, padding_mode="border", align_corners=False)[0]
