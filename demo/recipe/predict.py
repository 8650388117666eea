"""Train the demo encoder's predictor on the frozen encoder: the last stage of the recipe.

    python -m demo.recipe.predict --start runs/copying --out runs/predict --targets runs/added \\
        --teacher facebook/dinov2-small --photos PHOTOS --clips CLIPS     # again: resumes
    python -m demo.recipe.predict --start runs/copying --out runs/predict \\
        --export vjepa_utils/shipped/vjepa2-demo

V-JEPA 2's objective: from the encoder's features of the visible tokens alone, the predictor
predicts its features of the whole clip at the hidden tokens; L1 on layer-normalised features
(Assran et al. 2025). Besides the two pretraining masks it is trained with the others of
`vjepa_utils.predict.masks`: random tokens and places, a centred block, a moving window, the
future. Most tokens of most clips are static, and for these copying the same place from another step
is hard to beat; so a hidden token weighs the more, the less similar its target is to the mean of
its place. Clips are rendered scenes, moving photographs with things that move over them
(`demo/recipe/lessons.py`), and film.
"""

from pathlib import Path

import torch
import torch.nn.functional as F

from demo.recipe.adapt import supply
from demo.recipe.targets import FOLDERS
from demo.recipe.training import PATCH, Stage, normalised, train
from vjepa_utils.model.vjepa2 import encode_tokens, predict_tokens
from vjepa_utils.predict import masks
from vjepa_utils.weights.models import load_model

SHAPES = [
    (8, 128, 128),
    (8, 192, 192),
    (16, 128, 128),
    (8, 160, 288),
    (8, 256, 144),
    (4, 256, 256),
    (16, 160, 160),
    (8, 160, 160),
]
KINDS = ["scenes", "scenes", "photos", "photos", "film"]
TOKENS = 1024  # per step
MASKS = 2  # for each batch of clips: the whole clips are encoded once
FITTED = 0.1  # rate of what was fitted before, as a multiple of the others'
CHANGE = 4.0  # extra weight of a token whose target is orthogonal to its place's mean


def changes(target, steps):
    """Weights (batch, tokens) of mean 1: how far a token is from the mean of its place over time.

    Args:
        target: (batch, tokens, channels), layer-normalised, of `steps` steps.
    Returns:
        1 + CHANGE × (1 - cosine with the mean over steps), divided by the mean.
    """
    x = target.unflatten(1, (steps, -1))  # (batch, steps, places, channels)
    weight = 1 + CHANGE * (1 - F.cosine_similarity(x, x.mean(1, keepdim=True), dim=-1)).flatten(1)
    return weight / weight.mean()


class Prediction(Stage):
    rate = 7e-4

    def build(self, start):
        self.model = load_model(Path(start), torch.float32).to(self.device)
        self.model.predictor.requires_grad_(True)

    def matrices(self):
        """Weight matrices of the predictor's blocks, but for those that say where to copy from."""
        apart = {id(p) for p in self.fitted()}
        blocks = self.model.predictor.layer.parameters()
        return [p for p in blocks if p.ndim == 2 and id(p) not in apart]

    def fitted(self):
        """Queries and keys of block 1: see `demo/recipe/copying.py`."""
        attention = self.model.predictor.layer[0].attention
        return [*attention.query.parameters(), *attention.key.parameters()]

    def scales(self):
        return dict.fromkeys(self.fitted(), FITTED)

    def draw(self, supply, frames, height, width):
        """Clips of one kind: (batch, frames, 3, height, width), 0 to 1."""
        batch = max(1, TOKENS // (frames // 2 * (height // PATCH) * (width // PATCH)))
        kind = KINDS[self.below(len(KINDS))]
        if kind == "scenes":
            return supply.draw(batch, frames, height, width)
        film = kind == "film" and bool(supply.films)
        return supply.draw_real(batch, frames // 2, height, width, "clip", film)[0].flatten(1, 2)

    def update(self, supply):
        """One step; returns the losses."""
        frames, height, width = SHAPES[self.below(len(SHAPES))]
        grid = frames // 2, height // PATCH, width // PATCH
        pixels = normalised(self.draw(supply, frames, height, width))
        loss = 0
        with self.autocast():
            with torch.no_grad():
                target = encode_tokens(self.model, pixels).float()
                target = F.layer_norm(target, target.shape[-1:])  # (batch, tokens, channels)
                weight = changes(target, grid[0])  # (batch, tokens)
            for _ in range(MASKS):
                mask = torch.from_numpy(self.mask(grid)).flatten().to(self.device)  # (tokens,)
                visible, hidden = (torch.nonzero(m).T for m in (~mask, mask))  # (1, n)
                with torch.no_grad():
                    context = encode_tokens(self.model, pixels, visible)
                predicted = predict_tokens(self.model, context, visible, hidden, grid)
                miss = (predicted.float() - target[:, mask]).abs().mean(-1)  # (batch, hidden)
                loss = loss + (weight[:, mask] * miss).mean() / MASKS
        similar = F.cosine_similarity(predicted.float(), target[:, mask], dim=-1).mean()
        self.descend(loss)
        return {"loss": loss.item(), "cosine": similar.item()}

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
        return (
            (masks.tokens if kind == 9 else masks.tubes)(grid, share, seed)
            if kind < 11
            else masks.block(grid, share)
        )


if __name__ == "__main__":
    train(Prediction, supply, "training the predictor", steps=2400, folders=FOLDERS)
