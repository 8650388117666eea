"""Where the frames of a clip come from: a video file, or a folder of images.

Each source has times (seconds of all its frames), size (height, width) and `read(numbers)`, which
gives uint8 (n, height, width, 3); fewer than requested where a file is damaged, and then `broken`
is the number of the first frame lost.
"""

from __future__ import annotations

import re
from fractions import Fraction
from threading import Lock

import av
import decord
import numpy as np
from PIL import Image, ImageOps

from vjepa_utils.checks import UserError

IMAGES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}
FOLDER_RATE = 30  # frames a second: a folder of images has no clock
FAR = 30  # frames; over a larger gap, seeking is faster than decoding all in between
# raised on damaged files
DECORD_ERRORS = decord.DECORDError, RuntimeError, AssertionError, StopIteration
decord.logging.set_level(decord.logging.QUIET)


class ImageFolder:
    """Images of one size, in natural order: 2.png before 10.png."""

    def __init__(self, path):
        files = (
            [path]
            if path.is_file()
            else [p for p in path.iterdir() if p.suffix.lower() in IMAGES and p.name[0] != "."]
        )
        if not files:
            raise UserError(f"The folder {path} holds no images ({', '.join(sorted(IMAGES))}).")
        self.files = sorted(
            files,
            key=lambda p: [
                int(part) if part.isdigit() else part for part in re.split(r"(\d+)", p.name)
            ],
        )
        self.times = np.arange(len(files)) / FOLDER_RATE
        self.size = self._read(self.files[0]).shape[:2]

    def read(self, indices: np.ndarray) -> np.ndarray:
        frames = [self._read(self.files[i]) for i in indices]
        for i, frame in zip(indices, frames, strict=True):
            if frame.shape[:2] != self.size:
                sizes = (
                    f"is {frame.shape[1]}×{frame.shape[0]} pixels, the first image "
                    f"{self.size[1]}×{self.size[0]}"
                )
                raise UserError(f"{self.files[i]} {sizes}: all must be of one size.")
        return np.stack(frames)

    def _read(self, file):
        try:
            with Image.open(file) as image:
                return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
        except OSError:
            raise UserError(f"{file} cannot be read as an image; repair or remove it.") from None


class VideoFile:
    """A video file. Consecutive frames come from PyAV, which identifies them by timestamp and
    decodes no further than requested; frames far apart from decord, where its seeks can be trusted.
    """

    def __init__(self, path):
        self.path, self.lock, self.container, self.decord_reader = path, Lock(), None, None
        try:
            with av.open(str(path)) as container:
                cover = av.stream.Disposition.attached_pic
                streams = [
                    s
                    for s in container.streams.video
                    if s.codec_context and s.width and not s.disposition & cover
                ]
                if not streams or container.format.name == "tty":  # FFmpeg would draw a text file
                    raise UserError(f"{path} holds no video stream.")
                stream = max(streams, key=lambda s: s.width * s.height)
                self.stream, stored = stream.index, (stream.height, stream.width)
                self.single_stream = len(container.streams.video) == 1
                aspect = Fraction(
                    stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio or 1
                )
                self.stamps, count, self.exact_seeks = _packet_stamps(container, stream)
                step = float(1 / (stream.average_rate or FOLDER_RATE))
                time_base = float(stream.time_base)
            self._open()
            first = next(self.frames)
            # frames whose beginning was cut off are never decoded
            if self.stamps is not None and first.pts is not None:
                self.stamps = self.stamps[np.searchsorted(self.stamps, first.pts) :]
            self.shape = _upright(first).shape
            self._open()
        except (av.error.FFmpegError, StopIteration):
            what = (
                "is empty"
                if path.stat().st_size == 0
                else "cannot be read as a video: it is damaged, cut off or of another kind"
            )
            raise UserError(f"{path} {what}.") from None
        self.times = (
            np.arange(count) * step
            if self.stamps is None
            else (self.stamps - self.stamps[0]) * time_base
        )
        height, width, _ = self.shape
        turned = (height, width) != stored  # by 90 degrees: the stored width is the height now
        self.size = (round(height * aspect), width) if turned else (height, round(width * aspect))

    def read(self, indices: np.ndarray) -> np.ndarray:
        """The frames of these numbers; fewer if the file is damaged among them, and then `broken`
        is the first one lost.
        """
        numbers = [int(i) for i in indices]
        with self.lock:  # a decoder has a position
            frames = None
            if (
                self.exact_seeks
                and self.single_stream
                and numbers[-1] - numbers[0] > FAR * len(numbers)
            ):
                frames = self._read_scattered(numbers)
            if frames is None:
                frames = self._read_in_order(numbers)
        if len(frames) and frames.shape[1:3] != self.size:
            frames = np.stack(
                [
                    Image.fromarray(f).resize(self.size[::-1], Image.Resampling.BICUBIC)
                    for f in frames
                ]
            )
        return frames

    def __del__(self):
        # PyAV's objects refer to each other: left to the garbage collector, a thousand clips keep a
        # hundred megabytes and their files open.
        if getattr(self, "container", None):
            self.container.close()

    def _open(self, number=0):
        """Go to the key frame before a frame; to the start of the file where the container has no
        index.
        """
        if self.container:
            self.container.close()
        self.container = av.open(str(self.path))
        stream = self.container.streams[self.stream]
        stream.thread_type = "AUTO"  # several frames are decoded at once
        jump = number and self.exact_seeks
        if jump:
            self.container.seek(int(self.stamps[number]), stream=stream)
        self.frames, self.next = self.container.decode(stream), number if jump else 0

    def _read_in_order(self, numbers):
        frames = np.empty((len(numbers), *self.shape), np.uint8)
        done, self.broken = 0, numbers[0]
        try:
            if numbers[0] < self.next or (self.exact_seeks and numbers[0] > self.next + FAR):
                self._open(numbers[0])
            while done < len(numbers):
                frame = next(self.frames)
                number = (
                    self.next
                    if self.stamps is None or frame.pts is None
                    else int(np.searchsorted(self.stamps, frame.pts))
                )
                if number > numbers[done]:
                    if done == 0 and self.exact_seeks:  # the seek went too far
                        self.exact_seeks = False
                        self._open()
                        return self._read_in_order(numbers)
                    break  # the file is damaged here, or lacks this frame
                self.next = self.broken = number + 1
                if number == numbers[done]:
                    frames[done] = _upright(frame, self.shape)
                    done += 1
        except (av.error.FFmpegError, StopIteration):
            pass
        if done < len(numbers):
            self._open()
        return frames[:done]

    def _read_scattered(self, numbers):
        """Frames from decord; None where it fails, chooses another stream or mistakes padding for
        picture.
        """
        try:
            self.decord_reader = self.decord_reader or decord.VideoReader(str(self.path))
            frames = self.decord_reader.get_batch(numbers).asnumpy()
            if len(self.decord_reader) == len(self.times) and frames.shape[1:] == self.shape:
                return frames
        except DECORD_ERRORS:
            pass
        self.exact_seeks = False
        return None


def _upright(frame, shape=None):
    """uint8 (height, width, 3), rotated as the file says, and resized to `shape` where the size
    changes within the file; colours as decord's.
    """
    height, width = (
        (shape[1], shape[0]) if shape and frame.rotation % 180 else (shape or (None, None))[:2]
    )
    rgb = frame.reformat(width, height, "rgb24", interpolation="BICUBIC").to_ndarray()
    return np.rot90(rgb, frame.rotation // 90)


def _packet_stamps(container, stream):
    """Sorted timestamps of all packets, int64, or None where they have none; how many packets; and
    whether seeks can be trusted.

    They can if no packet crosses a key frame in time, and the container has an index of these.
    """
    packets = []
    try:
        for packet in container.demux(stream):
            if packet.size and not packet.is_discard:  # the last one is empty
                packets.append((packet.pts, packet.is_keyframe))
    except av.error.FFmpegError:
        pass  # cut off: what is there counts
    unstamped = any(stamp is None for stamp, _ in packets)
    if not packets or unstamped or container.format.name == "avi":  # it has decoding times only
        return None, len(packets), False
    stamps, key = np.array(packets, dtype=np.int64).T
    earlier, later = np.maximum.accumulate(stamps), np.minimum.accumulate(stamps[::-1])[::-1]
    closed = np.all((earlier == stamps) & (later == stamps) | (key == 0))
    return (
        np.unique(stamps),
        len(stamps),
        bool(closed) and container.format.name not in ("mpegts", "mpeg"),
    )
