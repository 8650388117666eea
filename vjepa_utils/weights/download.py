"""Download one large file: with a progress bar, resumable, verified."""

import hashlib
import http.client
import shutil
import urllib.error
import urllib.request
from pathlib import Path

from tqdm.auto import tqdm

from vjepa_utils.checks import UserError

PIECE = 2**20  # bytes read at a time
TIMEOUT = 30  # seconds without a byte
BROKEN = urllib.error.URLError, ConnectionError, TimeoutError, http.client.HTTPException


def fetch(url, path, sha256=None):
    """Download `url` to `path`. A broken connection leaves the partial file, and the next attempt,
    of this call or a later one, resumes it (HTTP Range); this call retries as long as each attempt
    makes progress.

    Args:
        sha256: of the whole file, as hexadecimal digits, or None where it is not known: then only
            its length is checked.
    Raises:
        ConnectionError: unreachable, or interrupted.  OSError: the disk is full.
        ValueError: the file is not the one that was expected; it is removed.
    """
    path, total = Path(path), None
    path.touch()
    while total is None or path.stat().st_size < total:
        before = path.stat().st_size
        try:
            total = _on_from(before, url, path)
        except BROKEN as error:
            if path.stat().st_size > before:
                continue
            got = f"; {before / 2**20:.0f} MiB are kept in {path}" if before else ""
            if not before:
                path.unlink()
            reason = getattr(error, "reason", None) or error
            raise ConnectionError(f"{url} cannot be reached ({reason}){got}") from None
    if sha256 and (found := digest(path)) != sha256:
        path.unlink()
        raise UserError(
            f"What came from {url} is not the released file: its SHA-256 is {found[:12]}…, not "
            f"{sha256[:12]}…; it was removed."
        )


def _on_from(start, url, path):
    """Append the file's bytes from `start`; returns the length of the whole file."""
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        total = (error.headers.get("Content-Range") or "").rpartition("/")[2]
        if error.code == 416 and total == str(start):  # nothing is left to fetch
            return start
        raise
    with answer:
        if answer.status != 206:  # a server without ranges resends it all
            start = 0
        left = answer.headers.get("Content-Length")
        total = None if left is None else start + int(left)
        if total and total - start > (free := shutil.disk_usage(path.parent).free):
            raise OSError(
                f"{path} needs {(total - start) / 2**30:.1f} GiB, where {free / 2**30:.1f} GiB are "
                "free on the disk."
            )
        with (
            open(path, "ab" if start else "wb") as file,
            tqdm(
                total=total, initial=start, unit="B", unit_scale=True, desc=path.stem, leave=False
            ) as progress,
        ):
            while piece := answer.read(PIECE):
                file.write(piece)
                progress.update(len(piece))
            if total and file.tell() < total:
                raise ConnectionError("the connection ended early")
            return file.tell()


def digest(path):
    """SHA-256 of a file, as hexadecimal digits."""
    found = hashlib.sha256()
    with (
        open(path, "rb") as file,
        tqdm(
            total=Path(path).stat().st_size,
            unit="B",
            unit_scale=True,
            desc=f"checking {Path(path).stem}",
            delay=2,
            leave=False,
        ) as progress,
    ):
        while piece := file.read(PIECE):
            found.update(piece)
            progress.update(len(piece))
    return found.hexdigest()
