"""Tracking, TAP-Vid's measures and files, against cases worked by hand and rendered truth."""

import csv
import io
import json
import os
import pickle
import re
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
from PIL import Image

import vjepa_utils as vj
from tests.conftest import GOLDEN, ROOT, grey_levels, write_video
from vjepa_utils.__main__ import main
from vjepa_utils.tracking.head import TrackHead, load_head
from vjepa_utils.tracking.matching import match, soft_argmax
from vjepa_utils.tracking.metrics import tapvid_metrics
from vjepa_utils.tracking.points import track
from vjepa_utils.tracking.tapvid import clips, evaluate, queries
from vjepa_utils.video import as_video


@pytest.fixture(scope="module")
def demo():
    return vj.load_encoder("vjepa2-demo", device="cpu", dtype=torch.float32)


def panning(count=6, step=8, side=96):
    """A random picture, smooth over some pixels, that moves `step` pixels a frame to the right."""
    coarse = torch.rand(1, 3, 24, 48, generator=torch.Generator().manual_seed(0))
    wide = (
        torch.nn.functional.interpolate(coarse, (side, 2 * side), mode="bicubic")
        .clamp(0, 1)[0]
        .permute(1, 2, 0)
        .numpy()
    )
    lefts = [step * (count - 1 - t) for t in range(count)]
    return np.stack([(wide[:, left : left + side] * 255).astype(np.uint8) for left in lefts])


def measures(errors, hidden, guessed, query=0, mode="first"):
    """One point of one video, off in x by `errors` in each frame."""
    truth = np.full((1, 1, len(errors), 2), 50.0)
    found = truth + np.stack([errors, np.zeros(len(errors))], -1)
    arguments = [[[query, 50, 50]]], [[hidden]], truth, [[guessed]], found
    return {
        name: value[0] for name, value in tapvid_metrics(*map(np.asarray, arguments), mode).items()
    }


def test_a_point_on_a_threshold_is_not_within_it():
    found = measures([0, 1.0, 0.999, 2.0, 16.0], [False] * 5, [False] * 5)
    assert [found[f"pts_within_{d}"] for d in (1, 2, 4, 8, 16)] == [
        1 / 4,
        2 / 4,
        3 / 4,
        3 / 4,
        3 / 4,
    ]
    assert found["average_pts_within_thresh"] == pytest.approx((1 + 2 + 3 + 3 + 3) / 20)
    # All are visible and predicted visible: those off are false positives, 4 visible + (4 - right)
    # in the denominator.
    assert [found[f"jaccard_{d}"] for d in (1, 2, 4)] == pytest.approx([1 / 7, 2 / 6, 3 / 5])
    assert found["average_jaccard"] == pytest.approx((1 / 7 + 2 / 6 + 3 * 3 / 5) / 5)


def test_which_frames_count():
    # right only in the frames after the query; wildly wrong at the query
    errors = [
        100,
        100,
        0,
        0,
    ]
    assert measures(errors, [False] * 4, [False] * 4, query=1)["pts_within_1"] == 1
    assert (
        measures(errors, [False] * 4, [False] * 4, query=1, mode="strided")["pts_within_1"] == 2 / 3
    )
    assert (
        measures([0] * 4, [False] * 4, [True, True, False, False], query=1)["occlusion_accuracy"]
        == 1
    )
    assert measures([0] * 4, [False] * 4, [True, True, False, False], query=1, mode="strided")[
        "occlusion_accuracy"
    ] == pytest.approx(2 / 3)


def test_occlusion_worked_by_hand():
    """Frames 1 to 4: visible and found; visible, found, but predicted hidden; hidden, predicted
    visible; hidden and predicted hidden.
    """
    found = measures(
        [0, 0, 0, 0, 0], [False, False, False, True, True], [False, False, True, False, True]
    )
    assert found["occlusion_accuracy"] == 2 / 4
    assert found["pts_within_1"] == 1  # whatever was predicted of occlusion
    assert found["jaccard_1"] == found["average_jaccard"] == pytest.approx(1 / (2 + 1))
    never = measures([0, 0], [False, True], [False, False])
    assert np.isnan(never["pts_within_1"]) and never["jaccard_1"] == 0
    with pytest.raises(ValueError, match='must be "first" or "strided"'):
        measures([0], [False], [False], mode="last")
    with pytest.raises(ValueError, match="Shapes must be"):
        tapvid_metrics(
            *(
                np.zeros(shape)
                for shape in ((1, 2, 3), (1, 2, 4), (1, 2, 4, 2), (1, 2, 5), (1, 2, 4, 2))
            ),
            "first",
        )


def test_soft_argmax_worked_by_hand():
    cosine = torch.zeros(4, 6)
    cosine[2, 3] = cosine[2, 4] = 1.0
    place, _ = soft_argmax(cosine.flatten() * 10, (4, 6))
    # between the centres 3.5 and 4.5 of the row with centre 2.5
    assert place.tolist() == pytest.approx([4.0, 2.5])
    far = torch.full((16, 16), -1.0)
    far[1, 1], far[14, 14] = 1.0, 0.99  # beyond the radius: does not pull
    assert soft_argmax(far.flatten(), (16, 16))[0].tolist() == pytest.approx([1.5, 1.5], abs=1e-3)


def test_a_pure_translation_is_followed(demo):
    frames = panning()
    asked = [(0, 20, 30), (0, 40, 60), (5, 70, 50), (2, 40, 40)]
    found = track(frames, asked, demo, size=192)
    assert (
        found.xy.shape == (4, 6, 2)
        and found.xy.dtype == np.float32
        and found.visible.shape == (4, 6)
    )
    truth = np.array([[[x + 8 * (t - frame), y] for t in range(6)] for frame, x, y in asked])
    inside = (truth > 6).all(-1) & (truth < 90).all(-1)
    error = np.linalg.norm(found.xy - truth, axis=-1)
    assert (
        np.median(error[inside]) < 4
        and (error[inside] < 8).mean() > 0.85
        and found.visible[inside].mean() > 0.8
    )
    for point, (frame, *place) in enumerate(asked):
        assert found.xy[point, frame].tolist() == place and found.visible[point, frame]


@pytest.mark.parametrize("with_head", [False, True])
def test_no_query_influences_another(demo, with_head):
    head = "track-head" if with_head else None
    frames, generator = panning(4), np.random.default_rng(0)
    asked = np.concatenate(
        [generator.integers(0, 4, (70, 1)), generator.uniform(5, 90, (70, 2))], 1
    )
    every = track(frames, asked, demo, head, size=96)
    for i in (0, 33, 69):
        alone = track(frames, asked[i : i + 1], demo, head, size=96)
        assert np.abs(alone.xy[0] - every.xy[i]).max() < 1e-3 and np.array_equal(
            alone.visible[0], every.visible[i]
        )


def test_frame_numbers_are_those_of_the_file(demo, tmp_path):
    video = vj.read_video(write_video(tmp_path / "clip.mp4", panning(9, 4)), start=2, every=3)
    found = track(video, [(5, 30, 40)], demo, size=96)
    assert found.frames.tolist() == [2, 5, 8] and found.xy[0, 1].tolist() == [30, 40]
    found.save(tmp_path / "tracks.npz")
    saved = np.load(tmp_path / "tracks.npz")
    assert (
        np.array_equal(saved["xy"], found.xy)
        and saved["frames"].tolist() == [2, 5, 8]
        and saved["encoder"] == "vjepa2-demo"
    )
    found.save(tmp_path / "tracks.csv")
    rows = list(csv.reader((tmp_path / "tracks.csv").read_text().splitlines()))
    assert (
        rows[0] == ["point", "frame", "x", "y", "visible"]
        and rows[2] == ["0", "5", "30.00", "40.00", "1"]
        and len(rows) == 4
    )


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ([(0, 97, 10)], r"The point \(97, 10\) lies outside the picture, which is 96×96 pixels"),
        ([(0, float("nan"), 10)], "lies outside the picture"),
        ([(6, 10, 10)], "Frame 6 is not in this clip, which holds 6 frames from 0 to 5"),
        ([(0.5, 10, 10)], "must be a whole number, not 0.5"),
        ([], "at least one"),
        ([(10, 10)], "at least one"),
    ],
)
def test_bad_queries(tiny, asked, sentence):
    with pytest.raises(ValueError, match=sentence):
        track(panning(), asked, tiny)


def test_short_clips(tiny):
    assert track(grey_levels(2), [(1, 10, 10)], tiny, size=64).xy.shape == (1, 2, 2)
    with pytest.raises(ValueError, match="at least two frames"):
        track(grey_levels(1), [(0, 10, 10)], tiny)


# Against a twin in numpy, on maps that are not square


def cells(rows, columns):
    """Centres of the cells as x, y: (rows × columns, 2)."""
    y, x = np.mgrid[:rows, :columns] + 0.5
    return np.stack([x, y], -1).reshape(-1, 2)


def read(feature_map, x, y):
    """Bilinear, clamped at the edge; the centre of cell i is i + 0.5: (channels,)."""
    rows, columns, _ = feature_map.shape
    x, y = np.clip(x - 0.5, 0, columns - 1), np.clip(y - 0.5, 0, rows - 1)
    left, top = min(int(x), columns - 2), min(int(y), rows - 2)
    upper, lower = (
        feature_map[row, left] * (left + 1 - x) + feature_map[row, left + 1] * (x - left)
        for row in (top, top + 1)
    )
    value = upper * (top + 1 - y) + lower * (y - top)
    return value / np.linalg.norm(value)


def peak(cosine, rows, columns):
    """Soft-argmax, and the sum of the exponentials around the best cell."""
    centres = cells(rows, columns)
    near = np.linalg.norm(centres - centres[cosine.argmax()], axis=1) <= 5
    weights = np.exp(40 * cosine) * near
    return weights @ centres / weights.sum(), weights.sum()


def twin(maps, frame, point, other):
    """Where a point, in cells, is in another frame; evidence but for its last column, and where
    tracking back ends."""
    _, rows, columns, channels = maps.shape
    cosine = maps[other].reshape(-1, channels) @ read(maps[frame], *point)
    place, around = peak(cosine, rows, columns)
    share = np.log(around / np.exp(40 * cosine).sum())
    back, _ = peak(maps[frame].reshape(-1, channels) @ read(maps[other], *place), rows, columns)
    return place, [cosine.max(), cosine.mean(), cosine.min(), share], back


def random_maps(frames=4, rows=7, columns=12, channels=6):
    """Smooth, so that points are found; L2-normalised."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.randn(frames, channels, 4, 6, generator=generator)
    maps = torch.nn.functional.interpolate(coarse, (rows, columns), mode="bilinear")
    return torch.nn.functional.normalize(maps.permute(0, 2, 3, 1), dim=-1).contiguous()


@pytest.mark.parametrize("part", [[0, 1, 2, 3], [0, 2, 1, 3], [3, 1], [2]])
def test_points_and_evidence_are_those_of_the_twin(part):
    maps, points = random_maps(), torch.tensor([[0.3, 6.9], [11.2, 0.4], [5.5, 3.5], [7.1, 2.0]])
    raster = torch.tensor([256 / 12, 256 / 7])
    xy, evidence, cosine = match(maps[1], points, maps[part], raster)
    assert cosine.shape == (4, len(part), 84)
    for i, point in enumerate(points.numpy()):
        for j, other in enumerate(part):
            place, expected, back = twin(maps.double().numpy(), 1, point, other)
            way = np.linalg.norm((back - point) * raster.numpy())
            assert xy[i, j].numpy() == pytest.approx(place, abs=1e-4)
            assert evidence[i, j].numpy() == pytest.approx([*expected, way], abs=1e-3)


def by_hand(maps, height=90, width=160, start=10, every=3):
    """A clip, and features of it that are these maps."""
    video = vj.as_video(np.zeros((40, height, width, 3), np.uint8))[start::every][: len(maps)]
    frames = torch.from_numpy(video.indices).repeat(2, 1).T
    about = dict(patch_size=16, picture_size=(16, 16), source_size=(height, width), encoder="x")
    return video, vj.Features(maps * 3, frames, **about)


def test_tracks_are_those_of_the_twin(monkeypatch):
    """In pixels of the clip, for points of several frames; frames are looked in some at a time."""
    maps = random_maps(9)
    video, features = by_hand(maps)
    queries = np.array([(13, 30, 40), (10, 99.5, 5), (34, 158, 88), (13, 5, 60), (22, 80, 45)])
    for window, points in ((8, 64), (2, 1)):
        monkeypatch.setattr("vjepa_utils.tracking.points.WINDOW", window)
        monkeypatch.setattr("vjepa_utils.tracking.points.POINTS", points)
        tracks = vj.track(video, queries, features)
        assert tracks.frames.tolist() == list(range(10, 37, 3)) and tracks.size == (90, 160)
        for i, (number, *point) in enumerate(queries):
            frame, scale = int(number - 10) // 3, np.array([12 / 160, 7 / 90])
            for other in range(9):
                place, _, back = twin(maps.double().numpy(), frame, point * scale, other)
                way = np.linalg.norm((back - point * scale) * [256 / 12, 256 / 7])
                if other == frame:
                    assert tracks.xy[i, other].tolist() == point and tracks.visible[i, other]
                else:
                    assert tracks.xy[i, other] == pytest.approx(place / scale, abs=1e-2)
                    assert tracks.visible[i, other] == (way < 24)
    assert 0.1 < tracks.visible.mean() < 0.9


def test_what_is_turned_is_tracked_the_same(demo):
    """Rows and columns exchanged in the maps, the clip and the points."""
    maps = random_maps(4)
    queries = np.array([(10, 30.5, 40), (16, 140, 80)])
    upright, turned = (
        vj.track(video, points, features)
        for (video, features), points in (
            (by_hand(maps), queries),
            (by_hand(maps.transpose(1, 2), 160, 90), queries[:, [0, 2, 1]]),
        )
    )
    assert np.allclose(upright.xy, turned.xy[..., ::-1], atol=1e-3)
    assert np.array_equal(upright.visible, turned.visible)


def test_the_shipped_head_tracks_as_ever(demo):
    """Against tracks that were stored: 4 frames of monkey.mp4, on a grid of points."""
    stored = np.load(ROOT / "tests" / "golden_tracks.npz")
    video = vj.read_video(ROOT / "videos" / "monkey.mp4", start=3, every=6, count=4)
    tracks = track(video, stored["queries"], demo, "track-head", size=(96, 160))
    assert tracks.frames.tolist() == [3, 9, 15, 21] and tracks.encoder == str(stored["encoder"])
    assert np.abs(tracks.xy - stored["xy"]).max() < 0.05
    assert np.array_equal(tracks.visible, stored["visible"])


def test_the_layer_is_the_one_asked_for(tiny):
    """A clip whose frames differ, against features of block 1 encoded by hand."""
    video = vj.as_video(np.random.default_rng(0).integers(0, 256, (9, 48, 64, 3), np.uint8))[2::3]
    features = tiny.encode(video, "frame", (48, 64), layer=1)
    expected = vj.track(video, [(5, 30, 20)], features)
    tracks = track(video, [(5, 30, 20)], tiny, size=(48, 64), layer=1)
    assert np.allclose(tracks.xy, expected.xy, atol=1e-3)
    last = track(video, [(5, 30, 20)], tiny, size=(48, 64))
    assert np.abs(last.xy - expected.xy).max() > 1


# The head


def config(**changes):
    return {
        "encoder": "by hand",
        "channels": 8,
        "layer": None,
        "size": 64,
    } | changes


def test_a_head_survives_its_file(tmp_path):
    torch.manual_seed(0)
    head = TrackHead(config())
    head.save(tmp_path / "mine")
    again = load_head(tmp_path / "mine")
    values, pixels = torch.randn(3, 4, 6, 8), torch.rand(3, 3, 64, 96)
    maps = head(values, pixels)
    assert torch.equal(maps, again(values, pixels)) and again.name == "mine"
    assert maps.shape == (3, 16, 24, 128)
    assert torch.allclose(maps.norm(dim=-1), torch.ones(()), atol=1e-5)


def test_a_head_is_loaded_whole_or_not_at_all(tmp_path, tiny):
    TrackHead(config()).save(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config(channels=9)))
    with pytest.raises(ValueError, match="cannot be loaded.*reduce"):
        load_head(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="cannot be loaded"):
        load_head(tmp_path)
    with pytest.raises(ValueError, match="The head 'nobody' cannot be loaded"):
        load_head("nobody")
    with pytest.raises(ValueError, match=rf"model \({tiny.channels} channels\): load vjepa2-demo"):
        track(panning(2), [(0, 5, 5)], tiny, "track-head")


def test_the_shipped_head_belongs_to_the_shipped_encoder(demo):
    head = load_head()
    assert head.config["encoder"] == demo.name and head.config["channels"] == demo.channels
    assert head.config["fingerprint"] == demo.fingerprint
    with pytest.raises(ValueError, match="track-head was trained on other weights"):
        head.check(SimpleNamespace(channels=384, name=demo.name, fingerprint="another"))
    weights = ROOT / "vjepa_utils" / "shipped" / "track-head" / "model.safetensors"
    assert weights.stat().st_size < 10e6
    card = (ROOT / "vjepa_utils" / "shipped" / "track-head" / "README.md").read_text()
    assert f"{sum(p.numel() for p in head.parameters()) / 1e6:.2f} M" in card


# TAP-Vid's files


def tapvid_clip(frames=None):
    frames = panning(6, 8) if frames is None else frames
    points = np.array(
        [
            [[(20 + 8 * t) / 96, 30 / 96] for t in range(6)],
            [[(40 + 8 * t) / 96, 60 / 96] for t in range(6)],
        ]
    )
    occluded = np.array([[True] + [False] * 5, [False] * 4 + [True] * 2])
    return {"video": frames, "points": points, "occluded": occluded}


def jpeg(frame):
    memory = io.BytesIO()
    Image.fromarray(frame).save(memory, "JPEG", quality=95)
    return memory.getvalue()


@pytest.mark.parametrize("protocol", range(6))
def test_the_three_kinds_of_files(tmp_path, protocol):
    clip = tapvid_clip()
    coded = clip | {"video": [jpeg(frame) for frame in clip["video"]]}
    (tmp_path / "davis.pkl").write_bytes(pickle.dumps({"car": clip}, protocol))
    (tmp_path / "rgb.pkl").write_bytes(pickle.dumps([clip, clip], protocol))
    (tmp_path / "kinetics").mkdir()
    for shard in ("0001_of_0002.pkl", "0000_of_0002.pkl"):
        (tmp_path / "kinetics" / shard).write_bytes(pickle.dumps([coded], protocol))
    names = []
    for file in ("davis.pkl", "rgb.pkl", "kinetics"):
        for name, frames, tracks, occluded in clips(tmp_path / file):
            names.append(name)
            assert (
                frames.shape == (6, 256, 256, 3)
                and frames.dtype == np.uint8
                and occluded.dtype == bool
            )
            assert tracks[1, 0] == pytest.approx([40 / 96 * 256, 160]) and np.array_equal(
                occluded, clip["occluded"]
            )
    assert names == ["car", "rgb 0", "rgb 1", "0000_of_0002 0", "0001_of_0002 0"]


def test_query_modes():
    clip = tapvid_clip()
    tracks = clip["points"] * 256
    asked, point = queries(tracks, clip["occluded"], "first")
    assert (
        asked[:, 0].tolist() == [1, 0]
        and point.tolist() == [0, 1]
        and asked[0, 1:] == pytest.approx(tracks[0, 1])
    )
    asked, point = queries(tracks, clip["occluded"], "strided")
    assert asked[:, 0].tolist() == [0, 5] and point.tolist() == [1, 0]
    perfect = lambda frames, asked: vj.Tracks(
        tracks[[1, 0]], ~clip["occluded"][[1, 0]], asked, np.arange(6), (256, 256), "oracle"
    )
    found = evaluate(None, tracks, clip["occluded"], perfect, "strided")
    assert (
        found["average_jaccard"]
        == found["occlusion_accuracy"]
        == found["average_pts_within_thresh"]
        == 1
    )


class Hostile:
    def __reduce__(self):
        return os.system, ("touch executed",)


class Subclass(np.ndarray):
    pass


@pytest.mark.parametrize(
    ("content", "refused"),
    [
        (lambda: pickle.dumps({"a": Hostile()}), r"asks for (posix|nt)\.system"),
        (lambda: b'cbuiltins\neval\n(S\'open("executed", "w")\'\ntR.', r"asks for builtins\.eval"),
        (lambda: b"cnumpy\nload\n.", r"asks for numpy\.load"),
        (lambda: b"cnumpy\nndarray\n((I1\nttR.", "not callable"),
        (lambda: pickle.dumps(np.zeros(2).view(Subclass)), "asks for tests.test_tracking.Subclass"),
        (lambda: pickle.dumps(np.zeros(2, "S8")), "asks for the dtype 'S8'"),
        (lambda: pickle.dumps(np.zeros(2, "i4,O")), "asks for the dtype"),
        (lambda: pickle.dumps({"a": np.zeros(100)})[:-30], "is refused"),
        (lambda: b"", "is refused"),
        (lambda: b"no pickle", "is refused"),
    ],
)
def test_pickles_are_not_trusted(tmp_path, monkeypatch, content, refused):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.pkl").write_bytes(content())
    with pytest.raises(ValueError, match=refused):
        list(clips("data.pkl"))
    with pytest.raises(SystemExit, match=f"^error: .*{refused}"):
        main(["tapvid", "data.pkl", "--encoder", str(GOLDEN / "model")])
    assert [p.name for p in tmp_path.iterdir()] == ["data.pkl"]


# The command line


def test_the_table_of_a_file(tmp_path, capsys):
    (tmp_path / "davis.pkl").write_bytes(pickle.dumps({"car": tapvid_clip(), "dog": tapvid_clip()}))
    main(
        [
            "tapvid",
            str(tmp_path / "davis.pkl"),
            "--encoder",
            str(GOLDEN / "model"),
            "--size",
            "64",
            "--mode",
            "strided",
        ]
    )
    lines = capsys.readouterr().out.splitlines()
    assert (
        lines[0] == "model, strided"
        and lines[1].split()[:3] == ["δ_avg", "AJ", "OA"]
        and len(lines) == 5
    )
    assert [line.split()[8:] for line in lines[2:]] == [["car"], ["dog"], ["mean", "of", "2"]]
    assert all(0 <= float(share) <= 100 for line in lines[2:] for share in line.split()[:8])


@pytest.mark.parametrize("words", [["--points", "20,30", "40,60", "--frame", "3"], ["--grid", "4"]])
def test_track_writes_films_figures_and_numbers(tmp_path, words):
    clip = write_video(tmp_path / "clip.mp4", panning(7))
    rest = [
        "--encoder",
        str(GOLDEN / "model"),
        "--size",
        "64",
        "--start",
        "1",
        "--every",
        "2",
        *words,
    ]
    main(
        [
            "track",
            str(clip),
            *rest,
            "--save",
            str(tmp_path / "out.csv"),
            "-o",
            str(tmp_path / "out.mp4"),
        ]
    )
    with av.open(str(tmp_path / "out.mp4")) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 3 and frames[0].shape == (640, 640, 3)
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 1 + 3 * (
        2 if "--points" in words else 16
    )
    main(["track", str(clip), *rest, "-o", str(tmp_path / "out.png")])
    with Image.open(tmp_path / "out.png") as picture:
        assert picture.width > 2 * picture.height > 200
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "clip.mp4",
        "out.csv",
        "out.mp4",
        "out.png",
    ]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["track", "{clip}", "--points", "97,10", "-o", "out.mp4"],
            "The point (97, 10) lies outside the picture, which is 96×96",
        ),
        (
            ["track", "{clip}", "--points", "9,10", "--frame", "7", "-o", "out.mp4"],
            "Frame 7 is not in this clip, which holds 7 frames from 0 to 6",
        ),
        (
            ["track", "{clip}", "--points", "9,10", "--grid", "4", "-o", "out.mp4"],
            "not allowed with argument --points",
        ),
        (["track", "{clip}", "--grid", "97", "-o", "out.mp4"], "at most a point a pixel, 96 along"),
        (
            ["track", "{clip}", "--grid", "0", "-o", "out.mp4"],
            "--grid must be a whole number of at least 1",
        ),
        (["track", "{clip}", "--count", "1", "-o", "out.mp4"], "at least two frames"),
        (["track", "{clip}", "-o", "out.txt"], "-o must end in .mp4, .gif or .png"),
        (
            ["track", "{clip}", "--save", "out.txt", "-o", "out.mp4"],
            "--save must end in .npz or .csv",
        ),
        (["track", "{clip}", "--save", "no/out.csv", "-o", "out.mp4"], "there is no folder no"),
        (["track", "{clip}", "--head", "nobody", "-o", "out.mp4"], "'nobody' cannot be loaded"),
        (
            ["track", "{clip}", "--head", "track-head", "-o", "out.mp4"],
            "The head track-head was trained on other weights than those of model",
        ),
        (["tapvid", "nothing.pkl"], "There is no file nothing.pkl"),
        (["tapvid", "empty"], "nor a folder of that name with .pkl files"),
        (["tapvid", "other.pkl"], "it must hold clips as TAP-Vid has them"),
    ],
)
def test_bad_input_ends_in_one_sentence(tmp_path, monkeypatch, words, sentence):
    monkeypatch.chdir(tmp_path)
    clip = write_video(tmp_path / "clip.mp4", panning(7))
    (tmp_path / "empty").mkdir()
    (tmp_path / "other.pkl").write_bytes(
        pickle.dumps({"car": {"video": np.zeros((2, 8, 8, 3), np.uint8)}})
    )
    before = sorted(tmp_path.rglob("*"))
    rest = ["--encoder", str(GOLDEN / "model")] + (["--size", "64"] if words[0] == "track" else [])
    with pytest.raises(SystemExit, match="^error: .*" + re.escape(sentence)):
        main([word.format(clip=clip) for word in words] + rest)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("words", [["--points"], ["--points", "a,b"], ["--points", "1"]])
def test_points_that_are_none(words):
    with pytest.raises(SystemExit) as stopped:
        main(["track", "clip.mp4", "-o", "out.mp4", *words])
    assert stopped.value.code.startswith("error: argument --points")


@pytest.mark.parametrize(("height", "width"), [(90, 160), (160, 90), (64, 64)])
def test_grid_points_are_x_and_y_row_by_row(height, width):
    points = vj.tracking.grid_points(as_video(np.zeros((1, height, width, 3), np.uint8)), 16)
    across, down = (round(16 * side / max(height, width)) for side in (width, height))
    y, x = np.mgrid[:down, :across] + 0.5
    expected = np.stack([x * width / across, y * height / down], -1).reshape(-1, 2)
    assert np.allclose(points, expected)


def test_zero_shot_a_point_is_visible_if_the_way_back_ends_within_24_pixels(tiny, monkeypatch):
    """One frame for each distance of the way back, in pixels of the 256×256 raster."""
    distances = [0, 12, 23, 25, 48, 239]
    evidence = torch.tensor(distances).float()[None, :, None].expand(1, -1, 5)
    matched = torch.zeros(1, 6, 2), evidence, None
    monkeypatch.setattr("vjepa_utils.tracking.points.match", lambda *_: matched)
    found = track(panning(), [(0, 20, 30)], tiny, size=32)
    assert found.visible[0].tolist() == [True, True, True, False, False, False]


def test_a_head_says_hidden_where_either_doubt_is_strong(monkeypatch):
    head = load_head()
    doubts = torch.tensor([[-5.0, -5], [5, -5], [-5, 5], [5, 5], [-0.5, -1.5], [-0.5, -0.5]])
    monkeypatch.setattr(head, "doubts", lambda evidence: doubts)
    assert head.occluded(torch.zeros(6, 5)).tolist() == [False, True, True, True, False, True]
