"""The .pt files of V-JEPA 2.1: downloaded, verified, read safely, kept as safetensors.

A file holds the whole training state; the encoder and the predictor, a fifth of ViT-B's, are kept
in the user's cache as a folder with config.json and model.safetensors, like any other checkpoint.
Facts of the files: facebookresearch/vjepa2 at 204698b, README, `app/vjepa_2_1/train.py` and
`src/hub/backbones.py`.
"""

import hashlib
import json
import os
import pickle
import re
import shutil
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from filelock import FileLock
from safetensors.torch import save_file
from tqdm.auto import tqdm

from vjepa_utils.checks import UserError
from vjepa_utils.files import user_cache
from vjepa_utils.model.vjepa2_1 import VJEPA21, Config
from vjepa_utils.weights.check import check_weights, unreadable
from vjepa_utils.weights.download import digest, fetch

URL = "https://dl.fbaipublicfiles.com/vjepa2/{}.pt"


@dataclass(frozen=True)
class Released:
    """depth, width: of its encoder, in blocks and channels.  sha256: None where it is not known."""

    depth: int
    width: int
    sha256: str | None


RELEASED = {
    "vjepa2_1_vitb_dist_vitG_384": Released(
        12, 768, "848a77c33cc9e6649ed2119c9bea1e2c569bcdab9539ff3e7c02ccc2959ddf4d"
    ),
    "vjepa2_1_vitl_dist_vitG_384": Released(
        24, 1024, "7ea9b7cb4a75d10644a8a8d42cff9e177b10dca8f02173f0eaf2b0bed82838c6"
    ),
    # No hash of these two, of 16 and 30 GB, is published, and they could not be downloaded here.
    "vjepa2_1_vitg_384": Released(40, 1408, None),
    "vjepa2_1_vitG_384": Released(48, 1664, None),
}

ENCODERS = "ema_encoder", "target_encoder"  # distilled, and trained from pixels: the one to use
# Training state, unused here; "encoder" is what the moving average follows.
IGNORED = "encoder", "opt", "scaler", "epoch", "loss", "batch_size", "world_size", "lr"

NAMES = [  # in the file, and here
    (r"encoder\.patch_embed\.", "encoder.embeddings.patch_embeddings."),
    (r"encoder\.patch_embed_img\.", "encoder.embeddings.image_patch_embeddings."),
    (r"encoder\.blocks\.", "encoder.layer."),
    (r"encoder\.norms_block\.", "encoder.norms."),
    (r"predictor\.predictor_embed\.", "predictor.embeddings.predictor_embeddings."),
    (r"predictor\.predictor_blocks\.", "predictor.layer."),
    (r"predictor\.predictor_norm\.", "predictor.layernorm."),
    (r"predictor\.predictor_proj\.", "predictor.proj."),
    (r"predictor\.predictor_proj_context\.", "predictor.visible_proj."),
    (r"(encoder|predictor)\.img_mod_embed$", r"\1.embeddings.image_modality"),
    (r"(encoder|predictor)\.video_mod_embed$", r"\1.embeddings.video_modality"),
    (r"(.*\.\d+\.)attn\.", r"\1attention."),
]


def released_folder(name):
    """The folder that keeps a released checkpoint; made from the file in the cache, or else
    fetched.

    Raises:
        ConnectionError: neither is there, and the file cannot be fetched; says where to put it.
        ValueError: the file is not the released one.
    """
    file, folder, about = user_cache() / f"{name}.pt", kept_folder(name), RELEASED[name]
    if _is_kept(folder):
        return folder
    with FileLock(f"{folder}.lock"):
        if _is_kept(folder):  # another process made it
            return folder
        if file.exists():  # the user put it there, and it stays
            if about.sha256 and (found := digest(file)) != about.sha256:
                raise UserError(
                    f"{file} is not the released file: its SHA-256 is {found[:12]}…, not "
                    f"{about.sha256[:12]}…."
                )
            return _keep(file, folder, about)
        partial, url = folder.with_name(f"{folder.name}.pt.partial"), URL.format(name)
        try:
            fetch(url, partial, about.sha256)
        except ConnectionError as error:
            raise ConnectionError(
                f"{name} is not in the cache, and {error}: where there is internet fetch that "
                f"file, and put it at {file} or give its path."
            ) from None
        try:
            _keep(partial, folder, about)
        except ValueError:  # resuming a damaged file would fail every time
            partial.unlink()
            raise
        partial.unlink()
    return folder


def kept_folder(name):
    """Where a released checkpoint is kept. The width is in its name: some file systems ignore case,
    and would confuse ViT-g with ViT-G.
    """
    return user_cache() / f"{name}-{RELEASED[name].width}"


def pt_folder(path):
    """The folder that keeps a user's own .pt file of V-JEPA 2.1; rebuilt when the file has
    changed.
    """
    path = Path(path).resolve()
    status = path.stat()
    source = [str(path), status.st_size, status.st_mtime_ns]
    key = hashlib.sha256(str(path).encode()).hexdigest()[:12]
    folder = user_cache() / f"{path.stem}-{key}"
    if not _is_kept(folder, source):
        with FileLock(f"{folder}.lock"):
            if not _is_kept(folder, source):  # no other process made it
                _keep(path, folder, source=source)
    return folder


def _is_kept(folder, source=None):
    try:
        return source in (None, json.loads((folder / "source.json").read_text()))
    except (OSError, ValueError):
        return False


def _keep(path, folder, about=None, source=None):
    """Write what is needed of a .pt file to a folder: completely, or not at all."""
    if not (about and about.sha256):  # a hash has covered every byte
        _check_zip(path)
    weights, config = read_pt(path)
    if about and (config.num_hidden_layers, config.hidden_size) != (about.depth, about.width):
        raise UserError(
            f"{path} has {config.num_hidden_layers} blocks of {config.hidden_size} channels, not "
            f"the {about.depth} of {about.width} of the released file."
        )
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        # from the memory-mapped file: nothing is held in memory
        save_file(weights, temporary / "model.safetensors", {"format": "pt"})
        (temporary / "config.json").write_text(json.dumps(asdict(config), indent=1) + "\n")
        (temporary / "source.json").write_text(json.dumps(source) + "\n")
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(temporary, folder)
    except Exception as error:  # a full disk, as safetensors reports it
        raise OSError(f"{folder} cannot be written: {error}.") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def read_pt(path):
    """Weights and `Config` of the encoder and predictor in a .pt file of V-JEPA 2.1.

    No code of the file is run. The weights, {name: tensor} under the names of `VJEPA21`, are
    memory-mapped; query, key and value are split.

    ValueError: a damaged or another file, or one that is not whole.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError:
        raise UserError(
            f"{path} is refused: it holds more than tensors and numbers, and reading it could run "
            "code."
        ) from None
    except Exception as error:  # a damaged file raises errors of any kind
        raise unreadable(path, error) from None
    weights = {}
    for part, key in _parts(state, path):
        for name, value in state[key].items():
            if not torch.is_tensor(value) or not value.is_floating_point():
                raise unreadable(path, f"{name} of its {key} is no tensor of floating point")
            for ours, piece in _renamed(f"{part}.{_bare(name)}", value):
                if ours in weights:
                    raise unreadable(path, f"its {key} holds {_bare(name)} twice")
                weights[ours] = piece
    _stack_mask_tokens(weights)
    try:
        config = _config(weights)
        model = VJEPA21(config)
    except KeyError as error:
        raise unreadable(path, f"{error} is missing, it is no whole V-JEPA 2.1") from None
    except (ValueError, IndexError) as error:
        raise unreadable(path, error) from None
    check_weights(path, "V-JEPA 2.1", model, weights)
    return weights, config


def _parts(state, path):
    """(name here, key in the file) of encoder and predictor; ValueError on unknown entries."""
    keys = list(map(str, state)) if isinstance(state, dict) else []
    encoders = [key for key in ENCODERS if key in keys]
    unknown = [key for key in keys if key not in (*ENCODERS, *IGNORED, "predictor")]
    if len(encoders) != 1 or "predictor" not in keys or unknown:
        known = f"a predictor, one of {' and '.join(ENCODERS)}, and the state of the training"
        holds = ", ".join(keys[:9]) or type(state).__name__
        raise unreadable(path, f"a file of V-JEPA 2.1 holds {known}, and this one holds {holds}")
    parts = [("encoder", encoders[0]), ("predictor", "predictor")]
    for _, key in parts:
        if not isinstance(state[key], dict):
            raise unreadable(path, f"its {key} holds no weights")
    return parts


def _bare(name):
    return re.sub(r"^(module\.)?(backbone\.)?", "", str(name))


def _renamed(name, value):
    """[(name here, tensor)], three of them where query, key and value come in one."""
    for theirs, ours in NAMES:
        name = re.sub(f"^{theirs}", ours, name)
    if name.endswith("_modality"):
        return [(name, value.flatten())]
    if ".attention.qkv." in name and value.ndim and len(value) % 3 == 0:
        parts = zip(("query", "key", "value"), value.chunk(3), strict=True)
        return [(name.replace("qkv", part), rows) for part, rows in parts]
    return [(name, value)]


def _config(weights):
    """Sizes, read off the shapes; KeyError where something is missing."""
    width = len(weights["encoder.layer.0.norm1.weight"])
    narrow = len(weights["predictor.layer.0.norm1.weight"])
    embedding = "predictor.embeddings.predictor_embeddings"
    several = f"{embedding}.0.weight"  # a small MLP where the predictor reads several levels
    read = weights[several if several in weights else f"{embedding}.weight"].shape[1]
    levels = max(1, read // width)
    return Config(
        hidden_size=width,
        num_hidden_layers=_depth("encoder", weights),
        intermediate_size=len(weights["encoder.layer.0.mlp.fc1.weight"]),
        pred_hidden_size=narrow,
        pred_num_hidden_layers=_depth("predictor", weights),
        pred_intermediate_size=len(weights["predictor.layer.0.mlp.fc1.weight"]),
        pred_num_mask_tokens=len(weights["predictor.embeddings.mask_tokens"]),
        pred_levels=levels,
        pred_out_size=len(weights["predictor.proj.weight"]) // levels,
        patch_size=weights["encoder.embeddings.patch_embeddings.proj.weight"].shape[-1],
        tubelet_size=weights["encoder.embeddings.patch_embeddings.proj.weight"].shape[2],
    )


def _depth(part, weights):
    numbers = (re.match(rf"{part}\.layer\.(\d+)\.", name) for name in weights)
    return 1 + max(int(found[1]) for found in numbers if found)


def _stack_mask_tokens(weights):
    """Put the mask tokens, (1, 1, channels) each in the file, into one tensor (n, 1, 1, channels);
    leave them where they are not whole.
    """
    prefix = "predictor.mask_tokens."
    names = [f"{prefix}{i}" for i in range(sum(name.startswith(prefix) for name in weights))]
    if set(names) <= weights.keys() and len({weights[name].shape for name in names}) == 1:
        rows = [weights.pop(name) for name in names]
        weights["predictor.embeddings.mask_tokens"] = torch.stack(rows)


def _check_zip(path):
    """ValueError where a checksum does not match: torch.load itself does not look at them."""
    try:
        with (
            zipfile.ZipFile(path) as archive,
            tqdm(
                total=Path(path).stat().st_size,
                unit="B",
                unit_scale=True,
                desc=f"checking {Path(path).stem}",
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
