"""Arrays and tensors as clips: what they must be, and what makes a clip of another shape."""

import numpy as np

from vjepa_utils.checks import UserError

# Number of axes of an array x, and the length of one of them: what makes a clip of it. Arrays move
# axes by `transpose`, tensors by `permute`.
REMEDIES = [
    (5, 0, None, "of a batch give one clip, x[0]"),
    (4, 3, 1, "repeat the grey channel, x[..., [0, 0, 0]]"),
    (4, 3, 4, "leave the opacity out, x[..., :3]"),
    (4, 1, 1, "put the grey channel last and repeat it, x.move(0, 2, 3, 1)[..., [0, 0, 0]]"),
    (4, 1, 3, "put the channels last, x.move(0, 2, 3, 1)"),
    (4, 0, 3, "put the channels last, x.move(1, 2, 3, 0)"),
    (3, 2, 3, "a picture is a clip of one frame, x[None]"),
    (3, 0, None, "a grey clip needs three channels, x[..., None][..., [0, 0, 0]]"),
]


def frames_of(video) -> np.ndarray:
    """uint8 (T, H, W, 3) of an array or tensor of that shape, uint8 0–255 or float 0–1."""
    move = "transpose"
    if hasattr(video, "detach"):  # a tensor; numpy has no bfloat16
        video, move = video.detach().cpu(), "permute"
        video = video.float() if video.is_floating_point() else video
    frames = np.ascontiguousarray(video)
    if frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape:
        remedy = f"not {frames.shape}"
        for axes, axis, length, text in REMEDIES:
            if frames.ndim == axes and length in (None, frames.shape[axis]):
                remedy += "; " + text.replace("x.move", f"x.{move}")
                break
        raise UserError(f"A clip must have the shape (frames, height, width, 3), {remedy}.")
    if frames.dtype.kind == "f":
        if not (frames.min() >= 0 and frames.max() <= 1):  # NaN fails both
            extent = f"{frames.min():.4g} to {frames.max():.4g}: divide by 255 or pass uint8"
            raise UserError(f"A float clip must lie between 0 and 1, without NaN, not {extent}.")
        frames = (frames * 255).round().astype(np.uint8)
    elif frames.dtype != np.uint8:
        raise UserError(f"A clip must be uint8 (0 to 255) or float (0 to 1), not {frames.dtype}.")
    return frames
