"""On a GPU: the reference's outputs, each study as on the CPU, memory as it was estimated."""

import json

import numpy as np
import pytest
import torch
from transformers import VJEPA2Config, VJEPA2Model

import vjepa_utils as vj
from tests.conftest import GOLDEN, GOLDEN21, GOLDEN_HEADS
from tests.test_devices import FRAMES, POINTS, SIZE, STUDIES
from vjepa_utils.actions.heads import Reading
from vjepa_utils.encoder import Encoder
from vjepa_utils.model.devices import free_memory
from vjepa_utils.model.vjepa2 import VJEPA2

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="torch.cuda.is_available() is false: there is no GPU"
)
TOLERANCE = {"decode": 1, "track": 0.1}  # grey levels, pixels; else of features and cosines
CASES = ["square", "clip", "landscape", "portrait", "larger"]


@pytest.fixture(autouse=True)
def exact_convolutions(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def error(found, expected):
    return ((found - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-4), (torch.bfloat16, 0.015)])
@pytest.mark.parametrize("name", CASES)
def test_features_and_predictions_equal_the_reference(golden, name, dtype, bound):
    about, case = golden[name]
    encoder = vj.load_encoder(GOLDEN / "model", "cuda", dtype)
    hidden = np.zeros(about["steps"] * about["rows"] * about["columns"], bool)
    hidden[case["hidden"]] = True
    hidden = hidden.reshape(about["steps"], about["rows"], about["columns"])
    held = encoder.hold(case["frames"], case["frames"].shape[1:3])
    features = encoder.encode(case["frames"], "clip", case["frames"].shape[1:3])
    assert error(features.values.flatten(0, 2), case["tokens"]) < bound
    assert error(held.context(hidden).float().cpu(), case["visible_tokens"]) < bound
    predicted = held.recover(hidden, 0).predicted
    assert error(predicted, case["predicted_mask_token_0"]) < 2 * bound  # through both models


@pytest.mark.parametrize("name", ["square", "image"])
def test_v_jepa_2_1_equals_the_reference(name, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    from safetensors.torch import load_file

    about = json.loads((GOLDEN21 / "cases.json").read_text())[f"teacher-{name}"]
    case = load_file(GOLDEN21 / f"teacher-{name}.safetensors")
    encoder = vj.load_encoder(GOLDEN21 / "teacher.pt", "cuda", torch.float32)
    context = "frame" if about["frames"] == 1 else "clip"
    features = encoder.encode(case["frames"], context, (about["height"], about["width"]))
    assert error(features.values.flatten(0, 2), case["tokens"]) < 1e-4


def same(study, name, tolerance):
    found, expected = (
        np.asarray(study(vj.load_encoder(name, device, torch.float32)))
        for device in ("cuda", "cpu")
    )
    assert np.allclose(found.astype(float), expected, atol=tolerance, rtol=0, equal_nan=True)


@pytest.mark.parametrize("study", STUDIES)
def test_a_study_is_that_of_the_cpu(study):
    same(STUDIES[study], GOLDEN / "model", TOLERANCE.get(study, 1e-3))


def test_images_and_a_tracking_head_are_those_of_the_cpu():
    same(STUDIES["layers"], "dino-demo", 5e-3)
    track = lambda encoder: vj.track(FRAMES, POINTS, encoder, "track-head", SIZE).xy
    same(track, "vjepa2-demo", TOLERANCE["track"])


def test_classification_is_that_of_the_cpu(monkeypatch):
    monkeypatch.setattr("vjepa_utils.actions.heads.fast_dtype", lambda device: torch.float32)
    logits = []
    for device in ("cuda", "cpu"):
        monkeypatch.setattr("vjepa_utils.actions.heads.best_device", lambda d=device: d)
        logits.append(vj.classify(FRAMES, GOLDEN_HEADS / "ssv2", 7, Reading(2, 1, 16)).logits)
    assert error(*logits) < 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_twice_the_same(dtype):
    encoder = vj.load_encoder("vjepa2-demo", "cuda", dtype)
    first, again = (encoder.encode(FRAMES, "clip", 256).values for _ in range(2))
    assert torch.equal(first, again)


@pytest.fixture(scope="module")
def large():
    """Two blocks of ViT-L; the others need no more memory than these."""
    config = VJEPA2Config(num_hidden_layers=2, pred_num_hidden_layers=1)
    model = VJEPA2(config).take_weights(VJEPA2Model(config).state_dict())
    model = model.to("cuda", torch.bfloat16).eval().requires_grad_(False)
    return Encoder(model, "two blocks of ViT-L", torch.zeros(3, 1, 1), torch.ones(3, 1, 1))


def peak(function):
    """Bytes that a call needs at its peak beyond what is held before."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    function()
    return torch.cuda.max_memory_allocated() - before


@pytest.mark.parametrize(("frames", "size"), [(2, (720, 1280)), (16, (256, 256)), (64, (256, 448))])
def test_the_estimate_of_memory_is_near_the_true_peak(large, frames, size):
    video = vj.as_video(np.zeros((frames, *size, 3), np.uint8))
    encode = lambda: large.encode(video, "clip", size)
    encode()  # what libraries allocate once
    estimate = large.memory(large.plan(video, "clip", size))
    assert 0.6 * estimate < peak(encode) < 1.15 * estimate


def test_what_cannot_fit_is_refused_before_it_starts(large):
    video = vj.as_video(np.zeros((64, 256, 448, 3), np.uint8))
    needed = large.memory(large.plan(video, "clip", 256))
    blocker = torch.empty(
        int(free_memory(large.device) - needed / 2), dtype=torch.uint8, device="cuda"
    )

    def refused():
        with pytest.raises(MemoryError, match="64 frames encoded jointly .* GiB are free"):
            large.encode(video, "clip", 256)

    assert peak(refused) == 0
    del blocker
