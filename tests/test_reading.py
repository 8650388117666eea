"""What files may hold: packets that are no frames, mirrors, many pictures, wide ranges, no clock,
broken promises, odd names. Right values are FFmpeg's (all frames decoded by PyAV), Pillow's, or
those that were written.
"""

import os
import re
import shutil
import struct
import warnings
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

import vjepa_utils as vj
from tests.conftest import grey_levels, write_video
from vjepa_utils.files import file_identity, replacing

NUMBERED = grey_levels(24, step=10)


def film(path, frames, codec="h264", kind="yuv420p", pts=None, options=None, container=None):
    """Write uint8 (T, H, W, 3), 25 a second. pts: number of each frame."""
    with av.open(f"file:{path}", "w", options=container or {}) as out:
        stream = out.add_stream(codec, rate=25)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt, stream.options = kind, options or {}
        stream.codec_context.gop_size = 6
        for number, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, "rgb24").reformat(format=kind)
            picture.pts = number if pts is None else pts[number]
            picture.time_base = Fraction(1, 25)
            out.mux(stream.encode(picture))
        out.mux(stream.encode())
    return path


def decoded(path):
    """All frames as FFmpeg decodes them, uint8 (T, H, W, 3), and their times."""
    with av.open(f"file:{path}") as source:
        frames = list(source.decode(video=0))
        rgb = [f.reformat(format="rgb24", interpolation="BICUBIC").to_ndarray() for f in frames]
        if frames[0].pts is None:
            return np.stack(rgb), np.arange(len(frames)) / 25
        times = np.array([f.pts for f in frames]) * float(frames[0].time_base)
        return np.stack(rgb), times - times[0]


def textures(count, height=48, width=64):
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8)


@pytest.fixture
def silent():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


# Packets are not frames.


def fields(count):
    """H.264 in which each frame is two fields, each an access unit of its own: bytes of each. Plain
    samples (I_PCM) of the grey level 40 + 4 · frame, and one more in the second field.
    """

    def unit(kind, bits):
        bits += "1" + "0" * (-(len(bits) + 1) % 8)
        data, out, zeros = int(bits, 2).to_bytes(len(bits) // 8, "big"), bytearray(), 0
        for byte in data:
            if zeros > 1 and byte < 4:  # emulation prevention
                out.append(3)
                zeros = 0
            out.append(byte)
            zeros = 0 if byte else zeros + 1
        return b"\0\0\0\1" + bytes([96 | kind]) + bytes(out)

    def ue(*values):
        codes = [format(value + 1, "b") for value in values]
        return "".join("0" * (len(code) - 1) + code for code in codes)

    # main profile, level 3, 4 × 4 macroblocks, fields allowed, 50 of them a second
    sequence = f"{77:08b}{0:08b}{30:08b}" + ue(0, 0, 2, 1) + "0" + ue(3, 1) + "0010"
    sequence = unit(7, sequence + "1" + "0000" + "1" + f"{1:032b}{50:032b}" + "1" + "0000")
    picture = unit(8, ue(0, 0) + "00" + ue(0, 0, 0) + "000" + ue(0, 0, 0) + "100")
    for number, second in np.ndindex(count, 2):
        bits = (
            ue(0, 7, 0) + f"00001{second}" + ("0" if second else ue(number % 2) + "00") + ue(0, 1)
        )
        for _ in range(8):  # macroblocks of a field
            bits += ue(25)
            bits += "0" * (-len(bits) % 8)
            bits += f"{40 + 4 * number + second:08b}" * 256 + f"{128:08b}" * 128
        start = unit(9, "000")
        yield start + (b"" if second else sequence + picture) + unit(1 if second else 5, bits)


@pytest.mark.parametrize("kind", ["ts", "mkv", "mp4", "h264"])
@pytest.mark.parametrize("together", [False, True])
def test_two_packets_for_a_frame(tmp_path, kind, together, silent):
    path, raw = tmp_path / f"fields.{kind}", tmp_path / "raw.h264"
    units = list(fields(25))
    raw.write_bytes(b"".join(units))
    if kind == "h264":
        path = raw
    else:
        packets = [a + b for a, b in zip(units[::2], units[1::2], strict=True)]
        with av.open(str(raw)) as source, av.open(str(path), "w") as out:
            stream = out.add_stream_from_template(source.streams.video[0])
            for i, data in enumerate(packets if together else units):
                packet = av.Packet(data)
                packet.stream, packet.time_base = stream, Fraction(1, 90000)
                packet.pts = packet.dts = i * (3600 if together else 1800)
                packet.is_keyframe = together or i % 2 == 0
                out.mux(packet)
    frames, times = decoded(path)
    video = vj.read_video(path)
    assert len(frames) == 25 and np.array_equal(video.frames, frames)
    assert np.allclose(video.times, times, atol=1e-4) and times[-1] == pytest.approx(0.96)
    assert np.array_equal(vj.read_video(path, start=7, every=5).frames, frames[7::5])


def test_packets_that_show_nothing(tmp_path, silent):
    """VP8 with frames that are only referred to, as its encoder's alternative reference frames."""
    film(tmp_path / "shown.webm", textures(40), "libvpx", options={"b": "500k"})
    path = tmp_path / "hidden.webm"
    with av.open(str(tmp_path / "shown.webm")) as source, av.open(str(path), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(p for p in source.demux(video=0) if p.size):
            data = bytearray(bytes(packet))
            data[0] &= 0xEF if number % 7 == 4 else 0xFF  # the bit show_frame of RFC 6386, 9.1
            copy = av.Packet(bytes(data))
            copy.stream, copy.time_base, copy.is_keyframe = stream, packet.time_base, number == 0
            copy.pts = copy.dts = packet.pts
            out.mux(copy)
    frames, times = decoded(path)
    assert len(frames) == 34
    video = vj.read_video(path, start=10, every=7)
    assert np.array_equal(video.frames, frames[10::7])
    assert np.allclose(video.times, times[10::7], atol=1e-3)


def test_frames_before_the_first_key_frame_do_not_count(tmp_path):
    whole = film(tmp_path / "whole.ts", textures(30)).read_bytes()
    path = tmp_path / "late.ts"
    path.write_bytes(whole[: 3 * 188] + whole[len(whole) // 4 // 188 * 188 :])
    frames, times = decoded(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        video = vj.read_video(path, start=3, every=4)
    assert 15 < len(frames) < 27 and np.array_equal(video.frames, frames[3::4])
    assert np.allclose(video.times, times[3::4], atol=1e-4)


@pytest.mark.parametrize("kind", ["mp4", "mkv"])
def test_groups_that_are_open(tmp_path, kind, monkeypatch, silent):
    """Pictures that are shown before a key frame and refer to it follow it in the file."""
    options = {"x264-params": "open-gop=1:bframes=3:b-adapt=0:keyint=6:min-keyint=6:scenecut=0"}
    path = film(tmp_path / f"film.{kind}", textures(40), options=options)
    frames, _ = decoded(path)
    monkeypatch.setattr("vjepa_utils.video.DECODE_AT_ONCE", 0)
    monkeypatch.setattr("vjepa_utils.reading.sources.FAR", 0)
    video = vj.read_video(path)
    for number in (38, 10, 11, 12, 13, 25, 5, 30, 0):
        assert np.array_equal(video[[number]].frames[0], frames[number])


# A display matrix is four numbers.


def with_matrix(path, frames, *matrix):
    """A film with this display matrix (a, b, c, d) in its header."""
    data = bytearray(film(path, frames).read_bytes())
    at, (a, b, c, d) = data.find(b"tkhd") + 44, matrix
    values = [a * 2**16, b * 2**16, 0, c * 2**16, d * 2**16, 0, 0, 0, 2**30]
    data[at : at + 36] = struct.pack(">9i", *map(round, values))
    path.write_bytes(data)
    return path


RIGHT_ANGLED = [
    (1, 0, 0, 1),
    (0, 1, -1, 0),
    (-1, 0, 0, -1),
    (0, -1, 1, 0),
    (-1, 0, 0, 1),
    (1, 0, 0, -1),
    (0, 1, 1, 0),
    (0, -1, -1, 0),
]


@pytest.mark.parametrize("matrix", RIGHT_ANGLED)
@pytest.mark.parametrize("tilt", [0, 0.03, -0.03])  # degrees
def test_mirrors_and_turns(tmp_path, matrix, tilt, silent):
    """Each pixel (x, y), from the middle, goes to (a x + c y, b x + d y)."""
    frames = textures(2)
    c, s = np.cos(np.radians(tilt)), np.sin(np.radians(tilt))
    turned = np.array([[c, s], [-s, c]]) @ np.array(matrix).reshape(2, 2)
    video = vj.read_video(with_matrix(tmp_path / "film.mp4", frames, *turned.flatten()))
    stored = decoded(tmp_path / "film.mp4")[0]
    height, width = stored.shape[1:3]
    a, b, c, d = matrix
    tall, wide = (height, width) if a else (width, height)
    expected = np.empty((2, tall, wide, 3), np.uint8)
    for y, x in np.ndindex(height, width):
        across, down = x - (width - 1) / 2, y - (height - 1) / 2
        to_x, to_y = a * across + c * down + (wide - 1) / 2, b * across + d * down + (tall - 1) / 2
        expected[:, int(to_y), int(to_x)] = stored[:, y, x]
    assert np.array_equal(video.frames, expected)
    assert (video.height, video.width) == (tall, wide)


def test_an_angle_that_is_not_right_is_told(tmp_path):
    path = with_matrix(tmp_path / "film.mp4", textures(2), 0.9, 0.43, -0.43, 0.9)
    with pytest.warns(UserWarning, match="no multiple of 90 degrees"):
        assert vj.read_video(path).frames.shape == (2, 48, 64, 3)


# A file of many pictures is a clip; a range is not assumed.

DURATIONS = [40, 40, 200, 40, 120, 40]  # milliseconds


@pytest.mark.parametrize(
    "name", ["film.webp", "film.png", "film.avif", "film.gif", "webp.dat", "avif.dat"]
)
def test_animations(tmp_path, name, silent):
    pictures = [Image.fromarray(frame) for frame in grey_levels(6, step=40)]
    options = {"lossless": True} if "webp" in name else {"quality": 100}
    path = tmp_path / (f"film.{name[:4]}" if name.endswith("dat") else name)
    more = dict(save_all=True, append_images=pictures[1:], duration=DURATIONS, loop=0, **options)
    pictures[0].save(path, **more)
    path = path.rename(tmp_path / name)
    video = vj.read_video(path)
    assert np.abs(video.frames.astype(int) - grey_levels(6, step=40)).max() <= 2
    assert np.allclose(video.times, np.cumsum([0, *DURATIONS[:-1]]) / 1000)
    assert np.array_equal(vj.read_video(path, start=4, count=1).frames, video.frames[4:5])


def test_pages_of_a_stack(tmp_path, silent):
    frames = textures(5)
    pages = [Image.fromarray(frame) for frame in frames]
    pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
    video = vj.read_video(tmp_path / "stack.tif")
    assert np.array_equal(video.frames, frames) and "30 pages a second are assumed" in repr(video)
    pages[2] = pages[2].resize((32, 24))
    pages[0].save(tmp_path / "pyramid.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(ValueError, match="pyramid.tif is 32×24 pixels"):
        vj.read_video(tmp_path / "pyramid.tif")
    (tmp_path / "folder").mkdir()
    shutil.copy(tmp_path / "stack.tif", tmp_path / "folder" / "1.tif")
    with pytest.raises(ValueError, match="1.tif holds 5 pictures"):
        vj.read_video(tmp_path / "folder")
    # a phone's JPEG with a preview is one picture
    pages[0].save(tmp_path / "phone.jpg", "MPO", save_all=True, append_images=[pages[1]])
    assert len(vj.read_video(tmp_path / "phone.jpg")) == 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_a_photograph(tmp_path, orientation):
    """Transposed as the EXIF standard says where row 0 and column 0 of the stored picture are."""
    stored = textures(1, 24, 36)[0]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(tmp_path / "photo.png", exif=exif)
    upright = stored.transpose(1, 0, 2) if orientation > 4 else stored
    down, right = {1: (1, 1), 2: (1, -1), 3: (-1, -1), 4: (-1, 1)}.get(orientation, (1, 1))
    down, right = {6: (1, -1), 7: (-1, -1), 8: (-1, 1)}.get(orientation, (down, right))
    assert np.array_equal(vj.read_video(tmp_path / "photo.png").frames[0], upright[::down, ::right])


@pytest.mark.parametrize(("name", "kind"), [("a.png", "<u2"), ("a.tif", "<u2"), ("b.tif", ">u2")])
def test_sixteen_bits_of_grey(tmp_path, name, kind):
    """65535 is white, in PNG and TIFF."""
    grey = (np.arange(48 * 64) * 21).reshape(48, 64).astype(kind)
    Image.fromarray(grey).save(tmp_path / name)
    frame = vj.read_video(tmp_path / name).frames[0]
    assert np.abs(frame - grey[..., None] / 257).max() <= 0.5


def test_numbers_whose_range_is_not_known(tmp_path):
    shares = np.linspace(0, 1, 48 * 64, dtype=np.float32).reshape(48, 64)
    Image.fromarray(shares).save(tmp_path / "shares.tif")
    frame = vj.read_video(tmp_path / "shares.tif").frames[0]
    assert np.abs(frame - 255 * shares[..., None]).max() <= 0.5
    hole = shares.copy()
    hole[3, 4] = np.nan
    for name, numbers in (("wide", 300 * shares), ("below", shares - 0.1), ("hole", hole)):
        Image.fromarray(numbers).save(tmp_path / f"{name}.tif")
        with pytest.raises(ValueError, match=f"{name}.tif holds numbers from .* to 1, white"):
            vj.read_video(tmp_path / f"{name}.tif")
    Image.fromarray(np.int32(1e6 * shares)).save(tmp_path / "whole.tif")
    with pytest.raises(ValueError, match="whole.tif holds numbers from 0 to 1e.06"):
        vj.read_video(tmp_path / "whole.tif")


# Several equal streams or pictures.


def test_of_equal_streams_the_first_is_told(tmp_path):
    with av.open(str(tmp_path / "two.mp4"), "w") as out:
        streams = [out.add_stream("h264", rate=25) for _ in range(2)]
        for stream in streams:
            stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for level, stream in zip((50, 200), streams, strict=True):
            for _ in range(4):
                frame = np.full((48, 64, 3), level, np.uint8)
                out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
            out.mux(stream.encode())
    with pytest.warns(UserWarning, match="two.mp4 holds 2 video streams of 64×48"):
        assert np.abs(vj.read_video(tmp_path / "two.mp4").frames.astype(int) - 50).max() < 4


def box(kind, *parts, full=None):
    version = b"" if full is None else struct.pack(">I", full)
    body = version + b"".join(parts)
    return struct.pack(">I", 8 + len(body)) + kind + body


def tiled(path, tiles, side):
    """A still of 2 × 2 tiles as phones write them (ISO 23008-12), from four AVIF files."""
    data = [tile[tile.index(b"mdat") + 4 :] for tile in tiles]
    config = tiles[0][tiles[0].index(b"av1C") - 4 :]
    config = config[: struct.unpack(">I", config[:4])[0]]
    grid = struct.pack(">4B2H", 0, 0, 1, 1, 2 * side, 2 * side)
    short = lambda *values: struct.pack(f">{len(values)}H", *values)
    entry = lambda number, kind: box(b"infe", short(number, 0), kind + b"\0", full=2 << 24)
    infos = [entry(n + 1, b"av01") for n in range(4)] + [entry(5, b"grid")]
    sizes = [box(b"ispe", struct.pack(">2I", s, s), full=0) for s in (side, 2 * side)]
    owned = b"".join(short(n + 1) + bytes([2, 1, 0x80 | 3]) for n in range(4))
    owned += short(5) + bytes([1, 2])

    def meta(start):
        places, at = b"", start
        for n, part in enumerate([*data, grid]):
            places += short(n + 1, 0, 1) + struct.pack(">2I", at, len(part))
            at += len(part)
        return box(
            b"meta",
            box(b"hdlr", bytes(4) + b"pict" + bytes(13), full=0),
            box(b"pitm", short(5), full=0),
            box(b"iloc", short(0x4400, 5), places, full=0),
            box(b"iinf", short(5), *infos, full=0),
            box(b"iref", box(b"dimg", short(5, 4, 1, 2, 3, 4)), full=0),
            box(
                b"iprp",
                box(b"ipco", sizes[0], sizes[1], config),
                box(b"ipma", struct.pack(">I", 5), owned, full=0),
            ),
            full=0,
        )

    kind = box(b"ftyp", b"mif1", bytes(4), b"mif1avifmiaf")
    start = len(kind) + len(meta(0)) + 8
    path.write_bytes(kind + meta(start) + box(b"mdat", *data, grid))
    return path


def test_a_picture_in_tiles(tmp_path, silent):
    """By Pillow all of it is read; FFmpeg gives tiles, so it is refused."""
    tiles = []
    for level in (20, 90, 160, 230):
        Image.new("RGB", (64, 64), (level,) * 3).save(tmp_path / "tile.avif", quality=100)
        tiles.append((tmp_path / "tile.avif").read_bytes())
    picture = vj.read_video(tiled(tmp_path / "all.avif", tiles, 64)).frames[0]
    quarters = picture[32::64, 32::64, 0].flatten()
    assert np.abs(quarters.astype(int) - (20, 90, 160, 230)).max() <= 2
    with pytest.raises(ValueError, match=r"all.heic holds 4 pictures of 64×64 pixels, tiles"):
        vj.read_video(tiled(tmp_path / "all.heic", tiles, 64))


# Clocks.


@pytest.mark.parametrize(("codec", "kind"), [("mjpeg", "yuvj420p"), ("mpeg4", "yuv420p")])
@pytest.mark.parametrize("b_frames", [0, 2])
def test_dropped_frames_of_avi_take_time(tmp_path, codec, kind, b_frames, silent):
    kept = [0, 1, 2, 3, 4, 8, 9, 10, 11, 13, 14, 15, 16, 17]
    options = {"bf": str(b_frames)} if codec == "mpeg4" else {}
    path = film(tmp_path / "film.avi", NUMBERED[kept], codec, kind, kept, options)
    video = vj.read_video(path, start=2)
    assert np.allclose(video.times, np.array(kept[2:]) / 25) and video.no_clock == ""
    assert np.array_equal(video.frames, decoded(path)[0][2:])


@pytest.mark.parametrize(("name", "codec"), [("a.h264", "h264"), ("a.mjpeg", "mjpeg")])
def test_a_stream_without_a_clock_says_so(tmp_path, name, codec):
    kind = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    path = film(tmp_path / name, NUMBERED, codec, kind)
    video = vj.read_video(path)  # silent: nobody asked for the time
    assert len(video) == 24 and "25 frames a second are assumed" in repr(video)
    assert "second" not in vj.drawing.clip_caption(video, video.indices)
    for timed in (dict(start="0.5s"), dict(fps=5)):
        with pytest.warns(UserWarning, match="no time stamps: 25 frames a second are assumed"):
            vj.read_video(path, **timed)


def test_time_stamps_that_go_backwards(tmp_path):
    """Two recordings in one file, as cat joins them."""
    one = film(tmp_path / "one.ts", NUMBERED[:20]).read_bytes()
    path = tmp_path / "joined.ts"
    path.write_bytes(one + one)
    frames, _ = decoded(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        video = vj.read_video(path, every=3)
    assert len(frames) == 40 and np.array_equal(video.frames, frames[::3])
    for timed in (dict(start="0.5s"), dict(fps=5)):
        with pytest.raises(ValueError, match="time stamps that go backwards, from frame 19 on"):
            vj.read_video(path, **timed)


# A number of frames a second.

# 26 moments and the first, 0.25 s apart, looked up by hand in dog_vfr_640x360.times.json
AT_FOUR = [0, 7, 14, 22, 29, 37, 44, 52, 59, 64, 65, 68, 70, 74, 78, 80, 82, 85, 87, 88, 89, 90, 91]
AT_FOUR += [91, 92, 93, 93]
SHOWN = [0, 40, 80, 500, 540, 900, 1400, 1440]  # milliseconds; the last one until 1480


def on_screen(moments):
    return [max(i for i, since in enumerate(SHOWN) if since <= m) for m in moments]


@pytest.mark.parametrize(
    ("arguments", "moments"),
    [
        (dict(fps=4), [0, 250, 500, 750, 1000, 1250]),
        (dict(fps=2.5), [0, 400, 800, 1200]),
        (dict(fps=10, start=5, count=3), [900, 1000, 1100]),
        (dict(fps=10, start="0.45s"), range(450, 1480, 100)),
        (dict(fps=25), range(0, 1480, 40)),
    ],
)
def test_frames_at_a_rate_of_a_variable_clock(tmp_path, arguments, moments):
    path = write_video(tmp_path / "vfr.mkv", grey_levels(8, step=30), pts=SHOWN)
    expected = on_screen(moments)
    repeated = len(expected) - len(set(expected))
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        video = vj.read_video(path, **arguments)
    assert video.indices.tolist() == expected
    assert np.allclose(video.times * 1000, [SHOWN[i] for i in expected], atol=0.6)
    assert np.abs(video.frames[:, 9, 9, 0].astype(int) - 30 * np.array(expected)).max() <= 3
    said = [str(each.message) for each in heard if "repeat the one before" in str(each.message)]
    assert len(said) == (repeated > 0) and (not said or f": {repeated} of the" in said[0])


def test_a_rate_takes_each_frame_of_a_steady_clip_once(tmp_path, silent):
    """Also where the container rounds time stamps to milliseconds."""
    for kind in ("mp4", "mkv"):
        path = write_video(tmp_path / f"film.{kind}", grey_levels(40))
        for fps in (30, 15, 10, 7.5):
            step = int(30 / fps)
            assert vj.read_video(path, fps=fps).indices.tolist() == list(range(0, 40, step))
    with pytest.warns(UserWarning, match="40 of the 80 frames repeat"):
        assert vj.read_video(path, fps=60).indices.tolist() == [i // 2 for i in range(80)]


def test_a_known_table_of_a_variable_rate(clips):
    with pytest.warns(UserWarning, match="2 of the 27 frames repeat"):
        video = vj.read_video(clips / "formats" / "dog_vfr_640x360.mp4", fps=4)
    assert video.indices.tolist() == AT_FOUR


@pytest.mark.parametrize("fps", [0, -4, float("nan"), float("inf"), True, "4"])
def test_rates_that_are_none(tmp_path, fps):
    path = write_video(tmp_path / "film.mp4", grey_levels(4))
    with pytest.raises(ValueError, match="fps must be frames a second"):
        vj.read_video(path, fps=fps)
    with pytest.raises(ValueError, match="every and fps exclude each other"):
        vj.read_video(path, fps=4, every=1)


# Promises of the header.

CONTAINERS = {
    "film.mp4": ("h264", {}, {"movflags": "faststart"}),
    "film.mkv": ("h264", {}, {}),
    "film.webm": ("libvpx-vp9", {"crf": "30", "b": "0"}, {}),
    "film.flv": ("flv", {}, {}),
    "film.ivf": ("libvpx", {"b": "2M"}, {}),
    "film.avi": ("mpeg4", {}, {}),
    "stills.avi": ("mjpeg", {}, {}),
    "film.mov": ("prores_ks", {}, {"movflags": "faststart"}),
    "film.ts": ("h264", {}, {}),
    "film.ogv": ("libvpx", {}, {}),
    "film.mpg": ("mpeg2video", {}, {}),
    "film.png": None,
    "film.gif": None,
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_files_that_are_cut_off_say_so(tmp_path, name):
    path, frames = tmp_path / name, textures(40)
    if CONTAINERS[name] is None:
        pictures = [Image.fromarray(frame) for frame in frames]
        pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=40)
    else:
        codec, options, container = CONTAINERS[name]
        kind = {"prores_ks": "yuv422p10le", "mjpeg": "yuvj420p"}.get(codec, "yuv420p")
        film(path, frames, codec, kind, options=options, container=container)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(vj.read_video(path)) == 40 and len(vj.read_video(path, every=7)) == 6
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 45 // 100])
    measured = name == "film.ts"  # promises no length
    for every in (1, 7):
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            video = vj.read_video(path, every=every)
        damage = [each for each in heard if f"{name} is damaged" in str(each.message)]
        assert len(damage) == 1 or (measured and every == 7)
        assert 2 <= len(video) * every <= 28
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # what is asked for is all there
            assert len(vj.read_video(path, every=every, count=2 if every == 1 else 1)) <= 2


@pytest.mark.parametrize("kind", ["mkv", "webm"])
def test_a_hole_in_a_file_is_told(tmp_path, kind):
    """Where the reader of Matroska finds its way again behind it, as much is missing."""
    codec, options = ("h264", {}) if kind == "mkv" else ("libvpx-vp9", {"crf": "30", "b": "0"})
    path = film(tmp_path / f"film.{kind}", textures(60), codec, options=options)
    data = path.read_bytes()
    start, stop = len(data) * 45 // 100, len(data) * 50 // 100
    noise = np.random.default_rng(1).bytes(stop - start)
    path.write_bytes(data[:start] + noise + data[stop:])
    assert len(decoded(path)[0]) < 58
    for every in (1, 7):
        with pytest.warns(UserWarning, match="film.* is damaged"):
            vj.read_video(path, every=every)


def test_pauses_without_damage(tmp_path, silent):
    pts = [0, 40, 80, 2000, 2040, 2080]
    assert len(vj.read_video(write_video(tmp_path / "film.mkv", textures(6), pts=pts))) == 6


def test_lengths_that_differ_without_damage(tmp_path, silent):
    """Sound that is longer or shorter than the picture; a film in fragments; a film trimmed by an
    edit list, whose table still holds all frames.
    """
    for name, seconds in (("longer.mkv", 3), ("longer.mp4", 3), ("shorter.mkv", 0.4)):
        with av.open(str(tmp_path / name), "w") as out:
            stream, sound = out.add_stream("h264", rate=25), out.add_stream("aac", rate=48000)
            stream.height, stream.width, stream.pix_fmt, sound.layout = 48, 64, "yuv420p", "mono"
            for frame in NUMBERED:
                out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
            out.mux(stream.encode())
            for start in range(0, int(48000 * seconds), 960):
                samples = np.zeros((1, 960), np.int16)
                part = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
                part.rate, part.pts = 48000, start
                out.mux(sound.encode(part))
            out.mux(sound.encode())
        assert len(vj.read_video(tmp_path / name)) == 24
    movflags = {"movflags": "frag_keyframe+empty_moov"}
    film(tmp_path / "fragments.mp4", NUMBERED, container=movflags)
    assert len(vj.read_video(tmp_path / "fragments.mp4")) == 24
    data = bytearray(film(tmp_path / "whole.mp4", NUMBERED, options={"bf": "0"}).read_bytes())
    movie = data.index(b"mvhd") + 16  # units of a second, and the duration
    half = struct.pack(">I", struct.unpack(">I", data[movie : movie + 4])[0] * 12 // 25)
    for at in (data.index(b"elst") + 12, data.index(b"tkhd") + 24, movie + 4):
        data[at : at + 4] = half
    (tmp_path / "trimmed.mp4").write_bytes(data)
    assert len(vj.read_video(tmp_path / "trimmed.mp4")) == len(decoded(tmp_path / "trimmed.mp4")[0])
    assert len(vj.read_video(tmp_path / "trimmed.mp4")) < 16


# Names and metadata.

NAMES = ["12:30.mp4", "file:1.mp4", "a::b.mp4", "film%03d.mp4", "[1-2]*.mp4", "$x^$.mp4", "#1?.mp4"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_names_are_not_urls_patterns_or_text(tmp_path, monkeypatch, silent):
    plain = film(tmp_path / "plain.mp4", NUMBERED)
    monkeypatch.chdir(tmp_path)
    for name in [*NAMES, os.fsdecode(b"caf\xe9.mp4"), "two\nlines.mp4", "日本.mp4"]:
        shutil.copy(plain, name)
        video = vj.read_video(name)
        assert np.array_equal(video.frames, vj.read_video(plain).frames)
        video.name.encode()
        assert "\n" not in video.name and len(video.name) == len(name)
        if name not in NAMES or "$" in name:
            heading = vj.figures.frame_strip(video, most=1)._suptitle
            heading.figure.savefig("drawn.png")  # silent, and no mathematics
            assert not heading._preprocess_math(heading.get_text())[1]
    vj.drawing.write_film(NUMBERED, "10:15.mp4", 25)
    assert len(vj.read_video("10:15.mp4")) == 24


def test_metadata_of_another_encoding(tmp_path, silent):
    for kind in ("mkv", "mp4", "avi"):
        path = tmp_path / f"film.{kind}"
        with av.open(str(path), "w") as out:
            out.metadata["title"] = "caf_"
            stream = out.add_stream("mpeg4", rate=25)
            stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
            for frame in NUMBERED:
                out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
            out.mux(stream.encode())
        assert path.read_bytes().count(b"caf_") == 1
        path.write_bytes(path.read_bytes().replace(b"caf_", b"caf\xe9"))
        assert len(vj.read_video(path)) == 24


def test_identity(tmp_path, monkeypatch):
    """One file is one clip however it is spelt; a file that is rewritten is another, even with its
    size and date.
    """
    path = film(tmp_path / "film.mp4", NUMBERED)
    (tmp_path / "link.mp4").symlink_to(path)
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path)
    first = vj.read_video(path).identity
    for spelling in ("film.mp4", "./film.mp4", "sub/../film.mp4", "link.mp4"):
        assert vj.read_video(spelling).identity == first
    video = vj.read_video(path)
    assert video[2:5].identity == vj.read_video(path, start=2, count=3).identity != first
    stat, data = path.stat(), bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert vj.read_video(path).identity != first
    data[-1] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert vj.read_video(path).identity == first
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert vj.read_video(path).identity != first
    large, ends = tmp_path / "large.mp4", []
    for last in (b"a", b"b"):
        large.write_bytes(bytes(3 * 2**20) + last)
        os.utime(large, ns=(0, 0))
        ends.append(file_identity(large))
    assert ends[0] != ends[1]
    frames = vj.as_video(NUMBERED)
    assert frames[2:5].identity == vj.as_video(NUMBERED)[2:5].identity != frames[3:6].identity
    assert vj.as_video(np.zeros_like(NUMBERED))[:3].identity != frames[:3].identity


# Arrays.


@pytest.mark.parametrize("kind", ["array", "tensor"])
@pytest.mark.parametrize(
    "shape",
    [
        (4, 3, 6, 8),
        (4, 1, 6, 8),
        (3, 4, 6, 8),
        (4, 6, 8, 1),
        (4, 6, 8, 4),
        (4, 6, 8),
        (1, 4, 6, 8, 3),
        (6, 8, 3),
    ],
)
def test_the_remedy_that_is_named_works(shape, kind):
    x = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    x = torch.from_numpy(x) if kind == "tensor" else x
    with pytest.raises(ValueError, match=r"A clip must .* x") as refused:
        vj.as_video(x)
    remedy = re.search(r" (x[.\[].*)\.$", str(refused.value))[1]
    clip = vj.as_video(eval(remedy, {"x": x}))
    assert (clip.height, clip.width) == (6, 8) and len(clip) in (1, 4)


def test_arrays_turned_round_are_encoded(tiny):
    frames = textures(4, 32, 48)
    turned = vj.as_video(frames[::-1, :, ::-1])
    straight = np.ascontiguousarray(frames[::-1, :, ::-1])
    assert np.array_equal(turned.frames, straight)
    assert np.array_equal(torch.from_numpy(turned[::-1].frames), straight[::-1])
    same = tiny.encode(straight, size=32).values
    assert torch.equal(tiny.encode(frames[::-1, :, ::-1], size=32).values, same)
    assert torch.equal(tiny.encode(vj.as_video(frames[:, :, ::-1])[::-1], size=32).values, same)
    permuted = torch.from_numpy(straight).permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    assert torch.equal(tiny.encode(permuted, size=32).values, same)


# Files and threads.


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="they are counted in /proc")
def test_a_clip_that_is_decoded_holds_no_file_and_no_thread(tmp_path, monkeypatch):
    path = film(tmp_path / "film.mp4", NUMBERED)
    held = lambda: [len(os.listdir(f"/proc/self/{kind}")) for kind in ("fd", "task")]
    vj.read_video(path)
    before = held()
    clips = [vj.read_video(path, start=start) for start in range(10)]
    parts = [clip[::2] for clip in clips]
    assert held() == before
    monkeypatch.setattr("vjepa_utils.video.DECODE_AT_ONCE", 0)
    film_in_pieces = vj.read_video(path)
    assert held()[0] == before[0] + 1
    assert len(list(film_in_pieces.pieces(5))) == 5
    part = film_in_pieces[2:4]
    part.frames, film_in_pieces.frames  # noqa: B018  decodes
    assert held() == before and len(parts) == 10


def test_an_error_names_the_file_that_it_is_about(tmp_path):
    """What is read while something is written is not what cannot be written."""
    with pytest.raises(FileNotFoundError, match="source.mp4"), replacing(tmp_path / "out.mp4"):
        av.open(str(tmp_path / "source.mp4"))
    refused = pytest.raises(OSError, match="out.mp4 cannot be written: Not a directory")
    with refused, replacing(tmp_path / "out.mp4") as temporary:
        (temporary / "part").write_text("")
    assert not list(tmp_path.iterdir())
