"""Image encoders: DINOv2 and DINOv3."""

import torch

from vjepa_utils.checks import UserError
from vjepa_utils.encoder import Encoder


class ImageEncoder(Encoder):
    """DINOv2 or DINOv3: frames are encoded independently. Class and register tokens are dropped.

    `encode` takes context "frame" (the default), one step a frame, or "pair", the mean of the
    features of two frames. transformers interpolates DINOv2's position embeddings to the true grid,
    and gives DINOv3's rotary ones on it.
    """

    contexts = {None: 1, "frame": 1, "pair": 2}

    def _context_length(self, context, frames):
        if isinstance(context, (str, type(None))) and context in self.contexts:
            return self.contexts[context]
        needed = 'context must be "frame" or "pair", the mean of two frames'
        raise UserError(
            f"{self.name} is an image encoder and encodes frames independently: {needed}, not "
            f"{context!r}."
        )

    def _tokens(self, pixels, layer, square):
        first, second = pixels.unbind(1)
        x = self._patches(first, layer)
        return x if torch.equal(first, second) else (x + self._patches(second, layer)) / 2

    def _patches(self, pixels, layer):
        """(batch, 3, height, width) to (batch, patches, channels)."""
        out = self.model(pixels.to(self.dtype), output_hidden_states=layer is not None)
        # (batch, 1 + registers + patches, channels)
        x = out.last_hidden_state if layer is None else out.hidden_states[layer]
        return x[:, -(pixels.shape[2] // self.patch_size) * (pixels.shape[3] // self.patch_size) :]
