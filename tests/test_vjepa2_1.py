"""V-JEPA 2.1 against the outputs of the reference code (golden21), and what its users see."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

import vjepa_utils as vj
from tests.conftest import GOLDEN21, grey_levels
from vjepa_utils.model.devices import BATCH_TOKENS
from vjepa_utils.model.positions import grid_positions
from vjepa_utils.model.vjepa2 import encode_tokens, predict_tokens
from vjepa_utils.model.vjepa2_1 import stretched_positions

CASES = json.loads((GOLDEN21 / "cases.json").read_text())
KINDS = ["student", "teacher"]
FRAMES = np.random.default_rng(0).integers(0, 256, (5, 32, 48, 3), np.uint8)


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    """The two golden files as encoders, in float32."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        return {
            kind: vj.load_encoder(GOLDEN21 / f"{kind}.pt", device="cpu", dtype=torch.float32)
            for kind in KINDS
        }


@pytest.fixture(scope="module")
def student(encoders):
    return encoders["student"]


@pytest.fixture(scope="module")
def teacher(encoders):
    return encoders["teacher"]


def error(a, b):
    return ((a - b).norm() / b.norm()).item()


def load(name):
    """Facts and tensors of a case, and its context, size and mask."""
    about, case = CASES[name], load_file(GOLDEN21 / f"{name}.safetensors")
    hidden = np.zeros(about["steps"] * about["rows"] * about["columns"], bool)
    hidden[case["hidden"]] = True
    how = ("frame" if about["frames"] == 1 else "clip", (about["height"], about["width"]))
    return case, how, hidden.reshape(about["steps"], about["rows"], about["columns"])


# The reference


@pytest.mark.parametrize("name", CASES)
def test_features_equal_the_reference(encoders, name):
    encoder, (case, (context, size), hidden) = encoders[name.split("-")[0]], load(name)
    encode = lambda layer: encoder.encode(case["frames"], context, size, layer).values
    assert encode(None).shape[:3] == hidden.shape
    tokens = lambda layer: encode(layer).flatten(0, 2)
    assert error(tokens(None), case["tokens"]) < 1e-5
    assert error(tokens(6), case["after_block_6"]) < 1e-5
    assert error(tokens("levels"), case["four_levels"]) < 1e-5
    for i, level in enumerate(encoder.levels):
        assert error(tokens(level), case["four_levels"][:, 128 * i :][:, :128]) < 1e-5


@pytest.mark.parametrize("name", CASES)
@torch.inference_mode()
def test_visible_tokens_and_predictions_equal_the_reference(encoders, name):
    encoder, (case, (context, size), hidden) = encoders[name.split("-")[0]], load(name)
    model, image = encoder.model, context == "frame"
    x = encoder.pixels(case["frames"].numpy(), size).unsqueeze(0)
    places = case["visible"].unsqueeze(0), case["hidden"].unsqueeze(0)
    assert error(encode_tokens(model, x, places[0])[0], case["visible_tokens"]) < 1e-5
    seen = encode_tokens(model, x, places[0], model.predictor_layer)
    for positions, stretched in (
        (None, "stretched"),
        (grid_positions(hidden.shape), "unstretched"),
    ):
        for of, word in (("hidden", ""), ("visible", "visible_")):
            predicted = predict_tokens(model, seen, *places, hidden.shape, 0, image, positions, of)[
                0
            ]
            assert error(predicted, case[f"predicted_{word}{stretched}"]) < 1e-5


def test_stretched_positions_by_hand():
    found = stretched_positions((2, 4, 7))  # rows at 0, 5, 10, 15; columns 2.5 apart
    assert found.view(2, 4, 7, 3)[1, 2, 3].tolist() == [1, 10, 7.5]
    assert found.amax(0).tolist() == [1, 15, 15]
    assert torch.equal(stretched_positions((3, 16, 16)), grid_positions((3, 16, 16)).float())
    assert stretched_positions((1, 1, 1)).tolist() == [[0, 0, 0]]  # and not NaN


# Recovery


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("teacher")])
@pytest.mark.filterwarnings("ignore:.*mask tokens")
def test_recovery_equals_the_reference(teacher, name):
    case, (_, size), hidden = load(name)
    found = teacher.recover(case["frames"], hidden, 0, size)
    assert error(found.predicted, case["predicted_stretched"]) < 1e-5
    # each level separately has mean 0 and variance 1 over its channels
    levels = case["four_levels"].view(-1, 4, 128)
    centred = levels - levels.mean(-1, keepdim=True)
    target = (centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()).flatten(1)
    assert error(found.target.flatten(0, 2), target) < 1e-5
    assert error(found.context[:, -128:], F.layer_norm(case["visible_tokens"], (128,))) < 1e-5
    truth = target[case["hidden"]]
    cosine = (found.predicted * truth).sum(1) / found.predicted.norm(dim=1) / truth.norm(dim=1)
    assert np.allclose(found.cosine, cosine, atol=1e-5)
    assert np.allclose(found.l1, (found.predicted - truth).abs().mean(1), atol=1e-5)
    assert found.filled.values.shape == (*hidden.shape, 512)


def test_a_distilled_predictor_is_refused_with_the_reason(student):
    hidden = np.zeros((2, 4, 4), bool)
    hidden[0] = True
    with pytest.raises(ValueError, match="predicts the 160 channels of its teacher, not its own 1"):
        student.recover(grey_levels(4, 64, 64), hidden, size=64)


def test_hidden_pixels_do_not_reach_the_prediction(teacher):
    case, (_, size), hidden = load("teacher-landscape")
    where = vj.masks.pixels(hidden, *size).repeat(2, 0)[..., None]
    repainted = np.where(where, np.uint8(200), case["frames"].numpy())
    before, after = (
        teacher.recover(frames, hidden, 0, size) for frames in (case["frames"], repainted)
    )
    assert torch.equal(before.predicted, after.predicted)
    assert error(after.target, before.target) > 0.1


def test_surprise_is_of_all_four_levels_and_of_no_distilled_encoder(teacher, student):
    frames = np.random.default_rng(0).integers(0, 256, (6, 32, 48, 3), np.uint8)
    found = teacher.surprise(frames, 4, 1, (32, 48), mask_token=0)
    truth = teacher.recover(frames, vj.masks.future((3, 2, 3), 1), 0, (32, 48))
    assert found.cosine[2].ravel() == pytest.approx(truth.cosine, abs=1e-5)
    assert found.l1[2].ravel() == pytest.approx(truth.l1, abs=1e-5)
    assert np.isfinite(teacher.surprise(frames, 4, 1, 32, "step", 0).l1[2]).all()
    with pytest.raises(ValueError, match="was distilled"):
        student.surprise(frames, 4)


# Single frames


@torch.inference_mode()
def test_a_frame_goes_through_the_image_branch(student):
    once = student.encode(FRAMES, "frame", 32)
    assert once.grid == student.grid(FRAMES, 32, "frame") == (5, 2, 3)
    assert once.frames.tolist() == [[i, i] for i in range(5)]
    x = student.pixels(FRAMES, (32, 48))
    image = encode_tokens(student.model, x.unsqueeze(1))  # (5, 1, 3, height, width)
    assert error(once.values.flatten(1, 2), image) < 1e-5


def test_contexts_of_one_frame(student):
    """ "clip" of a single frame is that frame alone; an odd last one of pairs is paired with
    itself.
    """
    alone, pair = (student.encode(FRAMES[4:], context, 32).values for context in ("clip", "pair"))
    assert torch.equal(alone, student.encode(FRAMES[4:], "frame", 32).values)
    with torch.no_grad():
        x = student.pixels(FRAMES[[4, 4]], (32, 48))[None]
        assert error(pair.flatten(1, 2), encode_tokens(student.model, x)) < 1e-5
    assert error(student.encode(FRAMES, "pair", 32).values[2:], pair) < 1e-5
    assert student.encode(FRAMES, "clip", 32).grid == (3, 2, 3)


# Layers, positions, precision, files


def test_levels_by_name(student):
    assert student.levels == {"level 1": 3, "level 2": 6, "level 3": 9, "level 4": 12}
    assert student.training_size == 384 and student.grid(np.zeros((2, 9, 9, 3), np.uint8))[1] == 24
    last = student.encode(FRAMES, size=32, layer=12).values
    norm = student.model.encoder.norms[3]
    with torch.no_grad():
        assert error(student.encode(FRAMES, size=32).values, norm(last)) < 1e-6


@pytest.mark.parametrize(
    ("depth", "levels"),
    [
        (12, (3, 6, 9, 12)),
        (24, (6, 12, 18, 24)),
        (40, (10, 20, 30, 40)),
        (48, (12, 24, 38, 48)),
        (1, (1, 1, 1, 1)),
    ],
)
def test_levels_of_the_released_depths(student, depth, levels):
    from dataclasses import replace

    assert replace(student.model.config, num_hidden_layers=depth).levels == levels


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (dict(layer="level 5"), 'layer must be .*"level 4", "levels", not'),
        (dict(layer=13), "layer must be None or a whole number from 1 to 12"),
        (dict(context="twice"), 'context must be "pair", "frame", "clip" or an'),
    ],
)
def test_arguments_out_of_range(student, arguments, words):
    with pytest.raises(ValueError, match=words):
        student.encode(FRAMES, size=32, **arguments)


def test_bfloat16_stays_near_float32_and_has_the_same_fingerprint(encoders, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    frames = load("teacher-training")[0]["frames"]
    rounded = vj.load_encoder(GOLDEN21 / "teacher.pt", device="cpu", dtype=torch.bfloat16)
    for context in ("clip", "frame"):
        exact = encoders["teacher"].encode(frames, context, 256).values
        assert error(rounded.encode(frames, context, 256).values, exact) < 0.015
    assert rounded.fingerprint == encoders["teacher"].fingerprint
    assert rounded.fingerprint != encoders["student"].fingerprint


@pytest.mark.parametrize("layer", [None, "levels"])
@pytest.mark.parametrize("context", ["pair", "frame"])
def test_a_file_holds_what_memory_would(student, tmp_path, monkeypatch, context, layer):
    monkeypatch.setitem(BATCH_TOKENS, "cpu", 12)
    kept = student.encode(FRAMES, context, 32, layer)
    streamed = student.encode(FRAMES, context, 32, layer, out=tmp_path / "film.safetensors")
    assert torch.equal(streamed.values, kept.values)
    assert torch.equal(streamed.frames, kept.frames)


def test_a_clip_that_cannot_fit_is_refused(student, monkeypatch):
    class Little:
        available = 2_000_000

    monkeypatch.setattr("vjepa_utils.model.devices.psutil.virtual_memory", lambda: Little)
    with pytest.raises(MemoryError, match=r"400 frames .* context=\d+ fits"):
        student.encode(np.zeros((400, 32, 32, 3), np.uint8), "clip", 32)
