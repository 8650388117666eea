"""Train the tracking head on the frozen demo encoder, from the renderer's true tracks.

    python -m demo.recipe.follow --start vjepa2-demo --out runs/follow       # again: resumes
    python -m demo.recipe.follow --start vjepa2-demo --out runs/follow \\
        --export vjepa_utils/shipped/track-head

Scenes are rendered and encoded once, and used many times, with different frames and points. Each
step takes 12 of a scene's 24 frames, in either direction, and 64 points picked in one of them, half
on what moves. The losses are those of Chrono (Kim et al. 2025): 0.05 × Huber (4 pixels of 256) on
visible points, and cross-entropies of "occluded" and of "more than 6 pixels wrong". The
cross-entropy of the cost volume over all cells is added: the gradient of the Huber loss does not
reach beyond the disc of the soft-argmax, and half an hour on a CPU is short.
"""

import torch
import torch.nn.functional as F
from tqdm import tqdm

from demo.recipe.training import Stage, train
from demo.render.scenes import (
    PHOTOS,
    Layer,
    composite,
    follow,
    photographs,
    random_scenes,
    textures,
)
from vjepa_utils.load import load_encoder
from vjepa_utils.tracking.head import TrackHead
from vjepa_utils.tracking.matching import TEMPERATURE, match, sample
from vjepa_utils.tracking.points import RASTER

SIDE, LENGTH = 256, 24  # pixels and frames of a scene
FRAMES, POINTS = 12, 64  # of a clip
TRACKED_AT = 384  # pixels, unless a size is given: finer cells are worth more than the same scale
SCENES, FRESH = 96, 8  # in the pool; one is replaced in every 8th call of `renew`
HUBER, CELLS = 0.05, 0.5  # weights of the losses
LAYER = None  # of the features


class EncodedScenes:
    """A pool of rendered scenes with the features of their frames, kept on the CPU."""

    def __init__(self, seed, device, scenes=SCENES, encoder="vjepa2-demo"):
        self.device, self.generator = device, torch.Generator().manual_seed(seed)
        self.encoder = load_encoder(encoder, device, torch.float32)
        self.bank = textures(600, torch.Generator().manual_seed(seed), photographs(tuple(PHOTOS)))
        self.pool = [
            self.render() for _ in tqdm(range(scenes), desc="rendering and encoding scenes")
        ]
        self.calls = 0

    def render(self):
        """Pixels uint8 (24, 3, 256, 256); features (24, rows, columns, channels); owner (24, 256,
        256); layers without pictures.
        """
        layers, light = random_scenes(1, LENGTH, SIDE, SIDE, self.generator, self.bank)
        pictures, owner = composite(layers, SIDE, SIDE, light)
        frames = (pictures[0] * 255).round().to(torch.uint8)
        features = self.encoder.encode(frames.permute(0, 2, 3, 1), "frame", SIDE, LAYER)
        return (
            frames,
            features.values.half(),
            owner[0],
            [Layer(None, layer.poses, layer.thing) for layer in layers],
        )

    def renew(self, textures_too):
        self.calls += 1
        if self.calls % FRESH == 0:
            self.pool[self.calls // FRESH % len(self.pool)] = self.render()

    def below(self, n):
        return int(torch.randint(n, (), generator=self.generator))

    def draw(self):
        """A clip: pixels (12, 3, 256, 256) 0 to 1, features (12, rows, columns, channels), the
        frame of the queries, and for 64 points their tracks (64, 12, 2) in pixels and where these
        are visible (64, 12)."""
        frames, values, owner, layers = self.pool[self.below(len(self.pool))]
        stride = 1 + self.below((LENGTH - 1) // (FRAMES - 1))
        chosen = torch.arange(FRAMES) * stride + self.below(LENGTH - stride * (FRAMES - 1))
        if self.below(2):
            chosen = chosen.flip(0)
        frame = self.below(FRAMES)
        # (256, 256)
        moves = torch.stack([layer.thing[0] for layer in layers])[owner[chosen[frame]].long()] > 0
        places = [torch.nonzero(moves), torch.nonzero(torch.ones_like(moves))]
        places = [
            p[torch.randint(len(p), (POINTS // 2,), generator=self.generator)]
            for p in places
            if len(p)
        ]
        starts = (
            torch.cat(places).flip(1)
            + torch.rand(POINTS // 2 * len(places), 2, generator=self.generator) * 0.98
            + 0.01
        )
        starts = torch.cat([torch.full((len(starts), 1), frame), starts], 1)[None]  # (1, points, 3)
        layers = [Layer(None, layer.poses[:, chosen], layer.thing) for layer in layers]
        tracks, visible, _ = follow(layers, owner[chosen][None], starts)
        pixels = frames[chosen].float() / 255
        # so that the stem does not depend on one lighting
        gain = 1 + 0.15 * torch.randn(1, 3, 1, 1, generator=self.generator)
        drawn = (pixels * gain).clamp(0, 1), values[chosen].float(), tracks[0], visible[0]
        pixels, values, tracks, visible = (part.to(self.device) for part in drawn)
        return pixels, values, frame, tracks, visible


class Following(Stage):
    rate = 1e-3

    def build(self, start):
        encoder = load_encoder(start, self.device, torch.float32)
        config = {
            "encoder": encoder.name,
            "fingerprint": encoder.fingerprint,
            "channels": encoder.channels,
            "layer": LAYER,
            "size": TRACKED_AT,
        }
        self.head = TrackHead(config).to(self.device)

    def update(self, supply):
        """One step; returns the losses."""
        pixels, values, frame, tracks, visible = supply.draw()
        maps = self.head(values, pixels)
        rows, columns = maps.shape[1:3]
        cells = torch.tensor([columns, rows], device=maps.device)
        others = torch.arange(FRAMES)[torch.arange(FRAMES) != frame]
        # (points, 11, 2) in cells, (points, 11)
        truth, visible = (
            tracks[:, others] / SIDE * cells,
            visible[:, others],
        )
        found, evidence, cosine = match(
            maps[frame], tracks[:, frame] / SIDE * cells, maps[others], RASTER / cells
        )
        error = (found - truth) * RASTER / cells
        far = error.detach().norm(dim=-1) > 6
        # (visible, rows, columns)
        likely = (TEMPERATURE * cosine).log_softmax(-1).unflatten(-1, (rows, columns))[visible]
        cell = -sample(likely.unsqueeze(-1), truth[visible]).mean()
        place = F.huber_loss(error[visible], torch.zeros_like(error[visible]), delta=4)
        occluded, wrong = self.head.doubts(evidence).unbind(-1)
        judged = F.binary_cross_entropy_with_logits(occluded, (~visible).float())
        judged = judged + F.binary_cross_entropy_with_logits(wrong[visible], far[visible].float())
        self.descend(HUBER * place + CELLS * cell + judged)
        near = 1 - far[visible].float().mean()
        return {
            "cell": cell.item(),
            "place": place.item(),
            "judged": judged.item(),
            "within 6": near.item(),
        }

    def export(self, folder):
        self.head.save(folder)


if __name__ == "__main__":
    train(Following, EncodedScenes, "learning to follow points", steps=1400)
