"""Files that are written whole or not at all, files this package wrote, files it ships with."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import platformdirs
from safetensors import SafetensorError, safe_open

from vjepa_utils.checks import UserError

File: TypeAlias = str | os.PathLike
MIB = 2**20  # bytes


def shipped(name: str) -> Path:
    """The folder of shipped weights."""
    return Path(__file__).parent / "shipped" / name


def user_cache() -> Path:
    """The folder of cached results, created if missing."""
    return platformdirs.user_cache_path("vjepa_utils", appauthor=False, ensure_exists=True)


def file_identity(path: Path) -> list[tuple[str, int, int, str]]:
    """What tells a file, or those of a folder, from others and from what they were before: (path,
    bytes, date, hash of the first and the last MiB) of each.
    """
    identity = []
    for each in sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]:
        stat = each.stat()
        with open(each, "rb") as file:
            digest = hashlib.sha256(file.read(MIB))
            file.seek(max(file.tell(), stat.st_size - MIB))
            digest.update(file.read(MIB))
        identity.append((str(each.resolve()), stat.st_size, stat.st_mtime_ns, digest.hexdigest()))
    return identity


def check_writable(path: File) -> None:
    """OSError, in one sentence, if `path` cannot become a file."""
    path = Path(path)
    if not path.parent.is_dir():
        raise OSError(f"{path} cannot be written: there is no folder {path.parent}.")
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise OSError(f"{path} cannot be written: it is a folder, or in one you may not write to.")


@contextmanager
def writing(path: File) -> Iterator[None]:
    """Says in a sentence why `path` cannot be written."""
    try:
        yield
    except (OSError, SafetensorError) as error:  # such as of a full disk
        reason = getattr(error, "strerror", None) or error
        raise OSError(f"{path} cannot be written: {reason}.") from None


@contextmanager
def replacing(path: File) -> Iterator[Path]:
    """A temporary name beside `path` to write to; it replaces `path` only once all is written."""
    check_writable(path)
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode  # safetensors would let nobody else read the file
        yield temporary
        temporary.chmod(mode)
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:  # a full disk, a file system that takes no files
        if str(temporary) not in str(getattr(error, "filename", None) or temporary):
            raise  # of another file, such as one that is read for this one
        with writing(path):
            raise
    finally:
        temporary.unlink(missing_ok=True)


def read_safetensors(path: File, kind: str) -> tuple[dict, dict]:
    """{name: tensor} and description of a file that one of this package's `save` methods wrote."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    try:
        with safe_open(path, "pt") as file:
            return file.get_tensors(), json.loads(file.metadata()[kind])
    except (SafetensorError, TypeError, KeyError):
        raise UserError(f"{path} is no {kind} file: it was not written by save().") from None
