"""Attention in pieces: the same result, no piece larger than the device can take, and tiles only
where they are faster.
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

import vjepa_utils as vj
from tests.conftest import GOLDEN, GOLDEN_HEADS
from vjepa_utils.model import attention
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


@pytest.fixture
def bf16_units(monkeypatch):
    """This CPU, as if it had them."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})


def random_heads(batch, heads, *tokens, channels=64, dtype=torch.bfloat16):
    """Tensors (batch, heads, n, channels) for each n of tokens, as the encoder has them: views
    whose heads lie side by side.
    """
    random = torch.Generator().manual_seed(0)
    shapes = ((batch, n, heads, channels) for n in tokens)
    return [torch.randn(s, generator=random).to(dtype).transpose(1, 2) for s in shapes]


def error(a, b):
    return ((a.float() - b).norm() / b.norm()).item()


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
    q, k, v = (x.requires_grad_() for x in random_heads(1, 2, 30, 20, 20, dtype=torch.float32))
    whole = torch.autograd.grad(attend(q, k, v).square().sum(), (q, k, v))
    monkeypatch.setitem(LARGEST, "cpu", 300)
    split = torch.autograd.grad(attend(q, k, v).square().sum(), (q, k, v))
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(split, whole, strict=True))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    ("batch", "heads", "queries", "keys"), [(2, 3, 300, 300), (1, 2, 256, 700), (1, 1, 513, 257)]
)
@pytest.mark.parametrize("scale", [None, 0.3])  # 0.3: peaked rows, where rounded scores matter most
@torch.no_grad()
def test_tiles_are_near_float32(
    batch, heads, queries, keys, scale, threads, bf16_units, pieces, monkeypatch
):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    q, k, v = random_heads(batch, heads, queries, keys, keys)
    weights = (q.float() @ k.float().mT * (scale or 1 / 8)).softmax(-1)
    tiled = attend(q, k, v, scale)
    assert not pieces and tiled.dtype == torch.bfloat16
    assert error(tiled, weights @ v.float()) < 0.015


@torch.no_grad()
def test_tiles_hold_no_more_scores_than_a_tile_for_each_thread(bf16_units, monkeypatch):
    class Largest(TorchDispatchMode):
        elements = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor):
                self.elements = max(self.elements, out.numel())
            return out

    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    q, k, v = random_heads(1, 4, 600, 600, 600, channels=16)
    with Largest() as largest:
        attend(q, k, v)
    assert largest.elements == 2 * attention.TILE * 600


@pytest.mark.parametrize(
    ("units", "tokens", "dtype", "grad", "fused"),
    [
        ({"avx512_bf16": True}, 256, torch.bfloat16, False, 0),
        ({"avx512_bf16": True}, 256, torch.float32, False, 1),
        ({"avx512_bf16": True}, 256, torch.bfloat16, True, 1),
        ({"avx512_bf16": True}, 255, torch.bfloat16, False, 1),
        ({"avx512_bf16": True, "amx_bf16": True}, 256, torch.bfloat16, False, 1),
        ({"avx2": True, "avx512_bf16": False}, 256, torch.bfloat16, False, 1),
        ({}, 256, torch.bfloat16, False, 1),
    ],
)
def test_tiles_are_for_bf16_units_alone(units, tokens, dtype, grad, fused, pieces, monkeypatch):
    """Elsewhere it is torch's fused attention, in one call."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: units)
    q, k, v = random_heads(1, 1, tokens, tokens, tokens, dtype=dtype)
    with torch.set_grad_enabled(grad):
        found = attend(q, k, v)
    assert len(pieces) == fused
    assert not fused or torch.equal(found, F.scaled_dot_product_attention(q, k, v))


def test_the_golden_outputs_in_bf16_by_tiles(golden, bf16_units, pieces, monkeypatch):
    monkeypatch.setattr(attention, "TILE", 48)  # 128 tokens: two tiles and a part of one
    case = golden["larger"][1]
    encoder = vj.load_encoder(GOLDEN / "model", device="cpu", dtype=torch.bfloat16)
    size = tuple(case["frames"].shape[1:3])
    tokens = encoder.encode(case["frames"], context="clip", size=size).values.flatten(0, 2)
    assert not pieces and error(tokens, case["tokens"]) < 0.015
