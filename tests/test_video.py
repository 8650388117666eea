"""Reading clips: the right frames, numbers and times, and clear errors for files that cannot be
read.
"""

import contextlib
import gc
import json
import os
import warnings
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import vjepa_utils as vj
from tests.conftest import grey_levels, write_video
from vjepa_utils.reading.pixels import cuts_between
from vjepa_utils.reading.sources import VideoFile

BROKEN = ["zero_bytes.mp4", "text_named.mp4", "truncated_no_moov.mp4", "audio_only.mp3"]
CUT_SHORT = {"corrupted_midstream.mp4": 28, "truncated_moov_first.mp4": 65}
FEWER = "truncated.webm"  # than its header promises


def levels(video):
    return video.frames[:, 20, 20, 0].astype(int)


@pytest.mark.parametrize(
    ("start", "every", "count"),
    [(0, 1, None), (7, 3, 5), (30, 1, 4), (0, 11, None), (7, 10**30, None)],
)
def test_numbers_name_the_frames_of_the_file(tmp_path, start, every, count):
    path = write_video(tmp_path / "levels.mp4", grey_levels(40))
    video = vj.read_video(path, start=start, every=every, count=count)
    assert video.indices.tolist() == list(range(start, 40, every))[:count]
    assert np.abs(levels(video) - video.indices * 5).max() <= 3
    assert np.allclose(video.times, video.indices / 30, atol=1e-3)


def test_variable_rate_has_true_times_and_start_in_seconds(tmp_path):
    pts = [0, 40, 80, 500, 540, 900, 1400, 1440]
    path = write_video(tmp_path / "vfr.mp4", grey_levels(8), pts=pts)
    assert np.allclose(vj.read_video(path).times, np.array(pts) / 1000, atol=1e-3)
    for when, number in (("0s", 0), ("0.5s", 3), ("0.7s", 4), (".9s", 5), ("1.42s", 6)):
        assert vj.read_video(path, start=when, count=1).indices[0] == number


def test_start_in_seconds_far_into_a_clip(tmp_path):
    """In float32, times beyond half a minute are rounded by more than a microsecond."""
    path = write_video(tmp_path / "long.mp4", grey_levels(1100, 16, 16, step=0), rate=25)
    assert all(
        vj.read_video(path, start=f"{n / 25}s", count=1).indices[0] == n
        for n in range(800, 1100, 37)
    )
    assert vj.read_video(path).times[1099] == pytest.approx(43.96, abs=1e-9)


def test_pixels_become_square(tmp_path):
    wide = vj.read_video(
        write_video(tmp_path / "wide.mp4", grey_levels(3, 48, 64), aspect=Fraction(4, 3))
    )
    assert wide.frames.shape == (3, 48, 85, 3) and (wide.height, wide.width) == (48, 85)


@pytest.mark.parametrize("width", [16, 48, 96, 144])
def test_narrow_pictures(tmp_path, width):
    """Their rows are padded while they are decoded."""
    frames = grey_levels(9, 32, width, step=20)
    frames[:, :, : width // 2, 0] = 250
    video = vj.read_video(write_video(tmp_path / "narrow.mp4", frames), start=1, every=3)
    assert video.frames.shape == (3, 32, width, 3)
    assert np.abs(video.frames.astype(int) - frames[1::3]).mean() < 6


@pytest.mark.parametrize("name", ["film.h264", "film.avi", "film.flv", "film.mkv", "film.ts"])
def test_containers_that_tell_little_of_time(tmp_path, name, monkeypatch):
    """B-frames in closed groups; raw H.264 has no time stamps, AVI none of presentation, FLV's
    index is by decoding, TS has none.
    """
    import av

    frames = grey_levels(50)
    with av.open(str(tmp_path / name), "w") as container:
        stream = container.add_stream("h264", rate=30)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        stream.options, stream.codec_context.gop_size = {"crf": "4", "bf": "2"}, 12
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode())
    video = vj.read_video(tmp_path / name)
    assert len(video) == 50 and np.abs(levels(video) - video.indices * 5).max() <= 3
    rate = 25 if name.endswith("h264") else 30  # FFmpeg's guess
    assert np.allclose(np.diff(video.times), 1 / rate, atol=2e-3)
    monkeypatch.setattr("vjepa_utils.video.DECODE_AT_ONCE", 0)
    monkeypatch.setattr("vjepa_utils.reading.sources.FAR", 3)
    film = vj.read_video(tmp_path / name)
    for start in (35, 36, 3, 46, 11):  # around key frames 12, 24, 36, 48; forwards and backwards
        assert levels(film[start : start + 2]).tolist() == pytest.approx(
            [5 * start, 5 * start + 5], abs=3
        )
    assert levels(film[0:50:11]).tolist() == pytest.approx([0, 55, 110, 165, 220], abs=3)


def test_the_largest_of_several_streams(tmp_path):
    """The smaller stream comes first and has the higher bit rate."""
    import av

    path, noise = tmp_path / "two.mp4", np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        small, large = (container.add_stream("h264", rate=30) for _ in range(2))
        for stream, side, rate in ((small, 64, 4_000_000), (large, 128, 50_000)):
            stream.height = stream.width = side
            stream.pix_fmt, stream.bit_rate = "yuv420p", rate
        for i in range(20):
            for stream in (small, large):
                shape = stream.height, stream.width, 3
                picture = (
                    np.full(shape, 10 * i, np.uint8)
                    if stream is large
                    else noise.integers(0, 255, shape, np.uint8)
                )
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        for stream in (small, large):
            container.mux(stream.encode())
    video = vj.read_video(path, start=5, every=4)
    assert (
        video.frames.shape == (4, 128, 128, 3)
        and np.abs(levels(video) - 10 * video.indices).max() <= 6
    )


def test_repeated_frames_are_not_decoded_from_their_key_frame_again(tmp_path, monkeypatch):
    path = write_video(tmp_path / "film.mp4", grey_levels(48, step=5), gop=24)
    monkeypatch.setattr("vjepa_utils.video.DECODE_AT_ONCE", 0)
    film, sought, go_to = vj.read_video(path)[np.arange(96) // 2], [], VideoFile._go_to
    monkeypatch.setattr(
        VideoFile, "_go_to", lambda self, key: sought.append(key) or go_to(self, key)
    )
    read = np.concatenate([levels(piece) for piece in film.pieces(5)])
    assert np.abs(read - 5 * (np.arange(96) // 2)).max() <= 3 and sought == []


@pytest.mark.parametrize("far", [0, 8, 1000])
def test_frames_are_those_that_decord_reads(tmp_path, far, monkeypatch):
    """Another reader, where its own seeks and widths are right."""
    decord = pytest.importorskip("decord")
    noise = np.random.default_rng(0).integers(0, 256, (60, 64, 128, 3), np.uint8)
    path = write_video(tmp_path / "film.mp4", noise)
    monkeypatch.setattr("vjepa_utils.reading.sources.FAR", far)
    chosen = [57, 3, 20, 21, 36, 3]
    expected = decord.VideoReader(str(path)).get_batch(chosen).asnumpy()
    monkeypatch.setattr("vjepa_utils.video.DECODE_AT_ONCE", 0)
    assert np.array_equal(vj.read_video(path)[chosen].frames, expected)


def test_folder_of_images_in_natural_order(tmp_path):
    for number in (10, 2, 1):
        Image.fromarray(np.full((8, 12, 3), number, np.uint8)).save(tmp_path / f"frame{number}.png")
    (tmp_path / "notes.txt").write_text("no image")
    video = vj.read_video(tmp_path)
    assert video.frames[:, 0, 0, 0].tolist() == [1, 2, 10] and video.indices.tolist() == [0, 1, 2]
    assert len(vj.read_video(tmp_path / "frame2.png")) == 1
    Image.fromarray(np.zeros((9, 12, 3), np.uint8)).save(tmp_path / "frame3.png")
    with pytest.raises(ValueError, match=r"frame3.png is 12×9 pixels"):
        vj.read_video(tmp_path)


def test_only_what_is_asked_for_is_decoded(tmp_path, monkeypatch):
    path = write_video(tmp_path / "film.mp4", grey_levels(200, step=1))
    decoded, read = [], VideoFile.read
    monkeypatch.setattr(
        VideoFile, "read", lambda self, numbers: decoded.extend(numbers) or read(self, numbers)
    )
    assert len(vj.read_video(path, start=100, count=4).frames) == 4
    assert decoded == [100, 101, 102, 103]
    decoded.clear()
    monkeypatch.setattr("vjepa_utils.video.DECODE_AT_ONCE", 0)
    film = vj.read_video(path)
    assert decoded == []
    assert len(film[5:5].frames) == 0
    assert film[50:52].frames[:, 0, 0, 0].tolist() == pytest.approx([50, 51], abs=2)
    assert decoded == [50, 51]


def test_a_part_of_a_clip_is_a_clip(tmp_path, monkeypatch):
    path = write_video(tmp_path / "levels.mp4", grey_levels(40))
    whole = vj.read_video(path, start=3, every=2)  # 3, 5, 7, …
    monkeypatch.setattr("vjepa_utils.video.DECODE_AT_ONCE", 0)
    for film in (whole, vj.read_video(path, start=3, every=2)):  # decoded, and not yet
        for part, numbers in (
            (film[2:4], [7, 9]),
            (film[::-6][:2], [39, 27]),
            (film[[5, 0, 0, -1]], [13, 3, 3, 39]),
            (film[1:][np.array([4, 1])], [13, 7]),
        ):
            assert part.indices.tolist() == numbers and part.path == path
            assert np.allclose(part.times, part.indices / 30, atol=1e-3)
            assert levels(part).tolist() == pytest.approx([5 * n for n in numbers], abs=3)
            assert part.positions(numbers[::-1]).tolist() == [
                numbers.index(n) for n in numbers[::-1]
            ]
        assert len(film) == 19  # as it was
    assert np.shares_memory(whole[2:4].frames, whole.frames)
    with pytest.raises(TypeError, match="takes slices"):
        whole[3]
    with pytest.raises(ValueError, match="Frame 4 is not in this clip"):
        whole.positions([3, 4])


def test_each_frame_is_decoded_once(tmp_path, monkeypatch):
    path = write_video(tmp_path / "levels.mp4", grey_levels(20))
    monkeypatch.setattr("vjepa_utils.video.DECODE_AT_ONCE", 0)
    decoded, read = [], VideoFile.read
    monkeypatch.setattr(
        VideoFile, "read", lambda self, numbers: decoded.extend(numbers) or read(self, numbers)
    )
    part = vj.read_video(path)[[9, 2, 9, 9, 2, 4]]
    assert levels(part).tolist() == pytest.approx([45, 10, 45, 45, 10, 20], abs=3)
    assert decoded == [2, 4, 9] and part.frames is part.frames


def test_a_damaged_file_changes_no_clip(tmp_path, monkeypatch, tiny):
    """20 packets of 40 are left, and the last of them depend on lost ones: 17 frames."""
    import av

    path, noise = tmp_path / "cut.mp4", np.random.default_rng(0)
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("h264", rate=30)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for _ in range(40):
            frame = noise.integers(0, 256, (48, 64, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode())
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.warns(UserWarning, match="damaged at frame 17"):
        short = vj.read_video(path)
    assert len(short) == 17
    monkeypatch.setattr("vjepa_utils.video.DECODE_AT_ONCE", 0)
    with pytest.warns(UserWarning, match="header promises 1.33 s, and 0.67 s are there"):
        film = vj.read_video(path)
    for part, kept in ((film, range(17)), (film[[16, 3, 18, 2]], [16, 3])):
        length = len(part)
        with pytest.raises(ValueError, match=f"frame 17: take .* the first {len(kept)} "):
            part.frames  # noqa: B018  decodes
        with pytest.warns(UserWarning, match="damaged at frame 17"):
            features = tiny.encode(part, size=32)
        alone = tiny.encode(short[list(kept)], size=32)
        assert torch.equal(features.values, alone.values)
        assert torch.equal(features.frames, alone.frames)
        assert len(part) == length and len(part.times) == length
    with pytest.warns(UserWarning, match="damaged at frame 17"):
        assert [len(piece) for piece in film.pieces(17)] == [17]
    with pytest.warns(UserWarning, match="damaged at frame 17") as told:
        assert [len(piece) for piece in film.pieces(2)] == [2] * 8 + [1]
    assert len(told) == 1
    with pytest.raises(ValueError, match="damaged at frame 17: no frame could be read"):
        tiny.encode(film[18:], size=32)
    assert np.array_equal(film[3:17].frames, short.frames[3:])


def test_more_than_there_is_warns(tmp_path):
    path = write_video(tmp_path / "short.mp4", grey_levels(5))
    with pytest.warns(UserWarning, match="3 of the 9 frames"):
        assert len(vj.read_video(path, start=2, count=9)) == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (dict(start=5), "beyond the end .* 5 frames"),
        (dict(start="2s"), "beyond the end .* lasts 0.17 s"),
        (dict(start=-1), "start must be"),
        (dict(start="soon"), "start must be"),
        (dict(every=0), "every must be"),
        (dict(count=0), "count must be"),
    ],
)
def test_arguments_out_of_range(tmp_path, arguments, words):
    path = write_video(tmp_path / "short.mp4", grey_levels(5))
    with pytest.raises(ValueError, match=words):
        vj.read_video(path, **arguments)


def test_missing_empty_and_other_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        vj.read_video(tmp_path / "nothing.mp4")
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(ValueError, match=r"empty.mp4 is empty"):
        vj.read_video(tmp_path / "empty.mp4")
    (tmp_path / "text.mp4").write_text("no video " * 50)
    with pytest.raises(ValueError, match=r"text.mp4 cannot be read as a video"):
        vj.read_video(tmp_path / "text.mp4")
    (tmp_path / "notes.txt").write_text("hello " * 100)
    (tmp_path / "drawing.svg").write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'
    )
    for name in ("notes.txt", "drawing.svg"):
        with pytest.raises(ValueError, match=name):
            vj.read_video(tmp_path / name)
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match="holds no images"):
        vj.read_video(tmp_path / "folder")


def test_arrays_and_tensors():
    frames = np.random.default_rng(0).integers(0, 256, (4, 6, 8, 3), np.uint8)
    for same in (
        frames,
        torch.from_numpy(frames),
        frames / 255,
        torch.from_numpy(frames).float() / 255,
    ):
        assert np.array_equal(vj.as_video(same).frames, frames)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((4, 6, 8)),
        np.zeros((4, 3, 6, 8)),
        np.zeros((0, 6, 8, 3), np.uint8),
        np.zeros((4, 6, 8, 3), np.int64),
        np.full((4, 6, 8, 3), np.nan),
        np.full((4, 6, 8, 3), 255.0),
        np.full((4, 6, 8, 3), -0.5),
    ],
)
def test_arrays_are_never_guessed_at(wrong):
    with pytest.raises(ValueError, match="clip must"):
        vj.as_video(wrong)


def test_a_cut_is_seen_and_motion_is_not():
    stripes = np.zeros((2, 96, 128, 3), np.uint8)
    stripes[0, :, 20:60], stripes[1, :, 28:68] = (200, 40, 30), (200, 40, 30)  # an object moves
    other = np.zeros((1, 96, 128, 3), np.uint8)
    other[:, 40:] = (30, 160, 220)
    frames, pairs = np.concatenate([stripes, other]), np.array([[0, 1], [1, 2], [2, 2]])
    assert cuts_between(frames, pairs, np.array([5, 6, 7])) == [(6, 7)]


# Files of many kinds; they are not part of the repository.


@pytest.mark.slow
def test_every_format_is_read_or_refused(clips):
    files = [f for f in sorted((clips / "formats").iterdir()) if f.suffix != ".json"]
    assert len(files) > 30
    for file in files:
        if file.name in BROKEN:
            with pytest.raises(ValueError, match=file.name) as refused:
                vj.read_video(file)
            assert "\n" not in str(refused.value)
        elif file.name in CUT_SHORT:
            end = CUT_SHORT[file.name]
            with pytest.warns(UserWarning, match=f"damaged at frame {end}"):
                assert len(vj.read_video(file).frames) == end
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # the damage lies outside of what is asked for
                assert len(vj.read_video(file, count=10).frames) == 10
            with pytest.raises(
                ValueError,
                match=f"damaged at frame {end}: no frame could be read from frame {end + 1}",
            ):
                vj.read_video(file, start=end + 1)
        else:
            promised = pytest.warns(UserWarning, match="promises 3.20 s, and 0.80 s are there")
            with promised if file.name == FEWER else contextlib.nullcontext():
                video = vj.read_video(file)
            assert video.frames.shape == (len(video), video.height, video.width, 3)
            assert np.all(np.diff(video.times) > 0) and video.times[0] == 0


def test_frames_are_those_of_their_time_wherever_reading_starts(clips, monkeypatch):
    """Against all frames as FFmpeg decodes them. Seeks miss in some of these."""
    import av

    hard = (
        "numbered_hevc_10frames_128x128.mp4",
        "dog_mpeg2_start_offset.ts",
        "dog_vp9.webm",
        "dog_h264_yuv444_641x359.mp4",
    )
    for name in (*hard, "dog_av1.mp4"):
        with av.open(str(clips / "formats" / name)) as container:
            decoded = [
                frame.reformat(format="rgb24", interpolation="BICUBIC").to_ndarray()
                for frame in container.decode(video=0)
            ]
        assert np.array_equal(vj.read_video(clips / "formats" / name).frames, decoded)
        monkeypatch.setattr("vjepa_utils.video.DECODE_AT_ONCE", 0)
        film = vj.read_video(clips / "formats" / name)
        for start in (len(decoded) - 2, 3, len(decoded) // 2, 0):  # forwards and backwards
            assert np.array_equal(film[start : start + 2].frames, decoded[start : start + 2])
        monkeypatch.setattr("vjepa_utils.reading.sources.FAR", 1)  # more is sought
        assert np.array_equal(
            vj.read_video(clips / "formats" / name, start=1, every=3).frames, decoded[1::3]
        )
        monkeypatch.undo()


@pytest.mark.parametrize(("tag", "quarter_turns"), [(0, 0), (90, -1), (180, 2), (270, 1)])
def test_rotation_is_honoured(clips, tag, quarter_turns):
    import av

    path = clips / "formats" / f"three_frames_rot{tag}.mov"
    with av.open(str(path)) as container:
        stored = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert np.array_equal(vj.read_video(path).frames[0], np.rot90(stored, quarter_turns))


def test_true_times_of_a_variable_rate(clips):
    given = json.loads((clips / "formats" / "dog_vfr_640x360.times.json").read_text())
    assert np.allclose(
        vj.read_video(clips / "formats" / "dog_vfr_640x360.mp4").times, given["time_s"], atol=1e-3
    )


@pytest.mark.slow
def test_known_cuts(clips, tiny):
    known = json.loads((clips / "long_781_frames_two_cuts_320x180.cuts.json").read_text())[
        "first_frame_of_each_scene"
    ][1:]
    assert known == [289, 581]
    long = tiny.encode(clips / "long_781_frames_two_cuts_320x180.mp4", size=32)
    assert long.cuts == ((288, 289), (580, 581))
    assert "a cut lies between frames 288+289, 580+581" in repr(long)
    assert long[140:160].cuts == ((288, 289),) and long[:144].cuts == ()
    bikes = tiny.encode(vj.read_video(clips / "bikes_scene_cuts_640x272.mp4"), size=32)
    assert bikes.cuts == ((136, 137), (186, 187))
    dog = tiny.encode(vj.read_video(clips / "dog_ball_1280x720.mp4", every=5), size=32)
    assert dog.cuts == () and "cut" not in repr(dog)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files are counted in /proc")
def test_a_clip_that_is_dropped_closes_its_file(tmp_path, monkeypatch):
    path = write_video(tmp_path / "clip.mp4", grey_levels(4))
    opened = lambda: sum(
        os.path.realpath(fd) == str(path) for fd in Path("/proc/self/fd").iterdir()
    )
    gc.disable()
    try:
        clip = vj.read_video(path)
        assert len(clip.frames) == 4 and opened() == 0
        monkeypatch.setattr("vjepa_utils.video.DECODE_AT_ONCE", 0)
        clip = vj.read_video(path)
        assert opened() == 1
        del clip
        assert opened() == 0
    finally:
        gc.enable()
