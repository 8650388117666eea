"""A .pt file to a folder in Hugging Face format, encoder and predictor alone: of V-JEPA 2 in
transformers' layout, of V-JEPA 2.1, which transformers has not, under the names of this package.
"""

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path

from safetensors.torch import save_file

from vjepa_utils.checks import UserError
from vjepa_utils.files import File, writing
from vjepa_utils.model.vjepa2 import VJEPA2
from vjepa_utils.model.vjepa2_1 import VJEPA21
from vjepa_utils.weights.models import load_model


def convert(path: File, folder: File, weights=None, config=None) -> VJEPA2:
    """Write encoder and predictor of a .pt file to a new folder, bit for bit, whole or not at all;
    weights and config as for `load_encoder`. Returns the model.
    """
    if not Path(path).is_file():
        raise UserError(f"There is no file {path}: give a .pt file of V-JEPA 2 or 2.1.")
    if Path(folder).exists():
        raise FileExistsError(f"{folder} exists: give the name of a new folder.")
    model = load_model(Path(path), None, weights, config)
    write_folder(model, Path(folder))
    return model


def write_folder(model: VJEPA2, folder: Path) -> None:
    """Write a model as config.json, which also names the encoder's key, and model.safetensors."""
    if isinstance(model, VJEPA21):
        config = asdict(model.config)
    else:
        config = model.config.to_dict() | {"architectures": ["VJEPA2Model"]}
    config |= {"dtype": str(model.dtype).split(".")[1], "encoder_key": model.config.encoder_key}
    weights = {name: value.contiguous() for name, value in model.weights().items()}
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        with writing(folder):
            temporary.mkdir()
            save_file(weights, temporary / "model.safetensors", {"format": "pt"})
            (temporary / "config.json").write_text(json.dumps(config, indent=1) + "\n")
            os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
