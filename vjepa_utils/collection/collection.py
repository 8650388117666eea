"""The features of many clips, read back."""

from collections.abc import Iterator
from functools import cached_property

import numpy as np
import pyarrow.compute as pc
from sklearn.metrics.pairwise import cosine_similarity

from vjepa_utils.checks import UserError
from vjepa_utils.collection.storage import INDEX, Storage, rows_of
from vjepa_utils.features import Features
from vjepa_utils.files import File


class Collection:
    """Features of many clips, as `extract` wrote them.

    Iterates over the `Features` of its clips by name, one loaded at a time;
    `collection[name or path or number]` is one of them, and `len` their number.

    table: a pyarrow Table, one row a clip, sorted by name, also of those that failed: path; start,
        the first frame of a stretch; name, its file is `OUT/name.safetensors`; identity of the
        clip; status, "done" or "failed"; message, why, or what was noted; frames that were encoded;
        times of the first and the last, in seconds; grid, (steps, rows, columns), as encoded;
        encoder, fingerprint of its weights, device; parameters of the run, JSON; seconds it took;
        bytes of its features; pooled, the mean over all tokens, if it was asked for.
    names, paths: in the order of iteration. A stretch of a film is "path from frame n".
    failed: {path: why} of the clips that failed.

    out: the folder, a local path or a URL that fsspec reads; UserError if it is no collection.
    """

    def __init__(self, out: File):
        self._storage = Storage(out)
        self.table, _ = self._storage.table()
        if self.table is None:
            raise UserError(f"{self._storage.url} is no collection: it has no {INDEX}.")
        rows = rows_of(self.table)
        done = [row for row in rows if row["status"] == "done"]
        self.names, self.paths = [row["name"] for row in done], [_label(row) for row in done]
        self.failed = {_label(row): row["message"] for row in rows if row["status"] == "failed"}

    def __repr__(self):
        return f"Collection({self._storage.url!r}, {len(self)} clips, {len(self.failed)} failed)"

    def __len__(self):
        return len(self.names)

    def __iter__(self) -> Iterator[Features]:
        return (self._storage.load(name) for name in self.names)

    def __getitem__(self, clip: str | int) -> Features:
        """`Features` of one clip: its name, its path, or its number in the order of iteration."""
        return self._storage.load(self.names[self._number(clip)])

    @cached_property
    def pooled(self) -> np.ndarray:
        """The mean over all tokens of each clip, float32 (clips, channels); read from the files
        where the run did not keep it (pool="none").
        """
        column = self.table.filter(pc.field("status") == "done")["pooled"]
        if not len(self):
            return np.empty((0, 0), np.float32)
        if column.null_count:
            return np.stack([f.values.double().mean((0, 1, 2)).float().numpy() for f in self])
        return column.combine_chunks().flatten().to_numpy().reshape(len(self), -1)

    def nearest(self, clip: str | Features | np.ndarray, k: int = 5) -> list[tuple[str, float]]:
        """The clips whose pooled features are most similar, by cosine.

        Args:
            clip: the name or path of a clip of the collection, which is not among its own nearest;
                `Features`, whose mean is taken; or a vector (channels,).
        Returns:
            list of (path, cosine), the most similar first, at most k.
        """
        itself = self._number(clip) if isinstance(clip, str) else None
        if itself is not None:
            clip = self.pooled[itself]
        elif isinstance(clip, Features):
            clip = clip.values.double().mean((0, 1, 2))
        vector = np.asarray(clip, np.float64)
        if not len(self) or vector.shape != self.pooled.shape[1:]:
            channels = f"{self.pooled.shape[1]} channels"
            raise UserError(f"A vector of {channels} is needed, not of shape {vector.shape}.")
        (cosine,) = cosine_similarity(vector[None], self.pooled)
        order = [i for i in np.argsort(-cosine, kind="stable") if i != itself]
        return [(self.paths[i], float(cosine[i])) for i in order[:k]]

    def _number(self, clip):
        if isinstance(clip, (int, np.integer)):
            return int(clip)
        if clip not in self.names + self.paths:
            raise UserError(f"There is no clip {clip!r} in {self._storage.url}, see its `names`.")
        return (self.names + self.paths).index(clip) % len(self)


def _label(row):
    """The path of a clip; of a stretch of a film also where it begins."""
    return row["path"] if row["start"] is None else f"{row['path']} from frame {row['start']}"
