"""The table of a collection, one row a clip: `index.parquet`, and shards of it while a run goes on.

Rows gather in memory and go to a shard, a small file of its own, every minute or thousand; the end
of the run merges the shards into the table, a thousand rows at a time. So neither memory nor what
is written again grows with the number of clips.
"""

import json
import time
import uuid

import pyarrow as pa
import pyarrow.parquet as pq

from vjepa_utils.checks import UserError

INDEX, SHARDS = "index.parquet", ".rows"
ROWS, SECONDS = 1000, 60  # of a shard
SCHEMA = pa.schema(
    {
        "path": pa.string(),
        "name": pa.string(),
        "identity": pa.string(),
        "status": pa.string(),
        "message": pa.string(),
        "frames": pa.int64(),
        "times": pa.list_(pa.float64()),
        "grid": pa.list_(pa.int64()),
        "encoder": pa.string(),
        "fingerprint": pa.string(),
        "device": pa.string(),
        "parameters": pa.string(),
        "seconds": pa.float64(),
        "pooled": pa.list_(pa.float32()),
    }
)


class Table:
    """The table that a run adds to.

    storage: see `Storage`.  parameters: of the run, {name: value}.
    Raises:
        ValueError: there is a table of a run with other parameters.
    """

    def __init__(self, storage, parameters):
        self.storage, self.buffer, self.written = storage, {}, time.monotonic()
        self.parameters = json.dumps(parameters)
        self.schema = SCHEMA.with_metadata({"run": self.parameters})
        before = run_of(storage)
        if before is None:
            self._write(storage.path(INDEX), [])
        elif before != parameters:
            unlike = "; ".join(
                f"{key} {before.get(key)!r} there, {value!r} here"
                for key, value in parameters.items()
                if before.get(key) != value
            )
            raise UserError(
                f"{storage.url} holds features of a run with other parameters ({unlike}): take "
                "another folder."
            )

    def names(self):
        """{path: name} of all clips that it holds."""
        return {
            row["path"]: row["name"]
            for batch in _batches(self.storage, ["path", "name"])
            for row in batch.to_pylist()
        }

    def done(self):
        """{path: identity} of the clips that were done."""
        columns = ["path", "identity", "status"]
        rows = {}
        for batch in _batches(self.storage, columns):
            for row in batch.to_pylist():
                rows.setdefault(row["path"], row)  # the newest comes first
        return {path: row["identity"] for path, row in rows.items() if row["status"] == "done"}

    def add(self, row):
        """A row, a dict; it takes the place of an older one of the same path."""
        self.buffer[row["path"]] = {name: row.get(name) for name in SCHEMA.names} | {
            "parameters": self.parameters
        }
        if len(self.buffer) >= ROWS or time.monotonic() - self.written > SECONDS:
            self.flush()

    def flush(self):
        """Write the rows in memory to a shard."""
        if self.buffer:
            name = f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}.parquet"
            rows = pa.Table.from_pylist(list(self.buffer.values()), self.schema)
            self._write(self.storage.path(f"{SHARDS}/{name}"), rows.to_batches())
            self.buffer = {}
        self.written = time.monotonic()

    def finish(self):
        """Merge all shards into the table."""
        self.flush()
        shards = _shards(self.storage)
        if shards:
            self._write(self.storage.path(INDEX), _newest(_batches(self.storage)))
            self.storage.fs.rm(self.storage.path(SHARDS), recursive=True)

    def _write(self, path, batches):
        with (
            self.storage.writing(path) as file,
            pq.ParquetWriter(file, self.schema, compression="zstd") as writer,
        ):
            for batch in batches:
                writer.write_batch(batch.replace_schema_metadata(self.schema.metadata))


def run_of(storage):
    """The parameters of the run that made a table; None if there is no table."""
    path = storage.path(INDEX)
    if not storage.fs.exists(path):
        return None
    try:
        with storage.fs.open(path, "rb") as file:
            return json.loads(pq.read_schema(file).metadata[b"run"])
    except (pa.ArrowException, KeyError, TypeError, ValueError):
        raise UserError(f"{path} is no table of a collection.") from None


def read_table(storage):
    """All rows, sorted by name: a pyarrow Table. ValueError if there is none."""
    if run_of(storage) is None:
        raise UserError(f"{storage.url} is no collection: it has no {INDEX}.")
    return pa.Table.from_batches(_newest(_batches(storage)), SCHEMA).sort_by("name")


def _shards(storage):
    folder = storage.path(SHARDS)
    return sorted(storage.fs.find(folder), reverse=True) if storage.fs.exists(folder) else []


def _batches(storage, columns=None):
    """Record batches of the shards, the newest first, and of the table."""
    for path in [*_shards(storage), storage.path(INDEX)]:
        with storage.fs.open(path, "rb") as file:
            yield from pq.ParquetFile(file).iter_batches(ROWS, columns=columns)


def _newest(batches):
    """Batches without the rows whose path came before."""
    seen = set()
    for batch in batches:
        paths = batch.column("path").to_pylist()
        fresh = pa.array([path not in seen for path in paths], pa.bool_())
        seen.update(paths)
        yield batch.filter(fresh).replace_schema_metadata()
