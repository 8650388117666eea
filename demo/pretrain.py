"""Pretrain the demo encoder with the V-JEPA 2 objective on rendered scenes. One file, seeded, resumable.

    python -m demo.pretrain --out runs/demo          # again: resumes from its last checkpoint
    python -m demo.pretrain --out runs/demo --export demo/vjepa2-demo

The objective (Assran et al. 2025): hide blocks of a clip that span all its frames, encode the visible
tokens only, and let the predictor say what a slowly moving average of the encoder (the teacher) makes
of the whole clip at the hidden tokens; L1 on layer-normalised features. A small encoder on little data
learns only the average of each clip that way, so two things are added: the first part of the run predicts
coarse local statistics of the pixels instead of features, and a linear readout of the same
statistics from the visible tokens stays on, weakly, to the end.
"""

import argparse
import copy
import math
import os
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm
from transformers import VJEPA2Config, VJEPA2Model

from demo.scenes import PHOTOS, composite, photographs, random_scenes, textures, uniform
from vjepa_utils import masks
from vjepa_utils.positions import RotaryAttention, encode_tokens, even_channels_first, predict_tokens, use_true_positions

CONFIG = dict(
    crop_size=128, frames_per_clip=8, patch_size=16, tubelet_size=2, hidden_size=192, num_attention_heads=3,
    num_hidden_layers=12, pred_hidden_size=96, pred_num_attention_heads=3, pred_num_hidden_layers=4,
    pred_num_mask_tokens=1, pred_zero_init_mask_tokens=True,
)
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
SHAPES = [(2, 256, 256), (2, 192, 320), (4, 192, 192), (4, 256, 144), (8, 128, 128), (8, 96, 160), (16, 96, 96)]
TOKENS = 8192  # per step, whatever the shape of its clips
WARM_UP, LOCAL_PHASE, LOCAL_WEIGHT = 0.05, 0.3, 0.2  # shares of the run; weight of the readout after the first phase
LEARNING_RATE, WEIGHT_DECAY = 7e-4, 0.04


class Clips:
    """An endless supply of clips: a pool of rendered scenes, each used several times with other crops, speeds and flips."""

    def __init__(self, seed, device, scenes=160):
        self.device = device
        self.generator = torch.Generator(device).manual_seed(seed)
        self.photos = photographs(tuple(PHOTOS))
        self.bank = textures(600, torch.Generator().manual_seed(seed), self.photos, device=device)
        self.pool, self.oldest = [], 0
        for _ in tqdm(range(scenes), desc="rendering the first scenes"):
            self.pool.append(self.render())

    def render(self):
        """One scene of 16 frames: (16, 3, height, width) uint8."""
        height, width = [(256, 256), (208, 320), (320, 208)][self.below(3)]
        layers, light = random_scenes(1, 16, height, width, self.generator, self.bank)
        return (composite(layers, height, width, light)[0][0] * 255).round().to(torch.uint8)

    def below(self, n):
        return int(torch.randint(n, (), generator=self.generator, device=self.device))

    def renew(self, textures_too):
        self.pool[self.oldest] = self.render()
        self.oldest = (self.oldest + 1) % len(self.pool)
        if textures_too:
            seed = torch.Generator().manual_seed(self.below(2**31))
            self.bank[torch.randperm(len(self.bank))[:20]] = textures(20, seed, self.photos, device=self.device)

    def draw(self, batch, frames, height, width):
        """(batch, frames, 3, height, width) float, 0 to 1."""
        clips = []
        for _ in range(batch):
            scene = self.pool[self.below(len(self.pool))]
            stride = 1 + self.below(min(3, 15 // (frames - 1)))
            start = self.below(16 - stride * (frames - 1))
            full = min(scene.shape[2] / height, scene.shape[3] / width)
            scale = full * uniform(self.generator, max(0.45, 0.75 / full) if full > 0.75 else 1, 1, (), device=self.device)
            rows, columns = int(scale * height), int(scale * width)
            top, left = self.below(scene.shape[2] - rows + 1), self.below(scene.shape[3] - columns + 1)
            clip = scene[start :: stride][:frames, :, top : top + rows, left : left + columns].float() / 255
            if (rows, columns) != (height, width):
                clip = F.interpolate(clip, (height, width), mode="bilinear", align_corners=False, antialias=True).clamp(0, 1)
            flips = [dim for dim in (0, 3) if self.below(2)]  # backwards, mirrored
            clips.append(clip.flip(flips))
        return torch.stack(clips)


def multiblock(grid, batch, kind, generator):
    """The two pretraining masks: 8 blocks of 15 % of the area, or 2 of 70 %, through all steps.

    Returns visible (batch, n) and hidden (batch, m) token numbers, cut at random to equal lengths in the batch.
    """
    order = torch.argsort(torch.rand(batch, math.prod(grid), generator=generator), 1)
    seed = np.random.default_rng(int(torch.randint(2**31, (), generator=generator)))
    hidden = torch.from_numpy(np.stack([masks.multiblock(grid, ("short", "long")[kind], seed) for _ in range(batch)]))
    hidden = hidden.flatten(1).gather(1, order)  # in random token order
    lists = []
    for chosen in (~hidden, hidden):
        length = int(chosen.sum(1).min())
        lists.append(torch.stack([tokens[keep][:length].sort().values for tokens, keep in zip(order, chosen, strict=True)]))
    return lists


def local_statistics(clips):
    """What one tubelet looks like, coarsely: (batch, tokens, 17).

    Mean and spread of colour (6), a histogram of edge orientations (8), mean absolute difference of its two frames (3).
    """
    pool = lambda x: F.avg_pool3d(x, (2, 16, 16))
    video = clips.transpose(1, 2).contiguous()  # (batch, 3, frames, height, width)
    mean = pool(video)
    spread = (pool(video**2) - mean**2).clamp_min(0).sqrt()
    grey = F.avg_pool3d(video.mean(1, keepdim=True), (1, 2, 2))
    dx = F.pad(grey[..., 1:] - grey[..., :-1], (0, 1))
    dy = F.pad(grey[..., 1:, :] - grey[..., :-1, :], (0, 0, 0, 1))
    angles = torch.arange(8, device=clips.device) * math.pi / 8
    edges = (dx * angles.cos().view(-1, 1, 1, 1) + dy * angles.sin().view(-1, 1, 1, 1)).abs()
    change = F.avg_pool3d((video[:, :, 1::2] - video[:, :, 0::2]).abs(), (1, 16, 16))
    return torch.cat([mean, spread, F.avg_pool3d(edges, (2, 8, 8)).sqrt(), change.sqrt()], 1).flatten(2).transpose(1, 2)


class Run:
    """Everything a run carries from step to step."""

    def __init__(self, out, steps, seed, device):
        torch.manual_seed(seed)
        self.out, self.steps, self.step, self.device = Path(out), steps, 0, device
        self.student = use_true_positions(VJEPA2Model(VJEPA2Config(**CONFIG))).to(device)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.readout = nn.Linear(CONFIG["hidden_size"], 17).to(device)
        self.scale = nn.BatchNorm1d(17, affine=False, momentum=None).to(device)  # puts the statistics on one scale
        parameters = [*self.student.parameters(), *self.readout.parameters()]
        groups = [
            {"params": [p for p in parameters if p.ndim > 1 and p.shape[0] > 1], "weight_decay": WEIGHT_DECAY},
            {"params": [p for p in parameters if p.ndim == 1 or p.shape[0] == 1], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=(0.9, 0.98))
        self.parts = {name: getattr(self, name) for name in ("student", "teacher", "readout", "scale", "optimizer")}
        if (self.out / "last.pt").exists():
            saved = torch.load(self.out / "last.pt", map_location=device, weights_only=True)
            self.step, self.steps = saved.pop("step"), saved.pop("steps")
            for name, state in saved.items():
                self.parts[name].load_state_dict(state)

    def save(self):
        self.out.mkdir(parents=True, exist_ok=True)
        states = {name: part.state_dict() for name, part in self.parts.items()}
        torch.save({"step": self.step, "steps": self.steps} | states, self.out / "last.tmp")
        os.replace(self.out / "last.tmp", self.out / "last.pt")

    def update(self, clips, generator):
        """One step on (batch, frames, 3, height, width); returns the losses."""
        done = self.step / self.steps
        rate = min(1, done / WARM_UP) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
        for group in self.optimizer.param_groups:
            group["lr"] = LEARNING_RATE * rate
        grid = (clips.shape[1] // 2, clips.shape[3] // 16, clips.shape[4] // 16)
        visible, hidden = (x.to(self.device) for x in multiblock(grid, len(clips), self.step % 2, generator))
        at = lambda x, index: x.gather(1, index.unsqueeze(-1).expand(-1, -1, x.shape[-1]))
        statistics = self.scale(local_statistics(clips).flatten(0, 1)).view(len(clips), -1, 17)
        pixels = (clips - MEAN.to(clips).view(3, 1, 1)) / STD.to(clips).view(3, 1, 1)
        with torch.autocast(self.device, torch.bfloat16):
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
        self.optimizer.zero_grad(set_to_none=True)
        (main + weight * local).backward()
        norm = nn.utils.clip_grad_norm_(self.student.parameters(), 1.0)
        self.optimizer.step()
        keep = 0.998 + 0.0015 * done
        with torch.no_grad():
            for old, new in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
                old.lerp_(new, 1 - keep)
        self.step += 1
        return {"main": main.item(), "local": local.item(), "norm": norm.item()}


def stock_state_dict(model):
    """Weights of a model after `use_true_positions`, back in the channel order of transformers."""
    weights = model.state_dict()
    for name, module in model.named_modules():
        if isinstance(module, RotaryAttention):
            back = even_channels_first(module.heads, module.head_size).argsort()
            for key in weights:
                if key.startswith((f"{name}.query.", f"{name}.key.")):
                    weights[key] = weights[key][back.to(weights[key].device)]
    return weights


def export(run, folder):
    """The teacher's encoder with the student's predictor, in Hugging Face format and half precision."""
    weights = stock_state_dict(run.teacher) | {
        name: value for name, value in stock_state_dict(run.student).items() if name.startswith("predictor.")
    }
    model = VJEPA2Model(VJEPA2Config(**CONFIG))
    model.load_state_dict(weights)
    model.half().save_pretrained(folder)


def main():
    parser = argparse.ArgumentParser(description="Pretrain the demo encoder, or resume")
    parser.add_argument("--out", default="runs/demo", help="folder of the checkpoint and the log")
    parser.add_argument("--steps", type=int, default=3000, help="length of a new run (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save-every", type=int, default=200, metavar="STEPS")
    parser.add_argument("--export", metavar="FOLDER", help="write the last checkpoint there as a model, and stop")
    arguments = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if arguments.export and not (Path(arguments.out) / "last.pt").exists():
        parser.exit(1, f"error: there is no checkpoint {arguments.out}/last.pt to export\n")
    run = Run(arguments.out, arguments.steps, arguments.seed, device)
    if arguments.export:
        return export(run, arguments.export)
    clips = Clips(arguments.seed + run.step, device)
    generator = torch.Generator().manual_seed(arguments.seed + run.step)
    progress = tqdm(range(run.step, run.steps), initial=run.step, total=run.steps, desc="pretraining")
    for step in progress:
        frames, height, width = SHAPES[int(torch.randint(len(SHAPES), (), generator=generator))]
        batch = TOKENS // (frames // 2 * (height // 16) * (width // 16))
        losses = run.update(clips.draw(batch, frames, height, width), generator)
        clips.renew(textures_too=step % 8 == 0)
        progress.set_postfix({name: f"{value:.3f}" for name, value in losses.items()})
        if run.step % arguments.save_every == 0 or run.step == run.steps:
            run.save()
            with open(run.out / "log.txt", "a") as log:
                print(run.step, *(f"{name} {value:.4f}" for name, value in losses.items()), file=log)


if __name__ == "__main__":
    main()
