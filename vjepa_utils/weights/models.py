"""The model in a folder or file, loaded whole or not at all: every weight is accounted for; and one
written as a folder in Hugging Face format, with safetensors instead of a .pt file.
"""

import json
import math
import os
import shutil
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors.torch import save_file
from torch import nn

from vjepa_utils.checks import UserError, is_whole
from vjepa_utils.files import File, writing
from vjepa_utils.model import attention
from vjepa_utils.model.vjepa2 import VJEPA2
from vjepa_utils.model.vjepa2_1 import VJEPA21, Config
from vjepa_utils.weights.folder import config_of, read_pt, read_weights, unreadable
from vjepa_utils.weights.layouts import is_2_1, renamed, sizes, standard

IMAGES = {  # model_type in config.json, and the class of transformers
    "dinov2": "Dinov2Model",
    "dinov2_with_registers": "Dinov2WithRegistersModel",
    "dinov3_vit": "DINOv3ViTModel",
}
# V-JEPA 2; 2.1 as kept here, and in the copies of others; None: no configuration
VIDEOS = "vjepa2", "vjepa2_1", "vjepa21", "vjepa-2.1-vitl", "vjepa2-vit-l-rope", None
HEAD = "VJEPA2ForVideoClassification"
FIELDS = [  # of configurations of copies of V-JEPA 2.1, and here
    (r"^(pred_)?teacher_embed_dim$|^predictor_proj_dim$", "pred_out_size"),
    (r"^n_output_distillation$|^num_distillation_outputs$", "pred_levels"),
    (r"^predictor_", "pred_"),
    (r"embed_dim$", "hidden_size"),
    (r"(^|_)depth$", r"\1num_hidden_layers"),
    (r"^num_heads$", "num_attention_heads"),
    (r"^img_size$", "crop_size"),
    (r"^layernorm_eps$", "layer_norm_eps"),
]
FIXED = {"tubelet_size": 2, "in_chans": 3}
# Of V-JEPA 2.1 and not of V-JEPA 2; ports can be told to leave them out.
SWITCHES = "use_rope_interleave", "interpolate_rope", "use_image_patch_embedder"
SWITCHES += "use_modality_embeddings", "modality_embedding"
# Heads by width (facebookresearch/vjepa2, src/models/vision_transformer.py, src/hub/backbones.py).
HEADS = {192: 3, 384: 6, 768: 12, 1024: 16, 1280: 16, 1408: 22, 1664: 26}
PREDICTOR_HEADS = {384: 12}


def load_model(place: Path, dtype, weights=None, config=None, head=False) -> Any:
    """The encoder in a folder or file: a `VJEPA2`, a `VJEPA21`, or transformers' model of images.
    dtype None is that of a .pt file. With `head`, a whole `VJEPA2ForVideoClassification`.
    """
    config, architecture = config_of(place) | (config or {}), ""
    if place.is_file() and place.suffix != ".safetensors":
        tensors, config["encoder_key"] = read_pt(place, weights)
        build = _vjepa
    elif weights is not None:
        choice = f"weights={weights!r} chooses between the two encoders of a .pt file"
        raise UserError(f"{choice}, and {place} holds only one.")
    else:
        kind, (architecture, *_) = config.get("model_type"), config.get("architectures") or [""]
        if kind not in (*IMAGES, *VIDEOS) or ("For" in architecture and architecture != HEAD):
            known = f"V-JEPA 2, V-JEPA 2.1, DINOv2 and DINOv3 without a head, and {HEAD}"
            given = f"a model of type {kind!r} {architecture}"
            raise UserError(f"{place} holds {given}: what is read is {known}.")
        build = _image_model if kind in IMAGES else _classifier if architecture == HEAD else _vjepa
        tensors = read_weights(place, dtype)
    model = build(place, tensors, config, dtype).eval().requires_grad_(False)
    return model.vjepa2 if architecture == HEAD and not head else model


def _vjepa(place, tensors, config, dtype):
    """A `VJEPA2` or `VJEPA21`, as the weights are; without predictor where they have none."""
    config = {renamed(name, FIELDS): value for name, value in config.items() if value is not None}
    tensors = standard(tensors, place)
    newer = is_2_1(tensors)
    known = sizes(tensors, config) | FIXED | dict.fromkeys(SWITCHES, newer)
    with _reading_configuration(place):
        model = (_vjepa2_1 if newer else _vjepa2)(place, config, known)
    if not any(name.startswith("predictor.") for name in tensors):
        model.predictor = None
        known = {name: value for name, value in known.items() if not name.startswith("pred_")}
    kind = "V-JEPA 2.1" if newer else "V-JEPA 2"
    for name, value in known.items():
        given = config.get(name, value)
        close = isinstance(given, float) and math.isclose(given, value, rel_tol=1e-6)  # of 48/11
        if given != value and not close:
            reason = f"its configuration says that {name} is {given!r}, where only {value!r} fits"
            raise UserError(f"{place} is not loaded: {reason} its weights and a {kind}.")
    _check_whole(place, model, tensors, f"it is not a whole {kind}")
    model.config.encoder_key = config.get("encoder_key")
    return model.take_weights({name: x.to(dtype or x.dtype) for name, x in tensors.items()})


def _vjepa2(place, config, known):
    """A `VJEPA2` without weights."""
    from transformers import VJEPA2Config

    side = 384 if place.stem.endswith("384") else 256  # vitg-384.pt
    named = {"crop_size": side} | config | known
    for part, published in ("", HEADS), ("pred_", PREDICTOR_HEADS):
        field, width = f"{part}num_attention_heads", named[f"{part}hidden_size"]
        heads = named.setdefault(field, published.get(width))
        if not is_whole(heads, 1) or width % (2 * heads):
            reason = f"how many heads share {width} channels ({field} is {heads!r})"
            remedy = f"give config={{{field!r}: …}} (--heads), or a config.json beside it"
            raise UserError(f"{place} does not tell {reason}: {remedy}.")
    return VJEPA2(VJEPA2Config.from_dict(named))


def _vjepa2_1(_, config, known):
    """A `VJEPA21` without weights; what it cannot have otherwise is added to what is known."""
    named = known | {"crop_size": config.get("crop_size", 384), "model_type": "vjepa2_1"}
    built = Config(**{field.name: named[field.name] for field in fields(Config)})
    for name in "num_attention_heads", "pred_num_attention_heads", "layer_norm_eps", "hidden_act":
        known[name] = getattr(built, name)
    known["hierarchical_layers"] = [number - 1 for number in built.levels]
    return VJEPA21(built)


def _classifier(place, tensors, config, dtype):
    """Transformers' classifier, with a `VJEPA2` as its encoder."""
    from transformers import VJEPA2Config, VJEPA2ForVideoClassification

    with _reading_configuration(place):
        built = VJEPA2Config.from_dict(config)
    built._attn_implementation = attention.register()
    with torch.device("meta"):
        model = VJEPA2ForVideoClassification(built)
    encoder = {name[7:]: tensors.pop(name) for name in list(tensors) if name[:7] == "vjepa2."}
    model.vjepa2 = _vjepa(place, encoder, config, dtype)
    head = nn.ModuleDict({"pooler": model.pooler, "classifier": model.classifier})
    sizes = f"{built.num_labels} classes, {built.num_pooler_layers} blocks of self-attention"
    sizes += f" and {built.hidden_size} channels"
    _check_whole(place, head, tensors, f"its head does not fit config.json, which has {sizes}")
    head.load_state_dict(tensors, assign=True)
    return model


def _image_model(place, tensors, config, dtype):
    """A model of images, through transformers, which knows older names of its weights."""
    import transformers
    from transformers.utils import logging

    kind = getattr(transformers, IMAGES[config["model_type"]])
    with _reading_configuration(place):
        built = kind.config_class.from_dict(config)
    if built.num_channels != 3:
        raise UserError(f"{place} takes pictures of {built.num_channels} channels, not of 3.")
    options = dict(config=built, state_dict=tensors, dtype=dtype, output_loading_info=True)
    options |= dict(attn_implementation=attention.register(), ignore_mismatched_sizes=True)
    hook = logging.set_tqdm_hook(lambda bar, args, named: bar(*args, **named | {"disable": True}))
    try:
        model, report = kind.from_pretrained(None, **options)  # without a progress bar
    finally:
        logging.set_tqdm_hook(hook)
    problems = {each: report[f"{each}_keys"] for each in ("missing", "unexpected")}
    problems["mismatched"] = {name for name, *_ in report["mismatched_keys"]}
    _refuse(place, problems, f"it is not a whole {kind.__name__}")
    return model


def _check_whole(place, model, weights, reason):
    """UserError unless each weight of a module is there, in its shape, and no other."""
    expected = model.state_dict()
    shared = expected.keys() & weights.keys()
    other = {name for name in shared if weights[name].shape != expected[name].shape}
    missing, unexpected = expected.keys() - shared, weights.keys() - shared
    _refuse(place, dict(missing=missing, unexpected=unexpected, mismatched=other), reason)


def _refuse(place, problems, reason):
    """UserError, which ends in the reason, if there are problems: {word: names of weights}."""
    some = lambda names: f"such as {', '.join(sorted(names)[:3])}"
    found = [f"{len(n)} {what} weights, {some(n)}" for what, n in problems.items() if n]
    if found:
        raise UserError(f"{place} has {' and '.join(found)}: {reason}.")


@contextmanager
def _reading_configuration(place):
    """What is wrong with a configuration, in a sentence."""
    try:
        yield
    except UserError:
        raise
    except (StrictDataclassError, TypeError, ValueError) as error:
        reason = str(error).replace("\n", " ")
        raise unreadable(place, f"its configuration is damaged ({reason})") from None


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
