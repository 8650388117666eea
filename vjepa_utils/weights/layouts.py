"""The layouts in which V-JEPA 2 and 2.1 are published, told apart by the names of their weights:
upstream's (facebookresearch/vjepa2 at 204698b), transformers', and of V-JEPA 2.1 the copies in
`docs/checkpoints.md`. All get the names of `model/`, transformers' where it has them.
"""

import math
import re

import torch

from vjepa_utils.weights.folder import unreadable

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
    (r"^predictor\.((predictor_)?proj_context|context_proj)\.", "predictor.visible_proj."),
    (r"^(encoder|predictor)\.(embeddings\.)?img_mod_embed$", r"\1.embeddings.image_modality"),
    (r"^(encoder|predictor)\.(embeddings\.)?video_mod_embed$", r"\1.embeddings.video_modality"),
    (r"(\.\d+)\.attn\.", r"\1.attention."),
]
# Positions by embedding, which upstream's files still hold although the model rotates.
UNUSED = "encoder.pos_embed", "predictor.predictor_pos_embed"
MASK_TOKENS = "predictor.embeddings.mask_tokens"
EMBEDDING = "predictor.embeddings.predictor_embeddings"


def renamed(name, table):
    """A name after the replacements of a table, [(regular expression, replacement)]."""
    for theirs, ours in table:
        name = re.sub(theirs, ours, name)
    return name


def is_2_1(weights):
    """Whether weights under the names used here are of V-JEPA 2.1."""
    return "encoder.embeddings.image_modality" in weights


def standard(weights, place):
    """Weights of any layout, {name: tensor}, under the names and in the shapes used here; names of
    an encoder alone may lack "encoder.".
    """
    tensors, bare = {}, not any(n.startswith(("encoder.", "predictor.")) for n in weights)
    for given, value in weights.items():
        name = renamed(f"encoder.{given}" if bare else given, NAMES)
        if name in UNUSED:
            continue
        if not torch.is_tensor(value) or not value.is_floating_point():
            reason = f"{given} is no tensor of floating point, as of a quantised copy"
            raise unreadable(place, reason)
        pieces = _pieces(name, value)
        if pieces.keys() & tensors.keys():
            raise unreadable(place, f"it holds {given} twice")
        tensors |= pieces
    tokens = [tensors.get(f"{MASK_TOKENS}.{i}") for i in range(len(tensors) + 1)]
    tokens = tokens[: tokens.index(None)]  # that stand apart, (1, 1, channels) each
    if tokens and len({token.shape for token in tokens}) == 1:
        tensors[MASK_TOKENS] = torch.stack(tokens)
        for i in range(len(tokens)):
            del tensors[f"{MASK_TOKENS}.{i}"]
    # Transformers' pull request 45497 has the last norm alone. The others were never trained in the
    # distilled models, which are all that it is known for.
    if "encoder.norms.3.weight" in tensors and not any(".norms.0." in name for name in tensors):
        last = tensors["encoder.norms.3.weight"]
        for norm in ("encoder.norms.0", "encoder.norms.1", "encoder.norms.2"):
            tensors[f"{norm}.weight"] = torch.ones_like(last)
            tensors[f"{norm}.bias"] = torch.zeros_like(last)
    return tensors


def _pieces(name, value):
    """{name here: tensor}, three of them where query, key and value come in one."""
    if name.endswith("_modality"):
        return {name: value.flatten()}
    if ".attention.qkv." in name and value.ndim and len(value) % 3 == 0:
        parts = zip(("query", "key", "value"), value.chunk(3), strict=True)
        return {name.replace("qkv", part): rows for part, rows in parts}
    if value.ndim == 5 and value.shape[-1] == 3:  # channels last, as MLX has them
        return {name: value.permute(0, 4, 1, 2, 3).contiguous()}
    return {name: value}


def sizes(weights, config):
    """Sizes of the model, read off the shapes of standard weights, under the names in transformers'
    configurations and `vjepa2_1.Config`; where one is missing the configuration's, or ViT-L's.
    """

    def side(name, axis, default):
        shape = weights[name].shape if name in weights else ()
        return shape[axis] if axis < len(shape) else default

    known = {"patch_size": side("encoder.embeddings.patch_embeddings.proj.weight", 3, 16)}
    for part, prefix, width, depth in ("encoder", "", 1024, 24), ("predictor", "pred_", 384, 12):
        width = side(f"{part}.layer.0.norm1.weight", 0, config.get(f"{prefix}hidden_size", width))
        inner = int(width * config.get(f"{prefix}mlp_ratio", 4))
        inner = side(f"{part}.layer.0.mlp.fc1.weight", 0, inner)
        blocks = {name.split(".")[2] for name in weights if name.startswith(f"{part}.layer.")}
        depth, ratio = config.get(f"{prefix}num_hidden_layers", depth), inner / width
        if int(width * ratio) < inner:  # so does transformers find it, and cuts off the fraction
            ratio = math.nextafter(ratio, math.inf)
        sizes_of_part = dict(hidden_size=width, num_hidden_layers=len(blocks) or depth)
        sizes_of_part |= dict(intermediate_size=inner, mlp_ratio=ratio)
        known |= {f"{prefix}{name}": value for name, value in sizes_of_part.items()}
    known["pred_num_mask_tokens"] = side(MASK_TOKENS, 0, config.get("pred_num_mask_tokens", 10))
    levels = 4 if f"{EMBEDDING}.0.weight" in weights else 1  # a small MLP, or linear
    out = side("predictor.proj.weight", 0, levels * known["hidden_size"]) // levels
    return known | {"pred_levels": levels, "pred_out_size": out}
