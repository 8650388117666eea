"""Random checkpoints of V-JEPA 2.1, laid out as the released .pt files: training state and all."""

import math

import torch


def shapes(width, depth, hidden, narrow, pred_depth, levels, out, mask_tokens=8):
    """{name: shape} of encoder and of predictor, as facebookresearch/vjepa2 `app/vjepa_2_1` has
    them.
    """
    encoder = {
        "img_mod_embed": (1, 1, width),
        "video_mod_embed": (1, 1, width),
        "patch_embed.proj.weight": (width, 3, 2, 16, 16),
        "patch_embed.proj.bias": (width,),
        "patch_embed_img.proj.weight": (width, 3, 1, 16, 16),
        "patch_embed_img.proj.bias": (width,),
    }
    for level in range(4):
        encoder |= {f"norms_block.{level}.{of}": (width,) for of in ("weight", "bias")}
    predictor = {"img_mod_embed": (1, 1, narrow), "video_mod_embed": (1, 1, narrow)}
    predictor |= {f"mask_tokens.{i}": (1, 1, narrow) for i in range(mask_tokens)}
    if levels == 1:
        embedding = {"predictor_embed": (narrow, width)}
    else:
        embedding = {
            "predictor_embed.0": (width, levels * width),
            "predictor_embed.2": (narrow, width),
        }
    embedding |= {
        name: (levels * out, narrow) for name in ("predictor_proj", "predictor_proj_context")
    }
    for name, shape in embedding.items():
        predictor |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    predictor |= {f"predictor_norm.{of}": (narrow,) for of in ("weight", "bias")}
    for part, stem, count, size, inner in (
        (encoder, "blocks", depth, width, hidden),
        (predictor, "predictor_blocks", pred_depth, narrow, 4 * narrow),
    ):
        block = {"attn.qkv": (3 * size, size), "attn.proj": (size, size)}
        block |= {"mlp.fc1": (inner, size), "mlp.fc2": (size, inner)}
        block |= {"norm1": (size,), "norm2": (size,)}
        for i in range(count):
            for name, shape in block.items():
                part[f"{stem}.{i}.{name}.weight"] = shape
                part[f"{stem}.{i}.{name}.bias"] = shape[:1]
    return encoder, predictor


def state(encoder, predictor, key, random=True):
    """What torch.save writes of a training run, in float32.

    key: of the encoder to use.  random: False for zeros, which are faster to make.
    """
    generator = torch.Generator().manual_seed(0)

    def tensor(name, shape):
        if not random:
            return torch.zeros(shape)
        if "norm" in name:
            return torch.full(shape, 1.0 if "weight" in name else 0.0)
        # queries and keys of unit variance, so that attention is not uniform
        fan_in = math.prod(shape[1:]) if name.endswith(".weight") else 25
        return torch.randn(shape, generator=generator) / fan_in**0.5

    def filled(part):
        return {f"module.backbone.{name}": tensor(name, shape) for name, shape in part.items()}

    parts = {"encoder": filled(encoder), "predictor": filled(predictor), key: filled(encoder)}
    trained = [*parts["encoder"].values(), *parts["predictor"].values()]
    moments = {
        i: {
            "step": torch.tensor(1.0),
            "exp_avg": torch.zeros_like(value),
            "exp_avg_sq": torch.zeros_like(value),
        }
        for i, value in enumerate(trained)
    }
    groups = [{"lr": 1e-4, "betas": (0.9, 0.999), "params": list(moments)}]
    return parts | {
        "opt": {"state": moments, "param_groups": groups},
        "scaler": {"scale": 65536.0, "growth_factor": 2.0, "_growth_tracker": 0},
        "epoch": 10,
        "loss": 0.5,
        "batch_size": 24,
        "world_size": 128,
        "lr": 1e-4,
    }


UPSTREAM = [  # of transformers, and of the training code
    ("encoder.embeddings.patch_embeddings.", "encoder.patch_embed."),
    ("encoder.layer.", "encoder.blocks."),
    ("encoder.layernorm.", "encoder.norm."),
    ("predictor.embeddings.predictor_embeddings.", "predictor.predictor_embed."),
    ("predictor.layer.", "predictor.predictor_blocks."),
    ("predictor.layernorm.", "predictor.predictor_norm."),
    ("predictor.proj.", "predictor.predictor_proj."),
    (".attention.", ".attn."),
]


def upstream(weights):
    """Weights of a transformers `VJEPA2Model` as the training code of V-JEPA 2 saves them: the
    encoder twice, query, key and value in one matrix, mask tokens apart, positions left over.
    """
    parts = {"encoder": {}, "predictor": {}, "target_encoder": {}}
    for name, value in weights.items():
        part = name.split(".")[0]
        if name.endswith("mask_tokens"):
            parts[part] |= {f"module.backbone.mask_tokens.{i}": v for i, v in enumerate(value)}
            continue
        if ".key." in name or ".value." in name:
            continue
        if ".query." in name:
            others = [weights[name.replace("query", each)] for each in ("key", "value")]
            name, value = name.replace("query", "qkv"), torch.cat([value, *others])
        for theirs, ours in UPSTREAM:
            name = name.replace(theirs, ours)
        parts[part]["module.backbone." + name.removeprefix(f"{part}.")] = value.clone()
    parts["encoder"]["module.backbone.pos_embed"] = torch.zeros(1, 64, 96)
    parts["target_encoder"] = {name: value.clone() for name, value in parts["encoder"].items()}
    return parts | {"opt": {}, "scaler": None, "epoch": 3, "loss": 0.5, "lr": 5e-4}
