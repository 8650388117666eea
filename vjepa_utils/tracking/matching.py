"""Where a point of one frame is in others, by the cosine of features, and whether that is right."""

from __future__ import annotations

import torch
import torch.nn.functional as F

# softmax(40 × cosine) over the cells within 5 of the best. Chrono (Kim et al. 2025) has 20: the
# demo encoder reaches a zero-shot δ_avg of 33.3 with 40 and 29.0 with 20, on 12 rendered scenes at
# 256×256; a radius of 3 makes it 33.8.
TEMPERATURE, RADIUS = 40, 5


def match(
    source: torch.Tensor, points: torch.Tensor, maps: torch.Tensor, raster: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Points picked in one frame, found in others.

    Args:
        source: (rows, columns, channels) of that frame, L2-normalised over the channels.
        points: (points, 2) as x, y in cells; the centre of cell i is i + 0.5.
        maps: (n, rows, columns, channels), as source, to look in.
        raster: (2,) pixels of TAP-Vid's 256×256 raster per cell.
    Returns:
        xy, (points, n, 2) in cells, where they are; evidence, (points, n, 5), whether that is
        right: maximum, mean and minimum of the cosines, logarithm of the share of the softmax
        around the maximum, and how far from the point tracking back ends, in pixels of the raster;
        and the cosines, (points, n, cells).
    """
    picked = F.normalize(sample(source[None], points[:, None])[:, 0], dim=-1)  # (points, channels)
    cosine = (picked @ maps.flatten(0, 2).T).unflatten(1, (len(maps), -1))
    xy, near = soft_argmax(cosine, maps.shape[1:3])
    with torch.no_grad():
        returning = F.normalize(sample(maps, xy), dim=-1) @ source.flatten(0, 1).T
        back = soft_argmax(returning, source.shape[:2])[0] - points[:, None]
        back = (back * raster).norm(dim=-1)
        share = near - torch.logsumexp(TEMPERATURE * cosine, -1)
        evidence = [cosine.amax(-1), cosine.mean(-1), cosine.amin(-1), share, back]
    return xy, torch.stack(evidence, -1), cosine


def sample(maps: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Bilinear reading of maps (n, rows, columns, channels), of each at points (…, n, 2) as x, y in
    cells: (…, n, channels). The centre of cell i is i + 0.5.
    """
    # -1 and 1 are the picture's edges
    place = 2 * points / points.new_tensor(maps.shape[2:0:-1]) - 1
    place = place.movedim(-2, 0).reshape(len(maps), 1, -1, 2)
    read = F.grid_sample(
        maps.permute(0, 3, 1, 2), place, padding_mode="border", align_corners=False
    )  # (n, channels, 1, points)
    return read[:, :, 0].permute(2, 0, 1).reshape(*points.shape[:-1], -1)


def soft_argmax(cosine: torch.Tensor, shape: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean place, under softmax(40 × cosine), of the cells within a radius of 5 around the best.

    Args:
        cosine: (…, rows × columns).
        shape: (rows, columns).
    Returns:
        (…, 2) as x, y in cells, and (…,) the logarithm of the sum of the exponentials around the
        best cell.
    """
    rows, columns = shape
    best = cosine.argmax(-1, keepdim=True)
    around = range(-RADIUS, RADIUS + 1)
    disc = [(row, column) for row in around for column in around if row**2 + column**2 <= RADIUS**2]
    row, column = torch.tensor(disc, device=cosine.device).T
    row, column = best // columns + row, best % columns + column  # (…, cells of the disc)
    inside = (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
    near = cosine.gather(-1, row.clamp(0, rows - 1) * columns + column.clamp(0, columns - 1))
    near = (TEMPERATURE * near).masked_fill(~inside, -torch.inf)
    weight = near.softmax(-1)
    place = torch.stack([(weight * column).sum(-1), (weight * row).sum(-1)], -1) + 0.5
    return place, near.logsumexp(-1)
