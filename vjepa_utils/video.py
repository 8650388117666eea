"""Read a clip: true frames, true frame numbers, true times.

`read_video` takes any file that decord can read, a folder of images or a single image, and gives a
`Video`, which decodes only what is asked for. `as_video` lets every other function take a path, an
array or a tensor as well.
"""

import re
import warnings
from fractions import Fraction
from io import BytesIO
from os import PathLike
from pathlib import Path
from threading import Lock

import av
import decord
import numpy as np
from PIL import Image, ImageOps

IMAGES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}
FOLDER_RATE = 30  # frames a second: a folder of images has no clock
DECODE_AT_ONCE = 2**29  # bytes; a larger request is decoded when its frames are used
DECORD_ERRORS = decord.DECORDError, RuntimeError, AssertionError, StopIteration  # what it raises on a damaged file
decord.logging.set_level(decord.logging.QUIET)


class Video:
    """A clip: upright frames with square pixels, and where they come from.

    frames: uint8 (T, H, W, 3), RGB, 0 to 255; decoded at first use and kept. `video[a:b]` decodes just
        those frames, and does not keep them.
    indices: int (T,), frame numbers in the file.  times: float (T,), seconds from the file's first frame.
    path: the file or folder, None for an array.  height, width: of the frames, in pixels.
    """

    def __init__(self, indices, times, path, size, source=None, frames=None):
        self.indices, self.times, self.path = indices, times, path
        self.height, self.width = size
        self._source, self._frames = source, frames

    def __len__(self):
        return len(self.indices)

    def __getitem__(self, part):
        if not isinstance(part, slice):
            raise TypeError("a Video takes slices, such as video[0:2]; single frames are in video.frames")
        if self._frames is not None:
            return self._frames[part]
        wanted = self.indices[part]
        frames = self._source.read(wanted)
        if len(frames) < len(wanted):  # the file breaks here: from now on the clip ends before it
            broken = wanted[len(frames)]
            if not len(frames) and broken == self.indices[0]:
                raise ValueError(f"{self.path} is damaged at frame {broken}: no frame could be read from there. Take another start.")
            warnings.warn(f"{self.path} is damaged at frame {broken}: the clip ends before it.", stacklevel=2)
            kept = np.searchsorted(self.indices, broken)
            self.indices, self.times = self.indices[:kept], self.times[:kept]
        return frames

    @property
    def frames(self):
        if self._frames is None:
            self._frames = self[:]
        return self._frames


def read_video(path, start=0, every=1, count=None):
    """Open a clip.

    Args:
        path: a video file, an animated GIF, an image, or a folder of images (in natural order; 30 a second).
            Of several video streams the largest is read. Rotation is applied, non-square pixels are resampled.
        start: the first frame, as a number or as a time in seconds, "5.2s" (the frame on screen then).
        every: take every n-th frame from there. count: at most so many; None for all.
    Returns:
        Video. A file that breaks within the frames asked for gives those before the break, with a warning.
    Raises:
        FileNotFoundError, ValueError: one sentence that names the file or argument.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no file or folder {path}.")
    for name, value in (("every", every), ("count", count)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1):
            raise ValueError(f"{name} must be a whole number of at least 1, not {value!r}.")
    source = _Images(path) if path.is_dir() or path.suffix.lower() in IMAGES else _File(path)
    total = len(source.times)
    start = _frame_number(start, source.times, path)
    indices = np.arange(start, total, every)[:count]
    if count is not None and len(indices) < count:
        warnings.warn(f"{path} has {len(indices)} of the {count} frames asked for (start {start}, every {every}).", stacklevel=2)
    video = Video(indices, source.times[indices], path, source.size, source)
    if len(video) * video.height * video.width * 3 <= DECODE_AT_ONCE:
        video.frames  # noqa: B018  decoded now, so that a break shows now
    return video


def as_video(video):
    """A `Video` from a Video, a path, or an array or tensor (T, H, W, 3), uint8 0–255 or float 0–1."""
    if isinstance(video, Video):
        return video
    if isinstance(video, (str, PathLike)):
        return read_video(video)
    if hasattr(video, "detach"):  # a tensor; numpy has no bfloat16
        video = video.detach().cpu()
        video = video.float() if video.is_floating_point() else video
    frames = np.asarray(video)
    if frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape:
        raise ValueError(f"A clip must have the shape (frames, height, width, 3), not {frames.shape}.")
    if frames.dtype.kind == "f":
        if not (frames.min() >= 0 and frames.max() <= 1):  # NaN fails both
            found = f"{frames.min():.4g} to {frames.max():.4g}"
            raise ValueError(f"A float clip must lie between 0 and 1, without NaN; this one is {found}. Divide by 255 or pass uint8.")
        frames = (frames * 255).round().astype(np.uint8)
    elif frames.dtype != np.uint8:
        raise ValueError(f"A clip must be uint8 (0 to 255) or float (0 to 1), not {frames.dtype}.")
    indices = np.arange(len(frames))
    return Video(indices, indices / FOLDER_RATE, None, frames.shape[1:3], frames=frames)


def _frame_number(start, times, path):
    """`start` as a frame number, checked against the length of the file."""
    total = len(times)
    if isinstance(start, str) and re.fullmatch(r"(\d+\.?\d*|\.\d+)s", start):
        seconds = float(start[:-1])
        end = times[-1] + (times[-1] - times[-2] if total > 1 else 1 / FOLDER_RATE)
        if seconds >= end:
            raise ValueError(f"start {start} is beyond the end of {path}, which lasts {end:.2f} s.")
        return int(np.searchsorted(times, seconds + 1e-6, side="right")) - 1
    if isinstance(start, bool) or not isinstance(start, (int, np.integer)) or start < 0:
        raise ValueError(f'start must be a frame number of at least 0 or seconds such as "5.2s", not {start!r}.')
    if start >= total:
        raise ValueError(f"start {start} is beyond the end of {path}, which has {total} frames (0 to {total - 1}).")
    return int(start)


class _Images:
    """Images of one size, in natural order: 2.png before 10.png."""

    def __init__(self, path):
        files = [path] if path.is_file() else [p for p in path.iterdir() if p.suffix.lower() in IMAGES and p.name[0] != "."]
        if not files:
            raise ValueError(f"The folder {path} holds no images ({', '.join(sorted(IMAGES))}).")
        self.files = sorted(files, key=lambda p: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", p.name)])
        self.times = np.arange(len(files)) / FOLDER_RATE
        self.size = self._read(self.files[0]).shape[:2]

    def read(self, indices):
        frames = [self._read(self.files[i]) for i in indices]
        for i, frame in zip(indices, frames, strict=True):
            if frame.shape[:2] != self.size:
                sizes = f"is {frame.shape[1]}×{frame.shape[0]} pixels, the first image {self.size[1]}×{self.size[0]}"
                raise ValueError(f"{self.files[i]} {sizes}: all must be of one size.")
        return np.stack(frames)

    def _read(self, file):
        try:
            with Image.open(file) as image:
                return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
        except OSError:
            raise ValueError(f"{file} cannot be read as an image; repair or remove it.") from None


class _File:
    """A video file through decord. PyAV tells beforehand what decord does not: streams, pixel aspect, order of packets."""

    def __init__(self, path):
        self.path, self.media, self.exact_seeks, self.lock = path, str(path), None, Lock()
        try:
            with av.open(self.media) as container:
                streams = [s for s in container.streams.video if s.width and s.height]
                if not streams:
                    raise ValueError(f"{path} holds no video stream.")
                stream = max(streams, key=lambda s: s.width * s.height)
                self.stream, stored = stream.index, (stream.height, stream.width)
                aspect = Fraction(stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio or 1)
            self._open()
            shape = self.reader.next().shape[:2]
            if sorted(shape) != sorted(stored):  # decord chose another stream: give it this one alone
                self.media = _single_stream(path, self.stream)
                self._open()
                shape = self.reader.next().shape[:2]
            self.reader.seek(0)
            times = self.reader.get_frame_timestamp(range(len(self.reader)))[:, 0]
        except (av.error.FFmpegError, *DECORD_ERRORS):
            what = "is empty" if path.stat().st_size == 0 else "cannot be read as a video: it is damaged, cut off or of another kind"
            raise ValueError(f"{path} {what}.") from None
        self.times = np.sort(times) - times.min()
        turned = shape != stored  # by 90 degrees: the stored width is the height now
        self.size = (round(shape[0] * aspect), shape[1]) if turned else (shape[0], round(shape[1] * aspect))

    def _open(self):
        if not isinstance(self.media, str):
            self.media.seek(0)
        self.reader, self.next = decord.VideoReader(self.media), 0

    def _next(self):
        self.next += 1
        return self.reader.next().asnumpy()

    def read(self, indices):
        """The frames of these numbers; fewer if the file breaks among them."""
        with self.lock:  # a decord reader has a position
            try:
                frames = self._decode(indices)
            except DECORD_ERRORS:
                frames = self._decode_until_break(indices)
        if len(frames) and frames.shape[1:3] != self.size:
            frames = np.stack([Image.fromarray(f).resize(self.size[::-1], Image.Resampling.BICUBIC) for f in frames])
        return frames

    def _decode(self, indices):
        """decord counts frames from the key frame it jumps to, which is wrong in some files: there, no jumps."""
        numbers = [int(i) for i in indices]
        if numbers != list(range(self.next, self.next + len(numbers))):
            if self.exact_seeks is None:
                self.exact_seeks = _exact_seeks(self.path, self.stream)
            if self.exact_seeks:
                self.next = numbers[-1] + 1
                return self.reader.get_batch(numbers).asnumpy()
        frames = []
        for number in numbers:
            if number < self.next:
                self._open()
            while self.next < number:  # skip_frames would jump
                self._next()
            frames.append(self._next())
        return np.stack(frames)

    def _decode_until_break(self, indices):
        """decord decodes ahead and gives up some frames before the damage; PyAV, frame by frame, stops at it."""
        self._open()
        wanted, frames = {int(i) for i in indices}, []
        try:
            with av.open(str(self.path)) as container:
                for number, frame in enumerate(container.decode(container.streams[self.stream])):
                    if number in wanted:
                        frames.append(np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90))
        except av.error.FFmpegError:
            pass
        return np.stack(frames) if frames else np.empty((0, *self.size, 3), np.uint8)


def _exact_seeks(path, stream):
    """Whether every key frame divides the packets by time, and the container has an index to find it by."""
    with av.open(str(path)) as container:
        if container.format.name in ("mpegts", "mpeg"):
            return False
        packets = [(p.pts, p.is_keyframe) for p in container.demux(container.streams[stream]) if p.pts is not None]
    pts, key = np.array([p[0] for p in packets]), np.array([p[1] for p in packets])
    earlier, later = np.maximum.accumulate(pts), np.minimum.accumulate(pts[::-1])[::-1]
    return bool(np.all((earlier[key] == pts[key]) & (later[key] == pts[key])))


def _single_stream(path, index):
    """A copy in memory of one stream of a file, undecoded."""
    copy = BytesIO()
    with av.open(str(path)) as source, av.open(copy, "w", format="nut") as target:
        stream = target.add_stream_from_template(source.streams[index])
        for packet in source.demux(source.streams[index]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    return copy


def cuts_between(frames, pairs, numbers):
    """Which pairs of frames seem to show two scenes.

    Two frames of one scene share their colours and their layout, even when much moves. The distance is half the L1
    distance of their colour histograms plus 1 - the correlation of their brightness; known cuts reach 1.2 and
    more, neighbouring frames of fast scenes stay below 0.7.

    Args:
        frames: (T, H, W, 3) uint8.  pairs: (n, 2) positions in `frames`.  numbers: (T,) frame numbers.
    Returns:
        list of (number, number).
    """
    row, column = (max(1, side // 96) for side in frames.shape[1:3])
    small = frames[:, ::row, ::column].astype(int)  # about 96 × 96
    codes = (small // 32 @ [64, 8, 1]).reshape(len(small), -1)
    colours = np.stack([np.bincount(code, minlength=512) / code.size for code in codes])
    grey = small.mean(-1)
    edges = [np.arange(0, side, 4) for side in grey.shape[1:]]
    grey = np.add.reduceat(np.add.reduceat(grey, edges[0], 1), edges[1], 2).reshape(len(small), -1)  # blocks of 4 × 4
    grey = (grey - grey.mean(1, keepdims=True)) / 16
    spread, noise = np.linalg.norm(grey, axis=1), grey.shape[1]  # one grey level of noise: flat frames are alike
    first, second = pairs.T
    correlation = ((grey[first] * grey[second]).sum(1) + noise) / (spread[first] * spread[second] + noise)
    distance = np.abs(colours[first] - colours[second]).sum(1) / 2 + 1 - correlation
    return [(int(numbers[a]), int(numbers[b])) for a, b in pairs[(distance > 0.95) & (first != second)]]
