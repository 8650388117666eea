"""All that runs on a GPU runs without mixing devices, and gives what the CPU gives."""

import re

import numpy as np
import pytest
import torch

import vjepa_utils as vj
from tests.conftest import GOLDEN, GOLDEN21, GOLDEN_HEADS
from tests.elsewhere import Elsewhere, a_gpu
from vjepa_utils.actions.heads import Reading

NOISE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
FRAMES = np.stack([np.roll(NOISE, t, 1) for t in range(12)])
HIDDEN = np.zeros((6, 3, 4), bool)
HIDDEN[3:, 1:] = True
POINTS, CLICKS = [(0, 20, 30), (5, 40, 12)], [(20, 30, 1), (60, 40, 0)]
SIZE = (48, 64)


def decoded(encoder):
    features = encoder.encode(FRAMES, size=SIZE)
    return vj.PixelDecoder().fit(features, FRAMES).decode(encoder.recover(FRAMES, HIDDEN, 0, SIZE))


STUDIES = {
    "pairs": lambda encoder: encoder.encode(FRAMES, size=SIZE).values,
    "frames": lambda encoder: encoder.encode(FRAMES, "frame", SIZE, repeat=4).values,
    "windows": lambda encoder: encoder.encode(FRAMES, 8, SIZE, overlap=4).values,
    "fine": lambda encoder: encoder.encode(FRAMES, size=SIZE, stride=8).values,
    "layers": lambda encoder: encoder.encode(FRAMES, size=SIZE, layers=[1, None])[1].values,
    "recover": lambda encoder: encoder.recover(FRAMES, HIDDEN, 0, SIZE).predicted,
    "surprise": lambda encoder: encoder.surprise(FRAMES, 4, 2, SIZE, mask_token=0).cosine,
    "surprise by step": lambda encoder: encoder.surprise(FRAMES, 4, 1, SIZE, "step", 0).l1,
    "segment": lambda encoder: vj.segment(FRAMES, encoder, points=CLICKS, size=SIZE).soft,
    "track": lambda encoder: vj.track(FRAMES, POINTS, encoder, size=SIZE).xy,
    "decode": decoded,
    "stability": lambda encoder: vj.stability(FRAMES, encoder, 4, SIZE).curve,
    "fingerprint": lambda encoder: np.array([int(encoder.fingerprint[:8], 16)]),
}


def equal(study, name):
    """Whether a study gives the same on both devices, in float32."""
    expected = study(vj.load_encoder(name, "cpu", torch.float32))
    with a_gpu():
        encoder = vj.load_encoder(name, "cuda", torch.float32)
        assert encoder.device.type == "cuda"
        found = study(encoder)
    assert not isinstance(found, Elsewhere)  # results are on the CPU
    assert np.allclose(np.asarray(found), np.asarray(expected), atol=1e-3, equal_nan=True)


@pytest.mark.parametrize("study", STUDIES)
def test_a_study_stays_on_one_device(study):
    equal(STUDIES[study], GOLDEN / "model")


@pytest.mark.parametrize("study", ["pairs", "frames", "layers"])
def test_image_encoders_stay_on_one_device(study):
    equal(STUDIES[study if study != "frames" else "pairs"], "dino-demo")


@pytest.mark.parametrize("study", ["pairs", "frames", "layers", "recover", "surprise"])
def test_v_jepa_2_1_stays_on_one_device(study, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    equal(STUDIES[study], GOLDEN21 / "teacher.pt")


def test_a_head_tracks_on_one_device():
    equal(lambda encoder: vj.track(FRAMES, POINTS, encoder, "track-head", SIZE).xy, "vjepa2-demo")


def test_classification_stays_on_one_device(monkeypatch):
    monkeypatch.setattr("vjepa_utils.actions.heads.fast_dtype", lambda device: torch.float32)
    classify = lambda: vj.classify(FRAMES, GOLDEN_HEADS / "ssv2", 7, Reading(2, 1, 16)).logits
    expected = classify()
    with a_gpu():
        found = classify()
    assert not isinstance(found, Elsewhere) and torch.allclose(found, expected, atol=1e-3)


@pytest.mark.slow
def test_the_benchmark_for_gpus_runs(monkeypatch, capsys):
    """On the CPU, tiny: every part of it gives numbers."""
    from benchmarks import gpu

    monkeypatch.setattr("sys.argv", ["gpu", "--tiny"])
    gpu.main()
    text = capsys.readouterr().out
    assert re.search(r"^\| tiny \| 8 \| 1 \| [\d.]+ \| [\d.]+ \| – \| \d+% \|", text, re.M)
    assert re.search(r"with tiny; (read|encode) bounds it", text)
    assert re.search(r"held in [\d.]+ s, painted to predicted [\d.]+ s", text)


def test_mixing_is_seen():
    """The pretended GPU refuses what a GPU refuses, and takes what one takes."""
    with a_gpu():
        there, here = torch.ones(3, device="cuda"), torch.ones(3)
        for mixing in (
            lambda: there + here,
            lambda: torch.cat([here, there]),
            lambda: here[there > 0],
            lambda: there.__setitem__(slice(2), here[:2]),
            lambda: torch.nn.functional.layer_norm(there, (3,), here),
            lambda: np.asarray(there),
            lambda: there.numpy(),
            lambda: there.double(),
            lambda: torch.ones(3, dtype=torch.float64).to("cuda"),
            lambda: torch.rand(3, device="cuda", generator=torch.Generator()),
        ):
            with pytest.raises((RuntimeError, TypeError), match="device"):
                mixing()
        assert (there * torch.tensor(2.0)).device.type == "cuda"
        assert there[torch.tensor([0, 2])].device.type == "cuda"
        assert here.copy_(2 * there).device.type == "cpu" and here.tolist() == [2, 2, 2]
        assert torch.zeros(2).to(there).device.type == "cuda"
        assert torch.nn.Linear(3, 2).to("cuda")(there).cpu().tolist()
