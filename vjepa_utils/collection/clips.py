"""Sources to clips: find them, name each in the collection, and identify it by its file."""

from __future__ import annotations

import csv
import hashlib
import itertools
import os
import re
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

from vjepa_utils.checks import UserError
from vjepa_utils.collection.storage import address, filesystem, is_local
from vjepa_utils.collection.work import Clip
from vjepa_utils.files import File, file_identity
from vjepa_utils.reading.pictures import IMAGES

# What is taken from a folder; a file that is named, or listed, may have any suffix.
VIDEOS = {
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts"),
    *(".wmv", ".flv", ".3gp", ".ogv", ".gif"),
}
LISTS = {".txt", ".csv", ".tsv"}
HEADER = re.compile(r"(?i)[a-z_ ]*(path|file|video|clip|name|id|url)[a-z_ ]*")  # of a column
# What changes when a remote file is rewritten: the first of these that its file system knows.
STAMPS = "ETag", "etag", "md5Hash", "mtime", "LastModified", "updated", "created"
# What a name is rid of: what some system cannot write, and what this package puts into names.
UNSAFE = re.compile(r'^\.|[~<>:"|?*\\\x00-\x1f]')


def find_clips(sources: File | Iterable[File], names: dict[str, str] | None = None) -> list[Clip]:
    """All clips of some sources, as of `extract`, each once however it is spelt.

    A listed file that does not exist is one of them: its row will say so. Names mirror the folders
    below the deepest one that all sources lie in, and have no suffix where they are unique without.

    names: {path: name} of clips that have a name already, and keep it.
    """
    sources = [sources] if isinstance(sources, (str, os.PathLike)) else list(sources)
    found, roots, names = {}, [], dict(names or {})  # {path: what a remote file system tells of it}
    spelt = {_real(path): path for path in names}
    for source in sources:
        fs, path = filesystem(source)
        if not os.fspath(source) or not fs.exists(path):
            raise FileNotFoundError(f"There is no file or folder {str(source)!r}.")
        if fs.isdir(path):
            roots.append(path)
            clips = _in_folder(fs, path)
        else:
            listed = _listed(fs, path) if _suffix(path) in LISTS else [source]
            clips = {address(*filesystem(line)): None for line in listed}
            roots += [filesystem(clip)[1].rpartition("/")[0] for clip in clips]
        for clip, infos in clips.items():
            found.setdefault(spelt.setdefault(_real(clip), clip), infos)
    if not found:
        raise UserError(f"There are no clips in {', '.join(map(str, sources))}.")
    steps = zip(*(root.split("/") for root in roots), strict=False)
    shared = len(list(itertools.takewhile(lambda parts: len(set(parts)) == 1, steps)))
    taken = {name.casefold() for name in names.values()}
    for path in found:
        if path not in names:
            names[path] = _name(filesystem(path)[1], shared, taken)
            taken.add(names[path].casefold())
    with ThreadPoolExecutor(16) as pool:
        identities = pool.map(_identity, found, found.values())
        return [Clip(p, names[p], identity) for p, identity in zip(found, identities, strict=True)]


def _real(path):
    """The same for all spellings of a path. A link to a file is a clip of its own."""
    fs, inner = filesystem(path)
    folder, _, name = inner.rpartition("/")
    return f"{os.path.realpath(folder)}/{name}" if is_local(fs) else path


def _suffix(path):
    return PurePosixPath(path).suffix.lower()


def _in_folder(fs, folder):
    """{path: infos} of the videos, and of the folders that hold images and no video."""
    files = {
        path: info
        for path, info in fs.find(folder, detail=True).items()
        if not PurePosixPath(path).name.startswith(".")
    }
    clips = {path: [info] for path, info in files.items() if _suffix(path) in VIDEOS}
    with_videos = {path.rpartition("/")[0] for path in clips}
    for path, info in files.items():
        parent = path.rpartition("/")[0]
        if _suffix(path) in IMAGES and parent not in with_videos:
            clips.setdefault(parent, []).append(info)
    return {address(fs, path): infos for path, infos in sorted(clips.items())}


def _identity(path, infos):
    """What changes when a clip is rewritten, as a hash; "" where it cannot be read."""
    fs, inner = filesystem(path)
    try:
        if is_local(fs):
            told = file_identity(Path(path))
        else:
            infos = infos or list(fs.find(inner, detail=True).values()) or [fs.info(inner)]
            told = [
                (info["name"], info["size"], next((info[s] for s in STAMPS if s in info), None))
                for info in infos
            ]
    except OSError:
        return ""
    return hashlib.sha256(repr(told).encode(errors="surrogateescape")).hexdigest()[:32]


def _listed(fs, path):
    """The clips in a list, absolute. A line may be a path, or have it in some column, or before a
    label: all are read in the way that makes most of the first ten files, or else folders.
    """
    text = fs.cat_file(path).decode("utf-8-sig", "surrogateescape")
    if "\0" in text:
        raise UserError(f"{path} is no list of clips: it is not UTF-8 text.")
    lines = [line for line in map(str.strip, text.splitlines()) if line]
    parent = address(fs, path.rpartition("/")[0])

    def absolute(entry):
        return entry if "://" in entry or os.path.isabs(entry) else f"{parent}/{entry}"

    def weight(entry):
        fs, path = filesystem(absolute(entry))
        return 2 if fs.isfile(path) else int(fs.exists(path))

    votes = Counter()
    for line in lines[:10]:
        votes.update({way: weight(entry) for way, entry in _ways(line).items() if entry})
    first = _ways(lines[0]) if lines else {}
    usual = (",", 0) if _suffix(path) == ".csv" else "line"
    way = max(votes, key=votes.get) if any(votes.values()) else usual
    way = next((column for column, entry in first.items() if entry == "path"), way)
    if HEADER.fullmatch(first.get(way, "")) and not weight(first[way]):
        lines = lines[1:]
    return [absolute(_ways(line).get(way, line)) for line in lines]


def _ways(line):
    """{way: what it makes the path} of the ways in which a line of a list can be read."""
    ways = {"line": line}
    for mark in ("\t", ",", ";"):
        fields = next(csv.reader([line], delimiter=mark))
        ways |= {(mark, column): field.strip() for column, field in enumerate(fields)}
    ways |= {("before", words): line.rsplit(None, words)[0] for words in (1, 2)}
    return ways | {(" ", column): field for column, field in enumerate(line.split())}


def _name(path, shared, taken):
    """The first name that is not taken: without the suffix, with it, with a number."""
    parts = [part for part in path.split("/")[shared:] if part] or [path.split("/")[-1]]
    parts = [part.encode("utf-8", "backslashreplace").decode() for part in parts]
    whole = "/".join(UNSAFE.sub("_", part) for part in parts)
    numbered = (f"{whole}-{number}" for number in itertools.count(2))
    names = itertools.chain([str(PurePosixPath(whole).with_suffix("")), whole], numbered)
    return next(name for name in names if name.casefold() not in taken)
