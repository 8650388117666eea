"""TAP-Vid's own files, and its table."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from vjepa_utils.checks import UserError
from vjepa_utils.reading.pixels import resized
from vjepa_utils.tracking.metrics import THRESHOLDS, tapvid_metrics
from vjepa_utils.tracking.points import RASTER, Tracks
from vjepa_utils.video import File, as_video

EVERY = 5  # frames between the queries of the strided mode
COLUMNS = {
    "average_pts_within_thresh": "δ_avg",
    "average_jaccard": "AJ",
    "occlusion_accuracy": "OA",
    **{f"pts_within_{d}": f"δ_{d}" for d in THRESHOLDS},
}


def _dtype(code, *_):
    """Of numbers or objects: a state that a pickle gives to others may crash numpy."""
    dtype = np.dtype(code)
    if dtype.kind not in "biufcO" or not dtype.isnative:
        raise UserError(f"it asks for the dtype {code!r}")
    return dtype


class _Arrays(pickle.Unpickler):
    """A pickle can run any code: this reader admits arrays and plain containers alone."""

    ADMITTED = {
        "numpy.ndarray": None,  # a name only: what calls it fails
        "numpy.dtype": _dtype,
        "numpy.core.multiarray._reconstruct": lambda *_: np.empty(0, np.uint8),  # its state follows
        "numpy.core.numeric._frombuffer": np.empty(0).__reduce_ex__(5)[0],
        "_codecs.encode": lambda text, _: text.encode("latin1"),  # bytes in old protocols
    }

    def find_class(self, module, name):
        full = f"{module}.{name}".replace("numpy._core", "numpy.core")
        if full not in self.ADMITTED:
            raise UserError(f"it asks for {module}.{name}")
        return self.ADMITTED[full]


def clips(path: File) -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """The clips of a TAP-Vid file (DAVIS, RGB-Stacking), or of a folder of such (Kinetics), one
    after another.

    Yields:
        name; frames uint8 (T, 256, 256, 3), resized without regard to the aspect; tracks (points,
        T, 2) float32 as x, y in pixels of these; occluded (points, T) bool.
    Raises:
        UserError: a file holds something else; more than arrays and plain containers is not read.
    """
    path = Path(path)
    files = [path] if path.is_file() else sorted(path.glob("*.pkl"))
    if not files:
        raise UserError(f"There is no file {path}, nor a folder of that name with .pkl files.")
    for file in files:
        with open(file, "rb") as pickled:
            try:
                content = _Arrays(pickled).load()
                if isinstance(content, list):
                    content = {f"{file.stem} {i}": clip for i, clip in enumerate(content)}
                for name, clip in content.items():
                    yield str(name), *_clip(clip)
            except Exception as error:  # a damaged file raises errors of any kind
                raise UserError(
                    f"{file} is refused, it must hold clips as TAP-Vid has them, in arrays and "
                    f"plain containers ({type(error).__name__}: {error})."
                ) from None


def _clip(clip):
    frames = clip["video"]
    if isinstance(frames[0], bytes):
        frames = np.stack([Image.open(io.BytesIO(frame)).convert("RGB") for frame in frames])
    tracks, occluded = np.asarray(clip["points"], np.float32), np.asarray(clip["occluded"], bool)
    shape = occluded.shape
    if not occluded.size or tracks.shape != (*shape, 2) or shape[1:] != (len(frames),):
        raise UserError(f"{len(frames)} frames, points {tracks.shape}, occluded {shape}")
    if not np.isfinite(tracks).all():
        raise UserError("points that are no numbers")
    square = torch.stack([resized(f, (RASTER, RASTER)) for f in as_video(frames).frames]).round()
    return square.to(torch.uint8).permute(0, 2, 3, 1).numpy(), tracks * RASTER, occluded


def queries(tracks: np.ndarray, occluded: np.ndarray, mode: str) -> tuple[np.ndarray, np.ndarray]:
    """Queries (n, 3) float32 as t, x, y, and which point each is of, int (n,).

    Args:
        tracks, occluded: as of `clips`.
        mode: "first", one a point, where it is first visible; "strided", every 5 frames where it is
            visible.
    """
    if mode == "first":
        point = np.flatnonzero(~occluded.all(1))
        time = occluded[point].argmin(1)
    else:
        time, point = np.nonzero(~occluded[:, ::EVERY].T)
        time = time * EVERY
    return np.concatenate([time[:, None], tracks[point, time]], 1).astype(np.float32), point


def evaluate(
    frames: np.ndarray,
    tracks: np.ndarray,
    occluded: np.ndarray,
    follow: Callable[[np.ndarray, np.ndarray], Tracks],
    mode: str,
) -> dict[str, float]:
    """Measures of one clip, {name: share}, see `tapvid_metrics`; NaN if no point of it is ever
    visible where queries are made.

    Args:
        frames, tracks, occluded: as of `clips`.
        follow: frames and queries (t, x, y) to `Tracks`.
        mode: as of `queries`.
    """
    starts, point = queries(tracks, occluded, mode)
    if not len(starts):
        return dict.fromkeys(COLUMNS, np.nan)
    starts[:, 1:] = starts[:, 1:].clip(0, RASTER)  # annotators' points may lie beyond the edge
    followed = follow(frames, starts)
    truth = occluded[point][None], tracks[point][None]
    prediction = ~followed.visible[None], followed.xy[None]
    metrics = tapvid_metrics(starts[None, :, [0, 2, 1]], *truth, *prediction, mode)
    return {name: float(share[0]) for name, share in metrics.items()}
