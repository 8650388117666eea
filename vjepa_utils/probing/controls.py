"""What any claim about an encoder must beat: its architecture with random weights, raw pixels."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import nn

from vjepa_utils.encoder import Encoder


class PatchColours(Encoder):
    """An encoder whose features are pixels: the mean colours of `cells` × `cells` parts of a patch
    in each of the two frames of a step; `cells` divides the patch.
    """

    def __init__(self, encoder, cells=1):
        super().__init__(encoder.model, "patch colours", encoder.mean, encoder.std)
        self.contexts, self.tubelet_size, self.cells = encoder.contexts, 2, cells
        self.channels = 3 * 2 * cells**2

    def _tokens(self, pixels, shift=(0, 0), layers=(None,)):
        pooled = F.avg_pool2d(pixels.flatten(0, 1), self.patch_size // self.cells)
        # (n, steps, 2, channels, rows, columns)
        x = F.pixel_unshuffle(pooled, self.cells).unflatten(0, (len(pixels), -1, 2))
        return [x.permute(0, 1, 4, 5, 2, 3).flatten(4).flatten(1, 3)]  # (n, tokens, channels)


def random_weights(encoder: Encoder, seed: int = 0) -> Encoder:
    """An encoder of the same architecture, in float32, initialised as transformers does."""
    model, random = copy.deepcopy(encoder.model).float(), torch.Generator().manual_seed(seed)
    for name, weights in model.requires_grad_(False).named_parameters():
        if weights.ndim > 1 or "modality" in name:
            drawn = torch.empty(weights.shape)
            weights.copy_(nn.init.trunc_normal_(drawn, std=0.02, generator=random))
        else:
            weights.fill_("bias" not in name)
    return type(encoder)(model, f"{encoder.name}, random weights", encoder.mean, encoder.std)
