"""Read a clip: true frames, true frame numbers, true times; nothing is decoded that is not used."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Sequence
from copy import copy
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from vjepa_utils.checks import UserError, check_counts
from vjepa_utils.files import File, file_identity
from vjepa_utils.reading import RATE

if TYPE_CHECKING:
    import torch

# Types that signatures share; shapes and ranges stand in the docstrings.
Clip: TypeAlias = "Video | File | np.ndarray | torch.Tensor"  # what `as_video` takes
Grid: TypeAlias = tuple[int, int, int]  # steps, rows, columns
Size: TypeAlias = "int | tuple[int, int] | None"  # short side, or (height, width), in pixels
Context: TypeAlias = "str | int | None"  # frames that attend to each other
Seed: TypeAlias = "int | np.random.Generator"
DECODE_AT_ONCE = 2**29  # bytes; a larger request is decoded when its frames are used


class Video:
    """A clip: upright frames with square pixels, and where they come from.

    `video[a:b]` and `video[[4, 0, 0]]` are clips too, of positions in any order. They share the
    source, and frames that are already decoded.

    indices: int (T,), frame numbers in the file.
    times: float (T,), seconds from the file's first frame.
    path: the file or folder, None for an array.
    height, width: of the frames, in pixels.
    no_clock: why the times are assumed, "" where they are the file's.
    """

    def __init__(self, indices, times, path, size, source=None, frames=None):
        self.indices, self.times, self.path = indices, times, path
        self.height, self.width = size
        self.no_clock = source.no_clock if source else f"{RATE} frames a second are assumed"
        self._source, self._frames = source, frames

    def __repr__(self):
        if not len(self):
            return f"Video({self.name}, 0 frames)"
        text = f"{len(self)} frames {self.indices[0]} to {self.indices[-1]}"
        if self.path:
            clock = self.no_clock and f" ({self.no_clock})"
            text += f", {self.times[0]:.2f} to {self.times[-1]:.2f} s{clock}"
        return f"Video({self.name}, {text}, {self.width}×{self.height} pixels)"

    @property
    def name(self) -> str:
        """Of its file, what cannot be printed replaced; "clip" for an array."""
        name = self.path.name if self.path else "clip"
        return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in name)

    def __len__(self):
        return len(self.indices)

    def __getitem__(self, positions: slice | Sequence[int] | np.ndarray) -> Video:
        chosen = np.arange(len(self))[positions]
        if chosen.ndim != 1:
            remedy = "slices, such as video[0:2], or lists of positions; frames are in .frames"
            raise TypeError(f"A Video takes {remedy}.")
        part = copy(self)
        part.indices, part.times = self.indices[chosen], self.times[chosen]
        if self._frames is not None:
            frames = self._frames[positions]
            part._frames = frames if frames.strides[0] >= 0 else frames.copy()  # torch takes no -1
        return part

    @property
    def frames(self) -> np.ndarray:
        """uint8 (T, H, W, 3), RGB, 0 to 255; decoded at first use and kept.

        UserError if the file is damaged among these frames; `pieces` ends before them.
        """
        if self._frames is None:
            frames = self._decoded()
            if len(frames) < len(self):
                remedy = f"take what is before, the first {len(frames)} frames"
                raise UserError(f"{self._damage()}: {remedy}.")
            self._frames, self._source = frames, None  # which closes its file and its threads
        return self._frames

    def pieces(self, count: int) -> Iterator[Video]:
        """The clip as consecutive clips of at most `count` frames, decoded, and held no longer. Of
        a damaged file those before the damage, with a warning; UserError if there are none.
        """
        for first in range(0, len(self), count):
            piece = self[first : first + count]
            frames, wanted = piece._decoded(), len(piece)
            if first + len(frames) == 0:
                begin = f"no frame could be read from frame {self.indices[0]} on"
                raise UserError(f"{self._damage()}: {begin}, take another start.")
            if len(frames) < wanted:
                warnings.warn(f"{self._damage()}: the clip ends before it.", stacklevel=3)
            if len(frames):
                piece = piece[: len(frames)]
                piece._frames, piece._source = frames, None
                yield piece
            if len(frames) < wanted:
                return

    def _damage(self):
        return f"{self.path} is damaged at frame {self._source.broken}"

    def _decoded(self):
        """The frames; of a damaged file those before the first one that is lost."""
        if self._frames is not None:
            return self._frames
        if not len(self):
            return np.empty((0, self.height, self.width, 3), np.uint8)
        numbers, places = np.unique(self.indices, return_inverse=True)
        frames = self._source.read(numbers)
        lost = np.flatnonzero(places >= len(frames))
        places = places[: lost[0]] if len(lost) else places
        in_order = np.array_equal(places, np.arange(len(frames)))
        return frames if in_order else frames[places]

    def positions(self, numbers: Sequence[int] | np.ndarray) -> np.ndarray:
        """Where in the clip the frames of these numbers in the file are: int (n,). UserError if one
        is not in it.
        """
        numbers = np.asarray(numbers).astype(np.int64)
        missing = np.setdiff1d(numbers, self.indices)
        if len(missing):
            held = f"{len(self)} frames from {self.indices.min()} to {self.indices.max()}"
            raise UserError(f"Frame {missing[0]} is not in this clip, which holds {held}.")
        order = np.argsort(self.indices, kind="stable")
        return order[np.searchsorted(self.indices, numbers, sorter=order)]

    @property
    def identity(self) -> str:
        """Identifies the clip: a hash of its frame numbers and of its files' paths, sizes, dates
        and content (see `file_identity`), or of the frames of an array.
        """
        digest = hashlib.sha256(repr(self.indices.tolist()).encode())
        if self.path is None:
            digest.update(np.ascontiguousarray(self.frames).data)
        else:
            digest.update(repr(file_identity(self.path)).encode())
        return digest.hexdigest()


def read_video(
    path: File,
    start: int | str = 0,
    every: int | None = None,
    count: int | None = None,
    fps: float | None = None,
) -> Video:
    """Open a clip.

    Args:
        path: a video file, a picture, an animation or stack of pictures, or a folder of images (in
            natural order). If a file has several video streams, the largest is read. Rotations and
            mirrors are applied, non-square pixels are resampled.
        start: the first frame, as a number or as a time in seconds, "5.2s" (the frame on the screen
            then).
        every: take every n-th frame from there; None for all.
        count: at most so many; None for all.
        fps: instead of `every`, take the frame on the screen at each moment start + k / fps, by
            time stamps: frames a second, at most 1000.
    Returns:
        Video. Up to half a gigabyte of frames is decoded at once, larger clips when they are used.
        If the file is damaged within these frames, those before the damage, with a warning.
    Raises:
        FileNotFoundError, UserError: there is no such file, or it cannot be read as asked.
    """
    # with the first file, as PyAV and Pillow take their time
    from vjepa_utils.reading.sources import at_rate, check_rate, first_frame, open_source

    name, path = path, Path(path)
    if not path.exists() or name == "":
        raise FileNotFoundError(f"There is no file or folder {str(name)!r}.")
    check_counts(count=count)
    check_rate(every, fps)
    source = open_source(path)
    first, moment = first_frame(start, source, path)
    if fps is None:
        indices = np.arange(len(source.times))[first :: every or 1][:count]
    else:
        indices = at_rate(fps, moment, count, source, path)
    if count is not None and len(indices) < count:
        held = f"{len(indices)} of the {count} frames asked for, from start {start} on"
        warnings.warn(f"{path} has {held}.", stacklevel=2)
    video = Video(indices, source.times[indices], path, source.size, source)
    if len(video) * video.height * video.width * 3 <= DECODE_AT_ONCE:
        video = next(video.pieces(len(video)))  # decoded now, so that damage shows now
    if source.lost and len(video) == len(indices) != count:
        warnings.warn(f"{path} is damaged: {source.lost}.", stacklevel=2)
    return video


def as_video(video: Clip) -> Video:
    """A `Video` from a Video, path, array or tensor (T, H, W, 3), uint8 0–255 or float 0–1."""
    if isinstance(video, Video):
        return video
    if isinstance(video, (str, PathLike)):
        return read_video(video)
    from vjepa_utils.reading.arrays import frames_of

    frames = frames_of(video)
    indices = np.arange(len(frames))
    return Video(indices, indices / RATE, None, frames.shape[1:3], frames=frames)
