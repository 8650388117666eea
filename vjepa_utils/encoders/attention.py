"""Attention, in pieces where a device cannot take it whole."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

# Scores (batch × heads × queries × keys) that a device can take at once, by its type. Beyond these
# Metal gives wrong results without an error (pytorch #179352, #197636): 16,384 tokens of ViT-L.
LARGEST = {"mps": 2**32}


def attend(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float | None = None
) -> torch.Tensor:
    """Scaled dot-product attention, in pieces of the queries where the device needs that.

    The softmax is over the keys, so that the pieces together equal the whole.

    Args:
        q: (batch, heads, queries, channels).  k, v: (batch, heads, keys, channels).
        scale: of the scores; None for 1 / sqrt(channels).
    Returns:
        (batch, heads, queries, channels).
    """
    of_one_query = q.shape[:2].numel() * k.shape[2]
    queries = max(1, int(min(LARGEST.get(q.device.type, math.inf) / of_one_query, q.shape[2])))
    pieces = [
        F.scaled_dot_product_attention(part, k, v, scale=scale) for part in q.split(queries, 2)
    ]
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces, 2)


def register() -> str:
    """Make `attend` known to transformers; returns its name, for `attn_implementation`."""
    from transformers import AttentionInterface

    AttentionInterface.register("in_pieces", _for_transformers)
    return "in_pieces"


def _for_transformers(module, query, key, value, attention_mask, scaling=None, **unused):
    if attention_mask is not None:
        raise ValueError("in_pieces is attention without a mask")
    return attend(query, key, value, scaling).transpose(1, 2).contiguous(), None
