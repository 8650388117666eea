"""Where the frames of a clip come from: a video file, or a folder of images.

Each source has times (seconds of all its frames), size (height, width) and `read(numbers)`, which gives uint8
(n, height, width, 3); fewer than asked for where a file breaks, and then `broken` is the number of the first frame lost.
"""

import re
from fractions import Fraction
from io import BytesIO
from threading import Lock

import av
import decord
import numpy as np
from PIL import Image, ImageOps

IMAGES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}
FOLDER_RATE = 30  # frames a second: a folder of images has no clock
DECORD_ERRORS = decord.DECORDError, RuntimeError, AssertionError, StopIteration  # what it raises on a damaged file
decord.logging.set_level(decord.logging.QUIET)


class ImageFolder:
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


class VideoFile:
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
            *shape, channels = self.reader.next().shape
            if sorted(shape) != sorted(stored):  # decord chose another stream: give it this one alone
                self.media = _single_stream(path, self.stream)
                self._open()
                *shape, channels = self.reader.next().shape
            self.padded = channels != 3  # decord takes the padding of the rows of some narrow videos for more channels
            self.reader.seek(0)
            if len(times) != len(self.reader):  # packets without a time; decord's are rounded to float32
                times = np.sort(self.reader.get_frame_timestamp(range(len(self.reader)))[:, 0]).astype(float)
        except (av.error.FFmpegError, *DECORD_ERRORS):
            what = "is empty" if path.stat().st_size == 0 else "cannot be read as a video: it is damaged, cut off or of another kind"
            raise ValueError(f"{path} {what}.") from None
        self.times = times - times[0]
        turned = tuple(shape) != stored  # by 90 degrees: the stored width is the height now
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
                frames = self._decode_with_av(indices) if self.padded else self._decode(indices)
            except DECORD_ERRORS:  # it decodes ahead and gives up some frames before the damage; PyAV stops at it
                frames = self._decode_with_av(indices)
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

    def _decode_with_av(self, indices):
        """The same through PyAV, frame by frame from the start of the file; fewer if it breaks, and then `broken` says where."""
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
