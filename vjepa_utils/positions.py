"""True positions: every token is rotated by its own (step, row, column), on any grid.

The transformers port derives positions from the training square whatever the input, so on any other
grid each token gets a wrong one, without an error. Here positions are an argument. The modules and
weights stay those of transformers; only the attention is exchanged (`use_true_positions`), and the
two forward passes written out: the encoder on all or on visible tokens, and the predictor.
"""

import torch
import torch.nn.functional as F
from torch import nn


def grid_positions(grid, device=None):
    """(step, row, column) of every token of a (steps, rows, columns) grid, in token order: (tokens, 3)."""
    axes = [torch.arange(n, device=device) for n in grid]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)


def rotary_tables(positions, head_size, dtype=torch.float32):
    """Cosines and sines that rotate queries and keys; made once per forward pass.

    A head's channels are three equal groups for step, row and column, and a rest that is not turned.
    Channel c of a group of d turns by position / 10000**((c mod d/2) / (d/2)), although it is paired
    with its neighbour c ^ 1: frequencies tiled, pairs interleaved, as the pretrained weights expect
    (facebookresearch/vjepa2, `rotate_queries_or_keys`). The tables are in the channel order of
    `RotaryAttention`: even channels first.

    Args:
        positions: (..., tokens, 3) integers.
        head_size: channels of one attention head, even.
    Returns:
        cos, sin: (..., tokens, 1, head_size); sin carries the sign of the rotation.
    """
    half = head_size // 3 // 2  # pairs per axis
    omega = 1.0 / 10000 ** (torch.arange(half, dtype=torch.float32, device=positions.device) / half)
    angles = positions.to(torch.float32).unsqueeze(-1) * omega  # (..., tokens, 3, d/2)
    angles = F.pad(angles.repeat_interleave(2, -2).flatten(-2), (0, head_size - 6 * half))  # (..., tokens, head_size)
    even, odd = angles[..., 0::2], angles[..., 1::2]
    cos = torch.cat([even.cos(), odd.cos()], -1)
    sin = torch.cat([-even.sin(), odd.sin()], -1)
    return cos.unsqueeze(-2).to(dtype), sin.unsqueeze(-2).to(dtype)


def even_channels_first(heads, head_size):
    """Order of the channels of all heads that puts the even ones of each first."""
    channels = torch.arange(heads * head_size).view(heads, head_size)
    return torch.cat([channels[:, 0::2], channels[:, 1::2]], 1).flatten()


class RotaryAttention(nn.Module):
    """transformers' V-JEPA 2 attention, with positions given instead of guessed.

    Query and key channels are stored even ones first within each head. Their products do not change,
    and the rotation of neighbouring channels becomes a swap of two halves: no slicing, no stacking.
    It takes the place of `VJEPA2RopeAttention` and receives the tables as `position_mask`.
    """

    def __init__(self, stock):
        super().__init__()
        self.heads, self.head_size = stock.num_attention_heads, stock.attention_head_size
        self.query, self.key, self.value, self.proj = stock.query, stock.key, stock.value, stock.proj
        order = even_channels_first(self.heads, self.head_size)
        with torch.no_grad():
            for linear in (self.query, self.key):
                for parameter in linear.parameters():
                    parameter.copy_(parameter[order.to(parameter.device)])

    def forward(self, hidden_states, position_mask):
        cos, sin = position_mask
        q, k, v = (
            linear(hidden_states).unflatten(-1, (self.heads, self.head_size))  # (batch, tokens, heads, channels)
            for linear in (self.query, self.key, self.value)
        )
        q, k = (torch.addcmul(x * cos, x.roll(self.head_size // 2, -1), sin) for x in (q, k))
        x = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
        return self.proj(x.transpose(1, 2).flatten(2)), None


def use_true_positions(model):
    """Exchange the attention of every encoder and predictor layer of a `VJEPA2Model`; returns the model.

    Afterwards use `encode_tokens` and `predict_tokens`, not the model's own forward.
    """
    for layer in [*model.encoder.layer, *model.predictor.layer]:
        layer.attention = RotaryAttention(layer.attention)
    return model


def _gather(tokens, index):
    """Tokens (batch, n, channels) at `index` (batch or 1, k): (batch, k, channels)."""
    index = index.expand(len(tokens), -1)
    return tokens.gather(1, index.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))


def _tubelets(pixels, depth, height, width):
    """Cut (batch, frames, 3, H, W) into tubelets (batch, tokens, 3 * depth * height * width); also the grid."""
    x = pixels.unflatten(4, (-1, width)).unflatten(3, (-1, height)).unflatten(1, (-1, depth))
    x = x.permute(0, 1, 4, 6, 3, 2, 5, 7)  # (batch, steps, rows, columns, 3, depth, height, width)
    return x.flatten(4).flatten(1, 3), x.shape[1:4]


def encode_tokens(model, pixels, visible=None, layer=None, square=None):
    """The encoder, with the true grid; hidden tokens are dropped before its first layer.

    Args:
        model: a `VJEPA2Model` after `use_true_positions`.
        pixels: (batch, frames, 3, height, width), normalised; frames even, sides multiples of the patch.
        visible: None for all tokens, or (batch or 1, n) token numbers in step, row, column order.
        layer: None for the output of the final norm; k in 1…depth for that of block k, before the norm.
        square: None, or the side of the square grid to number positions by, as stock transformers does on any grid.
    Returns:
        (batch, tokens or n, channels).
    """
    encoder = model.encoder
    embedding = encoder.embeddings.patch_embeddings.proj  # a 3D convolution whose stride is its kernel: a linear map
    x, grid = _tubelets(pixels.to(embedding.weight.dtype), *embedding.kernel_size)
    positions = grid_positions(grid if square is None else (x.shape[1], square, square), x.device)[: x.shape[1]]  # (tokens, 3)
    if visible is not None:
        x, positions = _gather(x, visible), positions[visible]
    x = F.linear(x, embedding.weight.flatten(1), embedding.bias)  # (batch, tokens, channels)
    tables = rotary_tables(positions, encoder.layer[0].attention.head_size, x.dtype)
    for block in encoder.layer[:layer]:
        x = block(x, tables)[0]
    return encoder.layernorm(x) if layer is None else x


def predict_tokens(model, context, visible, hidden, grid, mask_token=0):
    """The predictor, with the true grid: features of the hidden tokens from those of the visible ones.

    Args:
        context: (batch, n visible, channels), `encode_tokens` of the visible tokens only.
        visible, hidden: (batch or 1, n) token numbers.
        grid: (steps, rows, columns).
        mask_token: which of the checkpoint's mask tokens stands for a hidden token.
    Returns:
        (batch, n hidden, channels) in the order of `hidden`. It approximates the features of the whole
        clip after a layer norm without scale or shift, not the encoder's output itself.
    """
    predictor = model.predictor
    embeddings = predictor.embeddings
    x = embeddings.predictor_embeddings(context)
    token = embeddings.mask_tokens[mask_token].to(x.dtype)  # (1, 1, channels)
    x = torch.cat([x, token.expand(len(x), hidden.shape[1], -1)], 1)
    positions = grid_positions(grid, x.device)[torch.cat([visible, hidden], 1)]  # (batch or 1, tokens, 3)
    tables = rotary_tables(positions, predictor.layer[0].attention.head_size, x.dtype)
    for block in predictor.layer:
        x = block(x, tables)[0]
    return predictor.proj(predictor.layernorm(x)[:, visible.shape[1] :])
