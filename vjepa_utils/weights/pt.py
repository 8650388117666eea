"""The .pt files of V-JEPA 2 and 2.1, read without running code.

A file holds a whole training state: the online encoder, its moving average, the predictor and the
optimiser (facebookresearch/vjepa2 at 204698b, `app/vjepa*/train.py`, `src/hub/backbones.py`).
"""

import pickle
import zipfile
from pathlib import Path

import torch
from tqdm.auto import tqdm

from vjepa_utils.checks import UserError
from vjepa_utils.weights.folder import unreadable

# The moving average of V-JEPA 2 and of 2.1 trained from pixels, and that of the distilled 2.1.
AVERAGES = "target_encoder", "ema_encoder"
ONLINE = "encoder"


def read_pt(path: Path, key: str | None = None) -> tuple[dict[str, torch.Tensor], str]:
    """{name: tensor} of the encoder and predictor in a .pt file, memory-mapped, and the key of the
    encoder: for None that of the moving average, or of the online encoder if there is none.
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
