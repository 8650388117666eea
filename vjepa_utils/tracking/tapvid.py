"""TAP-Vid's own files, read safely, and its table.

The data sets are pickles, and a pickle can run any code. This reader admits only plain containers,
strings, bytes, numbers and numpy arrays, and names what it refused.
"""

from __future__ import annotations

import codecs
import io
import pickle
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from vjepa_utils.checks import UserError
from vjepa_utils.reading.pixels import resized
from vjepa_utils.tracking.metrics import THRESHOLDS, tapvid_metrics
from vjepa_utils.tracking.points import RASTER, track

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vjepa_utils.encoder import Encoder
    from vjepa_utils.tracking.head import TrackHead
    from vjepa_utils.tracking.points import Tracks
    from vjepa_utils.video import File, Size

EVERY = 5  # frames between the queries of the strided mode
COLUMNS = {
    "average_pts_within_thresh": "δ_avg",
    "average_jaccard": "AJ",
    "occlusion_accuracy": "OA",
}
COLUMNS |= {f"pts_within_{d}": f"δ_{d}" for d in THRESHOLDS}
ARRAY = "the class numpy.ndarray, as a name only: a pickle that calls it fails"


class Refused(Exception):
    """What a pickle asked for and may not have."""


def _empty_array(kind, shape, code):
    """Where a pickled array begins; its state follows."""
    if kind is not ARRAY:
        raise Refused("an array of a class other than numpy.ndarray")
    return np.empty(0, np.uint8)


def _array_in_band(buffer, dtype, shape, order, axes=None):
    """How protocol 5 writes arrays; order "K" gives them with their axes in the order of memory."""
    array = np.frombuffer(buffer, dtype)
    return (
        array.reshape(shape, order=order) if axes is None else array.reshape(shape).transpose(axes)
    )


def _scalar(dtype, data):
    return np.frombuffer(data, dtype)[0]


def _bytes(text, encoding):
    """How old protocols write bytes."""
    if encoding != "latin1":
        raise Refused(f"text in {encoding!r}")
    return codecs.encode(text, encoding)


def _dtype(code, *flags):
    dtype = np.dtype(code)
    if dtype.hasobject and code not in ("O", "O8"):
        raise Refused(f"the dtype {code!r}")
    return dtype


ADMITTED = {("numpy", "ndarray"): ARRAY, ("numpy", "dtype"): _dtype, ("_codecs", "encode"): _bytes}
for _core in ("numpy.core", "numpy._core"):
    ADMITTED |= {
        (f"{_core}.multiarray", "_reconstruct"): _empty_array,
        (f"{_core}.multiarray", "scalar"): _scalar,
    }
    ADMITTED |= {(f"{_core}.numeric", "_frombuffer"): _array_in_band}


class _Restricted(pickle.Unpickler):
    def find_class(self, module, name):
        if (module, name) not in ADMITTED:
            raise Refused(f"{module}.{name}")
        return ADMITTED[module, name]

    def persistent_load(self, key):
        raise Refused("an object outside the file")


def load_pickle(path: File) -> object:
    """What a pickle of arrays and plain containers holds. ValueError names what was refused, or
    says that it is cut off.
    """
    try:
        with open(path, "rb") as file:
            return _Restricted(file).load()
    except Refused as error:
        raise UserError(
            f"{path} is refused: it asks for {error}, and only arrays and plain containers are "
            "admitted."
        ) from None
    except OSError:
        raise
    except Exception as error:  # a damaged file raises errors of any kind
        raise UserError(
            f"{path} is no whole pickle: it is cut off, damaged or of another kind "
            f"({type(error).__name__})."
        ) from None


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
        named = (
            content.items()
            if isinstance(content, dict)
            else ((f"{file.stem} {i}", clip) for i, clip in enumerate(content))
        )
        for name, clip in named:
            try:
                yield str(name), *_clip(clip)
            except (KeyError, TypeError, ValueError, OSError, AttributeError, IndexError) as error:
                raise UserError(
                    f"{file}: clip {name!r} is not as TAP-Vid has it ({type(error).__name__}: "
                    f"{error})."
                ) from None


def _clip(clip):
    frames = [
        np.asarray(Image.open(io.BytesIO(f)).convert("RGB")) if isinstance(f, bytes) else f
        for f in clip["video"]
    ]
    tracks, occluded = np.asarray(clip["points"], np.float32), np.asarray(clip["occluded"], bool)
    if (
        tracks.shape != (*occluded.shape, 2)
        or occluded.ndim != 2
        or occluded.shape[1] != len(frames)
        or not len(occluded)
    ):
        raise UserError(f"{len(frames)} frames, points {tracks.shape}, occluded {occluded.shape}")
    if not np.isfinite(tracks).all():
        raise UserError("points that are no numbers")
    if any(
        np.asarray(f).dtype != np.uint8 or np.asarray(f).ndim != 3 or f.shape[2] != 3
        for f in frames
    ):
        raise UserError("video must be uint8 (frames, height, width, 3)")
    square = [
        resized(f, (RASTER, RASTER)).round().to(torch.uint8).permute(1, 2, 0).numpy()
        for f in frames
    ]
    return np.stack(square), tracks * RASTER, occluded


def queries(tracks: np.ndarray, occluded: np.ndarray, mode: str) -> tuple[np.ndarray, np.ndarray]:
    """Queries of a clip, and which point each is of.

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
        frames, tracks, occluded: as of `clips`.  follow: frames and queries (t, x, y) to `Tracks`.
    Returns:
        {name: share}, see `tapvid_metrics`.
    """
    asked, point = queries(tracks, occluded, mode)
    if not len(asked):
        return None
    asked[:, 1:] = asked[:, 1:].clip(0, RASTER)  # annotators' points may lie just beyond the edge
    found = follow(frames, asked)
    truth = occluded[point][None], tracks[point][None]
    metrics = tapvid_metrics(
        asked[None, :, [0, 2, 1]], *truth, ~found.visible[None], found.xy[None], mode
    )
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
    every = []
    for number, (name, *clip) in enumerate(clips(path)):
        if number == count:
            break
        found = evaluate(
            *clip, lambda frames, asked: track(frames, asked, encoder, head, size), mode
        )
        if found is None:
            warnings.warn(f"No point of clip {name} is ever visible: it is left out.", stacklevel=2)
            continue
        every.append([found[column] for column in COLUMNS])
        yield _line(every[-1]) + name
    if not every:
        raise UserError(f"{path} holds no clip with a visible point.")
    yield _line(np.nanmean(every, 0)) + f"mean of {len(every)}"


def _line(shares):
    return "".join(f"{100 * share:8.1f}" for share in shares) + "  "
