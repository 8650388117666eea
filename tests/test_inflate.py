"""An image encoder in V-JEPA 2's architecture computes what it computed before."""

import pytest
import torch
import torch.nn.functional as F
from transformers import Dinov2Config, Dinov2Model

import vjepa_utils as vj
from demo.recipe.inflate import PATCH, inflated, resized_kernels
from vjepa_utils.model.positions import rotary_tables
from vjepa_utils.model.vjepa2 import VJEPA2


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
    norm = student.encoder.layernorm, teacher.model.layernorm
    assert torch.equal(*(module(tokens) for module in norm))


def test_it_is_a_checkpoint_like_any_other(teacher, tmp_path):
    inflated(teacher, blocks=2).save_pretrained(tmp_path)
    encoder = vj.load_encoder(tmp_path, "cpu", torch.float32)
    features = encoder.encode(torch.rand(4, 32, 48, 3), size=(32, 48))
    assert features.values.shape == (2, 2, 3, 48) and features.values.std() > 0.1


def test_other_encoders_are_refused(tiny):
    with pytest.raises(ValueError, match="no ViT of DINOv2's form"):
        inflated(tiny)
