"""Features and their colours, against scikit-learn's full solver and hand-worked cases."""

import tracemalloc
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from sklearn.decomposition import PCA

import vjepa_utils as vj


def features(values, **changes):
    values = torch.as_tensor(np.asarray(values), dtype=torch.float32)
    steps, rows, columns = values.shape[:3]
    about = dict(
        patch_size=16,
        picture_size=(rows * 16, columns * 16),
        source_size=(rows * 40, columns * 40),
        encoder="test",
    )
    return vj.Features(values, torch.arange(2 * steps).view(steps, 2), **(about | changes))


@pytest.fixture
def random():
    mixing = np.random.default_rng(1).normal(size=(12, 12)) * np.linspace(3, 0.2, 12)
    return features(np.random.default_rng(0).normal(size=(3, 6, 9, 12)) @ mixing.T)


@pytest.mark.parametrize("mean", [0, 1e4])
def test_equal_to_the_full_solver_also_far_from_zero(random, mean):
    values = random.values + mean
    ours, full = (
        vj.PCAColours().fit(features(values)),
        PCA(3, svd_solver="full").fit(values.reshape(-1, 12).double()),
    )
    assert np.allclose(ours.explained_variance_ratio, full.explained_variance_ratio_, rtol=1e-9)
    projected = full.transform(values.reshape(-1, 12).double()).reshape(3, 6, 9, 3)
    for k in range(3):
        sign = np.sign(full.components_[k][np.abs(full.components_[k]).argmax()])
        low, high = np.percentile(sign * projected[..., k], (1, 99))
        expected = np.clip((sign * projected[..., k] - low) / (high - low), 0, 1)
        assert np.allclose(ours.colours(features(values))[..., k], expected, atol=1e-5)


def test_axes_and_signs_are_those_of_scikit_learn(random):
    values = random.values.reshape(-1, 12).double().numpy() + 1000
    learnt = PCA(5, svd_solver="covariance_eigh").fit(values)
    expected = learnt.transform(values)
    projected = (
        vj.PCAColours(5).fit(features(random.values + 1000)).project(features(random.values + 1000))
    )
    assert np.allclose(projected.reshape(-1, 5), expected, atol=1e-3)  # float32 of about 1000


def test_weights_count_tokens(random):
    """A weight of 0 leaves a token out, with one of 3 it counts as three."""
    whole = np.random.default_rng(3).integers(0, 4, random.grid)
    weighted = vj.PCAColours(5).fit(random, weights=torch.as_tensor(whole).float())
    repeated = random.values[torch.as_tensor(whole) > -1].repeat_interleave(
        torch.as_tensor(whole).flatten(), 0
    )
    learnt = PCA(5, svd_solver="full").fit(repeated.double())
    expected = learnt.transform(random.values.reshape(-1, 12).double())
    assert np.allclose(weighted.project(random).reshape(-1, 5), expected, atol=1e-4)
    x = learnt.transform(repeated.double())[:, :3]
    ends = np.percentile(x, (1, 99), axis=0, method="inverted_cdf")
    assert np.allclose([weighted._low, weighted._high], ends, atol=1e-4)
    part = features(random.values[:, 2:4, 1:7])
    window = np.zeros(random.grid)
    window[:, 2:4, 1:7] = 0.5
    assert np.allclose(
        vj.PCAColours().fit(random, weights=window).colours(random),
        vj.PCAColours().fit(part).colours(random),
        atol=1e-6,
    )


@pytest.mark.parametrize("wrong", [0, -1, np.nan, np.inf])
def test_weights_that_mean_nothing(random, wrong):
    with pytest.raises(ValueError, match="weights must be numbers of at least 0"):
        vj.PCAColours().fit(random, weights=np.full(random.grid, wrong))
    with pytest.raises(ValueError, match=r"of the only features, \(3, 6, 9\)"):
        vj.PCAColours().fit(random, random, weights=np.ones(random.grid))


def test_place_is_taken_out(random, tmp_path):
    """Features that are of their place alone but for little: without it, the rest is what shows."""
    place = 100 * np.random.default_rng(5).normal(size=(6, 9, 12))
    placed = features(random.values + torch.as_tensor(place).float())
    centred = features(random.values - random.values.mean(0))
    expected = vj.PCAColours().fit(centred).colours(centred)
    colours = vj.PCAColours(remove="place").fit(placed)
    assert np.allclose(colours.colours(placed), expected, atol=1e-4)
    assert np.allclose(colours.place, placed.values.double().mean(0))
    given = vj.PCAColours(remove=colours.place).fit(placed[1:])
    later = vj.PCAColours().fit(features(centred.values[1:]))
    assert np.allclose(given.colours(placed[1:]), later.colours(features(centred.values[1:])), 1e-4)
    colours.save(tmp_path / "basis.safetensors")
    loaded = vj.PCAColours.load(tmp_path / "basis.safetensors")
    assert np.array_equal(loaded.colours(placed), colours.colours(placed))
    with pytest.raises(ValueError, match="means of places have the shape"):
        colours.colours(features(random.values[:, :5]))
    with pytest.raises(ValueError, match="one grid, not of the shapes"):
        vj.PCAColours(remove="place").fit(random, features(random.values[:, :5]))


def test_share_is_that_of_the_tokens_shown(random):
    """What a basis holds of other tokens, by hand: the second clip varies along other channels."""
    turned = features(random.values[..., range(11, -1, -1)] + 7)
    colours = vj.PCAColours().fit(random)
    assert colours.share_of(random) == pytest.approx(colours.explained_variance_ratio[:3].sum())
    axes = PCA(3).fit(random.values.reshape(-1, 12).double()).components_
    x = turned.values.reshape(-1, 12).double().numpy()
    x -= x.mean(0)
    assert colours.share_of(turned) == pytest.approx(((x @ axes.T) ** 2).sum() / (x**2).sum())
    assert colours.share_of(turned) < colours.share_of(random)
    assert colours.share_of(features(np.full((1, 2, 2, 12), 3.0))) == 0


def test_a_film_is_coloured_in_little_memory():
    """A clip whose tokens would take 160 MB in float64 (here one step, repeated)."""
    one = torch.randn(1, 4, 4, 64, generator=torch.Generator().manual_seed(0))
    film = replace(features(one), values=one.expand(20_000, -1, -1, -1))
    colours = vj.PCAColours().fit(features(one))
    tracemalloc.start()
    painted = colours.colours(film)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.array_equal(painted[-1], colours.colours(features(one))[0])
    assert peak < 60e6


def test_one_basis_means_one_colour(random):
    """The same token has the same colour in any Features; a basis of two holds for both."""
    shared = vj.PCAColours().fit(random, features(random.values + 1))
    part = features(random.values[1:2, 2:4])
    assert np.array_equal(shared.colours(part), shared.colours(random)[1:2, 2:4])
    assert not np.allclose(
        vj.PCAColours().fit(random).colours(random), shared.colours(random), atol=0.05
    )


def test_range_is_fixed_at_fit_and_ignores_outliers(random):
    colours = vj.PCAColours().fit(random)
    before = colours.colours(random)
    assert (
        before.dtype == np.float32
        and before.shape == (3, 6, 9, 3)
        and before.min() == 0
        and before.max() == 1
    )
    colours.colours(features(random.values * 50))
    assert np.array_equal(colours.colours(random), before)


def test_a_large_clip_is_fitted_on_a_seeded_subsample(monkeypatch, random):
    monkeypatch.setattr("vjepa_utils.colours.MOST_TOKENS", 80)
    first, second = (vj.PCAColours().fit(random, random).colours(random) for _ in range(2))
    assert np.array_equal(first, second)
    monkeypatch.undo()
    assert np.abs(vj.PCAColours().fit(random).colours(random) - first).mean() < 0.2


def test_a_subsample_comes_from_the_whole_clip(monkeypatch, random):
    """The second half lies elsewhere: a basis of the first tokens alone would miss it."""
    values = random.values.clone()
    values[values.shape[0] // 2 :] += 100
    monkeypatch.setattr("vjepa_utils.colours.MOST_TOKENS", 40)
    moved = vj.PCAColours().fit(replace(random, values=values))
    assert moved.explained_variance_ratio[0] > 0.9


@pytest.mark.parametrize("shape", [(2, 3, 4, 12), (1, 1, 1, 12), (1, 1, 2, 12)])
def test_constant_or_tiny_input_is_grey_and_says_so(shape):
    values = np.full(shape, 3.3)
    if shape[2] == 2:
        values[..., 1, 0] = 5
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        with pytest.warns(UserWarning, match="drawn as grey"):
            colours = vj.PCAColours().fit(features(values))
    assert np.all(colours.colours(features(values))[..., 1:] == 0.5)
    with pytest.warns(UserWarning, match="drawn as grey"):
        front = vj.PCAColours(foreground=True).fit(features(np.full(shape, 3.3)))
    assert np.all(front.colours(features(np.full(shape, 3.3))) == 0.5)


def test_foreground_is_what_differs_from_the_border():
    values = np.random.default_rng(0).normal(size=(2, 8, 8, 6)) * 0.1
    values[:, 3:6, 2:5, 0] += 10
    colours = vj.PCAColours(foreground=True).fit(features(values))
    expected = np.zeros((2, 8, 8), bool)
    expected[:, 3:6, 2:5] = True
    assert np.array_equal(colours.foreground_mask(features(values)), expected)
    painted = colours.colours(features(values))
    assert np.all(painted[~expected] == 0) and painted[expected].std() > 0.1


def test_wrong_input(random):
    with pytest.raises(ValueError, match="another encoder"):
        vj.PCAColours().fit(random).colours(features(np.zeros((1, 2, 2, 5))))
    with pytest.raises(ValueError, match="cannot share a basis"):
        vj.PCAColours().fit(random, features(np.zeros((1, 2, 2, 5))))
    with pytest.raises(ValueError, match="NaN"):
        vj.PCAColours().fit(features(np.full((1, 2, 2, 5), np.nan)))
    with pytest.raises(ValueError, match="call fit"):
        vj.PCAColours().colours(random)
    with pytest.raises(ValueError, match="call fit"):
        vj.PCAColours().save("nowhere")
    with pytest.raises(ValueError, match="fit takes Features, what Encoder.encode gives, not Tens"):
        vj.PCAColours().fit(random.values)
    with pytest.raises(ValueError, match="at least 3"):
        vj.PCAColours(2)


@pytest.mark.parametrize("foreground", [False, True])
def test_save_and_load(tmp_path, random, foreground):
    colours = vj.PCAColours(foreground=foreground).fit(random)
    colours.save(tmp_path / "basis.safetensors")
    loaded = vj.PCAColours.load(tmp_path / "basis.safetensors")
    assert np.array_equal(loaded.colours(random), colours.colours(random))
    random.save(tmp_path / "features.safetensors")
    again = vj.Features.load(tmp_path / "features.safetensors")
    assert (
        torch.equal(again.values, random.values)
        and again.source_size == random.source_size
        and again.encoder == "test"
    )
    with pytest.raises(ValueError, match="is no features file"):
        vj.Features.load(tmp_path / "basis.safetensors")
    assert {f.name for f in tmp_path.iterdir()} == {"basis.safetensors", "features.safetensors"}
    (tmp_path / "plain").touch()
    assert {f.stat().st_mode for f in tmp_path.iterdir()} == {(tmp_path / "plain").stat().st_mode}


def test_times_go_with_their_steps(tmp_path):
    """Saved, loaded and cut like the frames; a file from before they were kept has NaN."""
    times = torch.tensor([[0, 0.1], [0.2, 0.4], [0.5, 0.6]], dtype=torch.float64)
    features(np.ones((3, 1, 2, 4)), times=times)[1:].save(tmp_path / "known.safetensors")
    again = vj.Features.load(tmp_path / "known.safetensors")
    assert torch.equal(again.times, times[1:]) and again.times.dtype == torch.float64
    with safe_open(tmp_path / "known.safetensors", "pt") as file:
        older = {name: file.get_tensor(name) for name in ("values", "frames")}
        save_file(older, tmp_path / "older.safetensors", file.metadata())
    older = vj.Features.load(tmp_path / "older.safetensors")
    assert older.times.shape == (2, 2) and older.times.isnan().all()
    assert older[:1].times.shape == (1, 2)


def test_points_and_patches():
    """A picture of 720 × 1280 on 16 × 28 patches: a patch is 45 × 45.71 pixels of the clip."""
    some = features(np.zeros((1, 16, 28, 3)), source_size=(720, 1280), picture_size=(256, 448))
    assert some.token_at((0, 0)) == (0, 0) and some.token_at((1279.9, 719.9)) == some.token_at(
        (1280, 720)
    ) == (15, 27)
    assert some.token_at((45.8, 44.9)) == (0, 1) and some.token_at((45.6, 45.1)) == (1, 0)
    assert some.centre_of(1, 0) == pytest.approx((22.857, 67.5), abs=1e-3)
    assert all(some.token_at(some.centre_of(r, c)) == (r, c) for r in range(16) for c in range(28))
    with pytest.raises(ValueError, match="outside the picture"):
        some.token_at((-1, 0))
    with pytest.raises(ValueError, match="no patch"):
        some.centre_of(16, 0)


def test_steps_and_masks():
    some = features(np.arange(2 * 2 * 3 * 4).reshape(2, 2, 3, 4), source_size=(4, 6))
    assert (
        some[1:].grid == (1, 2, 3)
        and some[1:].frames.tolist() == [[2, 3]]
        and torch.equal(some[1:].values, some.values[1:])
    )
    mask = np.zeros((4, 6), bool)
    mask[:2, :3] = True  # all of the first patch, half of the second
    assert some.cover(mask).tolist() == [[1, 0.5, 0], [0, 0, 0]]
    with pytest.raises(ValueError, match="clip's size"):
        some.cover(mask[:3])
