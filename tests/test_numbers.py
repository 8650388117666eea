"""Numbers of a representation and its stability, against scikit-learn, scipy and cases by hand."""

import numpy as np
import pytest
import torch
from scipy.stats import entropy
from sklearn.decomposition import PCA
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.neighbors import NearestNeighbors

import vjepa_utils as vj
from benchmarks.stability import stillness
from vjepa_utils.comparison import cka, layers_figure, measures, shared_neighbours
from vjepa_utils.features import Features


def features(values, name="x"):
    steps, rows, columns = values.shape[:3]
    frames = torch.arange(2 * steps).view(-1, 2)
    size = 16 * rows, 16 * columns
    return Features(torch.as_tensor(values).float(), frames, 16, size, size, name)


RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(3, 4, 5, 6)) * np.arange(1, 7) + 1


def test_rank_spectrum_and_anisotropy_are_those_of_scipy_and_scikit_learn():
    found, tokens = measures(features(X)), X.astype(np.float32).reshape(-1, 6)
    shares = PCA().fit(tokens).explained_variance_ratio_
    assert np.allclose(found["spectrum"], shares, atol=1e-6)
    assert found["effective rank"] == pytest.approx(np.exp(entropy(shares)), rel=1e-5)
    cosine = cosine_similarity(tokens)[~np.eye(60, dtype=bool)]
    assert found["anisotropy"] == pytest.approx(cosine.mean(), abs=1e-6)


def test_shares_of_variance_by_hand():
    """Two clips, 2 steps × 1 × 2 tokens of one channel: place ±1, step ±2, clip ±3."""
    place, step = np.array([-1, 1]), np.array([-2, 2])
    values = [c + step[:, None] + place[None] for c in (-3, 3)]
    found = measures(*(features(v.reshape(2, 1, 2, 1)) for v in values))
    for name, variance in (("place", 1), ("step", 4), ("clip", 9)):
        assert found[name] == pytest.approx(variance / 14)
    assert measures(features(values[0].reshape(2, 1, 2, 1)))["clip"] == 0


def test_outlying_norms_are_placed():
    values = RANDOM.normal(size=(2, 3, 4, 8))
    values[1, 2, 3] *= 40
    assert measures(features(values))["outliers"].tolist() == [[0, 1, 2, 3]]


def test_cka_does_not_see_rotation_and_scale_but_sees_noise():
    rotation = np.linalg.qr(RANDOM.normal(size=(6, 6)))[0]
    assert cka(features(X), features(3 * X @ rotation + 5)) == pytest.approx(1, abs=1e-6)
    y = RANDOM.normal(size=(3, 4, 5, 4))
    a, b = (v.astype(np.float32).reshape(60, -1) for v in (X, y))
    centre = np.eye(60) - 1 / 60
    k, m = centre @ a @ a.T @ centre, centre @ b @ b.T @ centre  # by the definition with kernels
    by_kernels = (k * m).sum() / np.sqrt((k * k).sum() * (m * m).sum())
    assert cka(features(X), features(y)) == pytest.approx(by_kernels, abs=1e-6)
    assert 0 < by_kernels < 0.5


def test_shared_neighbours_are_those_of_scikit_learn():
    y = X + RANDOM.normal(size=X.shape)
    sets = []
    for v in (X, y):
        tree = NearestNeighbors(n_neighbors=5, metric="cosine").fit(v.reshape(60, -1))
        sets.append(tree.kneighbors(return_distance=False))
    share = np.mean([len(np.intersect1d(*pair)) / 5 for pair in zip(*sets, strict=True)])
    assert shared_neighbours(features(X), features(y), 5) == pytest.approx(share, abs=1e-6)
    assert shared_neighbours(features(X), features(X)) == 1


def test_other_tokens_cannot_be_compared():
    with pytest.raises(ValueError, match="must be compared on the same tokens"):
        cka(features(X), features(X[:2]))
    with pytest.raises(ValueError, match="measures needs features of one shape"):
        measures(features(X), features(X[:2]))


def test_curves_by_layer_hold_the_numbers(tiny):
    layers = tiny.encode(RANDOM.integers(0, 256, (4, 32, 48, 3), np.uint8), size=32, layers="all")
    figure = layers_figure(layers)
    rank = figure.axes[0].lines[0].get_ydata()
    assert rank == pytest.approx([measures(each)["effective rank"] for each in layers.values()])
    assert figure.axes[-1].lines[0].get_ydata()[-1] == pytest.approx(1)


# Stability


class Planted:
    """Tokens that are content plus a bias of the place in the window."""

    name, bias = "planted", np.array([0.0, 3.0, 6.0, 3.0])

    def encode(self, video, context, size):
        content = video.frames[::2, :1, :2, :1].astype(np.float32)  # (steps, 1, 2, 1)
        values = torch.from_numpy(content + self.bias[:, None, None, None].astype(np.float32))
        return type("F", (), {"values": values})


def test_stability_of_planted_content_and_place():
    frames = RANDOM.integers(0, 256, (16, 4, 4, 3), np.uint8)
    found = vj.stability(frames, Planted(), 8)
    assert found.steps == 2 and found.context == 8
    content = frames[6:10:2, 0, :2, 0].astype(float).var()
    place = Planted.bias.var()
    assert found.shares["content"] == pytest.approx(content / (content + place), abs=1e-4)
    assert found.shares["place"] == pytest.approx(place / (content + place), abs=1e-4)
    assert found.shares["other frames"] == pytest.approx(0, abs=1e-4)
    assert found.map.shape == (1, 2) and found.curve.shape == (4,)


def test_stability_of_a_real_model_is_read_off_its_windows(tiny):
    frames = RANDOM.integers(0, 256, (10, 32, 48, 3), np.uint8)
    found = vj.stability(frames, tiny, 4, 32)
    windows = [
        tiny.encode(frames[start : start + 4], "clip", 32).values for start in range(0, 8, 2)
    ]
    x = np.stack([[windows[s][0], windows[s - 1][1]] for s in (1, 2, 3)])
    rest = ((x - x.mean(1, keepdims=True)) ** 2).sum(-1).mean()
    total = ((x - x.mean((0, 1, 2, 3))) ** 2).sum(-1).mean()
    assert found.shares["content"] == pytest.approx(1 - rest / total, abs=1e-5)
    assert found.steps == 3 and sum(found.shares.values()) == pytest.approx(1)


def test_stillness_is_one_with_itself(tiny):
    found = stillness(RANDOM.integers(0, 256, (1, 32, 48, 3), np.uint8), tiny, (2, 6), 32)
    assert list(found) == [2, 6] and found[6] == pytest.approx(1) and found[2] < 1


@pytest.mark.parametrize(("frames", "context"), [(13, 8), (20, 3), (20, 2), (20, "clip")])
def test_a_clip_or_context_that_cannot_be(tiny, frames, context):
    with pytest.raises(ValueError, match="frames"):
        vj.stability(np.zeros((frames, 32, 32, 3), np.uint8), tiny, context)
