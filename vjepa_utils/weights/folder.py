"""A checkpoint on disk: its configuration, and its weights in safetensors files or a .pt file."""

import json
import pickle
import zipfile
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from tqdm.auto import tqdm

from vjepa_utils.checks import UserError

# of shards, and mlx-forge's of encoder and predictor
INDEXES = {"model.safetensors.index.json": "weight_map", "split_model.json": "components"}
POINTER = b"version https://git-lfs"  # what git leaves of a large file until it is asked for it
# The moving average of V-JEPA 2 and of 2.1 trained from pixels, and that of the distilled 2.1.
AVERAGES = "target_encoder", "ema_encoder"
ONLINE = "encoder"


def unreadable(place: Path, error: Exception | str) -> UserError:
    """The error to raise for a file or folder that cannot be loaded; its first line is kept."""
    reason = (str(error) or type(error).__name__).splitlines()[0]
    return UserError(f"{place} cannot be loaded: {reason}")


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
    """Names of the files of weights: those of an index, model.safetensors, or the only one."""
    for index, field in INDEXES.items():
        if (folder / index).exists():
            names = read_json(folder / index).get(field)
            if not isinstance(names, dict) or not all(isinstance(n, str) for n in names.values()):
                raise UserError(f"{folder / index} is damaged: delete it, or fetch it again.")
            return sorted(set(names.values()))
    names = [file.name for file in folder.glob("*.safetensors")]
    return names if len(names) == 1 else ["model.safetensors"]


def missing_files(folder: Path) -> list[str]:
    """Names of the files that a checkpoint needs and its folder lacks, as after a partial download
    (which may leave a dangling link). V-JEPA 2.1 needs no config.json: its shapes tell the sizes.
    """
    names = weight_files(folder)
    missing = [name for name in names if not (folder / name).exists()]
    if not (folder / "config.json").exists():
        first = {} if missing else read_weights(folder / names[0])
        if not any("img_mod_embed" in name for name in first):
            missing = ["config.json", *missing]
    return missing


def read_weights(place: Path, dtype: torch.dtype | None = None) -> dict[str, torch.Tensor]:
    """{name: tensor} of a safetensors file, or of a folder's; the names in encoder.safetensors and
    predictor.safetensors get the part in front. Floating-point tensors get the dtype: memory-mapped
    if they have it, else converted one by one, so that memory holds no more than the result.
    """
    missing = missing_files(place) if place.is_dir() else []
    if missing:
        other = "another format, such as .bin files, which are not read as that could run code"
        raise UserError(
            f"{place} lacks {' and '.join(missing)}: it was fetched in part, or is in {other}."
        )
    weights = {}
    for file in [place / name for name in weight_files(place)] if place.is_dir() else [place]:
        part = f"{file.stem}." if file.stem in ("encoder", "predictor") else ""
        try:
            with safe_open(file, "pt") as mapped, safe_open(file, "pt", backend="pread") as read:
                for name, value in mapped.get_tensors().items():
                    if dtype and value.is_floating_point() and value.dtype != dtype:
                        value = read.get_tensor(name).to(dtype)
                    weights[f"{part}{name}"] = value
        except SafetensorError as error:
            with open(file, "rb") as raw:
                pointer = raw.read(len(POINTER)) == POINTER
            remedy = "it is a Git LFS pointer, not the weights: run git lfs pull there"
            raise unreadable(file, remedy if pointer else error) from None
    return weights


def read_pt(path: Path, key: str | None = None) -> tuple[dict[str, torch.Tensor], str]:
    """{name: tensor} of the encoder and predictor in a .pt file, read without running code, and the
    key of the encoder: for None that of the moving average, or the online one if there is none.

    A file holds a whole training state (facebookresearch/vjepa2 at 204698b, `app/vjepa*/train.py`).
    """
    _check_zip(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError:
        reason = "it holds more than tensors and numbers, and reading it could run code"
        raise UserError(f"{path} is refused: {reason}.") from None
    except (RuntimeError, EOFError) as error:  # a zip archive, but not of torch.save
        raise unreadable(path, error) from None
    holds = list(map(str, state)) if isinstance(state, dict) else [type(state).__name__]
    keys = [each for each in (*AVERAGES, ONLINE) if each in holds]
    if not keys or set(AVERAGES) <= set(keys):
        wanted = f"V-JEPA 2 or 2.1 holds one of {' and '.join(AVERAGES)}, or an encoder alone"
        raise unreadable(path, f"{wanted}, and this one holds {', '.join(holds[:9])}")
    if key not in (None, *keys):
        offered = " or ".join(f'"{each}"' for each in keys)
        raise UserError(f"weights must be {offered} for {path}, not {key!r}.")
    key, weights = key or keys[0], {}
    for part, tensors in ("encoder", state[key]), ("predictor", state.get("predictor", {})):
        if not isinstance(tensors, dict):
            raise unreadable(path, f"its {part} holds no weights")
        weights |= {f"{part}.{name}": value for name, value in tensors.items()}
    return weights, key


def _check_zip(path):
    """UserError where a checksum does not match: torch.load itself does not look at them."""
    try:
        with zipfile.ZipFile(path) as archive:
            bar = dict(desc=f"checking {path.stem}", delay=2, leave=False)
            for entry in tqdm(archive.infolist(), **bar):
                if entry.CRC:  # torch can be told to write none
                    with archive.open(entry) as file:
                        while file.read(2**20):
                            pass
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise unreadable(path, f"it is damaged, or no file of torch.save ({error})") from None
