"""Types that signatures share. Shapes and ranges stand in the docstrings."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    import torch

    from vjepa_utils.video import Video

File: TypeAlias = "str | PathLike"
Clip: TypeAlias = "Video | str | PathLike | np.ndarray | torch.Tensor"  # what `as_video` takes
Grid: TypeAlias = tuple[int, int, int]  # steps, rows, columns
Size: TypeAlias = "int | tuple[int, int] | None"  # short side, or (height, width), in pixels
Context: TypeAlias = "str | int | None"  # frames that attend to each other
Seed: TypeAlias = "int | np.random.Generator"
