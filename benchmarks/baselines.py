"""What any claim about an encoder must beat: the same architecture with random weights, and the
colours of the patches.
"""

import torch
from transformers import AutoModel

from vjepa_utils.encoder import Encoder
from vjepa_utils.model.positions import grid_positions
from vjepa_utils.model.vjepa2 import VJEPA2, encode_layers


class PatchColours(Encoder):
    """An encoder whose features are pixels: the mean colours of `cells` × `cells` parts of a patch
    in each of its frames.
    """

    def __init__(self, encoder, cells=1):
        super().__init__(encoder.model, "patch colours", encoder.mean, encoder.std)
        self.cells, self.channels = cells, 3 * self.tubelet_size * cells**2

    def _tokens(self, pixels, shift=(0, 0), layers=(None,)):
        pooled = torch.nn.functional.avg_pool2d(
            pixels.flatten(0, 1), self.patch_size // self.cells
        ).unflatten(0, pixels.shape[:2])
        x = (
            pooled.unflatten(4, (-1, self.cells))
            .unflatten(3, (-1, self.cells))
            .unflatten(1, (-1, self.tubelet_size))
        )
        # (batch, tokens, channels)
        return [x.permute(0, 1, 4, 6, 2, 3, 5, 7).flatten(4).flatten(1, 3)]


class StockPositions(Encoder):
    """An encoder with the positions that transformers itself would give: numbered on the square
    grid of training, whatever the grid.
    """

    def __init__(self, encoder):
        super().__init__(encoder.model, f"{encoder.name}, stock", encoder.mean, encoder.std)

    def _tokens(self, pixels, shift=(0, 0), layers=(None,)):
        side, patches = self.training_size // self.patch_size, self.patch_size**2
        steps = pixels.shape[1] // self.tubelet_size
        tokens = steps * pixels.shape[3] * pixels.shape[4] // patches
        positions = grid_positions((tokens, side, side))[:tokens]
        return encode_layers(self.model, pixels, layers, positions=positions)


def random_weights(encoder, seed=0):
    """An encoder of the same architecture, initialised at random as transformers does, in
    float32.
    """
    torch.manual_seed(seed)
    model = AutoModel.from_config(encoder.model.config)
    if encoder.training_size:
        model = VJEPA2(model.config).take_weights(model.state_dict())
    model = model.eval().requires_grad_(False).to(encoder.device)
    return type(encoder)(model, f"{encoder.name}, random weights", encoder.mean, encoder.std)
