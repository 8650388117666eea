"""The stages of the recipe: they resume, export what they trained, and train what they say."""

import copy

import pytest
import torch

import demo.correspond
import demo.distil
import demo.predict
import demo.pretrain
import vjepa_utils as vj
from demo.correspond import Correspondence, TrueClips
from demo.distil import Crops, Distillation, balanced, same_place
from demo.predict import Prediction
from demo.pretrain import Pretraining
from demo.training import normalised
from tests.conftest import ROOT
from vjepa_utils.encoders.vjepa2 import encode_tokens

START = ROOT / "demo" / "vjepa2-demo"


@pytest.fixture(scope="module")
def supply():
    return TrueClips(0, "cpu", scenes=2)


@pytest.fixture(autouse=True)
def small_steps(monkeypatch):
    for module in (demo.pretrain, demo.correspond, demo.predict):
        monkeypatch.setattr(module, "TOKENS", 512)
    monkeypatch.setattr(demo.pretrain, "SHAPES", [(4, 96, 96)])
    monkeypatch.setattr(demo.correspond, "SIZES", [(96, 128)])
    monkeypatch.setattr(demo.correspond, "JOINT_SIZES", [(96, 128)])
    monkeypatch.setattr(demo.predict, "SHAPES", [(8, 96, 128)])


@pytest.mark.parametrize("stage", [Pretraining, Correspondence, Prediction])
def test_a_stage_resumes_and_exports(stage, supply, tmp_path):
    run = stage(tmp_path / "run", START, 10, 0, "cpu")
    for _ in range(3):
        assert all(0 < value < 20 for value in run.update(supply).values())
    run.save()
    again = stage(tmp_path / "run", START, 99, 0, "cpu")
    assert (again.step, again.steps) == (3, 10)
    for name, part in run.parts.items():
        if name != "optimizer":
            assert all(
                torch.equal(a, b)
                for a, b in zip(
                    part.state_dict().values(), again.parts[name].state_dict().values(), strict=True
                )
            )
    again.export(tmp_path / "model")
    exported = vj.load_encoder(tmp_path / "model", device="cpu", dtype=torch.float32).model
    trained = again.teacher if stage is Pretraining else again.model
    pixels = normalised(supply.draw(1, 4, 96, 128))
    with torch.no_grad():
        ours, theirs = (encode_tokens(model, pixels) for model in (trained, exported))
    assert (ours - theirs).norm() < 5e-3 * ours.norm()  # half precision


@pytest.mark.parametrize(
    ("stage", "still", "trained"),
    [(Correspondence, "predictor", "encoder"), (Prediction, "encoder", "predictor")],
)
def test_a_stage_trains_its_part_alone(stage, still, trained, supply, tmp_path):
    run = stage(tmp_path, START, 10, 0, "cpu")
    before = copy.deepcopy(run.model.state_dict())
    for _ in range(2):
        run.update(supply)
    same = {
        name: torch.equal(value, before[name]) for name, value in run.model.state_dict().items()
    }
    assert all(same[name] for name in same if name.startswith(still))
    assert not any(
        same[name] for name in same if name.startswith(trained) and name.endswith("mlp.fc1.weight")
    )


@pytest.mark.slow
def test_correspondences_are_learnt(supply, tmp_path):
    """The share of patches that find their match rises in a few steps on two scenes, from random
    weights.
    """
    torch.manual_seed(0)
    Pretraining(tmp_path / "first", None, 10, 0, "cpu").export(tmp_path / "random")
    run = Correspondence(tmp_path / "run", tmp_path / "random", 60, 0, "cpu")
    losses = [run.update(supply)["match"] for _ in range(40)]
    assert sum(losses[-8:]) < 0.9 * sum(losses[:8])


# The image encoder


def test_distillation_resumes_and_exports(tmp_path, monkeypatch):
    monkeypatch.setattr(demo.distil, "BATCH", 2)
    supply = Crops(0, "cpu", scenes=1)
    run = Distillation(tmp_path / "run", None, 10, 0, "cpu")
    before = copy.deepcopy(run.teacher.state_dict())
    for _ in range(2):
        assert all(0 < value < 20 for value in run.update(supply).values())
    run.save()
    again = Distillation(tmp_path / "run", None, 99, 0, "cpu")
    assert (again.step, again.steps) == (2, 10)
    again.export(tmp_path / "model")
    exported = vj.load_encoder(tmp_path / "model", device="cpu", dtype=torch.float32)
    pixels = torch.randn(1, 3, 96, 160)
    with torch.no_grad():
        ours, theirs = (
            model(pixels).last_hidden_state for model in (again.teacher, exported.model)
        )
    assert (ours - theirs).norm() < 5e-3 * ours.norm()  # half precision
    moved = [
        name
        for name, value in again.teacher.state_dict().items()
        if not torch.equal(value, before[name])
    ]
    assert "encoder.layer.8.mlp.fc1.weight" in moved  # the teacher follows the student


def test_the_same_place_in_another_crop():
    """A crop of the left half of a frame of 40×20 pixels, in 1×2 patches, and the mirrored whole of
    it.
    """
    left, whole = torch.tensor([[0.0, 0, 20, 20, 1]]), torch.tensor([[0.0, 0, 40, 20, -1]])
    # Centres at x = 5 and 15 of the frame: -0.75 and -0.25 across it, mirrored 0.75 and 0.25.
    assert torch.allclose(
        same_place(left, whole, 1, 2), torch.tensor([[[[0.75, 0.0], [0.25, 0.0]]]])
    )
    # Those of the mirrored whole lie at 30 and 10 of the frame; 10 pixels are half of the left
    # crop's width.
    assert torch.allclose(same_place(whole, left, 1, 2), torch.tensor([[[[2.0, 0.0], [0.0, 0.0]]]]))


def test_balanced_targets_use_all_prototypes_alike():
    """All tokens like the first prototype best, one a little less: the others go where they would
    rather be than it.
    """
    logits = torch.tensor([[0.10, 0.05], [0.10, 0.05], [0.10, 0.08], [0.10, 0.08]])
    targets = balanced(logits)
    assert torch.allclose(targets.sum(1), torch.ones(4)) and targets.sum(0) == pytest.approx(
        torch.tensor([2.0, 2.0]), abs=0.2
    )
    assert (targets.argmax(1) == torch.tensor([0, 0, 1, 1])).all()
