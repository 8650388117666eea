"""What `encode` joins from several passes: shifts to a finer map, and windows that overlap."""

from collections.abc import Iterator

import torch

from vjepa_utils.plan import Plan


def interleaved(encode, pixels, patch: int, stride: int) -> list[torch.Tensor]:
    """Tokens every `stride` pixels, of a picture encoded at shifts of parts of a patch. Of each
    shift and step the common offset, its mean over the picture less that of the usual tokens, is
    taken out, or a checkerboard stays.

    encode: of pixels and their shift down and right in patches, a tensor (groups, tokens, channels)
        for each layer; so is what is returned, float32 on the CPU, of the finer grid.
    pixels: (groups, frames, 3, height, width). Beyond the lower and right edge, where a shift
        needs them, the last `stride` pixels are repeated.
    patch, stride: side of a patch, and pixels between tokens, a divisor of it.
    """
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


def blended(encoded: Iterator[tuple], plan: Plan, again: int) -> Iterator[tuple]:
    """Windows that overlap, joined to the steps of a clip: means with weights that fall towards
    both ends of a window, so that no seam shows. Yields the steps that no further window changes.

    encoded: of each group of windows the steps of each layer, (steps, rows, columns, channels),
        window after window; the cuts in them; how many frames were read by then.
    again: how many of the first steps are left out, which are there already.
    """
    shared, pending, read = plan.overlap // 2, {}, 0  # of each layer, what the next window shares
    for layers, cuts, read in encoded:
        finished = [[] for _ in layers]
        for i, layer in enumerate(layers):
            for window in layer.split(plan.steps):
                at = torch.arange(len(window))
                weights = torch.minimum(at + 1, len(window) - at).float().view(-1, 1, 1, 1)
                total = window * weights
                if i in pending:
                    total[:shared] += pending[i][0]
                    weights[:shared] += pending[i][1]
                done = len(window) - shared
                finished[i].append(total[:done] / weights[:done])
                pending[i] = total[done:], weights[done:]
        steps = [torch.cat(windows) for windows in finished]
        yield [x[again:] for x in steps], cuts, read
        again = max(0, again - len(steps[0]))
    if pending:
        yield [(total / weights)[again:] for total, weights in pending.values()], [], read
