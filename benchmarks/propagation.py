"""Label propagation: how far do features carry the masks of the first frame through a clip?

The protocol of DAVIS-2017 with frozen features (Caron et al. 2021; Mur-Labadia et al. 2026, V-JEPA 2.1): features of each
frame by itself, L2-normalised; every patch takes the labels of its nearest neighbours among the first and the last frames.
"""

import torch
import torch.nn.functional as F

NEIGHBOURS, MEMORY, RADIUS, TEMPERATURE = 5, 7, 12, 0.2  # patches; frames; cells; of the softmax over the neighbours


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
    row, column = (axis.flatten() for axis in torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij"))
    far = ((row[:, None] - row).abs() > RADIUS) | ((column[:, None] - column).abs() > RADIUS)  # (patches, patches)
    soft = [labels.flatten(0, 1)]
    for step in range(1, steps):
        memory = sorted({0, *range(max(0, step - MEMORY), step)})
        alike = torch.cat([(x[step] @ x[m].T).masked_fill_(far, -2) for m in memory], 1)  # (patches, memory × patches)
        best, which = alike.topk(NEIGHBOURS, 1)
        known = torch.cat([soft[m] for m in memory])  # (memory × patches, classes)
        weight = torch.softmax(best / TEMPERATURE, 1)  # (patches, neighbours)
        soft.append((weight.unsqueeze(-1) * known[which]).sum(1))
    return torch.stack(soft).unflatten(1, (rows, columns))


def region_overlap(features, masks):
    """J of label propagation: intersection over union of each object, mean over the frames but the first and the last.

    Args:
        features: of the whole clip, one step a frame.
        masks: (frames, H, W) integers at the clip's size, 0 for the background, 1… for the objects.
    Returns:
        {object: J} for the objects in the first frame.
    """
    masks = torch.as_tensor(masks)
    objects = [int(n) for n in masks[0].unique() if n]
    labels = torch.stack([features.cover(masks[0] == n) for n in (0, *objects)], -1)  # (rows, columns, classes)
    soft = propagate(features, labels)
    overlaps = {n: [] for n in objects}
    for step in range(1, len(soft) - 1):
        full = F.interpolate(soft[step].permute(2, 0, 1)[None], masks.shape[1:], mode="bilinear", align_corners=False)[0]
        found = full.argmax(0)  # (H, W)
        for place, n in enumerate(objects, 1):
            ours, true = found == place, masks[step] == n
            union = (ours | true).sum().item()
            overlaps[n].append((ours & true).sum().item() / union if union else 1.0)
    return {n: sum(values) / len(values) for n, values in overlaps.items()}
