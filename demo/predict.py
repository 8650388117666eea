"""Train the demo encoder's predictor: the last stage of the recipe.

    python -m demo.predict --start runs/correspond/model --out runs/predict       # again: resumes
    python -m demo.predict --start runs/correspond/model --out runs/predict --export demo/vjepa2-demo

The encoder's last blocks, which serve the cross-entropy of the stage before rather than the features, are left off. Then
V-JEPA 2's objective with the encoder held still: from what it makes of the visible tokens alone, the predictor says
what it makes of the whole clip at the hidden tokens; L1 on layer-normalised features (Assran et al. 2025). To the two
masks of pretraining come those that `vjepa_utils.recovery.masks` has besides: random tokens and places, a centred block, a
moving window, the future.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from demo.training import PATCH, Clips, Stage, normalised, train
from vjepa_utils.encoders.checkpoints import load_model
from vjepa_utils.encoders.vjepa2 import encode_tokens, predict_tokens
from vjepa_utils.recovery import masks

SHAPES = [(8, 128, 128), (8, 192, 192), (16, 128, 128), (8, 160, 288), (8, 256, 144), (4, 256, 256), (16, 160, 160), (2, 256, 256)]
BLOCKS = 9  # that are kept: later ones know less of what things are and more of where
TOKENS = 2048  # per step
MASKS = 2  # for each batch of clips: the whole clips are encoded once


class Prediction(Stage):
    rate = 1e-3

    def build(self, start):
        self.model = load_model(Path(start), torch.float32).to(self.device)
        encoder = self.model.encoder
        self.model.config.num_hidden_layers = min(BLOCKS, len(encoder.layer))
        encoder.layer = encoder.layer[:BLOCKS]
        nn.init.ones_(encoder.layernorm.weight)  # it was trained for the block that is now left off
        nn.init.zeros_(encoder.layernorm.bias)
        self.model.predictor.requires_grad_(True)

    def update(self, supply):
        """One step; returns the losses."""
        frames, height, width = SHAPES[self.below(len(SHAPES))]
        grid = frames // 2, height // PATCH, width // PATCH
        tokens = grid[0] * grid[1] * grid[2]
        pixels = normalised(supply.draw(max(1, TOKENS // tokens), frames, height, width))
        loss = 0
        with self.autocast():
            with torch.no_grad():
                target = encode_tokens(self.model, pixels).float()
                target = F.layer_norm(target, target.shape[-1:])  # (batch, tokens, channels)
            for _ in range(MASKS):
                mask = torch.from_numpy(self.mask(grid)).flatten().to(self.device)  # (tokens,)
                visible, hidden = (torch.nonzero(m).T for m in (~mask, mask))  # (1, n)
                with torch.no_grad():
                    context = encode_tokens(self.model, pixels, visible)
                predicted = predict_tokens(self.model, context, visible, hidden, grid)
                loss = loss + F.l1_loss(predicted.float(), target[:, mask]) / MASKS
        alike = F.cosine_similarity(predicted.float(), target[:, mask], dim=-1).mean()
        self.descend(loss)
        return {"loss": loss.item(), "cosine": alike.item()}

    def mask(self, grid):
        """Half of the masks are those of pretraining."""
        kind, seed = self.below(12), self.below(2**31)
        share = 0.15 + 0.75 * torch.rand((), generator=self.generator).item()
        if kind < 6:
            return masks.multiblock(grid, ("short", "long")[kind % 2], seed)
        if kind < 8 and grid[0] > 1:
            return masks.future(grid, self.below(grid[0] - 1))
        if kind == 8:
            return masks.window(grid, min(share, 0.6))
        return (masks.tokens if kind == 9 else masks.tubes)(grid, share, seed) if kind < 11 else masks.block(grid, share)


if __name__ == "__main__":
    train(Prediction, Clips, "training the predictor", steps=1400)
