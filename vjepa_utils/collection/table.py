"""The table of a collection, `index.parquet`, one row a clip."""

import json

import pyarrow as pa
import pyarrow.parquet as pq

from vjepa_utils.checks import UserError
from vjepa_utils.collection.storage import local_copy
from vjepa_utils.stream import differences

INDEX = "index.parquet"
TEXT, WHOLE = pa.string(), pa.int64()
SCHEMA = pa.schema(
    dict(path=TEXT, start=WHOLE, name=TEXT, identity=TEXT, status=TEXT, message=TEXT)
    | dict(frames=WHOLE, times=pa.list_(pa.float64()), grid=pa.list_(WHOLE))
    | dict(encoder=TEXT, fingerprint=TEXT, device=TEXT, parameters=TEXT, seconds=pa.float64())
    | dict(bytes=WHOLE, pooled=pa.list_(pa.float32()))
)
# Bytes of file names that are not UTF-8: as Python writes them, and as a table can hold them.
STORABLE = {0xDC00 + byte: 0x10FF00 + byte for byte in range(128, 256)}
RESTORED = {there: here for here, there in STORABLE.items()}


class Table:
    """The table that a run adds to; UserError if it is of a run with other parameters."""

    def __init__(self, storage, parameters):
        self.storage, self.parameters = storage, json.dumps(parameters)
        self.rows = {}  # {(path, start): row}
        before = run_of(storage)
        if before is None:
            self.write()  # from now on the folder is of this run
        elif before == parameters:
            table = read_table(storage)
            rows = table.drop_columns("pooled").to_pylist()
            for row, pooled in zip(rows, table["pooled"], strict=True):  # as lists they were large
                self.add(row | {"path": row["path"].translate(RESTORED), "pooled": pooled.values})
        else:
            raise UserError(
                f"{storage.url} holds features of a run with other parameters "
                f"({differences(before, parameters)}): take another folder."
            )

    def add(self, row):
        """A row; it takes the place of an older one of the same path and start."""
        self.rows[row["path"], row["start"]] = row

    def write(self):
        """Write all rows, sorted by name."""
        rows = [
            row
            | {name: row.get(name, "").translate(STORABLE) for name in ("path", "message")}
            | {"parameters": self.parameters}
            for row in self.rows.values()
        ]
        table = pa.Table.from_pylist(rows, SCHEMA).sort_by("name")
        with self.storage.writing(self.storage.path(INDEX)) as file:
            metadata = {"run": self.parameters}
            pq.write_table(table.replace_schema_metadata(metadata), file, compression="zstd")


def run_of(storage):
    """The parameters of the run that made a table; None if there is no table."""
    path = storage.path(INDEX)
    if not storage.fs.exists(path):
        return None
    try:
        with local_copy(f"{storage.url}/{INDEX}") as copy:
            schema = pq.read_schema(copy)
        if schema.remove_metadata() == SCHEMA:
            return json.loads(schema.metadata[b"run"])
    except (pa.ArrowException, KeyError, TypeError, ValueError):
        pass
    raise UserError(f"{path} is no table of a collection, or of one by another version.")


def read_table(storage):
    """All rows, sorted by name: a pyarrow Table. UserError if there is none."""
    if run_of(storage) is None:
        raise UserError(f"{storage.url} is no collection: it has no {INDEX}.")
    # Of a file of Python's, Arrow's threads hold buffers that may abort Python as it exits.
    with local_copy(f"{storage.url}/{INDEX}") as path:
        return pq.read_table(path).replace_schema_metadata()
