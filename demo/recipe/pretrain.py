"""Pretrain the demo encoder with the V-JEPA 2 objective on rendered scenes: the first stage of the
recipe.

    python -m demo.recipe.pretrain --out runs/pretrain     # again: resumes from its last checkpoint
    python -m demo.recipe.pretrain --out runs/pretrain --export runs/pretrain/model

The objective (Assran et al. 2025): hide blocks of a clip that span all its frames, encode the
visible tokens only, and let the predictor predict the features that a slow moving average of the
encoder (the teacher) has of the whole clip at the hidden tokens; L1 on layer-normalised features. A
small encoder on little data learns only the average of each clip that way, so two things are added:
the first part of the run predicts coarse local statistics of the pixels instead of features, and a
linear readout of the same statistics from the visible tokens stays on, weakly, to the end.
"""

import copy
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transformers import VJEPA2Config, VJEPA2Model

from demo.recipe.training import PATCH, Clips, Stage, normalised, train
from vjepa_utils.model.vjepa2 import VJEPA2, encode_tokens, predict_tokens
from vjepa_utils.predict import masks

CONFIG = dict(
    crop_size=128,
    frames_per_clip=8,
    patch_size=16,
    tubelet_size=2,
    hidden_size=192,
    num_attention_heads=3,
    num_hidden_layers=12,
    pred_hidden_size=96,
    pred_num_attention_heads=3,
    pred_num_hidden_layers=4,
    pred_num_mask_tokens=1,
    pred_zero_init_mask_tokens=True,
)
SHAPES = [
    (2, 256, 256),
    (2, 192, 320),
    (4, 192, 192),
    (4, 256, 144),
    (8, 128, 128),
    (8, 96, 160),
    (16, 96, 96),
]
TOKENS = 8192  # per step, whatever the shape of its clips
LOCAL_PHASE, LOCAL_WEIGHT = 0.3, 0.2  # share of the run; weight of the readout after it


def multiblock(grid, batch, kind, generator):
    """The two pretraining masks: 8 blocks of 15 % of the area, or 2 of 70 %, through all steps.

    Returns visible (batch, n) and hidden (batch, m) token numbers, cut at random to equal lengths
    in the batch.
    """
    order = torch.argsort(torch.rand(batch, math.prod(grid), generator=generator), 1)
    seed = np.random.default_rng(int(torch.randint(2**31, (), generator=generator)))
    hidden = torch.from_numpy(
        np.stack([masks.multiblock(grid, ("short", "long")[kind], seed) for _ in range(batch)])
    )
    hidden = hidden.flatten(1).gather(1, order)  # in random token order
    lists = []
    for chosen in (~hidden, hidden):
        length = int(chosen.sum(1).min())
        lists.append(
            torch.stack(
                [
                    tokens[keep][:length].sort().values
                    for tokens, keep in zip(order, chosen, strict=True)
                ]
            )
        )
    return lists


def local_statistics(clips):
    """What one tubelet looks like, coarsely: (batch, tokens, 17).

    Mean and standard deviation of colour (6), a histogram of edge orientations (8), mean absolute
    difference of its two frames (3).
    """
    pool = lambda x: F.avg_pool3d(x, (2, 16, 16))
    video = clips.transpose(1, 2).contiguous()  # (batch, 3, frames, height, width)
    mean = pool(video)
    deviation = (pool(video**2) - mean**2).clamp_min(0).sqrt()
    grey = F.avg_pool3d(video.mean(1, keepdim=True), (1, 2, 2))
    dx = F.pad(grey[..., 1:] - grey[..., :-1], (0, 1))
    dy = F.pad(grey[..., 1:, :] - grey[..., :-1, :], (0, 0, 0, 1))
    angles = torch.arange(8, device=clips.device) * math.pi / 8
    edges = (dx * angles.cos().view(-1, 1, 1, 1) + dy * angles.sin().view(-1, 1, 1, 1)).abs()
    change = F.avg_pool3d((video[:, :, 1::2] - video[:, :, 0::2]).abs(), (1, 16, 16))
    return (
        torch.cat([mean, deviation, F.avg_pool3d(edges, (2, 8, 8)).sqrt(), change.sqrt()], 1)
        .flatten(2)
        .transpose(1, 2)
    )


class Pretraining(Stage):
    rate, needs_start = 7e-4, False

    def build(self, start):
        config = VJEPA2Config(**CONFIG)
        self.student = VJEPA2(config).take_weights(VJEPA2Model(config).state_dict()).to(self.device)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.readout = nn.Linear(CONFIG["hidden_size"], 17).to(self.device)
        # puts the statistics on one scale
        self.scale = nn.BatchNorm1d(17, affine=False, momentum=None).to(self.device)

    def update(self, supply):
        """One step; returns the losses."""
        done = self.step / self.steps
        frames, height, width = SHAPES[self.below(len(SHAPES))]
        grid = (frames // 2, height // PATCH, width // PATCH)
        clips = supply.draw(TOKENS // math.prod(grid), frames, height, width)
        visible, hidden = (
            x.to(self.device) for x in multiblock(grid, len(clips), self.step % 2, self.generator)
        )
        at = lambda x, index: x.gather(1, index.unsqueeze(-1).expand(-1, -1, x.shape[-1]))
        statistics = self.scale(local_statistics(clips).flatten(0, 1)).view(len(clips), -1, 17)
        pixels = normalised(clips)
        with self.autocast():
            context = encode_tokens(self.student, pixels, visible)
            predicted = predict_tokens(self.student, context, visible, hidden, grid)
            local = F.l1_loss(self.readout(context).float(), at(statistics, visible))
            if done < LOCAL_PHASE:
                main = F.l1_loss(self.readout(predicted).float(), at(statistics, hidden))
                weight = 1.0
            else:
                with torch.no_grad():
                    target = encode_tokens(self.teacher, pixels).float()
                target = at(F.layer_norm(target, target.shape[-1:]), hidden)
                main, weight = F.l1_loss(predicted.float(), target), LOCAL_WEIGHT
        self.descend(main + weight * local)
        keep = 0.998 + 0.0015 * done
        with torch.no_grad():
            for old, new in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
                old.lerp_(new, 1 - keep)
        return {"main": main.item(), "local": local.item()}

    def weights(self):
        """The teacher's encoder with the student's predictor."""
        predictor = {
            name: value
            for name, value in self.student.weights().items()
            if name.startswith("predictor.")
        }
        return self.teacher.weights() | predictor, CONFIG


if __name__ == "__main__":
    train(Pretraining, Clips, "pretraining", steps=3000)
