"""Where a collection is stored: a local folder, or any that fsspec reaches. Files are written
completely or not at all, and verified before they are used.
"""

import json
import math
import os
import tempfile
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from fsspec.core import url_to_fs

from vjepa_utils.features import Features

DTYPES = {"F16": np.float16, "F32": np.float32, "I64": np.int64}
NAMES = {np.dtype(dtype): name for name, dtype in DTYPES.items()}
TEMPORARY = ".unfinished-"
COPY = 2**24  # bytes at once


class StoredFeatures(Features):
    """Features whose values may be float16 in their file. They stay there, and each use converts
    them to float32: a thousand open clips take no memory.
    """

    @property
    def values(self):
        return self._stored.float()

    @values.setter
    def values(self, values):
        self._stored = values

    @property
    def grid(self):
        return self._unconverted().grid

    def __repr__(self):
        return repr(self._unconverted())

    def __getitem__(self, steps):
        return StoredFeatures(**vars(self._unconverted()[steps]))  # of a long film, some fit

    def _unconverted(self):
        fields = dict(vars(self))
        return Features(fields.pop("_stored"), **fields)


class Storage:
    """The folder of a collection.

    out: a local path or a URL, such as "s3://bucket/features"; made if it is not there.
    """

    def __init__(self, out):
        self.fs, self.root = url_to_fs(str(out))
        self.local = "file" in self.fs.protocol
        self.url = self.root if self.local else self.fs.unstrip_protocol(self.root)

    def path(self, name):
        return f"{self.root}/{name}"

    def features_path(self, name):
        return self.path(f"{name}.safetensors")

    def listing(self):
        """{path: bytes} of all files. Unfinished ones, which a killed run left, are removed."""
        sizes = {}
        self.fs.invalidate_cache()
        for path, info in self.fs.find(self.root, detail=True).items():
            if path.rsplit("/", 1)[-1].startswith(TEMPORARY):
                self.fs.rm_file(path)
            else:
                sizes[path] = info["size"]
        return sizes

    @contextmanager
    def writing(self, path):
        """A file to write to, that takes the name `path` once all is written. OSError if it cannot
        be.
        """
        folder = path.rsplit("/", 1)[0]
        temporary = f"{folder}/{TEMPORARY}{uuid.uuid4().hex}"
        try:
            self.fs.makedirs(folder, exist_ok=True)
            with self.fs.open(temporary, "wb") as file:
                yield file
            if self.local:
                os.replace(temporary, path)  # at once, also where there is one already
            else:
                self.fs.mv(temporary, path)
        except BaseException as error:
            with suppress(OSError):
                self.fs.rm_file(temporary)
            if isinstance(error, OSError):
                why = error.strerror or error
                raise OSError(f"{path} cannot be written: {why}.") from None
            raise

    def write(self, name, arrays, about):
        """Write a safetensors file. arrays: {name: array}.  about: {name: JSON} of its header."""
        header = _header({key: (a.dtype, a.shape) for key, a in arrays.items()}, about)
        with self.writing(self.features_path(name)) as file:
            file.write(header)
            for array in arrays.values():
                file.write(memoryview(np.ascontiguousarray(array)).cast("B"))

    def header(self, name, size=None):
        """The `about` of a file that `write` wrote, and {name: (dtype, shape, first byte)}; None if
        there is no such file, or it is incomplete.

        size: of the file in bytes, if known from a listing.
        """
        path = self.features_path(name)
        try:
            size = self.fs.size(path) if size is None else size
            with self.fs.open(path, "rb", block_size=2**16) as file:
                start = 8 + int.from_bytes(file.read(8), "little")
                if start > size:
                    return None
                tensors = json.loads(file.read(start - 8))
            about = {key: json.loads(text) for key, text in tensors.pop("__metadata__").items()}
            arrays = {
                key: (DTYPES[t["dtype"]], tuple(t["shape"]), start + t["data_offsets"][0])
                for key, t in tensors.items()
            }
            ends = max(start + t["data_offsets"][1] for t in tensors.values())
        except (OSError, ValueError, KeyError, TypeError, AttributeError, MemoryError):
            return None
        return (about, arrays) if ends == size else None

    def array(self, name, key):
        """One array of a file, read into memory."""
        dtype, shape, start = self.header(name)[1][key]
        with self.fs.open(self.features_path(name), "rb") as file:
            file.seek(start)
            data = file.read(math.prod(shape) * np.dtype(dtype).itemsize)
        return np.frombuffer(data, dtype).reshape(shape)

    def join(self, name, parts, about, arrays):
        """Write one file from the values of several, in order, and remove these. The values are
        copied, a few megabytes at a time.

        arrays: all other arrays of the file.
        """
        headers = [self.header(part)[1] for part in parts]
        dtype, (_, *rest), _ = headers[0]["values"]
        steps = sum(header["values"][1][0] for header in headers)
        shapes = {key: (a.dtype, a.shape) for key, a in arrays.items()}
        with self.writing(self.features_path(name)) as file:
            file.write(_header(shapes | {"values": (np.dtype(dtype), (steps, *rest))}, about))
            for array in arrays.values():
                file.write(memoryview(np.ascontiguousarray(array)).cast("B"))
            for part, header in zip(parts, headers, strict=True):
                with self.fs.open(self.features_path(part), "rb") as source:
                    source.seek(header["values"][2])  # the values come last
                    while data := source.read(COPY):
                        file.write(data)
        self.fs.rm(self.path(parts[0].rsplit("/", 1)[0]), recursive=True)

    def load(self, name):
        """`Features` of a file; memory-mapped where it is local."""
        if self.local:
            return StoredFeatures.load(self.features_path(name))
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            copy = Path(folder) / "features.safetensors"
            self.fs.get_file(self.features_path(name), str(copy))
            return StoredFeatures.load(copy)


@contextmanager
def local_copy(path):
    """A local path of a clip: its own, or that of a copy for as long as the context lasts."""
    fs, inner = url_to_fs(path)
    if "file" in fs.protocol:
        yield Path(inner)
        return
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        copy = Path(folder) / inner.rsplit("/", 1)[-1]
        fs.get(inner, str(copy), recursive=fs.isdir(inner))
        yield copy


def _header(arrays, about):
    """The header of a safetensors file: 8 bytes of its length, and JSON, padded to 8 bytes.
    `frames` is int64 and comes first: so everything is aligned.
    """
    tensors, end = {"__metadata__": {key: json.dumps(told) for key, told in about.items()}}, 0
    for key, (dtype, shape) in arrays.items():
        start, end = end, end + math.prod(shape) * dtype.itemsize
        tensors[key] = {
            "dtype": NAMES[np.dtype(dtype)],
            "shape": list(shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(tensors).encode()
    room = -(-len(text) // 8) * 8
    return room.to_bytes(8, "little") + text.ljust(room)
