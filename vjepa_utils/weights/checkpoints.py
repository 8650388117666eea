"""Find a checkpoint, shipped, local, cached or on the hub, and load it whole or not at all."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError
from safetensors import safe_open
from safetensors.torch import load_file

from vjepa_utils.checks import UserError
from vjepa_utils.files import shipped
from vjepa_utils.model import attention
from vjepa_utils.model.vjepa2 import VJEPA2
from vjepa_utils.model.vjepa2_1 import VJEPA21, Config
from vjepa_utils.weights.check import check_weights, check_whole, unreadable
from vjepa_utils.weights.released_2_1 import RELEASED, pt_folder, released_folder

SHIPPED = {name: shipped(name) for name in ("vjepa2-demo", "dino-demo")}

KINDS = {  # the model of each model_type
    "vjepa2": "VJEPA2Model",
    "vjepa2_1": "V-JEPA 2.1",
    "dinov2": "Dinov2Model",
    "dinov2_with_registers": "Dinov2WithRegistersModel",
    "dinov3_vit": "DINOv3ViTModel",
}
HEAD = "VJEPA2ForVideoClassification"

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
    """What figures call the encoder: an id or shipped name as it is, a folder or file by its own
    name.
    """
    path = Path(name)
    if path.is_file():
        return path.stem
    return path.resolve().name if path.is_dir() else name


def find(name: str) -> Path:
    """The folder of a shipped, local or cached checkpoint, or of one fetched from the hub."""
    if name in SHIPPED:
        return SHIPPED[name]
    if name in RELEASED:
        return released_folder(name)
    if name and Path(name).is_dir():
        return Path(name)
    if Path(name).is_file():
        return pt_folder(name)
    if name.count("/") != 1 or name[0] in "./~":
        known = (
            f"a shipped one ({', '.join(SHIPPED)}), a V-JEPA 2.1 ({', '.join(RELEASED)}, or such "
            f"a .pt file), a local folder, or a Hugging Face id such as {next(iter(CHECKPOINTS))}"
        )
        raise UserError(f"There is no encoder {name!r}: give {known}.")
    # None, the newest revision, for an id that is not listed
    revision = CHECKPOINTS.get(name)
    cached = _cached(name, revision)
    if cached and not missing_files(cached):
        return cached
    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=PATTERNS))
        if missing_files(folder):  # where the hub is out of reach its client gives what it has
            cached = folder
            raise ConnectionError
        return folder
    except GatedRepoError:
        how = (
            f"ask for access at https://huggingface.co/{name} (it is given to those who agree "
            "to its licence), then run: hf auth login"
        )
        raise UserError(f"{name} is gated, and you have no access to it: {how}") from None
    except (RepositoryNotFoundError, HFValidationError):
        raise UserError(
            f"Hugging Face has no checkpoint {name} that you may read: check the id, or run: hf "
            "auth login"
        ) from None
    except (OSError, ValueError) as error:
        newest = _cached(name, None)
        if newest and not missing_files(newest):
            warnings.warn(
                f"{name} is loaded as cached, at revision {newest.name}: the pinned {revision} "
                "cannot be fetched.",
                stacklevel=3,
            )
            return newest
        command = " ".join(
            [
                "hf download",
                name,
                *(["--revision", revision] if revision else []),
                *(f"--include '{p}'" for p in PATTERNS),
            ]
        )
        why = (
            f"{name} is no folder here, not in the Hugging Face cache, and the hub is out of reach"
        )
        if cached:
            lost = missing_files(cached)[0]
            why = f"{name} is in the Hugging Face cache without {lost}, which the hub did not give"
        why += f" ({type(error).__name__})"
        raise ConnectionError(f"{why}; where there is internet run: {command}") from None


def _cached(name, revision):
    """The folder of a revision in the Hugging Face cache, whole or not, or None."""
    try:
        return Path(
            snapshot_download(
                name, revision=revision, allow_patterns=PATTERNS, local_files_only=True
            )
        )
    except (OSError, ValueError):
        return None


def missing_files(folder: Path) -> list[str]:
    """Names of the files that a checkpoint needs and its folder lacks, as after a partial download;
    a dangling link, which an interrupted download leaves, counts as missing.
    """
    return [
        name for name in ("config.json", *_weight_files(folder)) if not (folder / name).exists()
    ]


def load_model(folder: Path, dtype: torch.dtype) -> torch.nn.Module:
    """The encoder in a folder, every weight accounted for: a `VJEPA2`, a `VJEPA21`, or a
    transformers model of images.
    """
    config, kind = _config(folder)
    if kind not in (KINDS["vjepa2"], KINDS["vjepa2_1"]):
        model = load_whole(folder, dtype)
        return getattr(model, "vjepa2", model)
    try:
        if kind == KINDS["vjepa2_1"]:
            model = VJEPA21(Config(**config))
        else:
            from transformers import VJEPA2Config

            model = VJEPA2(VJEPA2Config.from_dict(config))
        weights = _safetensors(folder, dtype)
    except Exception as error:  # a damaged file raises errors of any kind
        raise unreadable(folder, error) from None
    check_weights(folder, kind, model, weights)
    return model.take_weights(weights).eval().requires_grad_(False)


def load_whole(folder: Path, dtype: torch.dtype) -> torch.nn.Module:
    """The model in a folder through transformers, every weight accounted for.

    Of images, or a `VJEPA2ForVideoClassification` whose encoder is exchanged for one with true
    positions.
    """
    _, kind = _config(folder)
    if kind == KINDS["vjepa2_1"]:  # transformers has none, and there are no heads of it
        return load_model(folder, dtype)
    import transformers

    level = transformers.logging.get_verbosity()
    bar = transformers.utils.logging.is_progress_bar_enabled()
    transformers.logging.set_verbosity_error()  # what it would warn about is an error here
    transformers.logging.disable_progress_bar()
    try:
        model, report = getattr(transformers, kind).from_pretrained(
            folder,
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            attn_implementation=attention.register(),
            ignore_mismatched_sizes=True,  # they are reported, and refused below
            output_loading_info=True,
        )
        if kind == HEAD:
            model.vjepa2 = VJEPA2(model.config).take_weights(model.vjepa2.state_dict())
    except Exception as error:  # a damaged file raises errors of any kind
        raise unreadable(folder, error) from None
    finally:
        transformers.logging.set_verbosity(level)
        if bar:
            transformers.logging.enable_progress_bar()
    problems = {
        # a name, or one with two shapes
        problem: {each if isinstance(each, str) else each[0] for each in report[f"{problem}_keys"]}
        for problem in ("missing", "unexpected", "mismatched")
    }
    config, wrong = model.config, {name.split(".")[0] for name in set().union(*problems.values())}
    reason = f"it is not a whole {kind}"
    if wrong == {"classifier"}:
        reason = f"its classifier does not fit the {config.num_labels} classes of config.json"
    if wrong == {"pooler"}:
        reason = (
            f"its pooler does not fit config.json, which has {config.num_pooler_layers} blocks of "
            f"self-attention and {config.hidden_size} channels"
        )
    check_whole(folder, reason, **problems)
    return model.eval().requires_grad_(False)


def _config(folder):
    """What config.json says, and the name of the transformers class that it is of."""
    if not (folder / "config.json").exists():
        raise UserError(
            f"{folder} holds no config.json: it is no checkpoint in Hugging Face format."
        )
    config = json.loads((folder / "config.json").read_text())
    if config.get("model_type") not in KINDS:
        raise UserError(
            f"{folder} holds a model of type {config.get('model_type')!r}, not one of "
            f"{', '.join(KINDS)}."
        )
    if missing := missing_files(folder):
        raise UserError(f"{folder} lacks {' and '.join(missing)}: fetch it again.")
    has_head = HEAD in (config.get("architectures") or [])
    return config, HEAD if has_head else KINDS[config["model_type"]]


def _safetensors(folder, dtype):
    """{name: tensor} of a checkpoint in one file or in several with an index."""
    return {
        name: value
        for file in _weight_files(folder)
        for name, value in _read(folder / file, dtype).items()
    }


def _read(file, dtype):
    """{name: tensor} of a file: memory-mapped, or converted one by one, so that the memory holds
    no more than the result.
    """
    weights = load_file(file)
    if all(value.dtype == dtype for value in weights.values()):
        return weights
    with safe_open(file, "pt", backend="pread") as unmapped:
        return {name: unmapped.get_tensor(name).to(dtype) for name in weights}


def _weight_files(folder):
    """Names of the files of weights: all that the index names, or the only one."""
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        return ["model.safetensors"]
    try:
        return sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError):
        raise UserError(f"{index} is damaged: delete it, or fetch it again.") from None


def pixel_statistics(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of the checkpoint's pixels, each (3, 1, 1); ImageNet's if it
    names none.
    """
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    for file in ("video_preprocessor_config.json", "preprocessor_config.json"):
        if (folder / file).exists():
            given = json.loads((folder / file).read_text())
            mean, std = given.get("image_mean", mean), given.get("image_std", std)
            break
    return torch.tensor(mean).view(3, 1, 1), torch.tensor(std).view(3, 1, 1)
