"""Sources to clips: find them, name each in the collection, and identify it by its file."""

from __future__ import annotations

import csv
import hashlib
import io
from dataclasses import dataclass
from os import PathLike
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from fsspec.core import url_to_fs

from vjepa_utils.checks import UserError
from vjepa_utils.reading.pictures import IMAGES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vjepa_utils.video import File

# What is taken from a folder; a file that is named, or listed, may have any suffix.
VIDEOS = {
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts"),
    *(".wmv", ".flv", ".3gp", ".ogv", ".gif"),
}
LISTS = {".txt", ".csv"}
# What changes when a file is rewritten: the first of these that its file system knows.
STAMPS = "ETag", "etag", "md5Hash", "mtime", "LastModified", "updated", "created"


@dataclass(frozen=True)
class Clip:
    """One clip of many.

    path: a local file or folder of images, absolute, or a URL that fsspec reads.
    name: of its file in the collection, without the suffix; "/" divides folders.
    identity: changes when the clip is rewritten; "" where there is none.
    bytes: its size.
    """

    path: str
    name: str
    identity: str
    bytes: int


def find_clips(sources: File | Iterable[File], names: dict[str, str] | None = None) -> list[Clip]:
    """All clips of some sources, each once, in the order of their paths within each source.

    The collection mirrors the folders below the deepest one that all sources lie in, and drops the
    suffix where names stay unique without it.

    Args:
        sources: one or several of: folders, searched with all folders in them for videos and
            folders of images; files; .txt files, with a path on each line, and .csv files, with a
            column "path" or paths in the first. Listed paths are relative to the list.
        names: {path: name} of clips that have a name already, and keep it.
    Returns:
        list of Clip. A listed file that does not exist is one of them: its row will say so.
    Raises:
        FileNotFoundError: a source does not exist.  ValueError: there are no clips, or a list
            cannot be read.
    """
    sources = [sources] if isinstance(sources, (str, PathLike)) else list(sources)
    found, roots = {}, []  # {path: (identity, bytes)}, folders as lists of their parts
    for source in map(str, sources):
        fs, path = url_to_fs(source)
        if not source or not fs.exists(path):
            raise FileNotFoundError(f"There is no file or folder {source!r}.")
        if fs.isdir(path):
            roots.append(path.split("/"))
            found |= {_address(fs, p): stamp for p, stamp in _in_folder(fs, path).items()}
            continue
        for each in _listed(fs, path) if PurePosixPath(path).suffix.lower() in LISTS else [source]:
            fs, path = url_to_fs(each)
            roots.append(path.split("/")[:-1])
            found[_address(fs, path)] = _stamp(fs, path)
    if not found:
        raise UserError(f"There are no clips in {', '.join(map(str, sources))}.")
    names, shared = dict(names or {}), _shared(roots)
    taken = set(names.values())
    for address in found:
        if address not in names:
            names[address] = _name(url_to_fs(address)[1], shared, taken)
            taken.add(names[address])
    return [Clip(path, names[path], *stamp) for path, stamp in found.items()]


def _in_folder(fs, folder):
    """{path: (identity, bytes)} of the videos, and of the folders that hold images and no video."""
    files = {
        path: info
        for path, info in sorted(fs.find(folder, detail=True).items())
        if not PurePosixPath(path).name.startswith(".")
    }
    suffix = lambda path: PurePosixPath(path).suffix.lower()
    found = {path: _identity([info]) for path, info in files.items() if suffix(path) in VIDEOS}
    busy, images = {str(PurePosixPath(path).parent) for path in found}, {}
    for path, info in files.items():
        if suffix(path) in IMAGES and (parent := str(PurePosixPath(path).parent)) not in busy:
            images.setdefault(parent, []).append(info)
    return dict(sorted((found | {p: _identity(infos) for p, infos in images.items()}).items()))


def _stamp(fs, path):
    try:
        if fs.isdir(path):
            return _identity([info for _, info in sorted(fs.find(path, detail=True).items())])
        return _identity([fs.info(path)])
    except FileNotFoundError:
        return "", 0


def _identity(infos):
    told = [
        (info["size"], *[str(info[word]) for word in STAMPS if info.get(word) is not None][:1])
        for info in infos
    ]
    size = sum(info["size"] for info in infos)
    return hashlib.sha256(repr(told).encode()).hexdigest()[:32], size


def _listed(fs, path):
    """The paths in a list, made absolute."""
    try:
        text = fs.cat_file(path).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{path} is no list of clips: it is not UTF-8 text.") from None
    if path.lower().endswith(".csv"):
        rows = [row for row in csv.reader(io.StringIO(text)) if row]
        column = rows[0].index("path") if rows and "path" in rows[0] else 0
        named = bool(rows) and "path" in rows[0]
        lines = [row[column] for row in rows[named:] if len(row) > column]
    else:
        lines = text.splitlines()
    parent = fs.unstrip_protocol(str(PurePosixPath(path).parent))
    lines = [line.strip() for line in lines if line.strip()]
    absolute = lambda line: "://" in line or line.startswith("/") or line[1:3] in (":\\", ":/")
    return [line if absolute(line) else f"{parent}/{line}" for line in lines]


def _address(fs, path):
    """A local path as it is, any other as a URL."""
    return path if "file" in fs.protocol else fs.unstrip_protocol(path)


def _shared(roots):
    """How many parts of their paths all these folders share."""
    count = 0
    for parts in zip(*roots, strict=False):
        if len(set(parts)) > 1:
            break
        count += 1
    return count


def _name(path, shared, taken):
    """The first name that is not taken: without the suffix, with it, with a number."""
    parts = path.split("/")
    whole = "/".join(part for part in parts[shared:] if part) or parts[-1]
    whole = whole.replace(":", "")  # of a drive
    stem = str(PurePosixPath(whole).with_suffix(""))
    numbered = (f"{whole}-{number}" for number in range(2, len(taken) + 3))
    return next(name for name in (stem, whole, *numbered) if name not in taken)
