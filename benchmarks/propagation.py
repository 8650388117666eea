"""Label propagation: how far do features carry the masks of the first frame through a clip?

The protocol of DAVIS-2017 with frozen features (Caron et al. 2021; Mur-Labadia et al. 2026, V-JEPA
2.1): features of frames encoded independently, L2-normalised; every patch takes the labels of its
nearest neighbours among the first and the last frames.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import distance_transform_edt

# patches; frames; cells; of the softmax over the neighbours
NEIGHBOURS, MEMORY, RADIUS, TEMPERATURE = (
    5,
    7,
    12,
    0.2,
)


def propagate(features, labels):
    """Soft labels of every frame from those of the first.

    Args:
        features: `Features` with one step a frame (context="frame").
        labels: (rows, columns, classes) float, 0 to 1, the first frame's: share of each patch.
    Returns:
        (steps, rows, columns, classes) float, 0 to 1.
    """
    steps, rows, columns = features.grid
    x = F.normalize(features.values.flatten(1, 2), dim=-1)  # (steps, patches, channels)
    row, column = (
        axis.flatten()
        for axis in torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    )
    # (patches, patches)
    far = ((row[:, None] - row).abs() > RADIUS) | ((column[:, None] - column).abs() > RADIUS)
    soft = [labels.flatten(0, 1)]
    for step in range(1, steps):
        memory = sorted({0, *range(max(0, step - MEMORY), step)})
        # (patches, memory × patches)
        similarity = torch.cat([(x[step] @ x[m].T).masked_fill_(far, -2) for m in memory], 1)
        best, which = similarity.topk(NEIGHBOURS, 1)
        known = torch.cat([soft[m] for m in memory])  # (memory × patches, classes)
        weight = torch.softmax(best / TEMPERATURE, 1)  # (patches, neighbours)
        soft.append((weight.unsqueeze(-1) * known[which]).sum(1))
    return torch.stack(soft).unflatten(1, (rows, columns))


def boundary(mask):
    """Pixels of a bool mask (H, W) that differ from their right, lower or lower right neighbour, as
    DAVIS draws it.
    """
    padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    return (mask != padded[:-1, 1:]) | (mask != padded[1:, :-1]) | (mask != padded[1:, 1:])


def boundary_agreement(ours, true, reach=0.008):
    """F of two bool masks (H, W): harmonic mean of the shares of each boundary that lie near the
    other (Perazzi et al. 2016).

    reach: how near, as a share of the picture's diagonal, rounded up to pixels.
    """
    lines = boundary(ours), boundary(true)
    if not (lines[0].any() and lines[1].any()):
        return float(lines[0].any() == lines[1].any())
    near = math.ceil(reach * math.hypot(*true.shape))
    precision, recall = (
        (distance_transform_edt(~b)[a] <= near).mean() for a, b in (lines, lines[::-1])
    )
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def overlap(ours, true):
    """J of two bool masks (H, W): intersection over union; 1 if both are empty."""
    union = (ours | true).sum()
    return float((ours & true).sum() / union) if union else 1.0


def agreement(features, masks):
    """J and F of label propagation: means over all frames except the first and the last, as in
    DAVIS-2017.

    Args:
        features: of the whole clip, one step a frame.
        masks: (frames, H, W) integers at the clip's size, 0 for the background, 1… for the objects.
    Returns:
        {object: (J, F)} for the objects in the first frame.
    """
    masks = np.asarray(masks)
    objects = [int(n) for n in np.unique(masks[0]) if n]
    # (rows, columns, classes)
    labels = torch.stack([features.cover(masks[0] == n) for n in (0, *objects)], -1)
    soft = propagate(features, labels)
    found = {n: [] for n in objects}
    for step in range(1, len(soft) - 1):
        full = F.interpolate(
            soft[step].permute(2, 0, 1)[None], masks.shape[1:], mode="bilinear", align_corners=False
        )[0]
        best = full.argmax(0).numpy()  # (H, W)
        for place, n in enumerate(objects, 1):
            ours, true = best == place, masks[step] == n
            found[n].append((overlap(ours, true), boundary_agreement(ours, true)))
    return {n: tuple(np.mean(values, 0)) for n, values in found.items()}
