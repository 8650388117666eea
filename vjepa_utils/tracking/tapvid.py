"""TAP-Vid's own files, and its table."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from vjepa_utils.checks import UserError
from vjepa_utils.encoder import Encoder
from vjepa_utils.reading.pixels import resized
from vjepa_utils.tracking.head import TrackHead
from vjepa_utils.tracking.metrics import THRESHOLDS, tapvid_metrics
from vjepa_utils.tracking.points import RASTER, Tracks, track
from vjepa_utils.tracking.safe_pickle import load_pickle
from vjepa_utils.video import File, Size

EVERY = 5  # frames between the queries of the strided mode
COLUMNS = {
    "average_pts_within_thresh": "δ_avg",
    "average_jaccard": "AJ",
    "occlusion_accuracy": "OA",
}
COLUMNS |= {f"pts_within_{d}": f"δ_{d}" for d in THRESHOLDS}


def clips(path: File) -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """The clips of a TAP-Vid file (DAVIS, RGB-Stacking), or of a folder of such (Kinetics), one
    after another.

    Yields:
        name; frames uint8 (T, 256, 256, 3), resized without regard to the aspect; tracks (points,
        T, 2) float32 as x, y in pixels of these; occluded (points, T) bool.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no file or folder '{path}'.")
    files = sorted(path.glob("*.pkl")) if path.is_dir() else [path]
    if not files:
        raise UserError(f"The folder {path} holds no .pkl files.")
    for file in files:
        content = load_pickle(file)
        if not isinstance(content, (dict, list)) or not content:
            raise UserError(f"{file} is no TAP-Vid file: it must hold a dict or a list of clips.")
        if isinstance(content, list):
            content = {f"{file.stem} {i}": clip for i, clip in enumerate(content)}
        for name, clip in content.items():
            try:
                yield str(name), *_clip(clip)
            except (KeyError, TypeError, ValueError, OSError, AttributeError, IndexError) as error:
                raise UserError(
                    f"{file}: clip {name!r} is not as TAP-Vid has it ({type(error).__name__}: "
                    f"{error})."
                ) from None


def _clip(clip):
    frames = [
        np.asarray(Image.open(io.BytesIO(f)).convert("RGB") if isinstance(f, bytes) else f)
        for f in clip["video"]
    ]
    tracks, occluded = np.asarray(clip["points"], np.float32), np.asarray(clip["occluded"], bool)
    points, times = occluded.shape
    if not points or times != len(frames) or tracks.shape != (points, times, 2):
        raise UserError(f"{len(frames)} frames, points {tracks.shape}, occluded {occluded.shape}")
    if not np.isfinite(tracks).all():
        raise UserError("points that are no numbers")
    if any(f.dtype != np.uint8 or f.ndim != 3 or f.shape[2] != 3 for f in frames):
        raise UserError("video must be uint8 (frames, height, width, 3)")
    square = torch.stack([resized(f, (RASTER, RASTER)) for f in frames]).round()
    return square.to(torch.uint8).permute(0, 2, 3, 1).numpy(), tracks * RASTER, occluded


def queries(tracks: np.ndarray, occluded: np.ndarray, mode: str) -> tuple[np.ndarray, np.ndarray]:
    """Queries of a clip, and which point each is of.

    Args:
        tracks, occluded: as of `clips`.
        mode: "first", one a point, where it is first visible; "strided", every 5 frames where it is
            visible.
    Returns:
        (queries, 3) float32 as t, x, y; (queries,) int.
    """
    if mode not in ("first", "strided"):
        raise UserError(f'The query mode must be "first" or "strided", not {mode!r}.')
    visible = ~occluded
    if mode == "first":
        point = np.nonzero(visible.any(1))[0]
        time = visible[point].argmax(1)
    else:
        time, point = np.nonzero(visible[:, ::EVERY].T)
        time = time * EVERY
    return np.concatenate([time[:, None], tracks[point, time]], 1).astype(np.float32), point


def evaluate(
    frames: np.ndarray,
    tracks: np.ndarray,
    occluded: np.ndarray,
    follow: Callable[[np.ndarray, np.ndarray], Tracks],
    mode: str = "first",
) -> dict[str, float] | None:
    """Measures of one clip, or None if no point of it is ever visible where queries are made.

    Args:
        frames, tracks, occluded: as of `clips`.
        follow: frames and queries (t, x, y) to `Tracks`.
        mode: as of `queries`.
    Returns:
        {name: share}, see `tapvid_metrics`.
    """
    starts, point = queries(tracks, occluded, mode)
    if not len(starts):
        return None
    starts[:, 1:] = starts[:, 1:].clip(0, RASTER)  # annotators' points may lie beyond the edge
    followed = follow(frames, starts)
    truth = occluded[point][None], tracks[point][None]
    prediction = ~followed.visible[None], followed.xy[None]
    metrics = tapvid_metrics(starts[None, :, [0, 2, 1]], *truth, *prediction, mode)
    return {name: float(share[0]) for name, share in metrics.items()}


def table(
    path: File,
    encoder: Encoder,
    head: TrackHead | None = None,
    size: Size = RASTER,
    mode: str = "first",
    count: int | None = None,
) -> Iterator[str]:
    """Lines of the table of a data set, in per cent: one for each clip (at most `count`), and the
    mean over them.
    """
    yield "".join(f"{title:>8}" for title in COLUMNS.values()) + "  clip"
    rows = []
    for name, *clip in islice(clips(path), count):
        metrics = evaluate(*clip, lambda *asked: track(*asked, encoder, head, size), mode)
        if metrics is None:
            warnings.warn(f"No point of clip {name} is ever visible: it is left out.", stacklevel=2)
            continue
        rows.append([metrics[column] for column in COLUMNS])
        yield _line(rows[-1]) + name
    if not rows:
        raise UserError(f"{path} holds no clip with a visible point.")
    yield _line(np.nanmean(rows, 0)) + f"mean of {len(rows)}"


def _line(shares):
    return "".join(f"{100 * share:8.1f}" for share in shares) + "  "
