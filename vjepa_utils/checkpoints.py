"""Find a checkpoint, shipped, local, cached or on the hub, and load it whole or not at all."""

import json
import warnings
from pathlib import Path

import torch
import transformers
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

from vjepa_utils.positions import use_true_positions

SHIPPED = {"vjepa2-demo": Path(__file__).parent.parent / "demo" / "vjepa2-demo"}

PATTERNS = ["*.json", "*.safetensors"]  # all that is fetched

# Released checkpoints and the revision to load, as several public projects pin them; safetensors and no remote code.
CHECKPOINTS = {
    "facebook/vjepa2-vitl-fpc64-256": "b3c1679b7c34d3255ef3547f27c7b226aefab26f",
    "facebook/vjepa2-vith-fpc64-256": "b5eac8703e3efdc1547fbb6ddfbeb133dc0bdee5",
    "facebook/vjepa2-vitg-fpc64-256": "875c192b7b704b87d1e1d99345769632dd5f739a",
    "facebook/vjepa2-vitg-fpc64-384": "12ca91694b230e0d4b5b0078af6f4ae1d51e933d",
    "facebook/vjepa2-vitl-fpc16-256-ssv2": "4aa02df83918538fc21cfaf576382fa20e489a80",
    "facebook/vjepa2-vitl-fpc32-256-diving48": "71ae2a8b1ff5a297aeeaae9b5e64c7a2e5e6a633",
    "facebook/vjepa2-vitg-fpc64-384-ssv2": "9f5fd615cb6f79065a28edcf1cc3ef25010dddfa",
    "facebook/vjepa2-vitg-fpc32-384-diving48": "0b48243375319bd8e03e3cd5560d957095429189",
}


def label(name):
    """What figures call the encoder: an id or shipped name as it is, a folder by its own name."""
    return Path(name).resolve().name if Path(name).is_dir() else name


def find(name):
    """The folder of a shipped, local or cached checkpoint, or of one fetched from the hub."""
    if name in SHIPPED:
        return SHIPPED[name]
    if name and Path(name).is_dir():
        return Path(name)
    if name.count("/") != 1 or name[0] in "./~":
        known = f"a shipped one ({', '.join(SHIPPED)}), a local folder, or a Hugging Face id such as {next(iter(CHECKPOINTS))}"
        raise ValueError(f"There is no encoder {name!r}: give {known}.")
    revision = CHECKPOINTS.get(name)  # None, the newest, for an id that is not listed: nothing is known of it
    cached = _cached(name, revision)
    if cached:
        return cached
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=PATTERNS))
    except (RepositoryNotFoundError, HFValidationError):
        raise ValueError(f"Hugging Face has no checkpoint {name} that you may read: check the id, or run: hf auth login") from None
    except (OSError, ValueError) as error:
        cached = _cached(name, None)
        if cached:
            warnings.warn(f"{name} is loaded as cached, at revision {cached.name}: the pinned {revision} cannot be fetched.", stacklevel=3)
            return cached
        command = " ".join(["hf download", name, *(["--revision", revision] if revision else []), *(f"--include '{p}'" for p in PATTERNS)])
        why = f"{name} is no folder here, not in the Hugging Face cache, and the hub cannot be reached ({type(error).__name__})"
        raise ConnectionError(f"{why}; where there is internet run: {command}") from None


def _cached(name, revision):
    """The folder of a revision in the Hugging Face cache, or None."""
    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=PATTERNS, local_files_only=True))
    except (OSError, ValueError):
        return None
    return folder if (folder / "config.json").exists() and any(folder.glob("*.safetensors")) else None


def load_model(folder, dtype):
    """The `VJEPA2Model` in a folder, every weight accounted for, with true positions."""
    if not (folder / "config.json").exists():
        raise ValueError(f"{folder} holds no config.json: it is no checkpoint in Hugging Face format.")
    config = json.loads((folder / "config.json").read_text())
    if config.get("model_type") != "vjepa2":
        raise ValueError(f"{folder} holds a model of type {config.get('model_type')!r}, not 'vjepa2'.")
    head = "VJEPA2ForVideoClassification"
    kind = head if head in (config.get("architectures") or []) else "VJEPA2Model"
    level, bar = transformers.logging.get_verbosity(), transformers.utils.logging.is_progress_bar_enabled()
    transformers.logging.set_verbosity_error()  # what it would warn of is an error here
    transformers.logging.disable_progress_bar()
    try:
        model, report = getattr(transformers, kind).from_pretrained(
            folder, dtype=dtype, use_safetensors=True, local_files_only=True, output_loading_info=True
        )
    except Exception as error:  # whatever a damaged file makes of itself
        raise ValueError(f"{folder} cannot be loaded: {str(error).splitlines()[0]}") from None
    finally:
        transformers.logging.set_verbosity(level)
        if bar:
            transformers.logging.enable_progress_bar()
    for problem in ("missing", "unexpected", "mismatched"):
        keys = sorted(map(str, report[f"{problem}_keys"]))
        if keys:
            raise ValueError(f"{folder} has {len(keys)} {problem} weights, such as {keys[0]}: it is not a whole {kind}.")
    return use_true_positions(getattr(model, "vjepa2", model)).eval().requires_grad_(False)


def pixel_statistics(folder):
    """Mean and standard deviation of the checkpoint's pixels, each (3, 1, 1); ImageNet's if it names none."""
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    for file in ("video_preprocessor_config.json", "preprocessor_config.json"):
        if (folder / file).exists():
            given = json.loads((folder / file).read_text())
            mean, std = given.get("image_mean", mean), given.get("image_std", std)
            break
    return torch.tensor(mean).view(3, 1, 1), torch.tensor(std).view(3, 1, 1)
