"""True positions: every token is rotated by its own (step, row, column), on any grid."""

import torch
import torch.nn.functional as F


def grid_positions(grid, device=None, shift=(0, 0)) -> torch.Tensor:
    """(step, row, column) of every token of a (steps, rows, columns) grid: (tokens, 3). shift: of
    the picture under the grid, down and right, in patches.
    """
    axes = [torch.arange(n, device=device) for n in grid]
    positions = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    return positions + torch.tensor((0, *shift), device=device)


def rotary_tables(positions, head_size: int, dtype=torch.float32, interleaved=False) -> tuple:
    """Cosines and sines that rotate queries and keys; made once per forward pass.

    A head's channels are three equal groups for step, row and column, and a rest that is not
    rotated. Channel c of a group of d rotates by position / 10000**((c mod d/2) / (d/2)), although
    it is paired with its neighbour c ^ 1: frequencies tiled, pairs interleaved, as the pretrained
    weights expect (facebookresearch/vjepa2, `rotate_queries_or_keys`). In V-JEPA 2.1 frequencies
    are interleaved too: c // 2 in place of c mod d/2. Even channels come first in the tables.

    positions: (..., tokens, 3), whole or not.
    head_size: channels of one attention head, even.
    Returns cos, sin: (..., tokens, 1, head_size); sin carries the sign of the rotation.
    """
    half = head_size // 3 // 2  # pairs per axis
    omega = 1.0 / 10000 ** (torch.arange(half, dtype=torch.float32, device=positions.device) / half)
    angles = positions.to(torch.float32).unsqueeze(-1) * omega  # (..., tokens, 3, d/2)
    angles = angles.repeat_interleave(2, -1 if interleaved else -2).flatten(-2)
    angles = F.pad(angles, (0, head_size - 6 * half))  # (..., tokens, head_size)
    even, odd = angles[..., 0::2], angles[..., 1::2]
    cos = torch.cat([even.cos(), odd.cos()], -1)
    sin = torch.cat([-even.sin(), odd.sin()], -1)
    return cos.unsqueeze(-2).to(dtype), sin.unsqueeze(-2).to(dtype)


def even_channels_first(heads: int, head_size: int) -> torch.Tensor:
    """Order of the channels of all heads that puts the even ones of each first."""
    channels = torch.arange(heads * head_size).view(heads, head_size)
    return torch.cat([channels[:, 0::2], channels[:, 1::2]], 1).flatten()
