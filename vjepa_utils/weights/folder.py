"""A checkpoint on disk: its configuration, and its weights in one safetensors file or several."""

import json
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from vjepa_utils.checks import UserError
from vjepa_utils.weights.check import unreadable

INDEXES = {"model.safetensors.index.json": "weight_map", "split_model.json": "components"}
POINTER = b"version https://git-lfs"  # what git leaves of a large file until it is asked for it


def read_json(file: Path) -> dict:
    """The object that a JSON file holds, with or without a byte order mark."""
    try:
        contents = json.loads(file.read_text("utf-8-sig"))
    except ValueError as error:
        raise UserError(f"{file} is damaged: delete it, or fetch it again ({error}).") from None
    if not isinstance(contents, dict):
        raise UserError(f"{file} is damaged: it holds no object. Delete it, or fetch it again.")
    return contents


def config_of(place: Path) -> dict:
    """What config.json in a folder, or beside a file, says; {} where there is none."""
    file = (place if place.is_dir() else place.parent) / "config.json"
    return read_json(file) if file.exists() else {}


def weight_files(folder: Path) -> list[str]:
    """Names of the files of weights: those of an index (of shards, or mlx-forge's of encoder and
    predictor), model.safetensors, or the only one there is.
    """
    for index, field in INDEXES.items():
        if (folder / index).exists():
            names = read_json(folder / index).get(field)
            if not isinstance(names, dict) or not all(isinstance(n, str) for n in names.values()):
                raise UserError(f"{folder / index} is damaged: delete it, or fetch it again.")
            return sorted(set(names.values()))
    names = [file.name for file in folder.glob("*.safetensors")]
    return names if len(names) == 1 else ["model.safetensors"]


def missing_files(folder: Path) -> list[str]:
    """Names of the files that a checkpoint needs and its folder lacks, as after a partial download;
    a dangling link, which an interrupted download leaves, counts as missing. V-JEPA 2.1 needs no
    config.json: its sizes follow from the shapes.
    """
    names = weight_files(folder)
    missing = [name for name in names if not (folder / name).exists()]
    if not (folder / "config.json").exists() and (missing or not _of_2_1(folder / names[0])):
        return ["config.json", *missing]
    return missing


def _of_2_1(file):
    with opened(file) as weights:
        return any("img_mod_embed" in name for name in weights.keys())  # noqa: SIM118  no dict


def read_weights(place: Path, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """{name: tensor} of a safetensors file, or of a folder's; the names in encoder.safetensors and
    predictor.safetensors get the part in front.

    Floating-point tensors get the dtype: memory-mapped if they have it, else converted one by one,
    so that memory holds no more than the result.
    """
    weights, missing = {}, missing_files(place) if place.is_dir() else []
    if missing:
        raise UserError(
            f"{place} lacks {' and '.join(missing)}: it was fetched in part, or is in another "
            "format, such as .bin files, which are not read because that could run code."
        )
    for file in [place / name for name in weight_files(place)] if place.is_dir() else [place]:
        part = f"{file.stem}." if file.stem in ("encoder", "predictor") else ""
        with opened(file) as mapped, opened(file, backend="pread") as unmapped:
            for name, value in mapped.get_tensors().items():
                if value.is_floating_point() and value.dtype != dtype:
                    value = unmapped.get_tensor(name).to(dtype)
                weights[f"{part}{name}"] = value
    return weights


@contextmanager
def opened(file, backend="mmap"):
    """A safetensors file; what is wrong with it, in a sentence."""
    try:
        with safe_open(file, "pt", backend=backend) as weights:
            yield weights
    except SafetensorError as error:
        with open(file, "rb") as raw:
            if raw.read(len(POINTER)) == POINTER:
                raise UserError(
                    f"{file} is a Git LFS pointer, not the weights: run git lfs pull there."
                ) from None
        raise unreadable(file, error) from None
