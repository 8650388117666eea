"""Find a checkpoint: shipped, local, cached or on the hub."""

import warnings
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

from vjepa_utils.checks import UserError
from vjepa_utils.files import shipped
from vjepa_utils.weights.download import RELEASED, released_folder
from vjepa_utils.weights.folder import missing_files, read_json

SHIPPED = {name: shipped(name) for name in ("vjepa2-demo", "dino-demo")}
PATTERNS = ["*.json", "*.safetensors"]  # all that is fetched

# Released checkpoints and the revision to load, as several public projects pin them; safetensors
# and no remote code.
CHECKPOINTS = {
    "facebook/vjepa2-vitl-fpc64-256": "b3c1679b7c34d3255ef3547f27c7b226aefab26f",
    "facebook/vjepa2-vith-fpc64-256": "b5eac8703e3efdc1547fbb6ddfbeb133dc0bdee5",
    "facebook/vjepa2-vitg-fpc64-256": "875c192b7b704b87d1e1d99345769632dd5f739a",
    "facebook/vjepa2-vitg-fpc64-384": "12ca91694b230e0d4b5b0078af6f4ae1d51e933d",
    "facebook/vjepa2-vitl-fpc16-256-ssv2": "4aa02df83918538fc21cfaf576382fa20e489a80",
    "facebook/vjepa2-vitl-fpc32-256-diving48": "71ae2a8b1ff5a297aeeaae9b5e64c7a2e5e6a633",
    "facebook/vjepa2-vitg-fpc64-384-ssv2": "9f5fd615cb6f79065a28edcf1cc3ef25010dddfa",
    "facebook/vjepa2-vitg-fpc32-384-diving48": "0b48243375319bd8e03e3cd5560d957095429189",
    "facebook/dinov2-small": "ed25f3a31f01632728cabb09d1542f84ab7b0056",
    "facebook/dinov2-base": "f9e44c814b77203eaa57a6bdbbd535f21ede1415",
    "facebook/dinov2-large": "47b73eefe95e8d44ec3623f8890bd894b6ea2d6c",
    "facebook/dinov2-giant": "611a9d42f2335e0f921f1e313ad3c1b7178d206d",
    "facebook/dinov2-with-registers-small": "0d9846e56b43a21fa46d7f3f5070f0506a5795a9",
    "facebook/dinov2-with-registers-base": "a1d738ccfa7ae170945f210395d99dde8adb1805",
    "facebook/dinov2-with-registers-large": "e4c89a4e05589de9b3e188688a303d0f3c04d0f3",
    "facebook/dinov2-with-registers-giant": "8d0d49f77fb8b5dd78842496ff14afe7dd4d85cb",
    "facebook/dinov3-vits16-pretrain-lvd1689m": "114c1379950215c8b35dfcd4e90a5c251dde0d32",
    "facebook/dinov3-vits16plus-pretrain-lvd1689m": "c93d816fc9e567563bc068f01475bec89cc634a6",
    "facebook/dinov3-vitb16-pretrain-lvd1689m": "5931719e67bbdb9737e363e781fb0c67687896bc",
    "facebook/dinov3-vitl16-pretrain-lvd1689m": "ea8dc2863c51be0a264bab82070e3e8836b02d51",
    "facebook/dinov3-vith16plus-pretrain-lvd1689m": "c807c9eeea853df70aec4069e6f56b28ddc82acc",
    "facebook/dinov3-vit7b16-pretrain-lvd1689m": "b80367753773648a6793235ab9c65cdbb029506f",
}


def label(name: str) -> str:
    """What figures call an encoder: an id as it is, a folder or file by its own name."""
    path = Path(name)
    if path.is_file():
        return path.stem
    return path.resolve().name if path.is_dir() else name


def find(name: str) -> Path:
    """The folder or file of a checkpoint; one of the hub is fetched where it is not in the cache.
    ConnectionError where the hub is out of reach.
    """
    if name in SHIPPED:
        return SHIPPED[name]
    if name in RELEASED:
        return released_folder(name)
    if name and (place := Path(name).expanduser()).exists():
        return place
    if name.count("/") != 1 or name[0] in "./~":
        named = f"{', '.join([*SHIPPED, *RELEASED])}, or an id such as {next(iter(CHECKPOINTS))}"
        raise UserError(f"There is no encoder {name!r}: give a folder, a .pt file, {named}.")
    return _from_hub(name, CHECKPOINTS.get(name))  # None, the newest, if it is not listed


def _from_hub(name, revision):
    """The folder of a revision, from the cache or else the hub; if that is out of reach, of another
    revision in the cache, with a warning.
    """
    lacks, reason = "no folder here, and not in the Hugging Face cache", "the hub did not give it"
    for wanted, offline in ((revision, True), (revision, False), (None, True)):
        options = dict(revision=wanted, allow_patterns=PATTERNS, local_files_only=offline)
        try:
            folder = Path(snapshot_download(name, **options))
        except (RepositoryNotFoundError, HFValidationError):  # the former also of gated ones
            access = f"ask for access at https://huggingface.co/{name}, then run: hf auth login"
            raise UserError(
                f"Hugging Face has no checkpoint {name} that you may read; if it is gated, {access}"
            ) from None
        except (OSError, ValueError) as error:
            if not offline:
                reason = f"the hub is out of reach ({type(error).__name__})"
            continue
        if missing := missing_files(folder):
            lacks = f"in the Hugging Face cache without {missing[0]}"
            continue
        if wanted != revision:
            other = f"at revision {folder.name}: the pinned {revision} cannot be fetched"
            warnings.warn(f"{name} is loaded as cached, {other}.", stacklevel=4)
        return folder
    command = f"hf download {name}" + (f" --revision {revision}" if revision else "")
    command += " --include '*.json' --include '*.safetensors'"
    raise ConnectionError(f"{name} is {lacks}, and {reason}; with internet run: {command}")


def pixel_statistics(place: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of the checkpoint's pixels, each (3, 1, 1); ImageNet's if it
    names none, as in transformers.
    """
    named = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
    for file in ("preprocessor_config.json", "video_preprocessor_config.json"):
        if (place / file).exists():
            named |= {name: v for name, v in read_json(place / file).items() if v is not None}
    try:
        mean, std = (torch.tensor(named[f"image_{word}"]).float() for word in ("mean", "std"))
        return mean.view(3, 1, 1), std.view(3, 1, 1)
    except (TypeError, ValueError, RuntimeError):
        given = f"not {named['image_mean']!r} and {named['image_std']!r}"
        what = f"image_mean and image_std of the preprocessor in {place}"
        raise UserError(f"{what} must be three numbers each, {given}.") from None
