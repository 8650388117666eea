"""The stages of the recipe: they resume, export what they trained, and train what they say."""

import copy
import random

import numpy as np
import pytest
import torch
from PIL import Image
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from transformers import VJEPA2Config, VJEPA2Model

import demo.recipe.adapt
import demo.recipe.predict
import vjepa_utils as vj
from demo.recipe.adapt import Adaptation, Places, matching, miss, picture_share
from demo.recipe.copying import FALL, FLATTER, start_by_copying
from demo.recipe.follow import EncodedScenes, Following
from demo.recipe.lessons import Lessons, coarser, paint
from demo.recipe.motion import motion_losses
from demo.recipe.muon import Muon
from demo.recipe.predict import CHANGE, Prediction, changes
from demo.recipe.targets import (
    CELL,
    CHANNELS,
    LAST,
    Picture,
    cells,
    centred,
    look,
    place_means,
    prepare,
    principal,
)
from demo.recipe.training import PATCH, normalised
from demo.recipe.truth import matches
from demo.render.scenes import pose
from tests.elsewhere import a_gpu
from vjepa_utils.files import shipped
from vjepa_utils.model.vjepa2 import VJEPA2, encode_tokens, predict_tokens

START = shipped("vjepa2-demo")
IMAGES = shipped("dino-demo")


def picture(rows, columns, seed):
    """A picture of noise whose targets are noise too."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(
        0, 256, (3, rows * CELL, columns * CELL), generator=generator, dtype=torch.uint8
    )
    return Picture(pixels, torch.randn(CHANNELS, rows, columns, generator=generator).half())


STAGES = [Adaptation, Prediction]


@pytest.fixture(scope="module")
def supply():
    return lessons("cpu")


def lessons(device):
    """Two scenes, four photographs, and a film of 16 frames."""
    pictures = {
        f"photo{n}": picture(*size, n)
        for n, size in enumerate([(12, 16), (16, 12), (9, 16), (16, 16)])
    }
    lessons = Lessons(
        0, device, pictures | {f"film.{n:02}": picture(9, 16, n) for n in range(16)}, scenes=2
    )
    channels = vj.load_encoder(START, device="cpu").channels
    lessons.basis = torch.linalg.qr(torch.randn(channels, CHANNELS))[0]
    return lessons


@pytest.fixture(autouse=True)
def small_steps(monkeypatch):
    monkeypatch.setattr(demo.recipe.predict, "TOKENS", 512)
    monkeypatch.setattr(demo.recipe.predict, "SHAPES", [(8, 96, 128)])
    monkeypatch.setattr(demo.recipe.adapt, "TOKENS", {"photos": 384, "scenes": 192})
    sizes = dict.fromkeys(demo.recipe.adapt.SIZES, [(96, 128)])
    monkeypatch.setattr(demo.recipe.adapt, "SIZES", sizes)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_resumes_and_exports(stage, supply, tmp_path):
    run = stage(tmp_path / "run", START, 10, 0, "cpu")
    for _ in range(3):
        assert all(-1 < value < 20 for value in run.update(supply).values())
    run.save()
    again = stage(tmp_path / "run", START, 99, 0, "cpu")
    assert (again.step, again.steps) == (3, 10)
    for name, part in run.parts.items():
        if name not in run.optimizers:
            assert all(
                torch.equal(a, b)
                for a, b in zip(
                    part.state_dict().values(), again.parts[name].state_dict().values(), strict=True
                )
            )
    again.export(tmp_path / "model")
    exported = vj.load_encoder(tmp_path / "model", device="cpu", dtype=torch.float32).model
    pixels = normalised(supply.draw(1, 4, 96, 128))
    with torch.no_grad():
        ours, theirs = (encode_tokens(model, pixels) for model in (again.model, exported))
    assert (ours - theirs).norm() < 5e-3 * ours.norm()  # half precision


@pytest.mark.parametrize(
    ("stage", "still", "trained"),
    [
        (Adaptation, "predictor", "encoder"),
        (Prediction, "encoder", "predictor"),
    ],
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


# What is learnt from


def test_under_the_identity_a_frame_has_the_teachers_cells():
    """A patch of 16 pixels at the place of a cell of 16 pixels reads that cell, and the pixels are
    those of the picture.
    """
    whole = picture(6, 8, 0)
    still = pose(0, 0).expand(2, 1, 2, 3)
    solid = lambda x: torch.cat([x, torch.ones_like(x[:1])])
    target, _ = paint([solid(whole.target.float())], coarser(still), 6, 8)
    pixels, owner = paint([solid(whole.pixels.float())], still, 6 * PATCH, 8 * PATCH)
    assert torch.allclose(target, whole.target.float().expand(2, -1, -1, -1), atol=1e-4)
    assert (
        torch.allclose(pixels, whole.pixels.float().expand(2, -1, -1, -1), atol=0.05)
        and not owner.any()
    )


def test_targets_move_with_the_pixels():
    """Three cells to the right and mirrored: the same cells, in the other order."""
    whole = picture(6, 8, 0)
    solid = torch.cat([whole.target.float(), torch.ones(1, 6, 8)])
    shift, mirror = pose(3 * PATCH, 0), pose(8 * PATCH, 0, 0, -1, 1)
    (moved, mirrored), _ = paint([solid], coarser(torch.stack([shift, mirror])[:, None]), 6, 8)
    assert torch.allclose(moved[..., 3:], whole.target[..., :5].float(), atol=1e-4)
    assert torch.allclose(mirrored, whole.target.float().flip(-1), atol=1e-4)


def test_the_upper_layer_hides_the_lower_one():
    lower = torch.cat([torch.zeros(3, 32, 32), torch.ones(1, 32, 32)])
    upper = torch.ones(4, 16, 16)  # white and opaque
    pixels, owner = paint([lower, upper], torch.stack([pose(0, 0), pose(8, 0)])[None], 32, 32)
    assert (pixels[0, 0, :16, 9:23] == 1).all() and pixels[0, 0, :, 25:].sum() == 0
    assert owner[0, :16, 8:24].all() and owner.sum() == 256


def test_a_patch_is_found_where_it_went():
    """A picture whose other step is one patch further right."""
    poses = torch.stack([pose(0, 0), pose(16, 0)])[None, :, None, None]
    owner = torch.zeros(1, 2, 2, 64, 64, dtype=torch.long)
    target = matches(owner, poses.expand(1, 2, 2, 1, 2, 3), torch.tensor([1, 0]))
    assert target[0, 0].argmax() == 1 and target[1, 1].argmax() == 0


@pytest.mark.parametrize("mode", ["frame", "pair", "clip"])
def test_real_pictures_come_with_their_truth(supply, mode):
    pictures, owner, poses, thing, targets = supply.draw_real(2, 2, 96, 128, mode)
    assert pictures.shape == (2, 2, 2, 3, 96, 128) and owner.shape == (2, 2, 2, 96, 128)
    assert poses.shape == (2, 2, 2, thing.shape[1], 2, 3) and targets.shape == (
        2,
        2,
        2,
        CHANNELS,
        6,
        8,
    )
    assert pictures.min() >= 0 and pictures.max() <= 1 and owner.max() < thing.shape[1]
    if mode == "frame":  # nothing happens between the two frames
        assert torch.equal(poses[:, :, 0], poses[:, :, 1]) and torch.equal(
            targets[:, :, 0], targets[:, :, 1]
        )


def test_place_and_picture_are_taken_out_of_the_targets():
    """Maps that are a pattern of places, the same in all, a value of the picture and noise: the
    noise alone is left.
    """
    generator = torch.Generator().manual_seed(0)
    place = 5 * torch.randn(6, 8, 8, generator=generator)
    noise = torch.randn(400, 6, 8, 8, generator=generator)
    maps = list(place + 9 * torch.randn(400, 1, 1, 8, generator=generator) + noise)
    means = place_means(maps)
    found = [centred(x, means) for x in maps[:50]]
    wanted = noise[:50] - noise[:50].mean((1, 2), keepdim=True)
    first, last = (torch.nn.functional.normalize(x, dim=-1) for x in wanted.chunk(2, -1))
    target, ours = first + LAST * last, torch.stack(found)
    assert torch.nn.functional.cosine_similarity(ours, target, dim=-1).mean() > 0.97


def test_principal_directions_are_those_of_numpy():
    maps = list(
        torch.randn(5, 4, 6, 10, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 11)
    )
    basis, share = principal(maps, 3)
    every = torch.cat([x.flatten(0, 1) for x in maps])
    _, values, vectors = torch.linalg.svd(every, full_matrices=False)
    assert torch.allclose((basis.T @ vectors[:3].T).abs(), torch.eye(3), atol=1e-4)
    assert share == pytest.approx(
        (values[:3].square().sum() / values.square().sum()).item(), abs=1e-5
    )


def test_targets_are_made_once_and_more_pictures_join(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (3, 60, 90, 3), np.uint8)
    save = lambda n: Image.fromarray(noise[n]).save(photos / f"{n}.jpg")
    save(0), save(1)
    first = prepare(str(IMAGES), photos, None, tmp_path / "targets")
    assert first["0"].target.shape == (CHANNELS, *cells(60, 90)) and first["0"].pixels.shape == (
        3,
        21 * CELL,
        32 * CELL,
    )
    save(2)
    second = prepare(str(IMAGES), photos, None, tmp_path / "targets")
    assert list(second) == ["0", "1", "2"] and torch.equal(first["1"].target, second["1"].target)
    with pytest.raises(ValueError, match="no photographs"):
        prepare(str(IMAGES), tmp_path, None, tmp_path / "none")


def test_the_teachers_last_block_is_what_encode_gives():
    teacher = vj.load_encoder(IMAGES, device="cpu", dtype=torch.float32)
    frame = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    size = [n * teacher.patch_size for n in cells(48, 64)]
    theirs = teacher.encode(frame[None], size=size, layer=teacher.depth).values[0]
    theirs = torch.nn.functional.layer_norm(theirs, theirs.shape[-1:])
    ours = look(teacher, frame)[..., teacher.channels :].float()
    assert torch.allclose(ours, theirs, atol=5e-3, rtol=5e-3)


# What the losses measure


def test_the_share_of_pictures_means():
    x = torch.randn(4, 2, 500, 64, generator=torch.Generator().manual_seed(0))
    assert picture_share(x) < 0.01 and picture_share(x + 1) == pytest.approx(0.5, abs=0.01)


def test_a_place_that_all_pictures_share_is_seen_and_noise_is_not():
    """A quarter of the variance is a pattern of places, once for all pictures."""
    generator = torch.Generator().manual_seed(0)
    place = 0.5 * torch.randn(16 * 16, 64, generator=generator)
    for pattern, share in ((place, 0.25), (0, 0)):
        places = Places(64)
        for _ in range(200):
            noise = torch.randn(2, 1, 256, 64, generator=generator)
            seen = places(0.75**0.5 * noise + pattern, 16, 16)
        assert seen == pytest.approx(share, abs=0.03)


def test_misses_are_of_what_differs_within_a_picture():
    """In the targets' basis, whatever is added to all tokens and whatever the basis lacks."""
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(12, 12, generator=generator))[0]
    goals = torch.randn(3, 50, 5, generator=generator)
    x = goals @ basis[:, :5].T + torch.randn(3, 50, 7, generator=generator) @ basis[:, 5:].T + 4
    assert miss(x, goals, basis[:, :5]) < 1e-5 and miss(x, -goals, basis[:, :5]) > 1.9


def test_matching_is_a_cross_entropy():
    """Two patches that have swapped places; the second is not to be looked for."""
    x, others = torch.eye(3)[None, None, :2], torch.eye(3)[None, None, [1, 0]]
    target, seen = torch.tensor([[[0.0, 0.5], [0.2, 0]]]), torch.tensor([[True, False]])
    expected = torch.tensor([0.0, 1.0]) / 0.07
    assert matching(x, others, target, seen) == pytest.approx(
        -expected.log_softmax(0)[1].item(), abs=1e-6
    )
    wrong = target.flip(-1)
    assert matching(x, others, wrong, seen) == pytest.approx(1 / 0.07, rel=1e-3)


def test_a_still_pair_does_not_know_the_difference_of_the_kernels(tmp_path):
    run = Adaptation(tmp_path, START, 10, 0, "cpu")
    pictures = torch.rand(1, 1, 1, 3, 96, 128).expand(-1, -1, 2, -1, -1, -1)
    moving = pictures + 0.1 * torch.randn(pictures.shape)
    with torch.no_grad():
        before = [run.encode(normalised(p), "pair", None) for p in (pictures, moving)]
        run.difference *= 2
        after = [run.encode(normalised(p), "pair", None) for p in (pictures, moving)]
    moved = [(a - b).norm() / b.norm() for a, b in zip(after, before, strict=True)]
    assert moved[0] < 0.01 < moved[1] and 2 * moved[0] < moved[1]


def test_a_predictor_starts_by_copying_what_is_near():
    """Tokens that vary slowly over the grid, with noise: their mean around a hidden one, by the
    weights that its distance has; and nothing of what mask tokens are.
    """
    torch.manual_seed(0)
    config = VJEPA2Config(
        hidden_size=384,
        num_hidden_layers=1,
        num_attention_heads=6,
        crop_size=64,
        pred_hidden_size=192,
        pred_num_attention_heads=3,
        pred_num_hidden_layers=2,
        pred_num_mask_tokens=1,
    )
    model = VJEPA2(config).take_weights(VJEPA2Model(config).state_dict())
    grid = 4, 8, 10
    axes = torch.linalg.qr(torch.randn(384, 190))[0]
    time, row, column = model.positions(grid).T
    waves = [torch.cos(f * row / 4 + g * column / 5 + time / 9) for f in range(4) for g in range(4)]
    x = torch.stack(waves, 1) @ torch.randn(16, 190) @ axes.T
    x = torch.nn.functional.layer_norm(x, x.shape[-1:])[None]  # (1, tokens, channels)
    start_by_copying(model, torch.zeros(384), axes, 384.0)
    hidden = torch.zeros(grid, dtype=bool)
    hidden[:, 2:6, 3:6] = True
    visible, hidden = (torch.nonzero(m.flatten()).T for m in (~hidden, hidden))
    with torch.no_grad():
        given = predict_tokens(model, x[:, visible[0]], visible, hidden, grid)[0]
    apart = model.positions(grid).float()
    apart = apart[hidden[0], None] - apart[visible[0]]  # (hidden, visible, 3)
    cosine = torch.nn.functional.cosine_similarity
    for head in range(3):  # each has axes of its own
        score = sum(
            FLATTER**head * w * (torch.cos(apart[..., axis] * 10 ** (-0.4 * n)))
            for axis, fall in enumerate(FALL)
            for w, numbers in zip(fall, ((0, 1), (2, 3)), strict=True)
            for n in numbers
        )
        own = axes[:, 64 * head : 64 * (head + 1)]
        expected = score.softmax(-1) @ x[0, visible[0]] @ own
        assert cosine(given @ own, expected, dim=-1).min() > 0.99


def test_what_changes_weighs_more():
    """Two places over two steps: one keeps its feature; at the other it turns to its opposite, and
    the mean is near zero.
    """
    target = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.01, -1.0]]])
    weight = changes(target, 2)
    assert weight.mean() == pytest.approx(1) and torch.allclose(weight[0, 0], weight[0, 2])
    assert weight[0, 1] + weight[0, 3] > (1 + CHANGE / 2) * weight[0, 0]


def test_muon_is_torchs_in_float32():
    """Two steps on a tall, a wide and a square matrix; torch's own rounds to bfloat16."""
    generator = torch.Generator().manual_seed(0)
    draw = lambda shape: torch.randn(shape, generator=generator)
    ours = [torch.nn.Parameter(draw(shape)) for shape in ((24, 8), (8, 24), (8, 24), (16, 16))]
    theirs = [torch.nn.Parameter(p.detach().clone()) for p in ours]
    start = [p.detach().clone() for p in ours]
    optimizers = (
        Muon(ours, lr=0.1, weight_decay=0.04),
        torch.optim.Muon(theirs, lr=0.1, weight_decay=0.04, adjust_lr_fn="match_rms_adamw"),
    )
    for _ in range(2):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = draw(a.shape)
            b.grad = a.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for a, b, before in zip(ours, theirs, start, strict=True):
        assert (a - b).norm() < 0.02 * (b - before).norm()


class Elsewhere(Lessons):
    """Lessons on the device "meta", which stands for a GPU; numbers that fake tensors lack are
    Python's.
    """

    def __init__(self):
        self.device, self.generator = torch.device("meta"), torch.Generator()
        self.stills = [picture(12, 16, 0)]
        frames, owner = torch.zeros(16, 3, 256, 256, device="meta"), torch.zeros(16, 256, 256)
        poses = pose(torch.zeros(16, 3, device="meta"), 0)
        thing = torch.zeros(3, dtype=torch.long, device="meta")
        self.pool = [(frames.to(torch.uint8), owner.to("meta", torch.uint8), poses, thing)]

    def below(self, n):
        return random.randrange(n)

    def number(self, low, high):
        return random.uniform(low, high)

    def moments(self, steps, mode):
        return list(range(steps)), int(mode != "frame")


@pytest.mark.parametrize("mode", ["frame", "pair"])
def test_a_step_runs_on_one_device(mode):
    """Fake tensors refuse to be mixed with those of another device."""
    random.seed(0)
    with FakeTensorMode(allow_non_fake_inputs=True, shape_env=ShapeEnv()):
        lessons = Elsewhere()
        readout = torch.nn.Linear(8, 3, device="meta")
        for drawn in [lessons.draw_real, lessons.draw_true] * 2:
            pictures, owner, poses, thing, *goals = drawn(2, 2, 96, 128, mode)
            truth = matches(owner, poses, torch.tensor([1, 0]))
            parts = pictures, owner, poses, thing, *goals, truth
            assert {part.device.type for part in parts} == {"meta"}
            x = torch.randn(2, 2, 48, 8, device="meta")
            losses = [*motion_losses(readout(x), thing, owner, poses)]
            losses += [matching(x, x[:, [1, 0]], truth, truth.sum(-1) > 0.3)]
            assert {loss.device.type for loss in losses} == {"meta"}


@pytest.fixture(scope="module")
def lessons_there():
    with a_gpu():
        return lessons("cuda")


@pytest.mark.slow
@pytest.mark.parametrize("stage", [*STAGES, Following])
def test_a_stage_steps_on_a_pretended_gpu(stage, lessons_there, tmp_path, monkeypatch):
    """From scenes to optimisers, with values: see `elsewhere`."""
    monkeypatch.setattr("demo.recipe.follow.textures", lambda *_, **__: torch.rand(8, 3, 128, 128))
    with a_gpu():
        run = stage(tmp_path, START, 10, 0, "cuda")
        losses = run.update(EncodedScenes(0, "cuda", 1) if stage is Following else lessons_there)
        assert np.isfinite([*losses.values()]).all()
        assert {weight.device.type for weight in run.trained} == {"cuda"}
