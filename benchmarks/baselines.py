"""What any claim about an encoder must beat, and the positions of stock transformers."""

from vjepa_utils.encoder import Encoder
from vjepa_utils.model.positions import grid_positions
from vjepa_utils.model.vjepa2 import encode_layers
from vjepa_utils.probing.controls import PatchColours as PatchColours
from vjepa_utils.probing.controls import random_weights as random_weights


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
