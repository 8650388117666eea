"""Put a real image encoder into V-JEPA 2's architecture: the start of the demo encoder.

    python -m demo.recipe.inflate --teacher facebook/dinov2-small --out runs/inflated

The blocks of DINOv2 are nearly those of V-JEPA 2. Layer scales are multiplied into the projections
after attention and MLP; patch kernels are resized by the pseudo-inverse of the bicubic resize of a
patch (Beyer et al. 2023, FlexiViT), halved and repeated for the two frames of a tubelet; the mean
of the position embeddings goes into the patch bias; the class token is left off, and the weights of
the final norm, which was trained for the last block. Positions are V-JEPA 2's rotary ones from then
on.
"""

import argparse

import torch
import torch.nn.functional as F
from transformers import VJEPA2Config, VJEPA2Model

import vjepa_utils as vj

PATCH, TUBELET = 16, 2
BLOCKS = 8  # of the teacher that are taken
PREDICTOR = dict(hidden_size=192, num_attention_heads=3, num_hidden_layers=4, num_mask_tokens=1)
NAMES = {  # V-JEPA 2's name of a part of a block: DINOv2's
    "norm1": "norm1",
    "norm2": "norm2",
    "attention.query": "attention.q_proj",
    "attention.key": "attention.k_proj",
    "attention.value": "attention.v_proj",
    "attention.proj": "attention.o_proj",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
SCALES = {"attention.proj": "layer_scale1.lambda1", "mlp.fc2": "layer_scale2.lambda1"}


def resized_kernels(kernels, side):
    """Patch kernels for patches of another size.

    Args:
        kernels: (channels, 3, patch, patch).  side: of the new patch, pixels.
    Returns:
        (channels, 3, side, side): a bicubically enlarged patch gives what the patch itself gave.
    """
    patch = kernels.shape[-1]
    pixels = torch.eye(patch**2).view(-1, 1, patch, patch)
    enlarge = F.interpolate(pixels, (side, side), mode="bicubic", align_corners=False)
    inverse = torch.linalg.pinv(enlarge.flatten(1).double())  # (side², patch²)
    return (kernels.flatten(2).double() @ inverse.T).float().unflatten(-1, (side, side))


def inflated_weights(teacher, blocks=BLOCKS):
    """Weights of a teacher, as a transformers `Dinov2Model` has them, under V-JEPA 2's names.

    Args:
        teacher: {name: tensor}.  blocks: how many of them.
    Returns:
        {name: tensor} of the encoder of a `VJEPA2Model`.
    """
    bias = teacher["embeddings.patch_embeddings.projection.bias"]
    bias = bias + teacher["embeddings.position_embeddings"][0, 1:].mean(0)
    kernels = resized_kernels(teacher["embeddings.patch_embeddings.projection.weight"], PATCH)
    weights = {
        "embeddings.patch_embeddings.proj.weight": torch.stack(TUBELET * [kernels / TUBELET], 2),
        "embeddings.patch_embeddings.proj.bias": bias,
    }
    for number in range(blocks):
        block = f"layer.{number}."
        for ours, theirs in NAMES.items():
            for kind in ("weight", "bias"):
                value = teacher[f"encoder.{block}{theirs}.{kind}"]
                if ours in SCALES:
                    scale = teacher[f"encoder.{block}{SCALES[ours]}"]
                    value = value * scale.view(
                        -1, *[1] * (value.ndim - 1)
                    )  # of each output channel
                weights[f"{block}{ours}.{kind}"] = value
    weights |= {"layernorm.weight": torch.ones_like(bias), "layernorm.bias": torch.zeros_like(bias)}
    return {f"encoder.{name}": value.clone() for name, value in weights.items()}


def inflated(teacher, blocks=BLOCKS):
    """A transformers `VJEPA2Model` with the weights of a teacher, an `ImageEncoder` of DINOv2's
    form, and a predictor of random weights.
    """
    theirs = teacher.model.config
    if theirs.model_type not in ("dinov2", "dinov2_with_registers") or theirs.use_swiglu_ffn:
        raise ValueError(f"{teacher.name} is no ViT of DINOv2's form: take a DINOv2 up to large.")
    config = VJEPA2Config(
        crop_size=256,
        frames_per_clip=8,
        patch_size=PATCH,
        tubelet_size=TUBELET,
        num_hidden_layers=blocks,
        hidden_size=theirs.hidden_size,
        num_attention_heads=theirs.num_attention_heads,
        mlp_ratio=theirs.mlp_ratio,
        layer_norm_eps=theirs.layer_norm_eps,
        pred_zero_init_mask_tokens=True,
        **{f"pred_{name}": value for name, value in PREDICTOR.items()},
    )
    model = VJEPA2Model(config)
    weights = {name: value.float().cpu() for name, value in teacher.model.state_dict().items()}
    model.load_state_dict(model.state_dict() | inflated_weights(weights, blocks))
    return model


def main():
    parser = argparse.ArgumentParser(description="put an image encoder into V-JEPA 2's form")
    parser.add_argument("--teacher", required=True, help="of DINOv2's form: a name or a folder")
    parser.add_argument("--out", required=True, help="folder of the model")
    parser.add_argument("--blocks", type=int, default=BLOCKS, help="default: %(default)s")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    try:
        teacher = vj.load_encoder(arguments.teacher, "cpu", torch.float32)
        inflated(teacher, arguments.blocks).save_pretrained(arguments.out)
    except ValueError as error:
        parser.exit(1, f"error: {error}\n")


if __name__ == "__main__":
    main()
