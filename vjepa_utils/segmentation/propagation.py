"""Labels of some frames carried through a clip by the similarity of features, and how well.

The protocol of DAVIS-2017 with frozen features (Caron et al. 2021; Mur-Labadia et al. 2026, V-JEPA
2.1): every patch takes the labels of its nearest neighbours among the first and the last frames.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import distance_transform_edt

from vjepa_utils.features import Features

NEIGHBOURS, MEMORY, RADIUS, TEMPERATURE = 5, 7, 12, 0.2  # patches; frames; cells; of the softmax


def propagate(
    features: Features, labels: dict[int, torch.Tensor], scenes: list[int] = ()
) -> torch.Tensor:
    """Soft labels of every step, from the first as_labels one on to both ends.

    Args:
        features: with one step a frame.
        labels: {step: shares of each patch, float (rows, columns, classes), 0 to 1}.
        scenes: steps that begin another scene than the step before: nothing is carried over them.
    Returns:
        float32 (steps, rows, columns, classes), 0 to 1; zero where nothing arrived.
    """
    steps, rows, columns = features.grid
    x = F.normalize(features.values.flatten(1, 2), dim=-1)  # (steps, patches, channels)
    place = torch.cartesian_prod(torch.arange(rows), torch.arange(columns))
    far = ((place[:, None] - place).abs() > RADIUS).any(-1)  # (patches, patches)
    soft = torch.zeros(steps, rows * columns, next(iter(labels.values())).shape[-1])
    for step, known in labels.items():
        soft[step] = known.flatten(0, 1)
    scene = np.searchsorted(sorted(scenes), np.arange(steps), side="right")
    carried, first = set(), min(labels)
    for step in [*range(first + 1, steps), *range(first - 1, -1, -1)]:
        recent = sorted(carried, key=lambda m: abs(m - step))[:MEMORY]
        memory = sorted(m for m in {*labels, *recent} if scene[m] == scene[step])
        if memory and step not in labels:
            # (patches, memory × patches)
            cosine = torch.cat([(x[step] @ x[m].T).masked_fill_(far, -2) for m in memory], 1)
            best, which = cosine.topk(NEIGHBOURS, 1)
            weight = torch.softmax(best / TEMPERATURE, 1)  # (patches, neighbours)
            soft[step] = (weight.unsqueeze(-1) * soft[memory].flatten(0, 1)[which]).sum(1)
            carried.add(step)
    return soft.unflatten(1, (rows, columns))


def boundary(mask: np.ndarray) -> np.ndarray:
    """Pixels of a bool mask (H, W) that differ from their right, lower or lower right neighbour, as
    DAVIS draws it.
    """
    padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    return (mask != padded[:-1, 1:]) | (mask != padded[1:, :-1]) | (mask != padded[1:, 1:])


def boundary_agreement(ours: np.ndarray, true: np.ndarray, reach: float = 0.008) -> float:
    """F of two bool masks (H, W): harmonic mean of the shares of each boundary that lie near the
    other (Perazzi et al. 2016).

    reach: how near, as a share of the picture's diagonal, rounded up to pixels.
    """
    lines = boundary(ours), boundary(true)
    if not (lines[0].any() and lines[1].any()):
        return float(lines[0].any() == lines[1].any())
    near = math.ceil(reach * math.hypot(*true.shape))
    shares = [(distance_transform_edt(~b)[a] <= near).mean() for a, b in (lines, lines[::-1])]
    return 2 * math.prod(shares) / sum(shares) if sum(shares) else 0.0


def overlap(ours: np.ndarray, true: np.ndarray) -> float:
    """J of two bool masks (H, W): intersection over union; 1 if both are empty."""
    union = (ours | true).sum()
    return float((ours & true).sum() / union) if union else 1.0


def agreement(labels: np.ndarray, true: np.ndarray) -> dict[int, tuple[float, float]]:
    """J and F of masks: means over all frames but the first and the last, as in DAVIS-2017.

    Args:
        labels: (frames, H, W) integers, 0 for the background, 1… for the objects.
        true: the same.
    Returns:
        {object: (J, F)} for the objects of the first true mask.
    """
    pairs = list(zip(labels[1:-1], true[1:-1], strict=True))
    mean = lambda measure, n: float(np.mean([measure(a == n, b == n) for a, b in pairs]))
    objects = (int(n) for n in np.unique(true[0]) if n)
    return {n: (mean(overlap, n), mean(boundary_agreement, n)) for n in objects}
