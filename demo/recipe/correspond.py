"""Teach the demo encoder which patches show the same point, from the renderer's ground truth: the
second stage of the recipe.

    python -m demo.recipe.correspond --start runs/pretrain/model --out runs/correspond  # resumes
    python -m demo.recipe.correspond --start runs/pretrain/model --out runs/correspond \\
        --export runs/correspond/model

A renderer knows where every point of a scene goes, which supervises correspondences: the feature of
a patch must find the patch that shows the same point in another frame among all patches of that
frame (cross-entropy over cosines, van den Oord et al. 2018). Frames may be cropped differently, so
that position does not help. A linear readout of each patch's motion keeps motion in the features as
well. Clips are encoded as single frames, as pairs and jointly, and, as the predictor will need it,
with blocks hidden.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from demo.recipe.training import PATCH, Stage, normalised, train
from demo.recipe.truth import TrueClips, matches
from vjepa_utils.model.vjepa2 import encode_tokens
from vjepa_utils.weights.models import load_model

MODES = ["frame", "frame", "pair", "pair", "clip"]  # each entry equally likely
SIZES = [(128, 128), (192, 192), (256, 256), (256, 144), (160, 288), (320, 320)]
JOINT_SIZES = [(128, 128), (192, 192), (128, 224), (96, 96)]
TOKENS = 4096  # per step
TEMPERATURE = 0.07  # of the cross-entropy over cosines
MOTION_WEIGHT = 0.5


class Correspondence(Stage):
    def build(self, start):
        self.model = load_model(Path(start), torch.float32).to(self.device)
        self.model.encoder.requires_grad_(True)
        # moves or not; flow in x, y
        self.readout = nn.Linear(self.model.config.hidden_size, 3).to(self.device)

    def update(self, supply):
        """One step; returns the losses."""
        mode = MODES[self.below(len(MODES))]
        sizes = JOINT_SIZES if mode == "clip" else SIZES
        height, width = sizes[self.below(len(sizes))]
        steps = [2, 4, 8][self.below(3)] if mode == "clip" else 4
        rows, columns = height // PATCH, width // PATCH
        batch = max(1, TOKENS // (steps * rows * columns))
        pictures, owner, poses, thing = supply.draw_true(batch, steps, height, width, mode)
        other = (torch.arange(steps) + 1 + self.below(steps - 1)) % steps
        target, layer, flow = matches(owner, poses, other)  # (batch × steps, patches, …)
        places = None
        if mode == "clip" and self.below(2):
            places = self.kept_places(batch, rows, columns)  # (batch, k)
            everywhere = places.repeat_interleave(steps, 0)  # (batch × steps, k)
            pick = lambda t: t.gather(1, everywhere.unsqueeze(-1).expand(-1, -1, t.shape[-1]))
            target = pick(target).gather(2, everywhere.unsqueeze(1).expand(-1, places.shape[1], -1))
            layer, flow = layer.gather(1, everywhere), pick(flow)
        # (batch, steps, patches or k, channels)
        x = self.encode(normalised(pictures), mode, places)
        match, motion, losses = self.truth(x, other, target, layer, flow, thing, mode)
        self.descend(match + motion)
        return losses

    def truth(self, x, other, target, layer, flow, thing, mode):
        """Losses of the features (batch, steps, patches, channels) against `matches`: matching,
        motion, and {name: part}.
        """
        steps = x.shape[1]
        # (batch × steps, patches): at least the wide part of the match is there
        found = target.sum(-1) > 0.3
        target = target / target.sum(-1, keepdim=True).clamp_min(1e-6)
        unit = F.normalize(x, dim=-1)
        # (…, patches, patches)
        logits = unit.flatten(0, 1) @ unit[:, other].flatten(0, 1).transpose(1, 2) / TEMPERATURE
        if len(x) > 1:  # patches of another clip are negatives too
            logits = torch.cat(
                [
                    logits,
                    unit.flatten(0, 1)
                    @ unit.roll(1, 0).flatten(0, 1).transpose(1, 2)
                    / TEMPERATURE,
                ],
                -1,
            )
        likely = logits.log_softmax(-1)[..., : target.shape[-1]]
        match, motion = -(target * likely).sum(-1)[found].mean(), 0
        right = (
            (target.gather(2, likely.argmax(-1, keepdim=True))[..., 0][found] > 0.05).float().mean()
        )
        losses = {"match": match.item(), "right": right.item()}
        if mode != "frame":
            moves = (thing > 0).repeat_interleave(steps, 0).gather(1, layer)
            read = self.readout(x.flatten(0, 1))
            moving = F.binary_cross_entropy_with_logits(read[..., 0], moves.float())
            shift = F.smooth_l1_loss(read[..., 1:], flow.clamp(-2, 2))
            motion = MOTION_WEIGHT * (moving + 2 * shift)
            losses |= {"moving": moving.item(), "shift": shift.item()}
        return match, motion, losses

    def encode(self, pixels, mode, places):
        """Pixels (batch, steps, 2, 3, height, width) to features (batch, steps, patches, channels).

        places: None, or (batch, k) the visible ones, the same in all steps.
        """
        batch, steps = pixels.shape[:2]
        with self.autocast():
            if mode != "clip":  # each step independently
                return (
                    encode_tokens(self.model, pixels.flatten(0, 1))
                    .float()
                    .unflatten(0, (batch, steps))
                )
            visible = None
            if places is not None:
                patches = pixels.shape[-1] * pixels.shape[-2] // PATCH**2
                visible = (
                    torch.arange(steps, device=self.device)[:, None] * patches + places[:, None]
                ).flatten(1)
            return (
                encode_tokens(self.model, pixels.flatten(1, 2), visible)
                .float()
                .unflatten(1, (steps, -1))
            )

    def kept_places(self, batch, rows, columns):
        """(batch, k) sorted places outside a random block of 30 to 70 % of the area."""
        share = 0.3 + 0.4 * torch.rand((), generator=self.generator).item()
        hidden = torch.stack([self.rectangle(rows, columns, share) for _ in range(batch)])
        return torch.nonzero(~hidden.flatten(1))[:, 1].view(batch, -1).to(self.device)


if __name__ == "__main__":
    train(Correspondence, TrueClips, "learning correspondences", steps=1600)
