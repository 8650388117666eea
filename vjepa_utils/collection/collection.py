"""The features of many clips, read back."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc

from vjepa_utils.checks import UserError
from vjepa_utils.collection.storage import Storage
from vjepa_utils.collection.table import read_table
from vjepa_utils.features import Features

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa
    import torch

    from vjepa_utils.video import File


class Collection:
    """Features of many clips, as `extract` wrote them.

    Iterates over the `Features` of its clips in the order of their names, one loaded at a time;
    `collection[name or path or number]` is one of them, `len` their number, and `names` and `paths`
    tell which they are. What could not be read is in the table only.

    Args:
        out: the folder, a local path or a URL that fsspec reads.
    Raises:
        ValueError: it is no collection.
    """

    def __init__(self, out: File):
        self._storage = Storage(out)
        self.table  # noqa: B018  read now, so that a wrong folder shows now

    def __repr__(self):
        return f"Collection({self._storage.url!r}, {len(self)} clips, {len(self.failed)} failed)"

    @cached_property
    def table(self) -> pa.Table:
        """A pyarrow Table, one row a clip, sorted by name (`.to_pandas()` gives a data frame).

        path and name, `OUT/name.safetensors` is its file; identity of the clip's file; status,
        "done" or "failed", and message, why, or what was noted; frames that were encoded, times of
        the first and the last, in seconds; grid, (steps, rows, columns), as encoded; encoder,
        fingerprint of its weights, device, and parameters of the run, JSON; seconds it took;
        pooled, the mean over all tokens, if it was asked for.
        """
        return read_table(self._storage)

    @cached_property
    def _done(self):
        return self.table.filter(pc.equal(self.table["status"], "done"))

    @property
    def names(self) -> list[str]:
        return self._done["name"].to_pylist()

    @property
    def paths(self) -> list[str]:
        return self._done["path"].to_pylist()

    @property
    def failed(self) -> dict[str, str]:
        """{path: why} of the clips that failed."""
        rows = self.table.filter(pc.equal(self.table["status"], "failed"))
        return dict(zip(rows["path"].to_pylist(), rows["message"].to_pylist(), strict=True))

    def __len__(self):
        return len(self._done)

    def __iter__(self) -> Iterator[Features]:
        return (self._storage.load(name) for name in self.names)

    def __getitem__(self, clip: str | int) -> Features:
        """`Features` of one clip: its name, its path, or its number in the order of iteration."""
        return self._storage.load(self.names[self._number(clip)])

    @cached_property
    def pooled(self) -> np.ndarray:
        """The mean over all tokens of each clip: float32 array (clips, channels), in the order of
        iteration. Where the run did not keep it (pool="none") the files are read for it, one at a
        time.
        """
        column = self._done["pooled"]
        if not len(self):
            return np.empty((0, 0), np.float32)
        if column.null_count:
            return np.stack([f.values.double().mean((0, 1, 2)).float().numpy() for f in self])
        flat = column.combine_chunks().flatten().to_numpy()
        return flat.reshape(len(self), -1)

    def nearest(
        self, clip: str | Features | np.ndarray | torch.Tensor, k: int = 5
    ) -> list[tuple[str, float]]:
        """The clips whose pooled features are most similar, by cosine.

        Args:
            clip: the name or path of a clip of the collection, which is not among its own nearest;
                `Features`, whose mean is taken; or a vector (channels,).
        Returns:
            list of (path, cosine), the most similar first, at most k.
        Raises:
            ValueError: there is no such clip, or the channels are not those of the collection.
        """
        known = isinstance(clip, str)
        if known:
            vector = self.pooled[self._number(clip)]
        elif isinstance(clip, Features):
            vector = clip.values.double().mean((0, 1, 2)).numpy()
        else:
            vector = np.asarray(clip, np.float64)
        if not len(self) or vector.shape != self.pooled.shape[1:]:
            raise UserError(
                f"A vector of {self.pooled.shape[1] if len(self) else 0} channels is needed, as "
                f"the collection has, not one of shape {vector.shape}."
            )
        length = np.linalg.norm(self.pooled, axis=1) * np.linalg.norm(vector)
        cosine = self.pooled @ vector / np.maximum(length, 1e-12)
        order = np.argsort(-cosine, kind="stable")
        order = [i for i in order if not (known and i == self._number(clip))]
        paths = self.paths
        return [(paths[i], float(cosine[i])) for i in order[:k]]

    def _number(self, clip):
        if isinstance(clip, (int, np.integer)):
            return int(clip)
        for known in (self.names, self.paths):
            if clip in known:
                return known.index(clip)
        raise UserError(f"There is no clip {clip!r} in {self._storage.url}.")
