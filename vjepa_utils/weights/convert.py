"""A .pt file to a folder in Hugging Face format: encoder and predictor alone, a fifth of the size.

V-JEPA 2 gets the layout of transformers, which loads the folder too; V-JEPA 2.1 is not in
transformers, and gets the names of `model.vjepa2_1`.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError
from safetensors.torch import save_file

from vjepa_utils.model.vjepa2_1 import VJEPA21
from vjepa_utils.weights.models import load_whole

if TYPE_CHECKING:
    from vjepa_utils.files import File


def convert(
    path: File, folder: File, weights: str | None = None, config: dict | None = None
) -> None:
    """Write the encoder and predictor of a .pt file to a new folder, bit for bit.

    Args:
        path: a .pt file of V-JEPA 2 or 2.1.
        folder: is written completely, or not at all.
        weights: which encoder, as for `load_encoder`.
        config: fields of config.json that the file lacks, as for `load_encoder`.
    Raises:
        UserError: no such file.
        OSError: the folder exists, or cannot be written.
    """
    if Path(folder).exists():
        raise FileExistsError(f"{folder} exists: give the name of a new folder.")
    write_folder(load_whole(Path(path), None, weights, config), Path(folder))


def write_folder(model: VJEPA21, folder: Path) -> None:
    """Write a `VJEPA2` or `VJEPA21` as config.json and model.safetensors."""
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        weights = {name: value.contiguous() for name, value in model.weights().items()}
        save_file(weights, temporary / "model.safetensors", {"format": "pt"})
        (temporary / "config.json").write_text(json.dumps(_described(model), indent=1) + "\n")
        os.replace(temporary, folder)
    except (OSError, SafetensorError) as error:  # a full disk, as safetensors reports it
        reason = getattr(error, "strerror", None) or error
        raise OSError(f"{folder} cannot be written: {reason}.") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _described(model):
    """What config.json says: the model, its precision, and which encoder of the .pt file it is."""
    if isinstance(model, VJEPA21):
        config = asdict(model.config)
    else:
        from transformers import VJEPA2Config

        config = {field: getattr(model.config, field) for field in VJEPA2Config().to_dict()}
        config |= {"architectures": ["VJEPA2Model"]}
    dtype = str(model.dtype).removeprefix("torch.")
    return config | {"dtype": dtype, "encoder_key": model.config.encoder_key}
