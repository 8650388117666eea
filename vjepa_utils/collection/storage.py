"""Where a collection is stored: a local folder, or any that fsspec reaches; and its table."""

import json
import math
import os
import shutil
import tempfile
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from vjepa_utils.checks import UserError
from vjepa_utils.features import Features
from vjepa_utils.files import writing
from vjepa_utils.stream import locked, read_header

TEMPORARY, SUFFIX, INDEX = ".unfinished-", ".safetensors", "index.parquet"
TEXT, WHOLE, REAL = pa.string(), pa.int64(), pa.float64()
SCHEMA = pa.schema(
    dict(path=TEXT, start=WHOLE, name=TEXT, identity=TEXT, status=TEXT, message=TEXT)
    | dict(frames=WHOLE, times=pa.list_(REAL), grid=pa.list_(WHOLE), encoder=TEXT, fingerprint=TEXT)
    | dict(device=TEXT, parameters=TEXT, seconds=REAL, bytes=WHOLE, pooled=pa.list_(pa.float32()))
)
# Bytes of file names that are not UTF-8: as Python writes them, and as a table can hold them.
STORABLE = {0xDC00 + byte: 0x10FF00 + byte for byte in range(128, 256)}
RESTORED = {there: here for here, there in STORABLE.items()}


def filesystem(place):
    """The file system of a local path or a URL, and the path there, absolute, the same for all its
    spellings. What exists here, or has no "://", is local: a name may look like a URL.
    """
    text = os.fspath(place)
    if "://" in text and not os.path.exists(text):
        try:
            fs, text = url_to_fs(text)
        except (ImportError, ValueError) as error:  # no such kind, or no package for it
            raise UserError(f"{place} cannot be reached: {str(error).rstrip('.')}.") from None
        if not is_local(fs):
            return fs, text
    path = Path(text)  # a link to a file is a file of its own
    path = path.resolve() if path.name in ("", "..") else path.parent.resolve() / path.name
    return LocalFileSystem(), path.as_posix()


def is_local(fs):
    return isinstance(fs, LocalFileSystem)


def address(fs, path):
    """A local path as it is, any other as a URL."""
    return path if is_local(fs) else fs.unstrip_protocol(path)


@contextmanager
def local_copy(place):
    """The path of a local file or folder, or that of a copy for as long as the context lasts."""
    fs, path = filesystem(place)
    if is_local(fs):
        yield Path(path)
        return
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        copy = Path(folder) / path.rpartition("/")[2]
        fs.get(path, str(copy), recursive=fs.isdir(path))
        yield copy


class Storage:
    """The folder of a collection: a local path, or a URL such as "s3://bucket/features"."""

    def __init__(self, out):
        self.fs, self.root = filesystem(out)
        self.local, self.url = is_local(self.fs), address(self.fs, self.root)

    def locked(self):
        """The sole right to write to it, for as long as the context lasts. A bucket has no lock."""
        if not self.local:
            return nullcontext()
        with writing(self.root):
            os.makedirs(self.root, exist_ok=True)
        return locked(self.root + "/")

    def listing(self):
        """{name: bytes} of all files of features. What a killed run left unfinished is removed."""
        self.fs.invalidate_cache()
        for folder in Path(self.root).glob(f"{TEMPORARY}*") if self.local else ():
            shutil.rmtree(folder, ignore_errors=True)
        infos, start = self.fs.find(self.root, detail=True).items(), len(self.root) + 1
        return {p[start : -len(SUFFIX)]: i["size"] for p, i in infos if p.endswith(SUFFIX)}

    def scratch(self):
        """A local folder for as long as the context lasts, on the disk of a local collection."""
        place = self.root if self.local else None  # Windows removes no file that is mapped
        return tempfile.TemporaryDirectory(None, TEMPORARY, place, ignore_cleanup_errors=True)

    def write(self, name, pieces):
        """A file of these bytes and arrays, whole or not at all: its size."""
        path = f"{self.root}/{name}"
        with writing(path):
            self.fs.makedirs(path.rpartition("/")[0], exist_ok=True)
            with self.scratch() as folder:
                with open(f"{folder}/file", "wb") as file:
                    file.writelines(pieces)
                    size = file.tell()
                move = os.replace if self.local else self.fs.put_file
                move(f"{folder}/file", path)
        return size

    def row(self, name, size, run):
        """The row in a file of `size` bytes; None if that is not whole, or of another run."""
        path = f"{self.root}/{name}{SUFFIX}"
        with self.fs.open(path, "rb", block_size=2**16) as file:
            metadata, arrays = read_header(file, size)
            if metadata.get("run") != run or metadata["row"]["name"] != name:
                return None
            dtype, shape, start = arrays.get("pooled", (np.float32, (0,), 0))
            file.seek(start)
            pooled = np.frombuffer(file.read(math.prod(shape) * np.dtype(dtype).itemsize), dtype)
        return metadata["row"] | {"bytes": size, "pooled": pooled if len(pooled) else None}

    def load(self, name):
        """`Features` of a file. Memory-mapped where it is local and of float32."""
        with local_copy(f"{self.url}/{name}{SUFFIX}") as path:
            return Features.load(path)

    def table(self):
        """The table, sorted by name, and the parameters of its run; (None, {}) if there is none."""
        path = f"{self.url}/{INDEX}"
        if not self.fs.exists(f"{self.root}/{INDEX}"):
            return None, {}
        with suppress(pa.ArrowException, KeyError, TypeError, ValueError), local_copy(path) as copy:
            # Of a file of Python's, Arrow's threads hold buffers that may abort Python as it exits.
            table = pq.read_table(copy)
            if table.schema.remove_metadata() == SCHEMA:
                return table.replace_schema_metadata(), json.loads(table.schema.metadata[b"run"])
        raise UserError(f"{path} is no table of a collection, or of one by another version.")

    def write_table(self, rows, run):
        text = json.dumps(run)
        rows = [_translated(row, STORABLE) | {"parameters": text} for row in rows]
        table = pa.Table.from_pylist(rows, SCHEMA).sort_by("name")
        sink = pa.BufferOutputStream()
        pq.write_table(table.replace_schema_metadata({"run": text}), sink, compression="zstd")
        self.write(INDEX, [sink.getvalue()])


def rows_of(table):
    """The rows of a table, dicts, with their names of files as Python has them."""
    rows = zip(table.drop_columns("pooled").to_pylist(), table["pooled"], strict=True)
    # as lists the vectors were large
    return [_translated(row, RESTORED) | {"pooled": pooled.values} for row, pooled in rows]


def _translated(row, codes):
    return row | {name: row[name].translate(codes) for name in ("path", "message")}
