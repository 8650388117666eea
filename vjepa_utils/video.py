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
        if not len(wanted):
            return np.empty((0, self.height, self.width, 3), np.uint8)
        frames = self._source.read(wanted)
        if len(frames) < len(wanted):  # the file breaks among them: from now on the clip ends before that
            broken = f"{self.path} is damaged at frame {self._source.broken}"
            if self._source.broken <= self.indices[0]:
                raise ValueError(f"{broken}: no frame could be read from frame {self.indices[0]} on. Take another start.")
            warnings.warn(f"{broken}: the clip ends before it.", stacklevel=2)
            kept = np.searchsorted(self.indices, self._source.broken)
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
        Video. Up to half a gigabyte of frames is decoded at once, more when it is used. A file that breaks within the
        frames asked for gives those before the break, with a warning.
    Raises:
        FileNotFoundError, ValueError: one sentence that names the file or argument.
    """
    name, path = path, Path(path)
    if not path.exists() or name == "":
        raise FileNotFoundError(f"There is no file or folder {str(name)!r}.")
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
        return int(np.searchsorted(times, seconds + 1e-3, side="right")) - 1
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
        self.path, self.media, self.lock = path, str(path), Lock()
        try:
            with av.open(self.media) as container:
                cover = av.stream.Disposition.attached_pic
                streams = [s for s in container.streams.video if s.codec_context and s.width and not s.disposition & cover]
                if not streams or container.format.name == "tty":  # FFmpeg would draw a text file
                    raise ValueError(f"{path} holds no video stream.")
                stream = max(streams, key=lambda s: s.width * s.height)
                self.stream, stored = stream.index, (stream.height, stream.width)
                aspect = Fraction(stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio or 1)
                times, self.exact_seeks = _packet_times(container, stream)
            self._open()
            shape = self.reader.next().shape[:2]
            if sorted(shape) != sorted(stored):  # decord chose another stream: give it this one alone
                self.media = _single_stream(path, self.stream)
                self._open()
                shape = self.reader.next().shape[:2]
            self.reader.seek(0)
            if len(times) != len(self.reader):  # packets without a time; decord's are rounded to float32
                times = np.sort(self.reader.get_frame_timestamp(range(len(self.reader)))[:, 0]).astype(float)
        except (av.error.FFmpegError, *DECORD_ERRORS):
            what = "is empty" if path.stat().st_size == 0 else "cannot be read as a video: it is damaged, cut off or of another kind"
            raise ValueError(f"{path} {what}.") from None
        self.times = times - times[0]
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
        if self.exact_seeks and numbers != list(range(self.next, self.next + len(numbers))):
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
        wanted, frames, self.broken = {int(i) for i in indices}, [], 0
        try:
            with av.open(str(self.path)) as container:
                for frame in container.decode(container.streams[self.stream]):
                    if self.broken in wanted:
                        frames.append(np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90))
                    self.broken += 1
                    if len(frames) == len(wanted):
                        break
        except av.error.FFmpegError:
            pass
        return np.stack(frames) if frames else np.empty((0, *self.size, 3), np.uint8)


def _packet_times(container, stream):
    """Sorted times of all packets in seconds, and whether decord's seeks can be trusted.

    They can if every key frame divides the packets by time, and the container has an index to find it by.
    """
    packets = []
    try:
        for packet in container.demux(stream):
            if packet.pts is not None:
                packets.append((packet.pts, packet.is_keyframe))
    except av.error.FFmpegError:
        pass  # cut off: what is there counts
    pts, key = np.array(packets, dtype=np.int64).reshape(-1, 2).T
    earlier, later = np.maximum.accumulate(pts), np.minimum.accumulate(pts[::-1])[::-1]
    closed = np.all((earlier == pts) & (later == pts) | (key == 0))
    return np.sort(pts) * float(stream.time_base), bool(closed) and container.format.name not in ("mpegts", "mpeg")


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
