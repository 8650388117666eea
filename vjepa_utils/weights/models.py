"""The model in a folder or file, every weight accounted for."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import nn

from vjepa_utils.checks import UserError, is_whole
from vjepa_utils.model import attention
from vjepa_utils.model.vjepa2 import VJEPA2
from vjepa_utils.model.vjepa2_1 import VJEPA21, Config
from vjepa_utils.weights.check import check_whole, difference, unreadable, weight_problems
from vjepa_utils.weights.folder import checked_files, config_of, read_weights
from vjepa_utils.weights.layouts import is_2_1, levels_predicted, sizes, standard
from vjepa_utils.weights.pt import read_pt

IMAGES = "dinov2", "dinov2_with_registers", "dinov3_vit"  # model_type in config.json
# V-JEPA 2; 2.1 as kept here, and in the copies of others; None: no configuration
VIDEOS = "vjepa2", "vjepa2_1", "vjepa21", "vjepa-2.1-vitl", "vjepa2-vit-l-rope", None
HEAD = "VJEPA2ForVideoClassification"
ALIASES = {  # other names for fields, in configurations of copies of V-JEPA 2.1
    "embed_dim": "hidden_size",
    "depth": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "img_size": "crop_size",
    "layernorm_eps": "layer_norm_eps",
    "predictor_embed_dim": "pred_hidden_size",
    "predictor_depth": "pred_num_hidden_layers",
    "predictor_num_mask_tokens": "pred_num_mask_tokens",
    "predictor_proj_dim": "pred_out_size",
    "pred_teacher_embed_dim": "pred_out_size",
    "teacher_embed_dim": "pred_out_size",
    "n_output_distillation": "pred_levels",
    "num_distillation_outputs": "pred_levels",
}
FIXED = {"tubelet_size": 2, "in_chans": 3}
# Of V-JEPA 2.1 and not of V-JEPA 2; ports can be told to leave them out.
SWITCHES = (
    "use_rope_interleave",
    "interpolate_rope",
    "use_modality_embeddings",
    "modality_embedding",
    "use_image_patch_embedder",
)
# Heads by width, upstream's (src/models/vision_transformer.py, src/hub/backbones.py).
HEADS = {192: 3, 384: 6, 768: 12, 1024: 16, 1280: 16, 1408: 22, 1664: 26}
PREDICTOR_HEADS = {384: 12}


def load_model(
    place: Path, dtype: torch.dtype, weights: str | None = None, config: dict | None = None
) -> nn.Module:
    """The encoder in a folder or file, arguments as for `load_whole`: a `VJEPA2`, a `VJEPA21`, or
    transformers' model of images.
    """
    model = load_whole(place, dtype, weights, config)
    return getattr(model, "vjepa2", model)


def load_whole(
    place: Path, dtype: torch.dtype, weights: str | None = None, config: dict | None = None
) -> nn.Module:
    """The model in a folder or file: that of `load_model`, or a `VJEPA2ForVideoClassification`
    whose encoder is exchanged for one with true positions.

    Args:
        place: a folder, a .safetensors or a .pt file.
        dtype: of the model.
        weights: the key of the encoder in a .pt file, see `read_pt`.
        config: fields that take precedence over those of config.json.
    Raises:
        UserError: weights are missing, unexpected or of another shape; another kind of model.
    """
    config = config_of(place) | (config or {})
    if place.is_file() and place.suffix != ".safetensors":
        tensors, key = read_pt(place, weights)
        return _finished(_vjepa(place, tensors, config | {"encoder_key": key}, dtype))
    if weights is not None:
        raise UserError(
            f"weights={weights!r} chooses between the two encoders of a .pt file, and {place} "
            "holds only one."
        )
    kind, (architecture, *_) = config.get("model_type"), config.get("architectures") or [""]
    if kind not in (*IMAGES, *VIDEOS):
        raise UserError(
            f"{place} holds a model of type {kind!r}, not V-JEPA 2, V-JEPA 2.1, DINOv2 or DINOv3."
        )
    if "For" in architecture and architecture != HEAD:
        raise UserError(
            f"{place} holds a {architecture}, and the only head that is read is {HEAD}: save its "
            "encoder alone, with transformers' save_pretrained."
        )
    files = checked_files(place)
    if kind in IMAGES:
        return _finished(_image_model(place, config, dtype))
    tensors = read_weights(files, dtype)
    if architecture == HEAD:
        return _finished(_classifier(place, tensors, config, dtype))
    return _finished(_vjepa(place, tensors, config, dtype))


def _finished(model):
    return model.eval().requires_grad_(False)


def _vjepa(place, tensors, config, dtype):
    """A `VJEPA2` or `VJEPA21`, as the weights are; without predictor where they have none."""
    config = {ALIASES.get(k, k): value for k, value in config.items() if value is not None}
    tensors = standard(tensors, place)
    kind, build = ("V-JEPA 2.1", _vjepa2_1) if is_2_1(tensors) else ("V-JEPA 2", _vjepa2)
    model, facts = build(place, tensors, config)
    if not any(name.startswith("predictor.") for name in tensors):
        model.predictor = None
        facts = {field: value for field, value in facts.items() if not field.startswith("pred_")}
    if differing := difference(config, facts):
        field, given, value = differing
        raise UserError(
            f"{place} is not loaded: its configuration says that {field} is {given!r}, where only "
            f"{value!r} fits its weights and a {kind}."
        )
    check_whole(place, weight_problems(model, tensors), f"it is not a whole {kind}")
    model.config.encoder_key = config.get("encoder_key")
    return model.take_weights(
        {name: value.to(dtype or value.dtype) for name, value in tensors.items()}
    )


def _vjepa2(place, tensors, config):
    """A `VJEPA2` without weights, and what its configuration must say: {field: value}."""
    from transformers import VJEPA2Config

    facts = sizes(tensors, config) | FIXED | dict.fromkeys(SWITCHES, False)
    side = 384 if place.stem.endswith("384") else 256  # vitg-384.pt
    named = {"crop_size": side} | config
    for part, published in ("", HEADS), ("pred_", PREDICTOR_HEADS):
        field, width = f"{part}num_attention_heads", facts[f"{part}hidden_size"]
        heads = named.setdefault(field, published.get(width))
        if not is_whole(heads, 1) or width % (2 * heads):
            raise UserError(
                f"{place} does not tell how many heads share {width} channels ({field} is "
                f"{heads!r}): give config={{{field!r}: …}}, or put a config.json beside it."
            )
    with _reading_configuration(place):
        return VJEPA2(VJEPA2Config.from_dict(named | facts)), facts


def _vjepa2_1(place, tensors, config):
    """A `VJEPA21` without weights, and what its configuration must say: {field: value}."""
    facts = sizes(tensors, config) | FIXED | dict.fromkeys(SWITCHES, True)
    facts["pred_levels"], facts["pred_out_size"] = levels_predicted(tensors, facts)
    named = facts | {"crop_size": config.get("crop_size", 384), "model_type": "vjepa2_1"}
    with _reading_configuration(place):
        built = Config(**{field.name: named[field.name] for field in fields(Config)})
        facts |= dict(
            num_attention_heads=built.num_attention_heads,
            pred_num_attention_heads=built.pred_num_attention_heads,
            layer_norm_eps=built.layer_norm_eps,
            hidden_act=built.hidden_act,
            qkv_bias=built.qkv_bias,
            hierarchical_layers=[number - 1 for number in built.levels],
        )
        return VJEPA21(built), facts


def _classifier(place, tensors, config, dtype):
    """A `VJEPA2ForVideoClassification`."""
    from transformers import AutoModelForVideoClassification, VJEPA2Config

    with _reading_configuration(place):
        built = VJEPA2Config.from_dict(config)
    with torch.device("meta"):
        model = AutoModelForVideoClassification.from_config(
            built, attn_implementation=attention.register()
        )
    encoder = {name: tensors.pop(name) for name in list(tensors) if name.startswith("vjepa2.")}
    encoder = {name.removeprefix("vjepa2."): value for name, value in encoder.items()}
    model.vjepa2 = _vjepa(place, encoder, config, dtype)
    head = nn.ModuleDict({"pooler": model.pooler, "classifier": model.classifier})
    problems, reason = weight_problems(head, tensors), f"it is not a whole {HEAD}"
    wrong = {name.split(".")[0] for names in problems.values() for name in names}
    if wrong == {"classifier"}:
        reason = f"its classifier does not fit the {built.num_labels} classes of config.json"
    if wrong == {"pooler"}:
        reason = (
            f"its pooler does not fit config.json, which has {built.num_pooler_layers} blocks of "
            f"self-attention and {built.hidden_size} channels"
        )
    check_whole(place, problems, reason)
    head.load_state_dict(tensors, assign=True)
    return model


def _image_model(place, config, dtype):
    """A model of images, through transformers, which knows older names of its weights."""
    from transformers import AutoConfig, AutoModel

    with _reading_configuration(place):
        built = AutoConfig.for_model(**config)
    if built.num_channels != 3:
        raise UserError(f"{place} takes pictures of {built.num_channels} channels, not of 3.")
    model, report = AutoModel.from_pretrained(
        place,
        config=built,
        dtype=dtype,
        use_safetensors=True,
        local_files_only=True,
        attn_implementation=attention.register(),
        ignore_mismatched_sizes=True,  # they are reported, and refused here
        output_loading_info=True,
    )
    problems = {
        # a name, or one with two shapes
        problem: [name if isinstance(name, str) else name[0] for name in report[f"{problem}_keys"]]
        for problem in ("missing", "unexpected", "mismatched")
    }
    check_whole(place, problems, f"it is not a whole {type(model).__name__}")
    return model


@contextmanager
def _reading_configuration(place):
    """What is wrong with a configuration, in a sentence."""
    try:
        yield
    except (StrictDataclassError, TypeError, ValueError) as error:
        reason = str(error).replace("\n", " ")
        raise unreadable(place, f"its configuration is damaged ({reason})") from None
