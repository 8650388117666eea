"""The one data type that carries latents through everything, and its file."""

import json
from dataclasses import dataclass, fields, replace
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from vjepa_utils.checks import UserError, check_inside
from vjepa_utils.files import read_safetensors, replacing
from vjepa_utils.video import File

TENSORS = "values", "frames", "times"


@dataclass(repr=False)
class Features:
    """Features of a clip on its grid.

    values: float32 tensor on the CPU, (steps, rows, columns, channels).
    frames: int64 tensor (steps, 2), file numbers of the frames that each step covers.
    patch_size: side of a patch in pixels of the encoded picture.
    picture_size: (height, width) that was encoded.
    source_size: (height, width) of the clip.
    encoder: name of the checkpoint.
    cuts: ((frame, frame), …), file numbers of the two frames of each step that joins two scenes.
    times: float64 tensor (steps, 2), seconds in the file of `frames`; NaN where they are not known.
    stride: pixels of the encoded picture between tokens; that of the patch unless `encode` was
        given a smaller one.
    layer: that `encode` was asked for, None for the final norm's output.
    context: how many frames were encoded jointly; None in older files.
    """

    values: torch.Tensor
    frames: torch.Tensor
    patch_size: int
    picture_size: tuple
    source_size: tuple
    encoder: str
    cuts: tuple = ()
    times: torch.Tensor = None  # type: ignore[assignment]  # NaN, set below
    stride: int = 0  # that of the patch
    layer: int | str | None = None
    context: int | None = None

    def __post_init__(self):
        self.stride = self.stride or self.patch_size  # older files have none
        if self.times is None:
            self.times = torch.full(self.frames.shape, torch.nan, dtype=torch.float64)

    def __repr__(self):
        steps, rows, columns, channels = self.values.shape
        text = f"{steps} steps × {rows}×{columns} × {channels} channels, {self.encoder}"
        text += f", frames {self.frames.min()} to {self.frames.max()}" if steps else ""
        pairs = ", ".join(f"{a}+{b}" for a, b in self.cuts)
        return f"Features({text}{pairs and f'; a cut lies between frames {pairs}'})"

    @property
    def offset(self) -> float:
        """Where the first cell of the map begins, in cells from the picture's corner: a cell is as
        wide as the stride and has its token's patch around it.
        """
        return (self.patch_size / self.stride - 1) / 2

    @property
    def grid(self) -> tuple[int, int, int]:
        steps, rows, columns = self.values.shape[:3]
        return steps, rows, columns

    def __getitem__(self, steps: slice) -> Self:
        """The features of some steps, a slice: features[2:3]."""
        if not isinstance(steps, slice):
            raise TypeError("Features take slices, such as features[2:3]; tokens are in .values.")
        frames, times = self.frames[steps], self.times[steps]
        cuts = tuple(pair for pair in self.cuts if list(pair) in frames.tolist())
        return replace(self, values=self.values[steps], frames=frames, times=times, cuts=cuts)

    def cover(self, mask: torch.Tensor | np.ndarray) -> torch.Tensor:
        """Share of each patch, 0 to 1, that a mask (height, width) of the clip covers: float32
        (rows, columns).
        """
        mask = torch.as_tensor(mask).float()
        if tuple(mask.shape) != tuple(self.source_size):
            sizes = f"{tuple(self.source_size)}, not {tuple(mask.shape)}"
            raise UserError(f"The mask must have the clip's size {sizes}.")
        cells = F.adaptive_avg_pool2d(mask[None, None], self.grid[1:])
        factor = self.patch_size // self.stride
        padded = F.pad(cells, (0, factor - 1, 0, factor - 1), mode="replicate")
        return F.avg_pool2d(padded, factor, 1)[0, 0]

    def aligned(self, values: np.ndarray) -> np.ndarray:
        """A map (…, rows, columns, channels) whose cells tile the picture, to be drawn; where the
        stride is smaller than the patch, in halves of cells: twice the rows and columns.
        """
        if self.stride == self.patch_size:
            return values
        for axis in (-3, -2):
            count = values.shape[axis]
            halves = np.floor((np.arange(2 * count) - 2 * self.offset) / 2).astype(int)
            values = np.take(values, halves.clip(0, count - 1), axis)
        return values

    def token_at(self, point: tuple[float, float]) -> tuple[int, int]:
        """(row, column) of the patch under a point (x, y) in pixels of the clip."""
        (x, y), (height, width) = map(float, point), self.source_size
        check_inside((x, y), height, width)
        _, rows, columns = self.grid
        row, column = y / height * rows - self.offset, x / width * columns - self.offset
        return min(max(int(row), 0), rows - 1), min(max(int(column), 0), columns - 1)

    def centre_of(self, row: int, column: int) -> tuple[float, float]:
        """The point (x, y), in pixels of the clip, at the centre of a patch."""
        _, rows, columns = self.grid
        if not (0 <= row < rows and 0 <= column < columns):
            raise UserError(f"There is no patch ({row}, {column}) on a grid {rows}×{columns}.")
        height, width = self.source_size
        middle = 0.5 + self.offset
        return (column + middle) * width / columns, (row + middle) * height / rows

    def save(self, path: File) -> None:
        """Write a safetensors file; nothing is left behind when that fails."""
        metadata = {field.name: getattr(self, field.name) for field in fields(self)}
        tensors = {name: metadata.pop(name).contiguous() for name in TENSORS}
        with replacing(path) as temporary:
            save_file(tensors, temporary, {"features": json.dumps(metadata)})

    @classmethod
    def load(cls, path: File) -> Self:
        """Read what `save`, `encode(out=…)` or `extract` wrote, memory-mapped but for float16."""
        tensors, metadata = read_safetensors(path, "features")
        for name in ("picture_size", "source_size"):
            metadata[name] = tuple(metadata[name])
        # older files have no cuts, and no times
        metadata["cuts"] = tuple(map(tuple, metadata.get("cuts", ())))
        metadata |= {name: tensors[name] for name in TENSORS if name in tensors}
        metadata["values"] = metadata["values"].float()
        return cls(**metadata)
