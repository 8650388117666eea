"""Recovery against the reference's outputs, brute force, and a repainted clip."""

import re
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import VJEPA2Model

import vjepa_utils as vj
from benchmarks import hidden_tokens
from tests.conftest import GOLDEN
from vjepa_utils.predict.predictor import mask_token_of

CASES = ["square", "clip", "landscape", "portrait", "larger"]


def masked(golden, name):
    """Frames, mask, size and tensors of a golden case."""
    about, case = golden[name]
    hidden = np.zeros(about["steps"] * about["rows"] * about["columns"], bool)
    hidden[case["hidden"]] = True
    return (
        case["frames"],
        hidden.reshape(about["steps"], about["rows"], about["columns"]),
        (about["height"], about["width"]),
        case,
    )


def error(a, b):
    return ((a - b).norm() / b.norm()).item()


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("token", [0, 1])
def test_prediction_and_target_equal_the_reference(tiny, golden, name, token):
    frames, hidden, size, case = masked(golden, name)
    found = tiny.recover(frames, hidden, token, size)
    assert (
        found.mask_token == token
        and error(found.predicted, case[f"predicted_mask_token_{token}"]) < 1e-5
    )
    assert found.target.shape == (*hidden.shape, 96) and found.target.dtype == torch.float32
    tokens, context = (F.layer_norm(case[key], (96,)) for key in ("tokens", "visible_tokens"))
    assert error(found.target.flatten(0, 2), tokens) < 1e-5 and error(found.context, context) < 1e-5
    truth = tokens[case["hidden"]]
    cosine = (found.predicted * truth).sum(1) / found.predicted.norm(dim=1) / truth.norm(dim=1)
    assert np.allclose(found.cosine, cosine, atol=1e-5) and np.allclose(
        found.l1, (found.predicted - truth).abs().mean(1), atol=1e-5
    )
    assert torch.equal(found.filled.values[~hidden], found.context) and torch.equal(
        found.filled.values[hidden], found.predicted
    )
    assert (
        np.array_equal(found.on_grid(found.cosine)[hidden], found.cosine)
        and np.isnan(found.on_grid(found.cosine)[~hidden]).all()
    )


def repainted(frames, hidden):
    """The clip with noise in all hidden pixels, and in no other."""
    paint = np.random.default_rng(1).integers(0, 256, frames.shape, np.uint8)
    where = vj.masks.pixels(hidden, *frames.shape[1:3]).repeat(2, 0)[..., None]
    return np.where(where, paint, frames)


@pytest.mark.parametrize("name", CASES)
def test_hidden_pixels_do_not_reach_the_prediction(tiny, golden, name):
    frames, hidden, size, _ = masked(golden, name)
    before, after = (
        tiny.recover(clip, hidden, 0, size)
        for clip in (frames.numpy(), repainted(frames.numpy(), hidden))
    )
    assert torch.equal(before.predicted, after.predicted) and torch.equal(
        before.context, after.context
    )
    assert error(after.target, before.target) > 0.1


def test_in_stock_transformers_they_do(tiny, golden):
    """`VJEPA2Model.forward(context_mask=…)` encodes all tokens and then gathers, here on its own
    training square.
    """
    frames, hidden, size, case = masked(golden, "clip")
    stock = VJEPA2Model.from_pretrained(GOLDEN / "model").eval()
    contexts, predictions = [], []
    for clip in (frames.numpy(), repainted(frames.numpy(), hidden)):
        with torch.no_grad():
            pixels = tiny.pixels(clip, size).unsqueeze(0)
            out = stock(
                pixels,
                context_mask=[case["visible"].unsqueeze(0)],
                target_mask=[case["hidden"].unsqueeze(0)],
            )
        contexts.append(out.masked_hidden_state[0])
        predictions.append(out.predictor_output.last_hidden_state[0])
    assert error(*contexts) > 0.1 and error(*predictions) > 0.05
    assert (
        error(contexts[0], case["visible_tokens"]) > 0.1
        and error(predictions[0], case["predicted_mask_token_1"]) > 0.05
    )


# Numbers


def recovery(target, hidden, predicted=None):
    """A Recovery of given features; the prediction is the truth unless given."""
    steps, rows, columns = hidden.shape
    whole = vj.Features(
        target,
        torch.arange(2 * steps).view(-1, 2),
        16,
        (16 * rows, 16 * columns),
        (16 * rows, 16 * columns),
        "none",
    )
    return vj.Recovery(
        whole, hidden, target[~hidden], target[hidden] if predicted is None else predicted, 0
    )


@pytest.mark.parametrize("seed", range(4))
def test_baselines_against_brute_force(seed):
    generator = np.random.default_rng(seed)
    grid = (4, 5, 6)
    hidden = generator.random(grid) < (0.3, 0.6, 0.8, 0.95)[seed]
    hidden[:, 2, 3], hidden[0, 0, 0] = True, False  # a place that is never visible
    target = torch.from_numpy(generator.standard_normal((*grid, 8)).astype(np.float32))
    found = recovery(target, hidden, target[hidden] + 1)
    visible = np.argwhere(~hidden)
    for i, token in enumerate(np.argwhere(hidden)):
        squares = ((visible - token) ** 2).sum(1).tolist()
        steps = [t for t in range(4) if not hidden[t, token[1], token[2]]]
        same = min(steps, key=lambda t: (abs(t - token[0]), t), default=None)  # the earlier of two
        guesses = {
            "mean": target[~hidden].mean(0),
            # the lowest number of equally near ones
            "nearest": target[tuple(visible[squares.index(min(squares))])],
            "same place": torch.full((8,), torch.nan)
            if same is None
            else target[same, token[1], token[2]],
        }
        truth = target[tuple(token)]
        for name, guess in guesses.items():
            expected = (
                F.cosine_similarity(guess, truth, dim=0).item(),
                (guess - truth).abs().mean().item(),
            )
            given = found.baselines[name]["cosine"][i], found.baselines[name]["l1"][i]
            assert given == pytest.approx(expected, abs=1e-5, nan_ok=True)
    covers = 1 - 4 * hidden.all(0).sum() / hidden.sum()
    assert re.search(rf"same place .* {covers:.0%}\n", found.table())


def test_ties_by_hand():
    """One row of three in three steps, features 0…8 as directions; the middle one hidden: four
    neighbours at distance 1.
    """
    target = torch.eye(9).view(3, 1, 3, 9)
    hidden = np.zeros((3, 1, 3), bool)
    hidden[1, 0, 1] = True
    found = recovery(target, hidden, target[0, 0, 1].unsqueeze(0))  # as if it predicted token 1
    for name in (
        "nearest",
        "same place",
    ):  # both take token 1: of 1, 3, 5 and 7 the lowest, of steps 0 and 2 the lower
        assert found.baselines[name]["cosine"] == found.cosine == 0
        moved = target.clone()
        moved[1, 0, 1] = target[0, 0, 1]
        assert recovery(moved, hidden).baselines[name]["cosine"] == 1


def test_many_tokens_take_little_time_and_the_same_tokens():
    hidden = vj.masks.multiblock((8, 40, 64), "long", 3)  # 20480 tokens
    places, target = np.argwhere(~hidden), torch.zeros(*hidden.shape, 3)
    target[~hidden] = torch.from_numpy(places).float()
    target[hidden] = torch.from_numpy(np.argwhere(hidden)).float()
    from scipy.spatial import cKDTree

    near = cKDTree(places).query(np.argwhere(hidden))[0]
    found = vj.predict.recovery.nearest_visible(hidden)
    assert np.linalg.norm(places[found] - np.argwhere(hidden), axis=1) == pytest.approx(near)


def test_what_is_beaten():
    """Orthogonal features at two visible and two hidden tokens; one prediction is right, the other
    copies its neighbour.
    """
    target = torch.eye(4).view(2, 1, 2, 4)
    hidden = np.array([[[False, True]], [[True, False]]])
    found = recovery(target, hidden, torch.stack([target[0, 0, 1], target[0, 0, 0]]))
    assert found.cosine.tolist() == [1, 0] and found.l1.tolist() == [0, 0.5]
    assert found.beaten == {"mean": 0.5, "nearest": 0.5, "same place": 0.5, "all": 0.5}
    assert found.means() == {"prediction": 0.5, "mean": 0, "nearest": 0, "same place": 0}
    assert re.search(r"nearest +0.000 +0.500 +50% +100%", found.table())


def test_places_hidden_in_every_step_are_left_out():
    hidden = vj.masks.block((2, 4, 4), 0.5)
    found = recovery(torch.randn(2, 4, 4, 8, generator=torch.Generator().manual_seed(0)), hidden)
    assert np.isnan(found.baselines["same place"]["cosine"]).all()
    assert (
        np.isnan(found.means()["same place"])
        and np.isnan(found.beaten["same place"])
        and found.beaten["all"] == 1
    )
    assert re.search(r"same place +– +– +– +0%", found.table())


def test_constant_features_are_recovered_by_every_copy():
    target = torch.arange(1.0, 9).expand(3, 4, 4, 8).contiguous()
    found = recovery(target, vj.masks.tokens((3, 4, 4), 0.4))
    assert set(np.round([*found.means().values()], 5)) == {1} and set(
        np.round([*found.means("l1").values()], 5)
    ) == {0}
    assert found.beaten["all"] == 0


# Arguments


def test_what_is_held_gives_every_mask_what_it_gives_alone(tiny, monkeypatch):
    frames = np.random.default_rng(0).integers(0, 256, (5, 64, 96, 3), np.uint8)
    grid = tiny.grid(frames, 64, "clip")
    masks = {"block": vj.masks.block(grid), "tubes": torch.from_numpy(vj.masks.tubes(grid, 0.3))}
    alone = {name: tiny.recover(frames, mask, 0, 64) for name, mask in masks.items()}
    held = tiny.hold(frames, 64)
    assert held.grid == grid
    monkeypatch.setattr("vjepa_utils.reading.pixels.resized", None)  # encoded once, not again
    for name, mask in [*masks.items()] * 2:
        found = held.recover(mask, 0)
        assert torch.equal(found.predicted, alone[name].predicted)
        assert torch.equal(found.target, alone[name].target)
        assert torch.equal(held.whole.values, found.target)
    together = {name: held.recover(mask, 0) for name, mask in masks.items()}
    # an odd last frame is paired with itself
    assert together["block"].whole.frames.tolist() == [
        [0, 1],
        [2, 3],
        [4, 4],
    ]


def with_mask_tokens(trained, count=4):
    """An encoder with so many mask tokens, of which these are not zero."""
    tokens = torch.zeros(count, 1, 1, 3)
    tokens[trained] = 1
    predictor = SimpleNamespace(embeddings=SimpleNamespace(mask_tokens=tokens))
    model = SimpleNamespace(predictor=predictor, config=SimpleNamespace())
    return SimpleNamespace(model=model, name="x", channels=3)


@pytest.mark.parametrize(("trained", "chosen"), [([0], 0), ([2], 2)])
def test_the_only_mask_token_that_is_not_zero(trained, chosen):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert mask_token_of(with_mask_tokens(trained), None) == chosen
        assert mask_token_of(with_mask_tokens([], 1), None) == 0
        assert mask_token_of(with_mask_tokens(trained), 3) == 3


@pytest.mark.parametrize("trained", [[], [0, 1], [1, 3]])
def test_mask_tokens_among_which_none_is_the_only_one(trained):
    sentence = f"{len(trained)} of the 4 mask tokens of x are not zero.* 0 is used"
    with pytest.warns(UserWarning, match=sentence):
        assert mask_token_of(with_mask_tokens(trained), None) == 0


FRAMES, MASK = np.zeros((2, 64, 64, 3), np.uint8), np.eye(4, dtype=bool)[None]


@pytest.mark.parametrize(
    ("hidden", "token", "sentence"),
    [
        (
            MASK[:, :3],
            0,
            r"hidden must be bool of the shape \(1, 4, 4\), the grid that .* gives, "
            r"not bool of the shape \(1, 3, 4\)",
        ),
        (MASK[0], 0, r"not bool of the shape \(4, 4\)"),
        (MASK.astype(float), 0, "not float64 of the shape"),
        (torch.from_numpy(MASK).int(), 0, "not int32"),
        (MASK | True, 0, "hidden hides every token"),
        (MASK & False, 0, "hidden hides nothing"),
        (MASK, 10, "mask_token must be a whole number from 0 to 9 for model, not 10"),
        (MASK, -1, "mask_token must be"),
        (MASK, True, "mask_token must be"),
    ],
)
def test_bad_input(tiny, hidden, token, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        tiny.recover(FRAMES, hidden, token, 64)
    assert len(str(caught.value).splitlines()) == 1


def test_an_encoder_without_a_predictor(tiny):
    with pytest.raises(ValueError, match="image has no predictor"):
        vj.recovery.Held(SimpleNamespace(model=SimpleNamespace(), name="image"), FRAMES)


def test_a_clip_that_cannot_fit_names_how_many_frames_can(tiny, monkeypatch):
    monkeypatch.setattr(
        "vjepa_utils.model.devices.psutil.virtual_memory",
        lambda: SimpleNamespace(available=2_000_000),
    )
    frames = np.zeros((400, 32, 32, 3), np.uint8)
    with pytest.raises(MemoryError, match=r"400 frames .* count=\d+ fits"):
        tiny.recover(frames, vj.masks.block((200, 2, 2), 0.5), 0, 32)


# The benchmark


def test_tokens_that_a_moving_object_covers_or_uncovers():
    """2 steps × 1 × 4 tokens of 4×4 pixels; the object is in column 1, then in column 2, and a
    quarter of column 3 does not count. Both change, in both steps.
    """
    masks = np.zeros((4, 4, 16), np.uint8)
    masks[:2, :, 4:8], masks[2:, :, 8:13] = 1, 2
    changed = hidden_tokens.covered_or_uncovered(masks, (2, 1, 4))
    assert np.array_equal(changed, [[[False, True, True, False]]] * 2)
    masks[3] = 0  # in one of two frames: half of the token's area is not most of it
    changed = hidden_tokens.covered_or_uncovered(masks, (2, 1, 4))
    assert np.array_equal(changed, [[[False, True, False, False]]] * 2)


def test_the_tenth_of_the_tokens_that_changes_most():
    """Of 2 × 1 × 10 tokens one place turns by a right angle: two tokens, a tenth; a longer vector
    has not changed.
    """
    target = torch.zeros(2, 1, 10, 2)
    target[..., 0] = 1
    target[1, 0, 3], target[1, 0, 5] = torch.tensor([0.0, 1.0]), torch.tensor([9.0, 0.0])
    changed = hidden_tokens.most_changed(target)
    assert np.array_equal(np.argwhere(changed), [[0, 0, 3], [1, 0, 3]])


def test_rows_of_the_benchmark(tiny):
    """In a block the same place is never visible; what is in no clip has no number."""
    clip = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), np.uint8)
    masks = np.zeros((4, 64, 64), np.uint8)
    masks[2:, :32] = 1
    with pytest.warns(UserWarning, match="mask tokens"):
        found = [*hidden_tokens.rows("scenes", tiny, [(clip, masks)] * 2, size=64)]
    by_mask = {row[1]: dict(zip(hidden_tokens.HEAD, row, strict=True)) for row in found}
    assert by_mask["block, 60 %"]["same place"] == "–" != by_mask["future, 50 %"]["same place"]
    assert "±" in by_mask["future, 50 %"]["changing: same place"]
    assert hidden_tokens.cell([np.nan, 0.5]) == "0.500" and hidden_tokens.cell([np.nan]) == "–"
