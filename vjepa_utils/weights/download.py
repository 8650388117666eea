"""The .pt files of V-JEPA 2.1: downloaded, verified, and kept as safetensors."""

import shlex
import shutil
import warnings
from collections import namedtuple
from contextlib import suppress
from pathlib import Path

import pooch
import requests
from filelock import FileLock

from vjepa_utils.checks import UserError
from vjepa_utils.files import user_cache
from vjepa_utils.weights.models import load_model, write_folder

URL = "https://dl.fbaipublicfiles.com/vjepa2/{}.pt"


# Blocks and channels of the encoder, size and hash, if it is known, of a file as upstream's README
# has it (facebookresearch/vjepa2 at 204698b).
Released = namedtuple("Released", "depth width gigabytes sha256")
RELEASED = {
    "vjepa2_1_vitb_dist_vitG_384": Released(
        12, 768, 1.7, "848a77c33cc9e6649ed2119c9bea1e2c569bcdab9539ff3e7c02ccc2959ddf4d"
    ),
    "vjepa2_1_vitl_dist_vitG_384": Released(
        24, 1024, 5.2, "7ea9b7cb4a75d10644a8a8d42cff9e177b10dca8f02173f0eaf2b0bed82838c6"
    ),
    # No hash of these two is published, and they could not be downloaded here.
    "vjepa2_1_vitg_384": Released(40, 1408, 16, None),
    "vjepa2_1_vitG_384": Released(48, 1664, 30.2, None),
}


def kept_folder(name: str) -> Path:
    """Where it is kept; by its width, as some file systems would confuse ViT-g with ViT-G."""
    return user_cache() / f"{name}-{RELEASED[name].width}"


def released_folder(name: str) -> Path:
    """The folder of a released checkpoint, made from NAME.pt in the cache, or else fetched."""
    folder, file, released = kept_folder(name), user_cache() / f"{name}.pt", RELEASED[name]
    with FileLock(f"{folder}.lock"):  # another process may be making it
        if (folder / "config.json").exists():
            return folder
        if fetched := not file.exists():
            _fetch(name, file)
        elif released.sha256 and pooch.file_hash(file) != released.sha256:
            remedy = f"{_command(name, file)} completes it, or delete it"
            raise UserError(f"{file} is not the released file, or not all of it: {remedy}.")
        model = load_model(file, None)
        size = model.config.num_hidden_layers, model.config.hidden_size
        if size != released[:2]:
            given = "{} blocks of {} channels".format(*size)
            wanted = f"the {released.depth} of {released.width} of the released file"
            raise UserError(f"{file} has {given}, not {wanted}: delete it.")
        write_folder(model, folder)
        del model  # which maps the file
        if fetched:  # what the user put there stays
            with suppress(PermissionError):  # Windows, while it is mapped
                file.unlink()
    return folder


def _fetch(name, file):
    _, _, gigabytes, sha256 = RELEASED[name]
    needed, free = 1.3 * gigabytes, shutil.disk_usage(file.parent).free / 1e9
    if free < needed:
        raise OSError(f"{name} needs {needed:.1f} GB in {file.parent}, where {free:.1f} are free.")
    resume = f"A broken download begins again; this resumes: {_command(name, file)}"
    warnings.warn(f"{name}, {gigabytes} GB, is downloaded once. {resume}", stacklevel=5)
    downloader = pooch.HTTPDownloader(progressbar=True, timeout=30)
    try:
        pooch.retrieve(URL.format(name), sha256, file.name, file.parent, downloader=downloader)
    except requests.RequestException as error:
        reason = f"is not in the cache, and cannot be fetched ({type(error).__name__})"
        remedy = f"where there is internet run {_command(name, file)}, or give that file's path"
        raise ConnectionError(f"{name} {reason}: {remedy}.") from None
    except ValueError:  # pooch has removed it
        url = URL.format(name)
        raise UserError(f"What {url} gave is not the released file: fetch it again.") from None


def _command(name, file):
    return f"curl -C - -o {shlex.quote(str(file))} {URL.format(name)}"
