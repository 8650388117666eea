"""An image encoder in V-JEPA 2's architecture computes what it computed before, and with room for
motion it sees which way things move.
"""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from transformers import Dinov2Config, Dinov2Model

import vjepa_utils as vj
from demo.recipe import motion
from demo.recipe.inflate import PATCH, inflated, resized_kernels
from demo.recipe.training import normalised
from demo.render.scenes import photographs, pose
from vjepa_utils.files import shipped
from vjepa_utils.model.positions import rotary_tables
from vjepa_utils.model.vjepa2 import VJEPA2, encode_tokens
from vjepa_utils.weights.models import load_model

SEEN = "astronaut", "cat", "china", "coffee"  # photographs


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A small DINOv2 of random weights, biases and layer scales, with patches of 14 pixels."""
    torch.manual_seed(0)
    config = Dinov2Config(
        hidden_size=48, num_attention_heads=2, num_hidden_layers=3, image_size=56, patch_size=14
    )
    model = Dinov2Model(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    folder = tmp_path_factory.mktemp("teacher")
    model.save_pretrained(folder)
    return vj.load_encoder(folder, "cpu", torch.float32)


@pytest.fixture(scope="module")
def student(teacher):
    model = inflated(teacher, blocks=2)
    return VJEPA2(model.config).take_weights(model.state_dict())


def enlarged(picture):
    """Each patch of 14 pixels of (n, 3, height, width) resized to 16 by itself."""
    rows, columns = (side // 14 for side in picture.shape[2:])
    patches = F.unfold(picture, 14, stride=14).transpose(1, 2).reshape(-1, 3, 14, 14)
    patches = F.interpolate(patches, (PATCH, PATCH), mode="bicubic", align_corners=False)
    patches = patches.reshape(len(picture), rows * columns, -1).transpose(1, 2)
    return F.fold(patches, (rows * PATCH, columns * PATCH), PATCH, stride=PATCH)


def test_an_enlarged_patch_gives_the_same():
    kernels, patches = torch.randn(5, 3, 14, 14), torch.rand(7, 3, 14, 14)
    expected = F.conv2d(patches, kernels)
    given = F.conv2d(enlarged(patches), resized_kernels(kernels, PATCH))
    assert torch.allclose(given, expected, atol=1e-3)


def test_a_pair_of_equal_frames_gives_the_token_of_the_frame(teacher, student):
    picture = torch.rand(1, 3, 28, 42)
    embeddings = teacher.model.embeddings
    expected = embeddings.patch_embeddings(picture)
    expected = expected + embeddings.position_embeddings[0, 1:].mean(0)
    weight, bias = student.patch_embedding(2)
    pair = torch.stack(2 * [enlarged(picture)], 2)  # (1, 3, 2, height, width)
    given = F.conv3d(pair, weight, bias, stride=weight.shape[2:]).flatten(2).transpose(1, 2)
    assert torch.allclose(given, expected, atol=1e-3)


def test_without_positions_a_block_is_the_teachers(teacher, student):
    tokens = torch.randn(2, 6, 48)
    nowhere = rotary_tables(torch.zeros(6, 3), student.encoder.layer[0].attention.head_size)
    for ours, theirs in zip(student.encoder.layer, teacher.model.encoder.layer, strict=False):
        expected = theirs(tokens)
        assert torch.allclose(ours(tokens.clone(), nowhere), expected, atol=1e-4)
        assert (expected - tokens).norm() > 0.1 * tokens.norm()
    assert torch.equal(student.encoder.layernorm(tokens), F.layer_norm(tokens, (48,), eps=1e-6))


def test_it_is_a_checkpoint_like_any_other(teacher, tmp_path):
    inflated(teacher, blocks=2).save_pretrained(tmp_path)
    encoder = vj.load_encoder(tmp_path, "cpu", torch.float32)
    features = encoder.encode(torch.rand(4, 32, 48, 3), size=(32, 48))
    assert features.values.shape == (2, 2, 3, 48) and features.values.std() > 0.1


def test_other_encoders_are_refused(tiny):
    with pytest.raises(ValueError, match="no ViT of DINOv2's form"):
        inflated(tiny)


# Motion


@pytest.fixture
def model():
    return load_model(shipped("vjepa2-demo"), torch.float32)


@torch.no_grad()
def tokens(model, frames, layer=None):
    """Of two frames (2, 3, height, width), 0 to 1, after the first block."""
    return encode_tokens(model, normalised(frames)[None], layer=layer)[0]


def test_room_changes_nothing_where_units_gave_nothing(model):
    generator = torch.Generator().manual_seed(0)
    for block in model.encoder.layer[: motion.BLOCKS]:
        idle = torch.randperm(block.mlp.fc2.in_features, generator=generator)[: motion.UNITS]
        block.mlp.fc2.weight[:, idle] = 0
    still = torch.rand(4, 1, 3, 96, 128, generator=generator).expand(-1, 2, -1, -1, -1)
    moving = torch.stack([still[0, 0], still[1, 0]])
    before = [tokens(model, frames) for frames in (still[0], moving)]
    motion.make_room(model, normalised(still))
    after = [tokens(model, frames) for frames in (still[0], moving)]
    changes = [(a - b).norm() / b.norm() for a, b in zip(after, before, strict=True)]
    assert changes[0] < 1e-4 and changes[1] > 0.1
    assert not model.encoder.layer[0].mlp.fc2.weight[:, -motion.UNITS :].any()


def test_split_weights_are_those_that_they_came_from(model):
    before = {name: value.clone() for name, value in model.weights().items()}
    motion.split_kernels(model.encoder)
    new = motion.split_units(model.encoder)
    assert [len(block) for block in new] == motion.BLOCKS * [3]
    after = motion.without_splits(model)
    assert after.keys() == before.keys()
    assert all(torch.allclose(after[name], before[name], atol=1e-6) for name in before)


def test_a_moving_photograph_moves_by_its_flow():
    wave = torch.sin(torch.linspace(0, 40, 300))
    photo = (0.5 + 0.2 * wave[:, None] + 0.2 * wave.flip(0)[:250]).expand(3, -1, -1)
    generator = torch.Generator().manual_seed(1)
    number = lambda low, high: float(low + (high - low) * torch.rand((), generator=generator))
    centres = motion.patch_centres(16, 16)
    value = lambda frame, points: F.grid_sample(
        frame[None], points[None, None] / motion.SIDE * 2 - 1, align_corners=False
    )[0, 0, 0]
    changes = []
    for _ in range(4):
        frames, flow = motion.moving_pair(photo, number)
        after = centres + flow
        inside = ((after > 1) & (after < motion.SIDE - 1)).all(1)
        first, second = value(frames[0], centres), value(frames[1], after)
        assert torch.allclose(first[inside], second[inside], atol=0.01)
        changes.append((value(frames[1], centres) - first).abs().max())
    assert max(changes) > 0.1


def test_the_flow_of_patches_and_its_losses():
    """Layer 1, at the left of the first row, moves by 8 pixels to the right; layer 0 is still, and
    a patch of it is covered.
    """
    still = pose(torch.zeros(2), 0.0)  # of both layers
    poses = torch.stack([still, pose(torch.tensor([0.0, 8.0]), 0.0)])
    owner = torch.zeros(2, 32, 64, dtype=torch.long)
    owner[0, :16, :34] = owner[1, :16, :42] = 1
    drawn = owner[None, None], poses[None, None]  # a clip of one step
    layer, flow, stays = motion.flows(*drawn)
    assert layer.tolist() == [[1, 1, 0, 0, 0, 0, 0, 0]]
    assert flow.tolist() == [2 * [[8, 0]] + 6 * [[0, 0]]]
    assert stays.tolist() == [2 * [True] + [False] + 5 * [True]]
    read, thing = torch.zeros(1, 1, 8, 3), torch.tensor([[0, 1]])
    moving, error, none = motion.motion_losses(read, thing, *drawn)
    assert moving.item() == pytest.approx(math.log(2))
    # two patches of seven move by two units of 4 pixels along x
    assert error.item() == none.item() == pytest.approx((2 * (2 - 0.5)) / (2 * 7))
    read[0, 0, :2, 1] = 2
    assert motion.motion_losses(read, thing, *drawn)[1].item() == 0


@pytest.mark.slow
def test_the_first_block_tells_which_way_photographs_move(model, tmp_path, monkeypatch):
    monkeypatch.setattr(motion, "PAIRS", 100)
    monkeypatch.setattr(motion, "STEPS", 300)
    generator = torch.Generator().manual_seed(0)
    for name, photo in zip(SEEN, photographs(SEEN), strict=True):
        picture = (photo.permute(1, 2, 0) * 255).byte().numpy()
        Image.fromarray(picture).save(tmp_path / f"{name}.jpg", quality=95)
    files = sorted(tmp_path.glob("*.jpg"))
    stills = torch.stack([motion.opened(file)[:, :96, :128] for file in files])
    directions = motion.make_room(model, normalised(stills)[:, None].expand(-1, 2, -1, -1, -1))
    mute = copy.deepcopy(model)
    motion.fit(model, directions, files, generator)
    number = lambda low, high: float(low + (high - low) * torch.rand((), generator=generator))
    told, truth = [], []
    for photo in 4 * photographs(("motorcycle", "flower")):  # not among those
        frames, flow = motion.moving_pair(photo, number)
        told.append((tokens(model, frames, 1) - tokens(mute, frames, 1)) @ directions[:, 1:3])
        truth.append(flow.clamp(-20, 20))
    told, truth = torch.cat(told), torch.cat(truth)
    slopes = torch.linalg.lstsq(truth, told - told.mean(0)).solution  # (truth's axes, told axes)
    assert slopes.diagonal().min() > 1.5 * slopes.fliplr().diagonal().abs().max()
    for axis in (0, 1):
        assert torch.corrcoef(torch.stack([told[:, axis], truth[:, axis]]))[0, 1] > 0.3
