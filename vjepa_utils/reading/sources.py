"""Where the frames of a clip come from, and which of them are on the screen when.

Each source has `times` (seconds of all its frames), `tick` (what they are rounded to), `size`
(height, width) and `read(numbers)`, which gives uint8 (n, height, width, 3); fewer where a file is
damaged, and then `broken` is the number of the first frame lost. `lost` says what its header
promises and the file does not hold, `no_clock` why its times are assumed: "" where all is well.
"""

import re
import warnings
from contextlib import suppress
from fractions import Fraction
from numbers import Real
from pathlib import Path
from threading import Lock

import av
import numpy as np
from av.stream import Disposition
from tqdm.auto import tqdm

from vjepa_utils.checks import UserError, check_counts, is_whole
from vjepa_utils.reading import RATE
from vjepa_utils.reading.pictures import IMAGES, ImageFolder, PictureFile

FAR = 8  # frames; a key frame that is further ahead is sought
# These have packets that show nothing. Interlaced ones may have two for a frame.
UNEVEN = {"mpeg4", "msmpeg4v1", "msmpeg4v2", "msmpeg4v3", "theora", "vp8"}
STREAMED = {"mpegts", "mpeg"}  # no index, and a length that is measured, not promised
HOLE = 1000  # bytes between packets; Matroska needs some thirty
NO_TIME_STAMPS = 0x80  # AVFMT_NOTIMESTAMPS: FFmpeg counts raw streams at an assumed rate


class VideoFile:
    """A video file. Frames are identified by their time stamps, where it has them."""

    def __init__(self, path):
        self.path, self.lock, self.container = path, Lock(), None
        self.lost, self.no_clock, self.keys = "", "", np.array([0])
        try:
            self._open()
            kind = self.container.format.name
            self.still = kind == "gif" or kind.endswith("_pipe")  # Pillow's
            if not self.still:
                self.index = self._choose()
                self._go_to(0)
                self._survey()
                self._go_to(0)
        except (av.error.FFmpegError, StopIteration):
            damage = "cannot be read as a video: it is damaged, cut off or of another kind"
            damage = damage if path.stat().st_size else "is empty"
            raise UserError(f"{path} {damage}.") from None

    def read(self, numbers: np.ndarray) -> np.ndarray:
        frames, done = np.empty((len(numbers), *self.size, 3), np.uint8), 0
        with self.lock:  # a decoder has a position
            for number in numbers:
                frame = self._frame(int(number))
                if frame is None:
                    self._go_to(0)
                    break
                frames[done] = self._upright(frame)
                done += 1
        return frames[:done]

    def __del__(self):
        # PyAV's objects refer to each other: the garbage collector would come late
        if getattr(self, "container", None):
            self.container.close()

    def _open(self):
        if self.container:
            self.container.close()
        # a name may look like a URL, and metadata may be of any encoding
        self.container = av.open(f"file:{self.path}", metadata_errors="replace")

    def _go_to(self, key):
        """Seek to a key frame; the first one by opening the file again, which never fails."""
        if key:
            self.container.seek(int(self.stamps[key]), stream=self.stream)
        else:
            self._open()
            self.stream = self.container.streams[self.index]
            self.stream.thread_type = "AUTO"  # several frames are decoded at once
            self.rate = float(self.stream.average_rate or RATE)
        self.frames, self.next, self.last = self.container.decode(self.stream), key, None

    def _choose(self):
        """Index of the largest video stream."""
        hidden = Disposition.attached_pic | Disposition.timed_thumbnails
        shown = lambda s: s.codec_context and s.width and not s.disposition & hidden
        streams = [stream for stream in self.container.streams.video if shown(stream)]
        if not streams or self.container.format.name == "tty":  # FFmpeg would draw a text file
            raise UserError(f"{self.path} holds no video stream.")
        rank = lambda s: (s.width * s.height, s.frames)
        best = max(streams, key=rank)
        equal = sum(rank(s) == rank(best) for s in streams)
        what = f"of {best.width}×{best.height} pixels"
        if equal > 1 and best.frames == 1:  # as phones write .heic
            pictures = f"{equal} pictures {what}, tiles of one or a series"
            raise UserError(f"{self.path} holds {pictures}: save it as PNG or JPEG.")
        if equal > 1:
            streams = f"{equal} video streams {what}"
            warnings.warn(f"{self.path} holds {streams}: the first is read.", stacklevel=2)
        return best.index

    def _survey(self):
        """Find the picture's size and rotation, and the time stamps of all frames."""
        packets = self._packets()
        self._go_to(0)
        first, codec, file = next(self.frames), self.stream.codec_context, self.container.format
        self._set_upright(first)
        self.tick, self.stamps = float(self.stream.time_base), None
        stamps, coded, is_key, lengths = zip(*packets, strict=True)
        coded = [stamp for stamp in coded if stamp is not None]
        lengths, rate = dict(zip(stamps, lengths, strict=True)), self.rate
        if file.flags & NO_TIME_STAMPS:
            self.no_clock = f"it has no time stamps: {rate:g} frames a second are assumed"
        uneven = codec.name in UNEVEN or first.interlaced_frame or coded != sorted(coded)
        if uneven or None in stamps or len(set(stamps)) < len(stamps):
            stamps = self._decode_all()  # packets do not tell which frames there are
            if None in stamps:
                stamps = np.arange(len(stamps)) / rate / self.tick
            elif (np.diff(stamps) > 0).all():
                self.stamps = np.array(stamps)
        elif file.name == "avi" and codec.has_b_frames:  # the right stamps, at other frames
            stamps = np.sort(stamps)
        else:
            self.stamps = stamps = self._seekable(np.array(stamps), np.array(is_key), first.pts)
        self.times = (np.array(stamps) - stamps[0]) * self.tick
        last = (lengths.get(stamps[-1]) or 0) * self.tick
        self.end = self.times[-1] + (last or 1 / rate)

    def _packets(self):
        """(pts, dts, whether it is a key frame, duration) of each packet; sets what is lost."""
        packets, end, torn, hole, position = [], 0.0, 0, 0, None
        ticks = [float(stream.time_base or 0) for stream in self.container.streams]
        with suppress(av.error.FFmpegError):  # cut off: what is there counts
            for packet in self.container.demux():
                if not packet.size:  # the last one
                    continue
                if packet.pos is not None:
                    hole = max(hole, packet.pos - (position or packet.pos))
                    position = packet.pos + packet.size
                stamp = packet.dts if packet.pts is None else packet.pts
                if stamp is not None:
                    end = max(end, (stamp + (packet.duration or 0)) * ticks[packet.stream_index])
                if packet.stream_index == self.index and not packet.is_discard:
                    packets.append((packet.pts, packet.dts, packet.is_keyframe, packet.duration))
                    torn += packet.is_corrupt
        kind, step = self.container.format.name, 1 / self.rate
        promised = (self.container.duration or 0) / 1e6
        if kind == "avi":  # where that is cut off, FFmpeg guesses the duration
            promised = max(promised, self.stream.frames * step)
        later = np.diff(np.sort([p[0] for p in packets if p[0] is not None])) * ticks[self.index]
        if kind not in STREAMED and end and promised - end > max(0.05 * promised, 2 * step):
            self.lost = f"its header promises {promised:.2f} s, and {end:.2f} s are there"
        elif kind.startswith("matroska") and hole > HOLE and later.max() > 1.5 * step:
            self.lost = f"{hole} bytes before frame {later.argmax() + 1} are none of a frame"
        elif torn:
            self.lost = f"not all of its packets are whole, {torn} of {len(packets)} are torn"
        elif kind == "ogg":  # its last page says so; FFmpeg measures the length
            with open(self.path, "rb") as file:
                file.seek(-min(2**17, self.path.stat().st_size), 2)  # two pages
                if not re.search(rb"OggS\0[\4-\7]", file.read()):
                    self.lost = "its last page is missing"
        return packets

    def _decode_all(self):
        """Time stamps of all frames; None for one that has none."""
        self._go_to(0)
        stamps = []
        with suppress(av.error.FFmpegError):
            for frame in tqdm(self.frames, "counting frames", unit="frame", delay=2, leave=False):
                if frame.is_corrupt:
                    break
                stamps.append(frame.pts)
            else:
                return stamps
        self.lost = f"frame {len(stamps)} cannot be decoded, nor can those after it"
        return stamps

    def _seekable(self, stamps, is_key, first):
        """Time stamps of packets, sorted, from the first frame's on; sets which can be sought."""
        # no packet may cross a key frame in time
        earlier, later = np.maximum.accumulate(stamps), np.minimum.accumulate(stamps[::-1])[::-1]
        closed = np.all((earlier == stamps) & (later == stamps) | ~is_key)
        keys, stamps = stamps[is_key], np.sort(stamps)
        stamps = stamps[np.searchsorted(stamps, first) :]
        if closed and self.container.format.name not in STREAMED:
            self.keys = np.union1d([0], np.searchsorted(stamps, keys))
        return stamps

    def _set_upright(self, first):
        """Find out how the first frame, and thus each, becomes upright with square pixels."""
        matrix, stream = first.side_data.get("DISPLAYMATRIX"), self.stream
        matrix = np.eye(3) if matrix is None else np.frombuffer(matrix, np.int32).reshape(3, 3)
        (a, b), (c, d) = matrix[:2, :2].astype(float)  # x' = a x + c y, y' = b x + d y
        self.turned = abs(b) + abs(c) > abs(a) + abs(d)
        straight, skewed = ((b, c), (a, d)) if self.turned else ((d, a), (b, c))
        if np.abs(skewed).max() > 0.05 * np.abs(straight).max():
            text = f"{self.path} is turned by an angle that is no multiple of 90 degrees"
            warnings.warn(f"{text}: it is read at the nearest one.", stacklevel=2)
        self.flips = tuple(slice(None, None, -1 if value < 0 else 1) for value in straight)
        aspect = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio or 1
        self.stored = first.height, round(first.width * Fraction(aspect))
        self.size = self.stored[::-1] if self.turned else self.stored

    def _upright(self, frame):
        """uint8 (height, width, 3), resized to square pixels and to the first frame's size."""
        height, width = self.stored
        rgb = frame.reformat(width, height, "rgb24", interpolation="BICUBIC").to_ndarray()
        return (rgb.transpose(1, 0, 2) if self.turned else rgb)[self.flips]

    def _frame(self, wanted):
        """The frame of a number; None where the file is damaged before or at it."""
        if wanted == self.next - 1 and self.last:  # again
            return self.last
        key = int(self.keys[np.searchsorted(self.keys, wanted, "right") - 1])
        if wanted < self.next or key > self.next + FAR:
            self._go_to(key)
        while self.next <= wanted:
            self.broken = self.next
            try:
                self.last = frame = next(self.frames, None)
            except av.error.FFmpegError:
                return None
            if frame is None or frame.is_corrupt:
                return None
            number = self.next
            if self.stamps is not None and frame.pts is not None:
                number = np.searchsorted(self.stamps, frame.pts)
            if number == self.next:
                self.next += 1
            elif number > self.next and len(self.keys) > 1:  # perhaps the seek went too far
                self.keys = self.keys[:1]
                self._go_to(0)
            elif number > self.next:
                return None
        return self.last


def open_source(path: Path) -> ImageFolder | PictureFile | VideoFile:
    """The source of a file or folder; UserError, in one sentence, if it cannot be read."""
    if path.is_dir():
        return ImageFolder(path)
    if path.suffix.lower() in IMAGES:
        return PictureFile(path)
    video = VideoFile(path)
    return PictureFile(path) if video.still else video


def check_rate(every, fps):
    """UserError unless one of them is None, and the other a value that it may have."""
    check_counts(every=every)
    if fps is None:
        return
    if every is not None:
        raise UserError("every and fps exclude each other: give one of them.")
    if isinstance(fps, bool) or not isinstance(fps, Real) or not 0 < fps <= 1000:
        raise UserError(f"fps must be frames a second, above 0 and at most 1000, not {fps!r}.")


def first_frame(start, source, path):
    """Number of the first frame, and the moment in seconds."""
    beyond, total = f"start {start} is beyond the end of {path}", len(source.times)
    if isinstance(start, str) and re.fullmatch(r"(\d+\.?\d*|\.\d+)s", start):
        moment = float(start[:-1])
        if moment >= source.end:
            raise UserError(f"{beyond}, which lasts {source.end:.2f} s.")
        return int(_on_screen(moment, source, path, 1e-3)), moment
    if not is_whole(start, 0):
        raise UserError(f'start must be a frame number or seconds such as "5.2s", not {start!r}.')
    if start >= total:
        raise UserError(f"{beyond}, which has {total} frames (0 to {total - 1}).")
    return int(start), source.times[start]


def at_rate(fps, moment, count, source, path):
    """Numbers of the frames on the screen at a moment and so often in a second from then on."""
    steps = np.arange(max(1, np.ceil((source.end - moment) * float(fps) - 1e-6)))[:count]
    numbers = _on_screen(moment + steps / float(fps), source, path, source.tick / 2)
    if repeated := len(numbers) - len(np.unique(numbers)):
        seldom = f"{path} changes less often than {fps:g} times a second: {repeated} of the"
        warnings.warn(f"{seldom} {len(numbers)} frames repeat the one before.", stacklevel=3)
    return numbers


def _on_screen(moments, source, path, slack):
    """Numbers of the frames that are on the screen at moments in seconds."""
    later = np.diff(source.times)
    if (later < 0).any():
        where = f"time stamps that go backwards, from frame {later.argmin()} on"
        raise UserError(f"{path} has {where}: take frames by their numbers.")
    if source.no_clock:
        warnings.warn(f"{path}: {source.no_clock}.", stacklevel=4)
    return np.searchsorted(source.times, moments + slack, side="right") - 1
