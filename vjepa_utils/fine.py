"""Finer maps without training: a picture is encoded at shifts of parts of a patch, and the maps are
interleaved.
"""

from __future__ import annotations

from collections.abc import Callable

import torch


def interleaved(
    encode: Callable[[torch.Tensor, tuple[float, float]], list[torch.Tensor]],
    pixels: torch.Tensor,
    patch: int,
    stride: int,
) -> list[torch.Tensor]:
    """Tokens every `stride` pixels. Those whose patch lies within the usual grid are the usual
    tokens; each shift's common offset, its mean over the picture less that of the usual tokens, is
    taken out of each step, or a checkerboard stays.

    Args:
        encode: of pixels and their shift down and right in patches, a tensor (groups, tokens,
            channels) for each layer.
        pixels: (groups, frames, 3, height, width). Beyond the lower and right edge, where a shift
            needs them, the last `stride` pixels are repeated.
        patch: side of a patch in pixels.
        stride: pixels between tokens, a divisor of the patch.
    Returns:
        For each layer (groups, tokens, channels), in step, row, column order of a grid with patch /
        stride times the rows and columns; if that is not one, float32 on the CPU.
    """
    if stride == patch:
        return encode(pixels, (0, 0))
    height, width = pixels.shape[-2:]
    rows, columns, factor = height // patch, width // patch, patch // stride
    down, right = (torch.arange(side + patch - stride) for side in (height, width))
    for at, side in ((down, height), (right, width)):
        at[side:] = side - stride + torch.arange(patch - stride) % stride
    padded = pixels[..., down.to(pixels.device), :][..., right.to(pixels.device)]
    maps, means = [], []
    for y in range(factor):
        for x in range(factor):
            part = padded[..., y * stride :, x * stride :][..., :height, :width]
            for i, tokens in enumerate(encode(part, (y / factor, x / factor))):
                values = tokens.float().cpu().unflatten(1, (-1, rows, columns))
                mean = values.mean((2, 3), keepdim=True)  # (groups, steps, 1, 1, channels)
                if y == x == 0:
                    shape = *values.shape[:3], factor, columns, factor, values.shape[-1]
                    maps.append(torch.empty(shape))
                    means.append(mean)
                maps[i][:, :, :, y, :, x] = values if y == x == 0 else values - mean + means[i]
    # (groups, steps, rows, factor, columns, factor, channels) to (groups, tokens, channels)
    return [values.flatten(1, 5) for values in maps]
