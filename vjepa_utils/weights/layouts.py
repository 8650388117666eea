"""The layouts in which V-JEPA 2 and 2.1 are published, told apart by the names of their weights.

Upstream's training checkpoints (facebookresearch/vjepa2 at 204698b), transformers' V-JEPA 2, and of
V-JEPA 2.1 the copies that others have put on the hub: `docs/checkpoints.md` lists them. Here they
all get the names of `model.vjepa2` and `model.vjepa2_1`, which are transformers' where it has them.
"""

import math
import re

import torch

from vjepa_utils.weights.check import unreadable

NAMES = [  # in a file, and here
    (r"^(encoder|predictor)\.(module\.)?(backbone\.)?", r"\1."),
    (r"^encoder\.patch_embed\.", "encoder.embeddings.patch_embeddings."),
    (r"^encoder\.patch_embed_img\.", "encoder.embeddings.image_patch_embeddings."),
    (r"\.patch_embeddings_img\.", ".image_patch_embeddings."),
    (r"^encoder\.blocks\.", "encoder.layer."),
    (r"^encoder\.norm\.", "encoder.layernorm."),
    (r"^encoder\.norms_block\.", "encoder.norms."),
    (r"^encoder\.distillation_norms\.0\.", "encoder.norms.3."),
    (r"^predictor\.(embeddings\.)?predictor_embed\.", "predictor.embeddings.predictor_embeddings."),
    (r"^predictor\.(embeddings\.)?mask_tokens", "predictor.embeddings.mask_tokens"),
    (r"^predictor\.predictor_blocks\.", "predictor.layer."),
    (r"^predictor\.predictor_norm\.", "predictor.layernorm."),
    (r"^predictor\.predictor_proj\.", "predictor.proj."),
    (
        r"^predictor\.(predictor_proj_context|proj_context|context_proj)\.",
        "predictor.visible_proj.",
    ),
    (r"^(encoder|predictor)\.(embeddings\.)?img_mod_embed$", r"\1.embeddings.image_modality"),
    (r"^(encoder|predictor)\.(embeddings\.)?video_mod_embed$", r"\1.embeddings.video_modality"),
    (r"(\.\d+)\.attn\.", r"\1.attention."),
]
# Positions by embedding, which upstream's files still hold although the model rotates.
UNUSED = "encoder.pos_embed", "predictor.predictor_pos_embed"
MASK_TOKENS = "predictor.embeddings.mask_tokens"


def standard(weights, place):
    """Weights of any layout, {name: tensor}, under the names and in the shapes used here.

    Args:
        weights: an encoder alone may lack "encoder." in front of its names.
        place: for the message of the UserError where two are the same weight, or one is not of
            floating point.
    """
    renamed, bare = {}, not any(n.startswith(("encoder.", "predictor.")) for n in weights)
    for given, value in weights.items():
        name = f"encoder.{given}" if bare else given
        for theirs, ours in NAMES:
            name = re.sub(theirs, ours, name)
        if name in UNUSED:
            continue
        if not torch.is_tensor(value) or not value.is_floating_point():
            raise unreadable(
                place, f"{given} is no tensor of floating point, as of a quantised copy"
            )
        for part, piece in _pieces(name, value):
            if part in renamed:
                raise unreadable(place, f"it holds {given} twice")
            renamed[part] = piece
    _stack_mask_tokens(renamed)
    if is_2_1(renamed) and "encoder.norms.3.weight" in renamed:
        _add_untrained_norms(renamed)
    return renamed


def is_2_1(weights):
    """Whether weights under the names used here are of V-JEPA 2.1."""
    return "encoder.embeddings.image_modality" in weights


def _pieces(name, value):
    """[(name here, tensor)], three of them where query, key and value come in one."""
    if name.endswith("_modality"):
        return [(name, value.flatten())]
    if ".attention.qkv." in name and value.ndim and len(value) % 3 == 0:
        parts = zip(("query", "key", "value"), value.chunk(3), strict=True)
        return [(name.replace("qkv", part), rows) for part, rows in parts]
    if value.ndim == 5 and value.shape[-1] == 3:  # channels last, as MLX has them
        return [(name, value.permute(0, 4, 1, 2, 3).contiguous())]
    return [(name, value)]


def _stack_mask_tokens(weights):
    """Put mask tokens that stand apart, (1, 1, channels) each, into one tensor (n, 1, 1, channels);
    leave them where they are not whole.
    """
    count = sum(name.startswith(f"{MASK_TOKENS}.") for name in weights)
    names = [f"{MASK_TOKENS}.{i}" for i in range(count)]
    if count and set(names) <= weights.keys() and len({weights[name].shape for name in names}) == 1:
        weights[MASK_TOKENS] = torch.stack([weights.pop(name) for name in names])


def _add_untrained_norms(weights):
    """The layout of transformers' pull request 45497 has the last norm alone. The others were never
    trained in the distilled models, which are all that it is known for: weight 1, bias 0.
    """
    if not any(name.startswith("encoder.norms.0.") for name in weights):
        last = weights["encoder.norms.3.weight"]
        for level in (0, 1, 2):
            weights[f"encoder.norms.{level}.weight"] = torch.ones_like(last)
            weights[f"encoder.norms.{level}.bias"] = torch.zeros_like(last)


def sizes(weights, config):
    """Sizes of the model under the names of transformers' `VJEPA2Config`, read off the shapes of
    standard weights; where one is missing the configuration's, or ViT-L's.
    """

    def side(field, default, name, axis=0):
        value = weights.get(name)
        if value is None or value.ndim <= axis:
            return config.get(field, default)
        return value.shape[axis]

    width = side("hidden_size", 1024, "encoder.layer.0.norm1.weight")
    narrow = side("pred_hidden_size", 384, "predictor.layer.0.norm1.weight")
    inner, pred_inner = (
        side("", int(size * config.get(field, 4)), f"{part}.layer.0.mlp.fc1.weight")
        for part, size, field in (
            ("encoder", width, "mlp_ratio"),
            ("predictor", narrow, "pred_mlp_ratio"),
        )
    )
    return dict(
        hidden_size=width,
        num_hidden_layers=_depth("encoder", weights) or config.get("num_hidden_layers", 24),
        intermediate_size=inner,
        mlp_ratio=_ratio(inner, width),
        pred_hidden_size=narrow,
        pred_num_hidden_layers=_depth("predictor", weights)
        or config.get("pred_num_hidden_layers", 12),
        pred_intermediate_size=pred_inner,
        pred_mlp_ratio=_ratio(pred_inner, narrow),
        pred_num_mask_tokens=side("pred_num_mask_tokens", 10, MASK_TOKENS),
        patch_size=side("patch_size", 16, "encoder.embeddings.patch_embeddings.proj.weight", 3),
    )


def _ratio(inner, width):
    """The float by which transformers, which cuts off the fraction, finds the inner width."""
    ratio = inner / width
    return ratio if int(width * ratio) == inner else math.nextafter(ratio, math.inf)


def levels_predicted(weights, sizes):
    """Levels that V-JEPA 2.1's predictor reads and predicts, 4 or 1, and channels of each."""
    embedding = "predictor.embeddings.predictor_embeddings"
    levels = 4 if f"{embedding}.0.weight" in weights else 1  # a small MLP, or linear
    proj = weights.get("predictor.proj.weight")
    out = sizes["hidden_size"] if proj is None or proj.ndim < 1 else len(proj) // levels
    return levels, out


def _depth(part, weights):
    numbers = (re.match(rf"{part}\.layer\.(\d+)\.", name) for name in weights)
    return max((int(number[1]) + 1 for number in numbers if number), default=0)
