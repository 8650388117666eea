"""What any claim about an encoder must beat: the same architecture with random weights, and the
colours of the patches.
"""

import torch
from transformers import AutoModel

from vjepa_utils.encoder import Encoder
from vjepa_utils.model.vjepa2 import VJEPA2


class PatchColours(Encoder):
    """An encoder whose features are pixels: the mean colours of `cells` × `cells` parts of a patch
    in each of its frames.
    """

    def __init__(self, encoder, cells=1):
        super().__init__(encoder.model, "patch colours", encoder.mean, encoder.std)
        self.cells, self.channels = cells, 3 * self.tubelet_size * cells**2

    def _tokens(self, pixels, layer, square):
        pooled = torch.nn.functional.avg_pool2d(
            pixels.flatten(0, 1), self.patch_size // self.cells
        ).unflatten(0, pixels.shape[:2])
        x = (
            pooled.unflatten(4, (-1, self.cells))
            .unflatten(3, (-1, self.cells))
            .unflatten(1, (-1, self.tubelet_size))
        )
        # (batch, tokens, channels)
        return x.permute(0, 1, 4, 6, 2, 3, 5, 7).flatten(4).flatten(1, 3)


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
