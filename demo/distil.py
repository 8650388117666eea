"""Train the image encoder `dino-demo` by self-distillation on single frames of the same rendered scenes.

    python -m demo.distil --out runs/distil                       # again: resumes from its last checkpoint
    python -m demo.distil --out runs/distil --export demo/dino-demo

The objective of DINO (Caron et al. 2021) with the patch loss of iBOT (Zhou et al. 2022), as in DINOv2: a student sees
several crops of a frame, a slowly moving average of it (the teacher) the two large ones, and the student must give the
teacher's distribution over prototypes, centred and sharpened. Three losses: of the class token, between different crops; of hidden patches,
within a crop; and, because so small a run learns little about patches from these, of the same place in the other large
crop (where it lies is known from the cropping alone). No truth of the renderer is used.
"""

import copy
import json
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from transformers import Dinov2Config, Dinov2Model

from demo.training import MEAN, PATCH, STD, Clips, Stage, normalised, train

CONFIG = dict(
    image_size=128, patch_size=PATCH, hidden_size=192, num_attention_heads=3, num_hidden_layers=9, mlp_ratio=4, layerscale_value=1.0,
)  # the size of vjepa2-demo
BATCH = 24  # frames a step
LARGE, SMALL = [(128, 128), (96, 160), (160, 96)], (64, 64)  # sizes of the crops in pixels
LARGE_SHARE, SMALL_SHARE, SMALL_CROPS = (0.25, 1.0), (0.04, 0.25), 2  # of the frame's area; how many small ones
PROTOTYPES, STUDENT, TEACHER = 512, 0.1, 0.02  # temperatures
KEEP = 0.996  # of the teacher in a step, at first; 1 in the end


class Head(nn.Module):
    """Tokens (..., channels) to logits over prototypes (..., PROTOTYPES); cosines, before any temperature."""

    def __init__(self, channels):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(channels, 512), nn.GELU(), nn.Linear(512, 128))
        self.prototypes = nn.Linear(128, PROTOTYPES, bias=False)

    def forward(self, x):
        return F.linear(F.normalize(self.mlp(x), dim=-1), F.normalize(self.prototypes.weight, dim=-1))


class Crops(Clips):
    """Crops of single frames, with the place of each."""

    def crops(self, frames, height, width, share):
        """One crop of each frame, its colours changed.

        Returns:
            pictures (batch, 3, height, width) float, 0 to 1; boxes (batch, 5): left, top, width and height in pixels of the
            frame, and 1 or -1 if mirrored.
        """
        pictures, boxes = [], []
        for frame in frames:
            tall, wide = frame.shape[1:]
            area = self.number(*share) * tall * wide
            aspect = width / height * math.exp(self.number(-0.25, 0.25))
            rows, columns = min(tall, round((area / aspect) ** 0.5)), min(wide, round((area * aspect) ** 0.5))
            top, left, mirrored = self.below(tall - rows + 1), self.below(wide - columns + 1), self.below(2)
            piece = frame[None, :, top : top + rows, left : left + columns].float() / 255
            piece = F.interpolate(piece, (height, width), mode="bilinear", align_corners=False, antialias=True)
            pictures.append(piece.flip(-1) if mirrored else piece)
            boxes.append([left, top, columns, rows, -1 if mirrored else 1])
        return self.other_colours(torch.cat(pictures)), torch.tensor(boxes, dtype=torch.float32, device=self.device)

    def other_colours(self, x):
        """Light, contrast, mixed channels, sometimes grey or blurred; each picture by itself."""
        draw = lambda low, high, *shape: low + (high - low) * torch.rand(*shape, generator=self.generator, device=self.device)
        n = len(x)
        mix = torch.eye(3, device=x.device) + 0.15 * torch.randn(n, 3, 3, generator=self.generator, device=self.device)
        x = torch.einsum("nchw,ndc->ndhw", x, mix / mix.sum(2, keepdim=True).clamp_min(0.5))
        x = torch.where(draw(0, 1, n, 1, 1, 1) < 0.15, x.mean(1, keepdim=True), x)
        x = x.clamp(0, 1) ** draw(0.7, 1.4, n, 1, 1, 1) * draw(0.7, 1.3, n, 1, 1, 1)
        soft = F.interpolate(F.interpolate(x, scale_factor=0.5, mode="area"), x.shape[2:], mode="bilinear", align_corners=False)
        return torch.where(draw(0, 1, n, 1, 1, 1) < 0.25, soft, x).clamp(0, 1)


def balanced(logits):
    """The teacher's distributions over prototypes, all of which are used about alike; logits (..., prototypes).

    Sinkhorn and Knopp's algorithm, three rounds, in place of DINO's running mean, as in DINOv2: with the running mean a
    trial ended at uniform distributions.
    """
    q = (logits / TEACHER).flatten(0, -2).softmax(-1)
    for _ in range(3):
        q = q / q.sum(0, keepdim=True).clamp_min(1e-9)
        q = q / q.sum(1, keepdim=True)
    return q.view(logits.shape)


def same_place(boxes, other, rows, columns):
    """Where the patch centres of crops lie in other crops of the same frames.

    Args:
        boxes, other: (batch, 5) of `Crops.crops`.
    Returns:
        (batch, rows, columns, 2) as x, y from -1 to 1 across the other crop, beyond that outside of it.
    """
    y, x = torch.meshgrid((torch.arange(rows) + 0.5) / rows * 2 - 1, (torch.arange(columns) + 0.5) / columns * 2 - 1, indexing="ij")
    place = torch.stack([x, y], -1).to(boxes)[None]  # (1, rows, columns, 2), across the crop
    mirror = lambda b: torch.stack([b[:, 4], torch.ones_like(b[:, 4])], -1)[:, None, None]
    middle = lambda b: (b[:, :2] + b[:, 2:4] / 2)[:, None, None]
    half = lambda b: (b[:, 2:4] / 2)[:, None, None]
    on_frame = place * mirror(boxes) * half(boxes) + middle(boxes)
    return (on_frame - middle(other)) / half(other) * mirror(other)


class Distillation(Stage):
    rate, needs_start = 1e-3, False

    def build(self, start):
        self.student = Dinov2Model(Dinov2Config(**CONFIG)).to(self.device)
        self.head = Head(CONFIG["hidden_size"]).to(self.device)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.teacher_head = copy.deepcopy(self.head).requires_grad_(False)

    def hidden(self, batch, rows, columns):
        """(batch, patches) bool: a random rectangle of a tenth to half of the area, in every second crop."""
        mask = torch.zeros(batch, rows, columns, dtype=torch.bool)
        for each in mask[::2]:
            each[:] = self.rectangle(rows, columns, 0.1 + 0.4 * torch.rand((), generator=self.generator).item())
        return mask.flatten(1)

    def update(self, supply):
        """One step; returns the losses."""
        done = self.step / self.steps
        height, width = LARGE[self.below(len(LARGE))]
        rows, columns = height // PATCH, width // PATCH
        scenes = [supply.pool[supply.below(len(supply.pool))][0] for _ in range(BATCH)]
        frames = [scene[supply.below(len(scene))] for scene in scenes]  # uint8 (3, height, width)
        large, boxes = zip(*[supply.crops(frames, height, width, LARGE_SHARE) for _ in range(2)], strict=True)
        small = torch.cat([supply.crops(frames, *SMALL, SMALL_SHARE)[0] for _ in range(SMALL_CROPS)])
        hidden = self.hidden(2 * BATCH, rows, columns).to(self.device)
        large, small = normalised(torch.cat(large)), normalised(small)
        with self.autocast():
            with torch.no_grad():
                truth = self.teacher_head(self.teacher(large).last_hidden_state).float()  # (2 × batch, 1 + patches, prototypes)
            seen = self.head(self.student(large, bool_masked_pos=hidden).last_hidden_state).float() / STUDENT
            glimpsed = self.head(self.student(small).last_hidden_state[:, 0]).float() / STUDENT  # (small × batch, prototypes)
        whole, patches = balanced(truth[:, 0]), balanced(truth[:, 1:])  # (2 × batch, prototypes), (2 × batch, patches, prototypes)
        miss = lambda target, logits: -(target * logits.log_softmax(-1)).sum(-1)
        first, second = whole.chunk(2)
        pairs = [miss(second, seen[:BATCH, 0]), miss(first, seen[BATCH:, 0])]
        pairs += [miss(target, view) for view in glimpsed.chunk(SMALL_CROPS) for target in (first, second)]
        alike = torch.stack(pairs).mean()
        inside = miss(patches[hidden], seen[:, 1:][hidden]).mean()
        swapped = torch.cat(patches.chunk(2)[::-1]).transpose(1, 2).unflatten(2, (rows, columns))  # of the other large crop
        place = torch.cat([same_place(*boxes, rows, columns), same_place(*boxes[::-1], rows, columns)])
        there = F.grid_sample(swapped, place, align_corners=False, padding_mode="border").flatten(2).transpose(1, 2)
        shown = (place.abs() < 1 - 1 / min(rows, columns)).all(-1).flatten(1)  # not at its very edge
        across = miss(there[shown], seen[:, 1:][shown]).mean()
        self.descend(alike + inside + across)
        keep = 1 - (1 - KEEP) * 0.5 * (1 + math.cos(math.pi * done))
        with torch.no_grad():
            for slow, fast in ((self.teacher, self.student), (self.teacher_head, self.head)):
                for old, new in zip(slow.parameters(), fast.parameters(), strict=True):
                    old.lerp_(new, 1 - keep)
        unsure = -(patches * patches.clamp_min(1e-9).log()).sum(-1).mean()  # entropy of the targets: the least that a loss can be
        return {"alike": alike.item(), "inside": inside.item(), "across": across.item(), "unsure": unsure.item()}

    def export(self, folder):
        """Write the teacher in Hugging Face format and half precision, with the statistics of its pixels."""
        copy.deepcopy(self.teacher).half().save_pretrained(folder)
        about = {"image_mean": MEAN.tolist(), "image_std": STD.tolist()}
        (Path(folder) / "preprocessor_config.json").write_text(json.dumps(about, indent=2) + "\n")


if __name__ == "__main__":
    train(Distillation, Crops, "self-distillation", steps=2000)
