"""Pixels from tokens, against scikit-learn, scenes that are linear in their tokens, a repainted
clip, and brute force.
"""

import re
from copy import copy

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, PredefinedSplit

import vjepa_utils as vj
from benchmarks import pixels as benchmark
from tests.conftest import GOLDEN, write_video
from tests.test_recovery import repainted
from vjepa_utils.decoding import decoder as module
from vjepa_utils.decoding import pixels

PATCH, GRID = 8, (3, 8, 12)
RANDOM = np.random.default_rng(0)


def features_of(values, **fields):
    """Features of a clip whose frames are encoded at their own size."""
    steps, rows, columns, _ = values.shape
    size = (PATCH * rows, PATCH * columns)
    frames = torch.arange(2 * steps).view(-1, 2)
    fields = {"encoder": "none", "picture_size": size, "source_size": size} | fields
    return vj.Features(torch.as_tensor(values).float(), frames, PATCH, **fields)


def scene(kinds=16, channels=20, seed=0):
    """Features and frames of patches of some kinds: what a token's patch shows in both frames is a
    linear function of the layer-normalised token, and a whole number.
    """
    generator = np.random.default_rng(seed)
    tokens = generator.standard_normal((kinds, channels))
    shown = generator.integers(0, 256, (kinds, 2, PATCH, PATCH, 3), np.uint8)
    kind = generator.integers(0, kinds, GRID)
    patches = shown[kind]  # (steps, rows, columns, 2, patch, patch, 3)
    frames = patches.transpose(0, 3, 1, 4, 2, 5, 6).reshape(2 * GRID[0], 8 * PATCH, 12 * PATCH, 3)
    return features_of(tokens[kind]), frames


def noisy(seed=0):
    """Random frames, and tokens that hold something of the colours of their patches."""
    generator = np.random.default_rng(seed)
    frames = generator.integers(0, 256, (2 * GRID[0], 8 * PATCH, 12 * PATCH, 3), np.uint8)
    means = frames.reshape(GRID[0], 2, 8, PATCH, 12, PATCH, 3).mean((1, 3, 5))  # of each patch
    mixed = (means - 127) @ generator.standard_normal((3, 20)) / 10
    return features_of(mixed + generator.standard_normal((*GRID, 20))), frames


def matrices(features, frames, border=0):
    """Layer-normalised tokens and the pixels of their windows, as (frame, colour, row, column), by
    loops; of windows that lie in the picture.
    """
    x, y, places = [], [], []
    values = features.values.double().numpy()
    for step, row, column in np.ndindex(*GRID):
        top, left = row * PATCH - border, column * PATCH - border
        side = PATCH + 2 * border
        if min(top, left) < 0 or top + side > 8 * PATCH or left + side > 12 * PATCH:
            continue
        token = values[step, row, column]
        x.append((token - token.mean()) / np.sqrt(token.var() + 1e-5))
        cut = frames[2 * step : 2 * step + 2, top : top + side, left : left + side]
        y.append(cut.transpose(0, 3, 1, 2).ravel() / 255)
        places.append((row, column))
    return np.array(x), np.array(y), np.array(places)


def test_the_fit_equals_ridge():
    features, frames = noisy()
    decoder = vj.PixelDecoder().fit(features, frames)
    inside = np.zeros((2, 3, 2 * PATCH, 2 * PATCH), bool)
    inside[..., 4:-4, 4:-4] = True
    for border, chosen in ((0, inside.ravel()), (4, ~inside.ravel())):
        x, y, _ = matrices(features, frames, border)
        y = y if border == 0 else y[:, chosen]
        ridge = Ridge(alpha=decoder.strength).fit(x, y)
        weights = decoder.weights.numpy()[:, chosen]
        assert np.allclose(weights[:-1], ridge.coef_.T, atol=1e-6)
        assert np.allclose(weights[-1], ridge.intercept_, atol=1e-6)


@pytest.mark.parametrize("noise", [0.01, 1, 30])
def test_strength_is_chosen_by_held_out_tokens(noise):
    features, frames = noisy(1)
    features.values += noise * torch.randn(features.values.shape, generator=torch.manual_seed(0))
    decoder = vj.PixelDecoder().fit(features, frames)
    x, y, places = matrices(features, frames)
    quarter = places // 2 % 2  # blocks of 2×2, a quarter of 8 rows
    folds = PredefinedSplit(2 * quarter[:, 0] + quarter[:, 1])
    search = GridSearchCV(
        Ridge(), {"alpha": module.STRENGTHS}, cv=folds, scoring="neg_mean_squared_error"
    )
    assert decoder.strength == search.fit(x, y[:, :: module.EVERY]).best_params_["alpha"]


def test_a_linear_scene_is_decoded_exactly():
    features, frames = scene(seed=1)
    where = np.random.default_rng(1).random(GRID) < 0.5
    decoder = vj.PixelDecoder().fit(features, frames, where)
    assert np.array_equal(decoder.decode(features), frames)  # frame k is of step k // 2
    assert np.array_equal(decoder.decode(features.values), frames)
    assert np.array_equal(decoder.decode(features[1:2]), frames[2:4])
    assert decoder.score(features, frames, ~where) == {"r2": 1, "psnr": np.inf}


def test_several_clips_share_a_fit():
    sets = [noisy(seed) for seed in (0, 1)]
    decoder = vj.PixelDecoder().fit(*map(list, zip(*sets, strict=True)))
    x, y, _ = (np.concatenate(parts) for parts in zip(*(matrices(*s) for s in sets), strict=True))
    ridge = Ridge(alpha=decoder.strength).fit(x, y)
    weights = decoder.weights.numpy()[-1].reshape(2, 3, 2 * PATCH, 2 * PATCH)
    assert np.allclose(weights[..., 4:-4, 4:-4].ravel(), ridge.intercept_, atol=1e-6)


@pytest.mark.parametrize("mask", [vj.masks.block, vj.masks.tubes])
def test_hidden_pixels_reach_neither_the_fit_nor_the_picture(tiny, mask):
    frames = RANDOM.integers(0, 256, (6, 96, 128, 3), np.uint8)
    hidden = mask(tiny.grid(frames, 96, "clip"), 0.3)
    found = []
    for clip in (frames, repainted(frames, hidden)):
        recovery = tiny.recover(clip, hidden, 0, 96)
        decoder = vj.PixelDecoder().fit(recovery, clip)
        found.append((decoder, decoder.decode(recovery)))
    (a, before), (b, after) = found
    assert torch.equal(a.weights, b.weights) and torch.equal(a.trust, b.trust)
    assert np.array_equal(before, after) and a.strength == b.strength


def test_patches_meet_without_seams():
    """A smooth scene and tokens that hold the colour at their centre: the edges of patches are no
    larger steps than those inside.
    """
    y, x = np.mgrid[: 8 * PATCH, : 12 * PATCH] / 64
    waves = [np.sin(3 * x + s) + np.cos(4 * y - s) for s in range(2 * GRID[0])]
    frames = np.stack(waves)[..., None] * [40, 30, 20] + 128
    means = frames.reshape(GRID[0], 2, 8, PATCH, 12, PATCH, 3).mean((3, 5)).swapaxes(1, 3)
    frames = frames.round().astype(np.uint8)
    features = features_of(means.reshape(*GRID[:1], 12, 8, 6).swapaxes(1, 2))
    decoded = vj.PixelDecoder(normalise=False).fit(features, frames).decode(features).astype(int)
    steps = np.abs(np.diff(decoded, axis=2)).mean((0, 1, 3))
    edges = np.arange(len(steps)) % PATCH == PATCH - 1
    assert steps[edges].mean() < 1.5 * steps[~edges].mean()


def test_no_more_than_a_step_is_held_in_float64(monkeypatch):
    features, frames = noisy()
    largest, double = [], torch.Tensor.double
    monkeypatch.setattr(
        torch.Tensor, "double", lambda self: (largest.append(self.numel()), double(self))[1]
    )
    vj.PixelDecoder().fit(features, frames)
    assert 0 < max(largest) <= 2 * 3 * 8 * 12 * (2 * PATCH) ** 2  # the windows of a step


def test_a_saved_decoder_decodes_the_same(tmp_path):
    features, frames = noisy()
    decoder = vj.PixelDecoder(normalise=False).fit(features, frames)
    decoder.save(tmp_path / "decoder.safetensors")
    again = vj.PixelDecoder.load(tmp_path / "decoder.safetensors")
    assert np.array_equal(again.decode(features), decoder.decode(features))
    assert (
        repr(again)
        == repr(decoder)
        == (f"PixelDecoder(none, final norm, short side 64, strength {decoder.strength:g})")
    )
    with pytest.raises(ValueError, match="is no decoder file"):
        features.save(tmp_path / "features.safetensors")
        vj.PixelDecoder.load(tmp_path / "features.safetensors")


@pytest.mark.parametrize("tokens", [1, 2, 12])
def test_few_tokens_give_a_blur_and_a_sentence(tokens):
    features, frames = noisy()
    where = np.zeros(GRID, bool)
    where.flat[RANDOM.choice(where.size, tokens, replace=False)] = True
    sentence = (
        f"{tokens} tokens .* fewer than their 20 channels: the strength of the ridge went up to"
    )
    with pytest.warns(UserWarning, match=sentence):
        decoder = vj.PixelDecoder().fit(features, frames, where)
    assert decoder.strength >= 100 and decoder.score(features, frames, ~where)["r2"] > -1.5


def test_a_browser_decodes_components():
    """Components times the packed weights are the pixels, as the page computes them."""
    features, frames = noisy()
    components = vj.PCAColours(components=20).fit(features).project(features)
    basis = features_of(components)
    packed, scale = vj.PixelDecoder(normalise=False).fit(basis, frames).packed()
    assert (
        packed.dtype == np.int8 and packed.shape == (21, 2 * 3 * PATCH**2) and scale.dtype == "f4"
    )
    weights = packed * scale[:, None]
    numbers = components.flatten(0, 2).numpy() @ weights[:-1] + weights[-1]
    x, y, _ = matrices(features, frames)
    x = components.flatten(0, 2).double().numpy()
    strength = vj.PixelDecoder(normalise=False).fit(basis, frames).strength
    exact = Ridge(alpha=strength).fit(x, y).predict(x)
    assert np.abs(numbers - exact).max() < 0.01 and np.abs(exact - exact.mean(0)).max() > 0.05


def test_with_nothing_to_hold_out_the_strength_is_the_largest():
    features, frames = noisy()
    where = np.zeros(GRID, bool)
    where[:, :2, :2] = True  # 12 tokens of one block, more than the channels
    decoder = vj.PixelDecoder().fit(features_of(features.values[..., :5]), frames, where)
    assert decoder.strength == module.STRENGTHS[-1]


def test_predictions_keep_their_length(tiny):
    frames = np.random.default_rng(3).integers(0, 256, (6, 96, 128, 3), np.uint8)
    recovery = tiny.recover(frames, vj.masks.block((3, 6, 8), 0.3), 0, 96)
    recovery.predicted *= 0.3
    decoder = vj.PixelDecoder().fit(recovery, frames)
    plain = copy(decoder)
    plain.normalise = False
    assert np.array_equal(decoder.decode(recovery), plain.decode(recovery.filled.values))
    assert not np.array_equal(decoder.decode(recovery), decoder.decode(recovery.filled.values))


# Numbers and copies


def test_numbers_by_hand():
    """Left half black, right half white: the mean colour has R² 0; half as dark a white is off by
    127 in half of the pixels.
    """
    frames = np.zeros((2 * GRID[0], 8 * PATCH, 12 * PATCH, 3), np.uint8)
    frames[:, :, 6 * PATCH :] = 255
    features, guess = features_of(np.zeros((*GRID, 4))), np.where(frames, np.uint8(128), 0)
    error = (127 / 255) ** 2 / 2  # as R²: the variance is 1/4
    numbers = pixels.agreement(guess, features, frames)
    assert numbers == pytest.approx({"r2": 1 - 4 * error, "psnr": -10 * np.log10(error)}, abs=1e-3)
    grey = np.full_like(frames, 127.5)
    assert pixels.agreement(grey, features, frames)["r2"] == pytest.approx(0, abs=1e-4)
    left = np.zeros(GRID, bool)
    left[:, :, :6] = True
    assert pixels.agreement(guess, features, frames, left)["psnr"] == np.inf


def test_copies_against_brute_force():
    features, frames = noisy()
    visible = RANDOM.random(GRID) < 0.4
    patches = frames.reshape(GRID[0], 2, 8, PATCH, 12, PATCH, 3).transpose(0, 2, 4, 1, 3, 5, 6)
    unit = features.values / features.values.norm(dim=-1, keepdim=True)
    places = np.argwhere(visible)
    for by in ("features", "place"):
        copied = pixels.copied(features, frames, visible, by)
        copied = copied.reshape(GRID[0], 2, 8, PATCH, 12, PATCH, 3).transpose(0, 2, 4, 1, 3, 5, 6)
        assert np.array_equal(copied[visible], patches[visible])
        for token in np.argwhere(~visible):
            far = ((places - token) ** 2).sum(1)
            far = far if by == "place" else -(unit[visible] @ unit[tuple(token)]).numpy()
            assert np.array_equal(copied[tuple(token)], patches[tuple(places[far.argmin()])])


def test_raw_colours_by_loops():
    features, frames = noisy()
    raw = pixels.raw_colours(features, frames)
    assert raw.grid == GRID and raw.values.shape[-1] == 150 and raw.encoder == "raw colours"
    means = frames.reshape(GRID[0], 2, 8, PATCH, 12, PATCH, 3).mean((3, 5)) / 255
    for step, row, column in ((0, 3, 4), (2, 0, 11), (1, 7, 0)):  # edges are repeated
        rows, columns = (np.arange(at - 2, at + 3) for at in (row, column))
        near = means[step][:, rows.clip(0, 7)][:, :, columns.clip(0, 11)]
        expected = near.transpose(0, 3, 1, 2).ravel()
        assert np.allclose(raw.values[step, row, column], expected, atol=1e-6)


# Bad input

FEATURES, FRAMES = noisy()
NONE = np.zeros(GRID, bool)


@pytest.mark.parametrize(
    ("features", "where", "sentence"),
    [
        (FEATURES, NONE, "True at some tokens, not bool .* and True at 0"),
        (FEATURES, NONE[:2], r"bool of the shape \(3, 8, 12\)"),
        (FEATURES, NONE.astype(int), "not int"),
        (features_of(FEATURES.values * torch.nan), None, "NaN or infinite"),
        (features_of(FEATURES.values, stride=4), None, "4 pixels apart"),
        (features_of(FEATURES.values, source_size=(90, 60)), None, "96×64 pixels.* 60×90"),
        ([FEATURES, features_of(FEATURES.values, encoder="b")], None, "for b, .* and for none, "),
    ],
)
def test_bad_fits(features, where, sentence):
    video = 2 * [FRAMES] if isinstance(features, list) else FRAMES
    with pytest.raises(ValueError, match=sentence) as caught:
        vj.PixelDecoder().fit(features, video, where)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("other", "names"),
    [
        (features_of(FEATURES.values, encoder="b"), "Tokens of b, final norm, .* to none, final"),
        (features_of(FEATURES.values, layer=3), "none, layer 3, .* fit to none, final norm"),
        (features_of(FEATURES.values[:, :4]), "short side 32, .* short side 64"),
        (FEATURES.values[..., :5], "5 channels, .* 20 channels"),
    ],
)
def test_what_another_fit_decodes(other, names):
    decoder = vj.PixelDecoder().fit(FEATURES, FRAMES)
    with pytest.raises(ValueError, match=names):
        decoder.decode(other)


def test_a_decoder_that_is_not_fitted():
    with pytest.raises(ValueError, match="not fitted yet"):
        vj.PixelDecoder().decode(FEATURES)


def test_features_know_their_layer(tiny, tmp_path):
    frames = RANDOM.integers(0, 256, (4, 64, 64, 3), np.uint8)
    layers = tiny.encode(frames, size=64, layers=[1, None])
    assert [each.layer for each in layers.values()] == [1, None]
    layers[1].save(tmp_path / "f.safetensors")
    assert vj.Features.load(tmp_path / "f.safetensors").layer == 1
    decoder = vj.PixelDecoder()
    with pytest.warns(UserWarning, match="32 tokens"):
        decoder.fit(layers[1], frames)
    with pytest.raises(ValueError, match="final norm.* layer 1"):
        decoder.decode(layers[None])


# Figures and commands


@pytest.fixture(scope="module")
def recovery(tiny):
    """A clip of 6 frames at its own size, with a block hidden."""
    frames = np.random.default_rng(3).integers(0, 256, (6, 96, 128, 3), np.uint8)
    return frames, tiny.recover(frames, vj.masks.block((3, 6, 8), 0.3), 0, 96)


def test_the_strip_shows_frames_of_its_steps_with_their_numbers(recovery):
    frames, recovery = recovery
    decoded = vj.decoding.recovered(frames, recovery, "block")
    figure = decoded.strip(2)
    decoder = vj.PixelDecoder().fit(recovery, frames)
    whole, filled = decoder.decode(recovery.whole), decoder.decode(recovery)
    pictures = [axis.get_images()[0].get_array() for axis in figure.axes]
    for row, expected in ((0, frames), (2, whole), (3, filled)):
        assert np.array_equal(pictures[2 * row], expected[0])
        assert np.array_equal(pictures[2 * row + 1], expected[4])
    veil = vj.masks.pixels(recovery.hidden, 96, 128)[0]
    assert np.array_equal(pictures[2][~veil], frames[0][~veil]) and np.ptp(pictures[2][veil]) < 50
    scores = decoder.score(recovery.whole, frames, recovery.hidden), decoder.score(recovery, frames)
    texts = [f"{s['r2']:.2f} ({s['psnr']:.1f} dB)".replace("-", "−") for s in scores]
    assert f"from features {texts[0]}, from prediction {texts[1]}, most" in decoded.heading
    assert (
        decoded.heading.startswith("clip · model · ") and "R² (PSNR) of hidden" in decoded.heading
    )
    assert [axis.get_title() for axis in figure.axes[:2]] == ["frames 0+1", "frames 4+5"]
    labels = [axis.get_ylabel().split("\n")[0] for axis in figure.axes[::2]]
    share = f"block {100 * recovery.hidden.mean():.0f} %"
    assert labels == ["clip", share, "from features", "from prediction", "most similar"]


def test_frame_k_of_a_film_is_of_step_k_half(recovery, tmp_path):
    import av

    features, frames = scene(seed=1)
    video = vj.as_video(frames)
    decoded = vj.decoding.by_layer(video, {2: features})
    decoded.animate(tmp_path / "film.mp4")
    with av.open(str(tmp_path / "film.mp4")) as film:
        shown = [picture.to_ndarray(format="rgb24") for picture in film.decode(video=0)]
    assert len(shown) == len(frames)
    left, right = (np.array([picture[-64:, x : x + 96] for picture in shown]) for x in (0, 96))
    for each in (left, right):  # the colours of a film are coarse, its levels of grey are not
        error = np.abs(each.mean(-1)[:, None] - frames.mean(-1)[None]).mean((2, 3))
        assert (error.argmin(1) == np.arange(len(frames))).all()


def test_layers_have_their_curve(tiny):
    frames = np.random.default_rng(3).integers(0, 256, (6, 96, 128, 3), np.uint8)
    layers = tiny.encode(frames, size=96, layers=[1, 3, None])
    decoded = vj.decoding.by_layer(frames, layers)
    held_out = np.broadcast_to(module.blocks((6, 8)) == 3, (3, 6, 8))
    for layer, label in ((1, "block 1"), (3, "block 3"), (None, "final norm")):
        decoder = vj.PixelDecoder().fit(layers[layer], frames, ~held_out)
        assert decoded.curve[label] == decoder.score(layers[layer], frames, held_out)["r2"]
    *_, axis = decoded.strip().axes
    assert [*axis.get_lines()[0].get_ydata()] == [*decoded.curve.values()][:3]
    assert vj.decoding.by_layer(frames, {None: layers[None]}).strip().axes[-1].get_images()


@pytest.mark.parametrize("horizon", [1, 2])
def test_what_was_expected_of_a_step(tiny, horizon):
    """It is the prediction whose error is the surprise, and no pixel of the future matters."""
    frames = np.random.default_rng(3).integers(0, 256, (14, 64, 64, 3), np.uint8)
    surprise = tiny.surprise(frames, 8, horizon, 64)
    frames[10:] = 255 - frames[10:]  # of step 5 on
    seen = slice(2 * (6 - horizon - 4), 2 * (6 - horizon))  # before the first step predicted
    clip = frames.copy()
    clip[: seen.start], clip[seen.stop :] = 0, 0
    with pytest.warns(UserWarning, match="64 tokens"):
        pictures = [vj.decoding.expected(surprise, tiny, x, 64, 5) for x in (frames, clip)]
        other = vj.decoding.expected(surprise, tiny, 255 - frames, 64, 5)
    assert np.array_equal(*pictures) and not np.array_equal(pictures[0], other)
    window = vj.as_video(frames)[seen.start : 12]
    recovery = tiny.recover(window, vj.masks.future((4 + horizon, 4, 4), 3), size=64)
    with pytest.warns(UserWarning, match="64 tokens"):
        decoded = vj.PixelDecoder().fit(recovery, window).decode(recovery)
    assert np.array_equal(pictures[0], decoded[-2])


def test_other_figures_show_pixels_below(command, tmp_path):
    clip = write_video(tmp_path / "clip.mp4", RANDOM.integers(0, 256, (10, 64, 96, 3), np.uint8))
    encoder = "--encoder", GOLDEN / "model", "--size", 64
    for words in (["recover", clip, "--mask", "block"], ["surprise", clip]):
        heights = []
        for more in ([], ["--pixels"]):
            done = command(*words, *encoder, *more, "-o", tmp_path / "out.png")
            assert done.returncode == 0, done.stderr
            heights.append(Image.open(tmp_path / "out.png").height)
        assert heights[1] > heights[0] + 100


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--mask", "block"], "hidden tokens: from features"),
        (["--mask", "tubes", "--layers", "1", "3"], "held-out tokens: block 1 .* block 3"),
        ([], "held-out tokens: final norm .* raw colours"),
    ],
)
@pytest.mark.parametrize("kind", [".png", ".mp4"])
def test_the_command(command, tmp_path, words, said, kind):
    clip = write_video(tmp_path / "clip.mp4", RANDOM.integers(0, 256, (4, 96, 128, 3), np.uint8))
    out = tmp_path / f"decoded{kind}"
    encoder = "--encoder", GOLDEN / "model", "--size", 96
    done = command("decode", clip, *encoder, *words, "-o", out)
    assert done.returncode == 0 and out.stat().st_size > 1000, done.stderr
    assert re.search(said, done.stdout) and "clip.mp4\nmodel\n" in done.stdout


def test_a_layer_that_is_not_there(command, tmp_path):
    out = tmp_path / "decoded.png"
    done = command("decode", "videos/monkey.mp4", "--count", 2, "--layers", 99, "-o", out)
    assert done.returncode == 1 and "from 1 to 8" in done.stderr and not out.exists()


def test_a_cell_of_the_benchmark():
    scores = [{"r2": -0.2, "psnr": 10.0}, {"r2": 0.1, "psnr": 13.0}]
    assert benchmark.cell(scores) == "−0.05 ± 0.15 (11.5)"
    assert benchmark.cell(scores[1:]) == "0.10 (13.0)"
