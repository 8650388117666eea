"""Surprise against recovery, encodings by hand and repainted clips; figures; pairs with truth."""

import csv
from itertools import islice
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import vjepa_utils as vj
from benchmarks import impossible_events
from demo.render import impossible
from demo.render.scenes import textures
from tests.conftest import GOLDEN, grey_levels, write_video
from vjepa_utils.drawing import HEAT
from vjepa_utils.predict.predictor import normalised

SIZE = (32, 48)  # 2 rows of 3 tokens


def noise(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *SIZE, 3), np.uint8)


def every(found):
    """All arrays of a Surprise: {name: array}."""
    arrays = {"cosine": found.cosine, "l1": found.l1}
    for name, errors in found.baselines.items():
        arrays |= {f"{name} {error}": array for error, array in errors.items()}
    return arrays


# Numbers


@pytest.mark.parametrize("horizon", [1, 2])
def test_of_one_window_it_is_what_is_recovered_of_its_future(tiny, horizon):
    frames = noise(4 + 2 * horizon)
    found = tiny.surprise(frames, 4, horizon, SIZE, mask_token=0)
    hidden = vj.masks.future((2 + horizon, 2, 3), 1)
    truth = tiny.recover(frames, hidden, 0, SIZE)
    predicted = np.isfinite(found.cosine).all((1, 2))
    last = [(2 + h) * horizon + h for h in range(horizon)]  # step 2 + h, from h + 1 before
    assert predicted.nonzero()[0].tolist() == last
    assert found.cosine[last].ravel() == pytest.approx(truth.cosine, abs=1e-5)
    assert found.l1[last].ravel() == pytest.approx(truth.l1, abs=1e-5)


@pytest.mark.parametrize("target", ["window", "step"])
@pytest.mark.parametrize(("context", "horizon"), [(2, 3), (6, 2), (4, 1)])
def test_every_window_and_distance_by_hand(tiny, context, horizon, target):
    """From encodings of the visible frames jointly, or of each step alone; the prediction by
    `recover`; pixels by numpy."""
    frames, seen = noise(14), context // 2
    surprise = tiny.surprise(frames, context, horizon, SIZE, target, 0)
    expected = {name: np.full_like(values, np.nan) for name, values in every(surprise).items()}
    encoded = lambda clip, context: normalised(tiny.encode(clip, context, SIZE).values)
    for first in range(7 - seen - horizon + 1):
        window = frames[2 * first :][: context + 2 * horizon]
        hidden = vj.masks.future((seen + horizon, 2, 3), seen - 1)
        predicted = tiny.recover(window, hidden, 0, SIZE).predicted.view(horizon, 2, 3, -1)
        if target == "window":
            known, truth = encoded(window[:context], "clip"), encoded(window, "clip")[seen:]
        else:
            known, truth = encoded(window, "pair").split([seen, horizon])
        last = window[context - 2 : context].astype(float)
        for h in range(horizon):
            row = (first + seen + h) * horizon + h
            mean = known.mean((0, 1, 2)).expand(2, 3, -1)
            for name, guess in (("", predicted[h]), ("last step ", known[-1]), ("mean ", mean)):
                cosine = F.cosine_similarity(guess, truth[h], dim=-1)
                expected[f"{name}cosine"][row] = cosine
                expected[f"{name}l1"][row] = (guess - truth[h]).abs().mean(-1)
            changed = np.abs(window[context + 2 * h :][:2] - last) / 255 / tiny.std.view(3).numpy()
            by_patch = changed.mean((0, 3)).reshape(2, 16, 3, 16).mean((1, 3))
            expected["pixels l1"][row] = by_patch
    for name, values in every(surprise).items():
        assert values == pytest.approx(expected[name], abs=1e-5, nan_ok=True), name


@pytest.mark.parametrize("target", ["window", "step"])
def test_positions_count_from_the_window(tiny, target):
    """The same frames give the same numbers wherever in the clip they are."""
    frames = noise(14)
    whole = tiny.surprise(frames, 4, 1, SIZE, target, 0)
    for first in (0, 4, 8):
        part = tiny.surprise(frames[first : first + 6], 4, 1, SIZE, target, 0)
        for name, values in every(part).items():
            expected = every(whole)[name][first // 2 + 2]
            assert values[2] == pytest.approx(expected, abs=1e-5, nan_ok=True)


@pytest.mark.parametrize("target", ["window", "step"])
@pytest.mark.parametrize(("context", "horizon"), [(4, 1), (2, 2)])
def test_nothing_of_what_is_later_changes_a_bit(tiny, context, horizon, target):
    """Frames later than t + horizon are repainted, then frames before the window."""
    frames = noise(16)
    options = context, horizon, SIZE, target, 0
    before = tiny.surprise(frames, *options)
    seen_last = np.arange(8).repeat(horizon) - before.ahead  # t, the last visible step of each row
    # the target of a step alone has no access to later ones of its window
    reach = horizon if target == "window" else before.ahead
    predicted = np.isfinite(before.cosine).all((1, 2))
    for first in (6, 10):  # of the repainted frames
        later = tiny.surprise(np.concatenate([frames[:first], noise(16 - first, 1)]), *options)
        kept = predicted & (seen_last + reach < first // 2)
        earlier = tiny.surprise(np.concatenate([noise(first, 1), frames[first:]]), *options)
        after = predicted & (seen_last - context // 2 + 1 >= first // 2)
        assert kept.any() and after.any()
        for same, other in ((kept, later), (after, earlier)):
            for name, values in every(before).items():
                assert np.array_equal(values[same], every(other)[name][same], equal_nan=True)
            assert (before.l1[predicted & ~same] != other.l1[predicted & ~same]).any((1, 2)).all()


def test_the_step_alone_as_target_does_not_depend_on_what_came_before(tiny):
    past, future = noise(2)[[0, 0, 0, 0]], noise(2, 1)
    paths = [np.concatenate([clip, future]) for clip in (past, noise(4, 2))]
    alone = [tiny.surprise(clip, 4, 1, SIZE, "step", 0) for clip in paths]
    pair = normalised(tiny.encode(future, "pair", SIZE).values)[0]
    for found, clip in zip(alone, paths, strict=True):
        last = normalised(tiny.encode(clip[2:4], "pair", SIZE).values)[0]
        expected = F.cosine_similarity(last, pair, dim=-1)
        assert found.baselines["last step"]["cosine"][2] == pytest.approx(expected, abs=1e-5)


def test_rows_of_steps_and_distances(tiny):
    video = vj.as_video(noise(12))
    found = tiny.surprise(video, 4, 2, SIZE, mask_token=0)
    assert found.cosine.shape == found.baselines["mean"]["l1"].shape == (12, 2, 3)
    assert found.frames[::2].tolist() == video.indices.reshape(-1, 2).tolist()
    assert found.ahead.tolist() == [1, 2] * 6
    predicted = np.isfinite(found.over_time("l1", 1)["prediction"]).nonzero()[0].tolist()
    assert predicted == [2, 3, 4]  # step 5 is in windows only as the second
    predicted = np.isfinite(found.over_time("l1", 2)["pixels"]).nonzero()[0].tolist()
    assert predicted == [3, 4, 5]
    assert "6 steps × 2×3, 4 frames of context, 2 ahead, target: window, model" in repr(found)


def test_an_odd_last_frame_is_paired_with_itself(tiny):
    frames = noise(7)
    odd = tiny.surprise(frames, 4, 1, SIZE, mask_token=0)
    even = tiny.surprise(np.concatenate([frames, frames[-1:]]), 4, 1, SIZE, mask_token=0)
    assert odd.frames.tolist() == [[0, 1], [2, 3], [4, 5], [6, 6]]
    for name, values in every(odd).items():
        assert np.array_equal(values, every(even)[name], equal_nan=True)
    # five frames are a window of six
    assert np.isfinite(tiny.surprise(frames[:5], 4, 1, SIZE, mask_token=0).cosine[2]).all()


def test_batches_of_windows_give_what_single_windows_give(tiny, monkeypatch):
    frames = noise(15)
    together = tiny.surprise(frames, 4, 1, SIZE, mask_token=0)
    monkeypatch.setitem(vj.model.devices.BATCH_TOKENS, "cpu", 40)  # two windows
    in_twos = tiny.surprise(frames, 4, 1, SIZE, mask_token=0)
    for name, values in every(in_twos).items():
        assert values == pytest.approx(every(together)[name], abs=1e-5, nan_ok=True)


def made(curve, rows=2, columns=3, hot=None, **about):
    """A Surprise whose prediction has the 1 − cosine of `curve` (steps,), and 0.9 at the token
    `hot`; the last step copied twice as much, the mean 0.5, pixels its square.
    """
    curve = np.asarray(curve, np.float32)
    full = lambda values: np.broadcast_to(
        np.asarray(values, np.float32)[:, None, None], (len(curve), rows, columns)
    ).copy()
    error = full(curve)
    if hot is not None:
        error[hot] = 0.9
    nan = np.where(np.isnan(curve), np.nan, 0).astype(np.float32)
    baselines = {
        "last step": {"cosine": 1 - full(2 * curve), "l1": full(curve)},
        "mean": {"cosine": 1 - full(nan + 0.5), "l1": full(nan + 1)},
        "pixels": {"cosine": full(nan * np.nan), "l1": full(curve**2)},
    }
    frames = np.arange(2 * len(curve)).reshape(-1, 2)
    about = dict(context=8, horizon=1, target="window", mask_token=0, encoder="none") | about
    return vj.Surprise(1 - error, full(curve), baselines, frames, frames[:, 0] * 0 + 1, **about)


CURVE = [np.nan, np.nan, 0.1, 0.3, 0.2, 0.1, 0.1, 0.25, 0.1, 0.16]


def test_moments_and_means_by_hand():
    found = made(CURVE)
    assert found.moments().tolist() == [3, 7]  # 4 is beside 3; 9 within two steps of 7
    assert found.moments(1).tolist() == [3]
    assert made(CURVE, context=2).moments().tolist() == [3, 7, 9]
    over = found.over_time("cosine")
    assert over["prediction"] == pytest.approx(CURVE, nan_ok=True)
    assert over["last step"][3] == pytest.approx(0.6) and over["mean"][3] == pytest.approx(0.5)
    assert found.over_time("l1")["pixels"][3] == pytest.approx(0.09)
    lines = {line.split()[0]: line.split()[-4:] for line in found.table().splitlines()[2:-1]}
    assert lines["prediction"] == ["0.164", "0.300"] * 2 and lines["pixels"][:2] == ["–", "–"]
    with pytest.raises(ValueError, match="ahead must be from 1 to the horizon, 1, not 2"):
        found.over_time(ahead=2)
    with pytest.raises(ValueError, match='error must be "cosine" or "l1"'):
        found.errors("l2")


def test_what_is_saved_is_what_is_loaded(tmp_path):
    found = made(CURVE)
    found.save(tmp_path / "out.npz")
    again = vj.Surprise.load(tmp_path / "out.npz")
    for name, values in every(found).items():
        assert np.array_equal(values, every(again)[name], equal_nan=True)
    assert np.array_equal(found.frames, again.frames) and again.target == "window"
    (tmp_path / "no.npz").write_text("no")
    with pytest.raises(ValueError, match="no.npz is no surprise file"):
        vj.Surprise.load(tmp_path / "no.npz")


# Arguments


@pytest.mark.parametrize(
    ("frames", "options", "sentence"),
    [
        (8, dict(), "The clip has 8 frames, fewer than a window of 10, 8 visible and 2 predicted"),
        (8, dict(context=4, horizon=3), "a window of 10, 4 visible and 6 predicted: take more"),
        (8, dict(context=3), "context must be an even number of visible frames, not 3"),
        (8, dict(context=0), "context must be an even number"),
        (8, dict(context=True), "context must be an even number"),
        (8, dict(horizon=0), "horizon must be a number of steps of at least 1, not 0"),
        (8, dict(target="clip"), 'target must be "window" or "step", not \'clip\''),
        (8, dict(mask_token=10), "mask_token must be a whole number from 0 to 9"),
    ],
)
def test_bad_input(tiny, frames, options, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        tiny.surprise(noise(frames), size=SIZE, **({"mask_token": 0} | options))
    assert len(str(caught.value).splitlines()) == 1


def test_an_encoder_without_a_predictor():
    with pytest.raises(ValueError, match="image has no predictor"):
        image = SimpleNamespace(model=SimpleNamespace(), name="image")
        vj.predict.surprise.surprise(image, noise(10), 8, 1, None, "window", None)


def test_a_window_that_cannot_fit(tiny, monkeypatch):
    monkeypatch.setattr("vjepa_utils.model.devices.free_memory", lambda device: 200_000)
    with pytest.raises(MemoryError, match=r"402 frames .* a window of \d+ frames fits"):
        tiny.surprise(noise(402), 400, 1, SIZE, mask_token=0)


def test_a_damaged_film_ends_before_the_damage(tiny, clips, monkeypatch):
    monkeypatch.setattr(vj.video, "DECODE_AT_ONCE", 0)  # frames are read as they are needed
    video = vj.read_video(clips / "formats" / "corrupted_midstream.mp4", start=14)
    with pytest.warns(UserWarning, match="damaged at frame 28: the clip ends before it"):
        found = tiny.surprise(video, 4, 1, 32, mask_token=0)
    assert found.frames[-1].tolist() == [26, 27] and np.isfinite(found.l1[2:]).all()


# Figures


def test_the_strip_shows_frames_heat_and_curves():
    video = vj.as_video(grey_levels(20, 48, 72, step=10))
    found = made(CURVE, hot=(3, 0, 2))
    figure = vj.surprise.surprise_strip(video, found, most=4)
    curve = found.over_time()["prediction"]
    pictures = [axis for axis in figure.axes if axis.get_images()]
    plains, hots = pictures[:4], pictures[4:]
    titles = [axis.get_title() for axis in plains]
    chosen = [2, 3, 7, 9]  # both moments, first and last step that are predicted
    assert titles == ["frames 4+5", "(1)  frames 6+7", "(2)  frames 14+15", "frames 18+19"]
    heated = lambda axis: np.asarray(axis.get_images()[0].get_array())
    heat = found.errors()["prediction"]
    top = np.nanpercentile(heat, 99.5)  # one scale for all
    for step, plain, hot in zip(chosen, plains, hots, strict=True):
        assert (heated(plain) == 20 * step).all()
        expected = 0.6 * 255 * HEAT(np.clip(heat[step] / top, 0, 1))[..., :3] + 0.4 * 20 * step
        assert np.abs(heated(hot)[12::24, 12::24] - expected).max() <= 0.5
        patches = heated(hot).reshape(2, 24, 3, -1, 3)[:, :, :, 2:-2].astype(float)
        brightness = patches.mean((1, 3, 4))
        if step == 3:
            assert brightness.argmax() == 2 and brightness[0, 2] > brightness[0, 0] + 40
        else:
            assert np.ptp(brightness) < 1
    above = next(axis for axis in figure.axes if axis.get_ylabel().startswith("surprise"))
    line, *marks = above.get_lines()
    assert line.get_xdata().tolist() == [*range(0, 20, 2)]
    assert line.get_ydata() == pytest.approx(curve, nan_ok=True)
    assert [mark.get_xdata()[0] for mark in marks] == [6, 14]
    assert [(t.get_text(), t.xy[0]) for t in above.texts] == [("(1)", 6), ("(2)", 14)]
    below = next(axis for axis in figure.axes if axis.get_ylabel().startswith("baselines"))
    lines = {line.get_label(): line.get_ydata() for line in below.get_lines()}
    assert lines["last step"] == pytest.approx(found.over_time()["last step"], nan_ok=True)
    assert lines["mean"][2:] == pytest.approx(0.5)
    own = next(axis for axis in figure.axes if axis.get_ylabel().startswith("pixels"))
    assert own.get_lines()[0].get_ydata() == pytest.approx(np.square(CURVE), nan_ok=True)
    assert "none · predicted from 8 frames, 1 step ahead" in figure.get_suptitle()
    assert "target from the window with its future" in figure.get_suptitle()
    alone = vj.surprise.surprise_strip(video, made(CURVE, target="step"), most=4)
    assert "target from the predicted step alone" in alone.get_suptitle()


def test_frame_k_of_the_film_shows_frame_k_and_the_line_there(tmp_path):
    video, found = vj.as_video(grey_levels(20, 48, 72, step=10)), made(CURVE, hot=(3, 0, 2))
    pictures = list(vj.surprise.figures._film(video, found, "cosine", 1))
    assert len(pictures) == 20
    height, width = pictures[0].shape[0] - 300, pictures[0].shape[1] // 2
    places = []
    for number, picture in enumerate(pictures):
        plain, hot = picture[:height, :width], picture[:height, width:]
        assert (plain == 10 * number).all()
        patch = hot[: height // 2, width * 2 // 3 + 2 :].astype(float).mean()
        assert (patch > hot[height // 2 :].mean() + 40) == (number in (6, 7))
        # what differs from the curves of another frame is the line
        other = pictures[(number + 10) % 20]
        moved = (picture[height:] != other[height:]).any((0, 2)).nonzero()[0]
        places.append(moved[0] if number < 10 else moved[-1])
    assert np.ptp(np.diff(places)) <= 1 and np.diff(places).min() > 10
    vj.surprise.animate_surprise(video, found, tmp_path / "film.mp4")
    with av.open(str(tmp_path / "film.mp4")) as film:
        drawn = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    assert len(drawn) == 20
    for number, picture in enumerate(drawn):
        assert abs(picture[:height, :width].mean() - 10 * number) < 4


def test_the_command_draws_and_saves(tmp_path, command):
    clip = write_video(tmp_path / "clip.mp4", noise(12))
    words = ["surprise", clip, "--encoder", GOLDEN / "model", "--size", 32, "--context", 4]
    extra = ["--save", tmp_path / "out.npz", "--target", "step"]
    for out in ("out.png", "out.mp4"):
        done = command(*words, *extra, "-o", tmp_path / out)
        assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "out.png") as picture, av.open(str(tmp_path / "out.mp4")) as film:
        assert picture.width > picture.height > 500
        assert len(list(film.decode(video=0))) == 12
    found = vj.Surprise.load(tmp_path / "out.npz")
    first = found.moments()[0]
    assert f"(1) frames {2 * first}+{2 * first + 1}, {2 * first / 30:.2f} s" in done.stdout
    assert found.target == "step" and "6 steps, each predicted from 4 frames, model" in done.stdout
    for bad, sentence in (
        (["-o", "out.txt"], "-o must end in .png, .mp4 or .gif"),
        (["-o", tmp_path / "x.png", "--save", "x.csv"], "--save must end in .npz"),
        (["-o", tmp_path / "x.png", "--horizon", 9], "fewer than a window of 22"),
        (["-o", tmp_path / "x.mp4", "--pixels"], "--pixels goes with a .png: the film"),
    ):
        done = command(*words, *bad)
        assert done.returncode == 1 and sentence in done.stderr


# Pairs


TIME = torch.arange(12) - 4.0
PLACES = dict(speed=4.0, radius=10.0, width=12.0, gap=20.0, leap=(-25.0, 5.0))


@pytest.mark.parametrize("kind", impossible.KINDS)
def test_courses_of_a_pair(kind):
    """What happens at frame 4, by hand."""
    possible, wrong, still = impossible.courses(kind, TIME, **PLACES)
    for (x, y), (u, v) in zip(possible, wrong, strict=True):
        assert torch.equal(x[:4], u[:4]) and (y == 0).all() and (v[:4] == 0).all()
    x, u = possible[0][0], wrong[0][0]
    there = lambda x: x < impossible.AWAY
    if kind == "vanish":  # in front of a screen that the other goes behind
        assert still == (0, 24) and there(x).all() and not there(u[4]) and x[3] + 10 <= 0
        assert torch.equal(x[u < impossible.AWAY], u[u < impossible.AWAY])
    if kind == "jump":
        assert torch.equal(u[4:], x[4:] - 25) and (wrong[0][1][4:] == 5).all()
    if kind == "pass":
        apart = possible[1][0] - x
        assert apart.min() > 19 and apart.argmin() in (3, 4)
        assert (wrong[1][0] - u)[-1] < 0
    if kind == "turn":  # one thing at a time; the other clip changes behind the screen
        for clip in (possible, wrong):
            assert (there(clip[0][0]).int() + there(clip[1][0]).int() == 1).all()
        assert there(wrong[1][0]).tolist() == [False] * 4 + [True] * 8
        changed = there(possible[1][0]).int().argmax()
        assert 12 < possible[1][0][changed] <= 16
    if kind == "stay":  # its edge comes out of the screen, or it is never seen again
        assert x[4] + 10 > still[1] >= x[3] + 10 and not there(u[4:]).any()
    if kind == "reverse":  # at the wall, or before it
        assert x.max() + 10 <= still[0] == 20 and u.argmax() in (3, 4) and u.max() + 10 <= 2
        assert torch.allclose(u[4:], u[:4].flip(0).tolist()[0] - 4.0 * torch.arange(8))


@pytest.mark.parametrize("kind", impossible.KINDS)
def test_pairs_are_equal_up_to_the_event_and_say_where_it_is(kind):
    def pair():
        generator = torch.Generator().manual_seed(7)
        photo = torch.rand(3, 400, 400, generator=generator)
        return impossible.pair(kind, generator, textures(12, generator, [photo]))

    made = pair()
    again = pair()
    assert np.array_equal(made.impossible, again.impossible) and made.onset == again.onset
    assert made.possible.shape == made.impossible.shape == (20, 128, 128, 3)
    assert made.onset % 2 == 0 and np.array_equal(
        made.possible[: made.onset], made.impossible[: made.onset]
    )
    differ = np.abs(made.possible.astype(int) - made.impossible).max(-1) > 60
    assert differ[made.onset : made.onset + 2].any() and not made.where[: made.onset].any()
    grown = torch.from_numpy(made.where).float().unsqueeze(1)
    grown = F.max_pool2d(grown, 5, 1, 2)[:, 0].numpy() > 0
    assert not (differ & ~grown).any() and differ.sum() > 0.1 * made.where.sum()


def test_pairs_go_on_without_end(monkeypatch):
    monkeypatch.setattr(impossible, "photographs", lambda names: [torch.rand(3, 330, 330)])
    kinds = [made.kind for made in islice(impossible.pairs(side=64), 7)]
    assert kinds == [*impossible.KINDS, impossible.KINDS[0]]


# Benchmark


def test_statistics_by_hand():
    assert impossible_events.wilson(8, 10) == pytest.approx((0.490, 0.943), abs=1e-3)
    assert impossible_events.wilson(0, 5) == pytest.approx((0, 0.434), abs=1e-3)
    assert impossible_events.auc([1, 3], [2, 0, 3]) == pytest.approx((1 + 2.5) / 6)
    assert np.isnan(impossible_events.auc([], [1]))
    told = impossible_events.told(made(CURVE), made(np.multiply(CURVE, 1.1)), "l1")
    assert told == {
        "prediction": (1, 1),
        "last step": (1, 1),
        "mean": (0.5, 0.5),
        "pixels": (1, 1),
    }


def test_where_and_when_by_hand():
    """The event is at frames 6 and 7 in the upper right token, a little of which it shows later."""
    found = made(CURVE, hot=(3, 0, 2))
    where = np.zeros((20, 32, 48), bool)
    where[6:8, :16, 32:] = True
    areas = impossible_events.located(found, where, 6, "cosine")
    # steps 3 and 4 against 2, 5, 6, 7, 8, 9
    assert areas["prediction"] == (1, pytest.approx((6 + 5) / 12))
    # 5 others in step 3 are equal, 6 in step 4 are smaller
    assert areas["last step"][0] == pytest.approx((6 + 5 / 2) / 11)
    assert areas["mean"] == (0.5, 0.5) and "pixels" not in areas


def test_pairs_of_files(tiny, tmp_path, monkeypatch):
    for name, seed in (("a", 0), ("b", 1)):
        (tmp_path / name).mkdir()
        for number, frame in enumerate(noise(6, seed)):
            Image.fromarray(frame).save(tmp_path / name / f"{number}.png")
    with open(tmp_path / "pairs.csv", "w", newline="") as file:
        csv.writer(file).writerows([["possible", "impossible"], ["a", "b"], ["b", "a"]])
    monkeypatch.setattr(vj, "load_encoder", lambda name: tiny)
    other = SimpleNamespace(name="other", surprise=tiny.surprise)
    monkeypatch.setattr(impossible_events, "random_weights", lambda encoder: other)
    arguments = SimpleNamespace(encoder="", context=4, target="window", size=SIZE, error="l1")
    arguments.pairs, arguments.every, arguments.frames = tmp_path / "pairs.csv", 1, None
    arguments.save = tmp_path / "found.csv"
    with pytest.warns(UserWarning, match="mask tokens"):
        found = impossible_events.run(arguments)
    again = impossible_events.loaded(tmp_path / "found.csv")
    assert impossible_events.report(again, arguments) == impossible_events.report(found, arguments)
    assert [one["row"] for one in found[:7]] == [
        *(f"model: {row}" for row in ("prediction", "last step", "mean")),
        "pixels",
        *(f"other: {row}" for row in ("prediction", "last step", "mean")),
    ]
    assert found[0]["mean"] + found[7]["mean"] == 1
    text = impossible_events.report(found, arguments)
    assert "| model: prediction | 50 (9–91) |" in text and "where" not in text
