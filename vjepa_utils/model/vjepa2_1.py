"""V-JEPA 2.1: what it shares with V-JEPA 2, and where it differs (Mur-Labadia et al. 2026,
arXiv 2603.14482; facebookresearch/vjepa2 at 204698b, `app/vjepa_2_1`).

All else is V-JEPA 2's, in `vjepa2`. The encoder differs in five points, each a line or a method:

1. the frequencies of the rotation are interleaved: `interleaved`;
2. rows and columns are stretched to 0…15 on any grid: `positions`;
3. a single frame has a patch embedding of its own, and an embedding of the modality, image or
   video, is added to every token: `patch_embedding`;
4. four norms after four blocks, the levels, instead of one final norm: `outputs`;
5. query, key and value come in one matrix: `weights.layouts` splits it.

The predictor adds modality embeddings too, and has a second output, for the visible tokens. In
ViT-g and ViT-G it reads and predicts all four levels; in the distilled ViT-B and ViT-L it predicts
the features of their teacher, ViT-G.
"""

from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import nn

from vjepa_utils.checks import UserError
from vjepa_utils.model.positions import grid_positions
from vjepa_utils.model.vjepa2 import VJEPA2

LEVELS = ("level 1", "level 2", "level 3", "level 4")  # from early to late blocks


@dataclass
class Config:
    """Sizes of a V-JEPA 2.1, under transformers' names where it has them; kept as config.json.

    pred_levels: levels that the predictor reads and predicts, 4 or 1.
    pred_out_size: channels that it predicts of a level.
    """

    hidden_size: int
    num_hidden_layers: int
    intermediate_size: int
    pred_hidden_size: int
    pred_num_hidden_layers: int
    pred_intermediate_size: int
    pred_num_mask_tokens: int
    pred_levels: int
    pred_out_size: int
    patch_size: int = 16
    tubelet_size: int = 2
    crop_size: int = 384
    model_type: str = "vjepa2_1"

    # the same in every released file
    in_chans, hidden_act, qkv_bias, layer_norm_eps = 3, "gelu", True, 1e-6

    def __post_init__(self):
        for size, of in ((self.hidden_size, 64), (self.pred_hidden_size, 32)):
            if size % of:
                raise UserError(f"its {size} channels are no multiple of the head size, {of}")
        self.num_attention_heads = self.hidden_size // 64
        self.pred_num_attention_heads = self.pred_hidden_size // 32
        # 64/13 of 1664 is not a float
        self.mlp_ratio = Fraction(self.intermediate_size, self.hidden_size)
        self.pred_mlp_ratio = Fraction(self.pred_intermediate_size, self.pred_hidden_size)
        # the block that each level comes after: quarters of the depth, but for ViT-G
        depth = self.num_hidden_layers
        quarters = tuple(-(-depth * quarter // 4) for quarter in (1, 2, 3, 4))
        self.levels = (12, 24, 38, 48) if depth == 48 else quarters


def stretched_positions(grid, device=None, shift=(0, 0)) -> torch.Tensor:
    """`grid_positions` with rows and columns stretched to 0…15 on any grid, row · 15 / (rows − 1),
    a single one at 0 (`app/vjepa_2_1/models/utils/modules.py`, `interpolate_rope`).
    """
    last = torch.tensor([1, *(max(side - 1, 1) for side in grid[1:])], device=device)
    return grid_positions(grid, device, shift) * torch.tensor([1, 15, 15], device=device) / last


class VJEPA21(VJEPA2):
    """A `VJEPA2` whose layers also have names: each of `LEVELS`, and "levels" for all."""

    interleaved = True

    def __init__(self, config):
        super().__init__(config)
        width, narrow, levels = config.hidden_size, config.pred_hidden_size, config.pred_levels
        encoder, predictor = self.encoder, self.predictor
        tubelet = 1, config.patch_size, config.patch_size
        with torch.device("meta"):
            encoder.embeddings["image_patch_embeddings"] = nn.ModuleDict(
                {"proj": nn.Conv3d(config.in_chans, width, tubelet, tubelet)}
            )
            for part, size in ((encoder, width), (predictor, narrow)):
                part.embeddings.image_modality = nn.Parameter(torch.zeros(size))
                part.embeddings.video_modality = nn.Parameter(torch.zeros(size))
            del encoder.layernorm
            norms = (nn.LayerNorm(width, config.layer_norm_eps) for _ in LEVELS)
            encoder.norms = nn.ModuleList(norms)
            if levels > 1:
                predictor.embeddings["predictor_embeddings"] = nn.Sequential(
                    nn.Linear(levels * width, width), nn.GELU(), nn.Linear(width, narrow)
                )
            predictor.proj = nn.Linear(narrow, levels * config.pred_out_size)
            predictor.visible_proj = nn.Linear(narrow, levels * config.pred_out_size)

    @property
    def predictor_layer(self):
        return "levels" if self.config.pred_levels > 1 else None

    def patch_embedding(self, frames):
        embeddings = self.encoder.embeddings
        if frames == 1:
            proj, modality = embeddings.image_patch_embeddings.proj, embeddings.image_modality
        else:
            proj, modality = embeddings.patch_embeddings.proj, embeddings.video_modality
        return proj.weight, proj.bias + modality

    def positions(self, grid, device=None, shift=(0, 0)):
        return stretched_positions(grid, device, shift)

    def outputs(self, layer):
        levels = list(zip(self.config.levels, self.encoder.norms, strict=True))
        if layer == "levels":
            return levels
        if layer is None or layer in LEVELS:
            return [levels[-1 if layer is None else LEVELS.index(layer)]]
        return super().outputs(layer)
