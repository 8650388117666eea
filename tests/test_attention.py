"""Attention in pieces: the same result, and no piece larger than the device can take."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import vjepa_utils as vj
from tests.conftest import GOLDEN_HEADS
from vjepa_utils.model.attention import LARGEST, attend

FRAMES = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), np.uint8)


@pytest.fixture
def pieces(monkeypatch):
    """Numbers of scores of each call of torch's attention."""
    whole, seen = F.scaled_dot_product_attention, []

    def counted(q, k, v, **how):
        seen.append(q.shape[:3].numel() * k.shape[2])
        return whole(q, k, v, **how)

    monkeypatch.setattr(F, "scaled_dot_product_attention", counted)
    return seen


def random_heads(batch, heads, *tokens, channels=64, dtype=torch.float32):
    """Tensors (batch, heads, n, channels) for each n of tokens, as the encoder has them: views
    whose heads lie side by side.
    """
    random = torch.Generator().manual_seed(0)
    shapes = ((batch, n, heads, channels) for n in tokens)
    return [torch.randn(s, generator=random).to(dtype).transpose(1, 2) for s in shapes]


@pytest.mark.parametrize(
    ("batch", "heads", "queries", "keys"), [(1, 4, 100, 100), (3, 2, 37, 37), (1, 16, 1, 300)]
)
@pytest.mark.parametrize("scale", [None, 0.3])
def test_pieces_equal_the_whole(batch, heads, queries, keys, scale, pieces, monkeypatch):
    random = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(batch, heads, n, 8, generator=random) for n in (queries, keys, keys))
    whole = F.scaled_dot_product_attention(q, k, v, scale=scale)
    weights = (q @ k.transpose(2, 3) * (scale or 8**-0.5)).softmax(-1)  # the formula itself
    assert torch.allclose(whole, weights @ v, atol=1e-5)
    pieces.clear()
    monkeypatch.setitem(LARGEST, "cpu", 5000)
    assert (attend(q, k, v, scale) - whole).abs().max() < 1e-6
    assert max(pieces) <= 5000 and sum(pieces) == batch * heads * queries * keys


def test_the_limit_of_metal_is_sixteen_thousand_tokens_of_vit_l(pieces, monkeypatch):
    """On tensors without memory, as if they were on MPS."""
    monkeypatch.setitem(LARGEST, "meta", LARGEST["mps"])
    for tokens, calls in ((16_384, 1), (16_385, 2), (40_000, 6)):
        pieces.clear()
        q = torch.empty(1, 16, tokens, 64, device="meta")
        assert attend(q, q, q).shape == q.shape
        assert len(pieces) == calls and max(pieces) <= 2**32
    assert "cpu" not in LARGEST and "cuda" not in LARGEST


@pytest.mark.parametrize("name", ["vjepa2-demo", "dino-demo"])
def test_every_encoder_attends_in_pieces(name, pieces, monkeypatch):
    encoder = vj.load_encoder(name, device="cpu", dtype=torch.float32)
    whole, calls = encoder.encode(FRAMES, size=64).values, len(pieces)
    monkeypatch.setitem(LARGEST, "cpu", 300)
    split = encoder.encode(FRAMES, size=64).values
    assert len(pieces) > 3 * calls and max(pieces[calls:]) <= 300
    assert (split - whole).abs().max() < 1e-5 * whole.abs().max()


def test_the_pooler_of_a_head_attends_in_pieces(pieces, monkeypatch):
    monkeypatch.setattr("vjepa_utils.actions.heads.fast_dtype", lambda device: torch.float32)
    whole, calls = vj.classify(FRAMES, GOLDEN_HEADS / "ssv2").logits, len(pieces)
    monkeypatch.setitem(LARGEST, "cpu", 2000)
    split = vj.classify(FRAMES, GOLDEN_HEADS / "ssv2").logits
    # self-attention of 64 tokens in 4 heads, 16,384 scores, and its query, 256
    assert max(pieces[:calls]) == 16_384 and max(pieces[calls:]) <= 2000
    assert (split - whole).abs().max() < 1e-5 * whole.abs().max()


def test_pieces_have_the_gradient_of_the_whole(monkeypatch):
    q, k, v = (x.requires_grad_() for x in random_heads(1, 2, 30, 20, 20))
    whole = torch.autograd.grad(attend(q, k, v).square().sum(), (q, k, v))
    monkeypatch.setitem(LARGEST, "cpu", 300)
    split = torch.autograd.grad(attend(q, k, v).square().sum(), (q, k, v))
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(split, whole, strict=True))
