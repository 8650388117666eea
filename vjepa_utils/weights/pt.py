"""The .pt files of V-JEPA 2 and 2.1: read without running code, converted to safetensors.

A file holds the whole training state: the online encoder, its moving average, which is the one that
upstream evaluates, the predictor, and the optimiser. Facts of the files: facebookresearch/vjepa2 at
204698b, README, `app/vjepa/train.py`, `app/vjepa_2_1/train.py` and `src/hub/backbones.py`.
"""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import torch
from tqdm.auto import tqdm

from vjepa_utils.checks import UserError
from vjepa_utils.weights.check import unreadable

# The moving average of V-JEPA 2 and of 2.1 trained from pixels, and that of the distilled 2.1.
AVERAGES = "target_encoder", "ema_encoder"
ONLINE = "encoder"


def read_pt(path: Path, weights: str | None = None) -> tuple[dict[str, torch.Tensor], str]:
    """The encoder and predictor of a .pt file, and the key of the encoder.

    Args:
        weights: None for the moving average, or the online encoder if there is none; or the key,
            "target_encoder", "ema_encoder" or "encoder".
    Returns:
        {name: tensor}, memory-mapped; names begin with "encoder." or "predictor.".
    Raises:
        UserError: a damaged file, one that could run code, or no checkpoint of this kind.
    """
    _check_zip(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError:
        raise UserError(
            f"{path} is refused: it holds more than tensors and numbers, and reading it could run "
            "code."
        ) from None
    except (RuntimeError, EOFError) as error:  # a zip archive, but not of torch.save
        raise unreadable(path, error) from None
    key = _encoder_key(path, state, weights)
    parts = {"encoder": state[key], "predictor": state.get("predictor", {})}
    for part, tensors in parts.items():
        if not isinstance(tensors, dict):
            raise unreadable(path, f"its {part} holds no weights")
    return {
        f"{part}.{name}": value
        for part, tensors in parts.items()
        for name, value in tensors.items()
    }, key


def _encoder_key(path, state, weights):
    keys = list(map(str, state)) if isinstance(state, dict) else [type(state).__name__]
    averages = [key for key in AVERAGES if key in keys]
    if len(averages) > 1 or not (averages or ONLINE in keys):
        raise unreadable(
            path,
            f"a checkpoint of V-JEPA 2 or 2.1 holds one of {' and '.join(AVERAGES)}, or an encoder "
            f"alone, and this one holds {', '.join(keys[:9])}",
        )
    if weights is None:
        return (averages or [ONLINE])[0]
    if weights not in keys or weights not in (*AVERAGES, ONLINE):
        offered = " or ".join(f'"{key}"' for key in (*averages, ONLINE) if key in keys)
        raise UserError(f"weights must be {offered} for {path}, not {weights!r}.")
    return weights


def _check_zip(path):
    """UserError where a checksum does not match: torch.load itself does not look at them."""
    try:
        with (
            zipfile.ZipFile(path) as archive,
            tqdm(
                total=path.stat().st_size,
                unit="B",
                unit_scale=True,
                desc=f"checking {path.stem}",
                delay=2,
                leave=False,
            ) as progress,
        ):
            for entry in archive.infolist():
                if not entry.CRC:  # torch can be told to write none
                    continue
                with archive.open(entry) as file:
                    while piece := file.read(2**20):
                        progress.update(len(piece))
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise unreadable(path, f"it is damaged, or no file of torch.save ({error})") from None
