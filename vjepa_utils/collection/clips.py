"""Sources to clips: find them, name each in the collection, and identify it by its file."""

import hashlib
import itertools
import os
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from vjepa_utils.checks import UserError
from vjepa_utils.collection.storage import address, filesystem, is_local
from vjepa_utils.files import File, file_identity
from vjepa_utils.reading.pictures import IMAGES

# What is taken from a folder; a file that is named, or listed, may have any suffix.
VIDEO = re.compile(r"(?i).*\.(mp4|m4v|mov|mkv|webm|avi|mpe?g|ts|mts|m2ts|wmv|flv|3gp|ogv|gif)")
LISTS = {".txt", ".csv", ".tsv"}
HEADER = re.compile(r"(?i).*(path|file|video|clip|name|id|url)[^./]*")  # the first line of a list
# What a name is rid of: what some system cannot write, and what this package puts into names.
UNSAFE = re.compile(r'^\.|[~<>:"|?*\\\x00-\x1f]')


@dataclass(frozen=True)
class Clip:
    """One clip of many, or a stretch of a film."""

    path: str  # of a local file or folder of images, absolute, or a URL that fsspec reads
    name: str  # of its file in the collection, without the suffix; "/" divides folders
    identity: str  # changes when the clip is rewritten; "" where there is none
    start: int | None = None  # of a stretch, the first frame, how many, and with fps the moment
    count: int | None = None
    moment: str | None = None


def find_clips(sources: File | Iterable[File], names: dict[str, str] | None = None) -> list[Clip]:
    """All clips of some sources, as of `extract`, each once however it is spelt; also listed files
    that do not exist. Names mirror the folders below the deepest one that all sources lie in, and
    have no suffix where they are unique without; those in `names`, {path: name}, are kept.
    """
    sources = [sources] if isinstance(sources, (str, os.PathLike)) else list(sources)
    paths, roots, names = {}, [], dict(names or {})
    for source in sources:
        fs, place = filesystem(source)
        if not os.fspath(source) or not fs.exists(place):
            raise FileNotFoundError(f"There is no file or folder {str(source)!r}.")
        clips = [address(fs, place)]
        if fs.isdir(place):
            roots += clips
            clips = _in_folder(fs, place)
        else:
            clips = _listed(fs, place) if _suffix(place) in LISTS else clips
            roots += map(_folder, clips)
        paths |= dict.fromkeys(clips)
    if not paths:
        raise UserError(f"There are no clips in {', '.join(map(str, sources))}.")
    shared = len(os.path.commonprefix([root.split("/") for root in roots]))
    taken = {name.casefold() for name in names.values()}
    for path in paths:
        if path not in names:
            names[path] = _name(path, shared, taken)
            taken.add(names[path].casefold())
    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(lambda path: Clip(path, names[path], _identity(path)), paths))


_suffix = lambda path: PurePosixPath(path).suffix.lower()
_folder = lambda path: path.rpartition("/")[0]


def _in_folder(fs, folder):
    """The videos in a folder, and the folders in it that hold images and no video."""
    files = [path for path in fs.find(folder) if not path.rpartition("/")[2].startswith(".")]
    videos = {path for path in files if VIDEO.fullmatch(path)}
    images = {_folder(path) for path in files if _suffix(path) in IMAGES}
    clips = videos | images - {_folder(path) for path in videos}
    return sorted(address(*filesystem(address(fs, path))) for path in clips)


def _identity(path):
    """What changes when a clip is rewritten, as a hash; "" where it cannot be read."""
    fs, inner = filesystem(path)
    try:
        files = file_identity(Path(path)) if is_local(fs) else map(fs.ukey, fs.find(inner))
        return hashlib.sha256(repr(list(files)).encode(errors="surrogateescape")).hexdigest()[:32]
    except OSError:
        return ""


def _listed(fs, path):
    """The clips of a list. A line is a path, or has one in some column or before a label: the first
    of these that is a file, or else a folder, or else the whole line.
    """
    text = fs.cat_file(path).decode("utf-8-sig", "surrogateescape")
    if "\0" in text:
        raise UserError(f"{path} is no list of clips: it is not UTF-8 text.")
    clips, parent = [], address(fs, _folder(path))
    for number, line in enumerate(filter(str.strip, text.splitlines())):
        parts = [line, *re.split(r"[\t,;]", line), *(line.rsplit(None, n)[0] for n in (1, 2))]
        parts = [part.strip(' "') for part in (*parts, *line.split()) if part.strip(' "')]
        parts = [part if "://" in part else os.path.join(parent, part) for part in parts]
        places = [filesystem(part) for part in parts]
        files = (place for place in places if place[0].isfile(place[1]))
        folders = (place for place in places if place[0].isdir(place[1]))
        place = next(itertools.chain(files, folders), None)
        if place or number or not HEADER.fullmatch(line):
            clips.append(address(*(place or places[0])))
    return clips


def _name(path, shared, taken):
    """The first name that is not taken: without the suffix, with it, with a number."""
    parts = [part for part in path.split("/")[shared:] if part] or [path.split("/")[-1]]
    parts = [part.encode("utf-8", "backslashreplace").decode() for part in parts]
    whole = "/".join(UNSAFE.sub("_", part) for part in parts)
    numbered = (f"{whole}-{number}" for number in itertools.count(2))
    names = itertools.chain([str(PurePosixPath(whole).with_suffix("")), whole], numbered)
    return next(name for name in names if name.casefold() not in taken)
