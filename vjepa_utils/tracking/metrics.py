"""The measures of TAP-Vid."""

from __future__ import annotations

import numpy as np

from vjepa_utils.checks import UserError

THRESHOLDS = 1, 2, 4, 8, 16  # pixels of TAP-Vid's raster


def tapvid_metrics(
    query_points: np.ndarray,
    gt_occluded: np.ndarray,
    gt_tracks: np.ndarray,
    pred_occluded: np.ndarray,
    pred_tracks: np.ndarray,
    query_mode: str,
) -> dict[str, np.ndarray]:
    """The measures of TAP-Vid (Doersch et al. 2022; google-deepmind/tapnet,
    tapnet/tapvid/evaluation_datasets.py).

    Args:
        query_points: (videos, points, 3) as t, y, x.
        gt_occluded, pred_occluded: (videos, points, frames) bool.
        gt_tracks, pred_tracks: (videos, points, frames, 2) as x, y, in pixels of a 256×256 raster.
        query_mode: "first", the frames after the query count; "strided", all frames but the
            query's.
    Returns:
        {name: (videos,)}, shares from 0 to 1: `occlusion_accuracy`; for d in 1, 2, 4, 8, 16
        `pts_within_d`, of the visible points those nearer than d whatever the predicted occlusion,
        and `jaccard_d`, true positives by visible points and false positives;
        `average_pts_within_thresh` and `average_jaccard`, means over d. NaN where nothing counts.
    Raises:
        ValueError: another mode, or shapes that do not agree.
    """
    if query_mode not in ("first", "strided"):
        raise UserError(f'query_mode must be "first" or "strided", not {query_mode!r}.')
    hidden, guessed = np.asarray(gt_occluded, bool), np.asarray(pred_occluded, bool)
    shapes = [np.shape(a) for a in (query_points, hidden, gt_tracks, guessed, pred_tracks)]
    shape = shapes[1]
    if len(shape) != 3 or shapes != [(*shape[:2], 3), shape, (*shape, 2), shape, (*shape, 2)]:
        raise UserError(
            "Shapes must be (B, N, 3), (B, N, T), (B, N, T, 2), (B, N, T), (B, N, T, 2), not "
            f"{', '.join(map(str, shapes))}."
        )
    time, start = np.arange(shape[2]), np.asarray(query_points, float)[..., :1]
    # (videos, points, frames)
    counts = time > start if query_mode == "first" else time != np.round(start)
    total = lambda mask: (mask & counts).sum((1, 2))
    distance = np.square(np.subtract(pred_tracks, gt_tracks, dtype=float)).sum(-1)
    with np.errstate(invalid="ignore"):
        metrics = {"occlusion_accuracy": total(hidden == guessed) / counts.sum((1, 2))}
        for d in THRESHOLDS:
            right = ~hidden & (distance < d**2)
            metrics[f"pts_within_{d}"] = total(right) / total(~hidden)
            false = ~guessed & ~right
            metrics[f"jaccard_{d}"] = total(right & ~guessed) / (total(~hidden) + total(false))
    mean = lambda name: np.mean([metrics[f"{name}_{d}"] for d in THRESHOLDS], axis=0)
    averages = dict(average_pts_within_thresh=mean("pts_within"), average_jaccard=mean("jaccard"))
    return metrics | averages
