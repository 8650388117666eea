"""Attention, in pieces where a device cannot take it whole, or is faster at pieces."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from vjepa_utils.checks import UserError

# Scores (batch × heads × queries × keys) that a device can take at once, by its type. Beyond these
# Metal gives wrong results without an error (pytorch #179352, #197636): 16,384 tokens of ViT-L.
LARGEST = {"mps": 2**32}
# Queries at a time on CPUs with bf16 units: their scores with 2,048 keys are 1 MiB, and stay in the
# cache between the two matrix products.
TILE = 256


def attend(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float | None = None
) -> torch.Tensor:
    """Scaled dot-product attention: torch's fused one, in pieces of the queries where the device
    needs that; `in_tiles` where that is faster.

    Args:
        q: (batch, heads, queries, channels).  k, v: (batch, heads, keys, channels).
        scale: of the scores; None for 1 / sqrt(channels).
    Returns:
        (batch, heads, queries, channels).
    """
    if _faster_in_tiles(q, k):
        return in_tiles(q, k, v, scale)
    of_one_query = q.shape[:2].numel() * k.shape[2]
    queries = max(1, int(min(LARGEST.get(q.device.type, math.inf) / of_one_query, q.shape[2])))
    return _in_pieces(queries, F.scaled_dot_product_attention, q, k, v, scale)


def in_tiles(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float | None = None
) -> torch.Tensor:
    """Attention whose scores stay in the cache: `TILE` queries of one head at a time, for each
    thread. Beside the result it holds 1 KiB a key and thread, in bf16. Arguments as for `attend`.
    """
    out, at_once = torch.empty_like(q), torch.get_num_threads()
    for clip in range(len(q)):
        for head in range(0, q.shape[1], at_once):
            part = clip, slice(head, head + at_once)
            # read once for each tile: their rows side by side
            keys, values = k[part].contiguous(), v[part].contiguous()
            out[part] = _in_pieces(TILE, _by_products, q[part], keys, values, scale)
    return out


def _faster_in_tiles(q, k):
    """Whether `in_tiles` is faster than torch's fused attention: a rule and no measurement, so that
    a stopped run goes on with the same bits.

    Measured with avx512_bf16, from 256 tokens on. With AMX the fused one uses the units itself.
    """
    if q.dtype != torch.bfloat16 or q.device.type != "cpu" or min(q.shape[2], k.shape[2]) < TILE:
        return False
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return False  # all scores would be kept for the gradient; thousands of steps be compiled
    units = torch.cpu.get_capabilities()
    return units.get("avx512_bf16", False) and not units.get("amx_bf16", False)


def _in_pieces(queries, attention, q, k, v, scale):
    """`attention` of so many queries at a time: the softmax is over the keys, so that the pieces
    together equal the whole.
    """
    if queries >= q.shape[-2]:
        return attention(q, k, v, scale=scale)
    out = torch.empty_like(q)
    for first in range(0, q.shape[-2], queries):
        rows = slice(first, first + queries)
        out[..., rows, :] = attention(q[..., rows, :], k, v, scale=scale)
    return out


def _by_products(q, k, v, scale):
    """Attention as its formula says, for q, k and v of any leading sizes."""
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    # torch computes the softmax in float32, and rounds the weights once
    return (q * scale @ k.mT).softmax(-1) @ v


def register() -> str:
    """Make `attend` known to transformers; returns its name, for `attn_implementation`."""
    from transformers import AttentionInterface

    AttentionInterface.register("in_pieces", _for_transformers)
    return "in_pieces"


def _for_transformers(module, query, key, value, attention_mask, scaling=None, **unused):
    if attention_mask is not None:
        raise UserError("in_pieces is attention without a mask")
    return attend(query, key, value, scaling).transpose(1, 2).contiguous(), None
