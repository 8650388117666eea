"""Attention, in pieces of the queries where a device cannot take it whole."""

import math

import torch
import torch.nn.functional as F

from vjepa_utils.checks import UserError

# Scores (batch × heads × queries × keys) that a device can take at once, by its type. Beyond these
# Metal gives wrong results without an error (pytorch #179352, #197636): 16,384 tokens of ViT-L.
LARGEST = {"mps": 2**32}


def attend(q, k, v, scale: float | None = None) -> torch.Tensor:
    """Scaled dot-product attention of q (batch, heads, queries, channels), k and v (batch, heads,
    keys, channels). Pieces of the queries together equal the whole: the softmax is over the keys.
    """
    of_one_query = q.shape[:2].numel() * k.shape[2]
    queries = max(1, int(min(LARGEST.get(q.device.type, math.inf) / of_one_query, q.shape[2])))
    if queries == q.shape[2]:
        return F.scaled_dot_product_attention(q, k, v, scale=scale)
    out = torch.empty_like(q)
    for first in range(0, q.shape[2], queries):
        rows = slice(first, first + queries)
        out[:, :, rows] = F.scaled_dot_product_attention(q[:, :, rows], k, v, scale=scale)
    return out


def register() -> str:
    """Make `attend` known to transformers; returns its name, for `attn_implementation`."""
    from transformers import AttentionInterface

    AttentionInterface.register("in_pieces", _for_transformers)
    return "in_pieces"


def _for_transformers(module, query, key, value, attention_mask, scaling=None, **unused):
    if attention_mask is not None:
        raise UserError("in_pieces is attention without a mask")
    return attend(query, key, value, scaling).transpose(1, 2).contiguous(), None
