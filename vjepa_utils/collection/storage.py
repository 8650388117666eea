"""Where a collection is stored: a local folder, or any that fsspec reaches. Files are written whole
or not at all.
"""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from vjepa_utils.features import Features
from vjepa_utils.files import locked
from vjepa_utils.stream import header, read_header

TEMPORARY = ".unfinished-"
SUFFIX = ".safetensors"


def filesystem(place):
    """The file system of a local path or a URL, and the path there, absolute. What exists here, or
    has no "://", is local: its name may hold what marks a URL for fsspec.
    """
    text = os.fspath(place)
    if "://" in text and not os.path.exists(text):
        fs, text = url_to_fs(text)
        if not is_local(fs):
            return fs, text
    path = os.path.realpath(text) if ".." in Path(text).parts else os.path.abspath(text)
    return LocalFileSystem(), Path(path).as_posix()


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

    def path(self, name):
        return f"{self.root}/{name}"

    def locked(self):
        """The sole right to write to it, for as long as the context lasts. A bucket has no lock."""
        if not self.local:
            return nullcontext()
        try:
            os.makedirs(self.root, exist_ok=True)
        except OSError as error:
            raise OSError(f"{self.root} cannot be written: {error.strerror}.") from None
        return locked(self.root + "/")

    def listing(self):
        """{name: bytes} of all files of features. What a killed run left unfinished is removed."""
        self.fs.invalidate_cache()
        for folder in Path(self.root).glob(f"{TEMPORARY}*") if self.local else ():
            shutil.rmtree(folder, ignore_errors=True)
        found = self.fs.find(self.root, detail=True).items()
        start = len(self.root) + 1
        return {p[start : -len(SUFFIX)]: i["size"] for p, i in found if p.endswith(SUFFIX)}

    @contextmanager
    def scratch(self):
        """A local folder for as long as the context lasts, on the disk of a local collection."""
        place = self.root if self.local else None
        with tempfile.TemporaryDirectory(prefix=TEMPORARY, dir=place) as folder:
            yield Path(folder)

    @contextmanager
    def writing(self, path):
        """A file to write, which takes the name `path` when all of it is written; else OSError."""
        try:
            self.fs.makedirs(path.rpartition("/")[0], exist_ok=True)
            with self.scratch() as folder:
                with open(folder / "file", "wb") as file:
                    yield file
                if self.local:
                    os.replace(folder / "file", path)
                else:
                    self.fs.put_file(str(folder / "file"), path)
        except OSError as error:
            raise OSError(f"{path} cannot be written: {error.strerror or error}.") from None

    def write(self, name, shapes, metadata, pieces):
        """Write a safetensors file (see `header`); its size in bytes. pieces: the data of all
        arrays in order, as numpy arrays, each written before the next is asked for.
        """
        with self.writing(self.path(name + SUFFIX)) as file:
            file.write(header(shapes, metadata))
            for piece in pieces:
                file.write(np.ascontiguousarray(piece))
            return file.tell()

    def stored(self, name, size):
        """The metadata of a file of `size` bytes, and what is pooled; {} and None where that is no
        whole file of features.
        """
        path = self.path(name + SUFFIX)
        with self.fs.open(path, "rb", block_size=2**16) as file:
            metadata, arrays = read_header(file, size) or ({}, {})
        if "pooled" not in arrays:
            return metadata, None
        dtype, shape, start = arrays["pooled"]
        data = self.fs.cat_file(path, start, start + math.prod(shape) * np.dtype(dtype).itemsize)
        return metadata, np.frombuffer(data, dtype)

    def load(self, name):
        """`Features` of a file. Memory-mapped where it is local and of float32."""
        with local_copy(address(self.fs, self.path(name + SUFFIX))) as path:
            return Features.load(path)
