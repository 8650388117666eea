"""What the stages of the recipe share: clips to train on, the optimiser, checkpoints to resume
from, the command line.
"""

import argparse
import math
import os
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm
from transformers import VJEPA2Config, VJEPA2Model

from demo.recipe.muon import Muon
from demo.render.scenes import PHOTOS, composite, photographs, random_scenes, textures, uniform
from vjepa_utils.model.devices import fast_dtype

PATCH = 16
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
WARM_UP, WEIGHT_DECAY = 0.05, 0.04  # share of a stage; of AdamW
SMOOTH = 0.95  # of the running means of the losses in the log


class Clips:
    """An endless supply of clips: a pool of rendered scenes, each used several times with different
    crops, speeds and flips.
    """

    def __init__(self, seed, device, scenes=128, photos=None):
        self.device = device
        self.generator = torch.Generator().manual_seed(seed)
        self.photos = photographs(tuple(PHOTOS)) if photos is None else photos
        self.bank = textures(600, torch.Generator().manual_seed(seed), self.photos, device=device)
        self.pool, self.oldest = [], 0
        for _ in tqdm(range(scenes), desc="rendering the first scenes"):
            self.pool.append(self.render())

    def render(self):
        """One scene of 16 frames: uint8 (16, 3, height, width); which layer each pixel shows, (16,
        height, width); where each layer is, (16, layers, 2, 3); and which layers move,
        (layers,)."""
        height, width = [(256, 256), (208, 320), (320, 208)][self.below(3)]
        layers, light = random_scenes(1, 16, height, width, self.generator, self.bank)
        frames, owner = composite(layers, height, width, light)
        poses = torch.stack([layer.poses[0] for layer in layers], 1)
        thing = torch.stack([layer.thing[0] for layer in layers])
        return (frames[0] * 255).round().to(torch.uint8), owner[0], poses, thing

    def below(self, n):
        return int(torch.randint(n, (), generator=self.generator))

    def number(self, low, high):
        return float(uniform(self.generator, low, high, ()))

    def renew(self, textures_too):
        self.pool[self.oldest] = self.render()
        self.oldest = (self.oldest + 1) % len(self.pool)
        if textures_too:
            seed = torch.Generator().manual_seed(self.below(2**31))
            self.bank[torch.randperm(len(self.bank))[:20]] = textures(
                20, seed, self.photos, device=self.device
            )

    def window(self, scene, height, width, smallest):
        """A random part of a scene in the proportions of the picture: top, left, rows, columns."""
        full = min(scene[0].shape[2] / height, scene[0].shape[3] / width)
        scale = full * self.number(smallest, 1)
        rows, columns = int(scale * height), int(scale * width)
        return (
            self.below(scene[0].shape[2] - rows + 1),
            self.below(scene[0].shape[3] - columns + 1),
            rows,
            columns,
        )

    def draw(self, batch, frames, height, width):
        """(batch, frames, 3, height, width) float, 0 to 1."""
        clips = []
        for _ in range(batch):
            scene = self.pool[self.below(len(self.pool))]
            stride = 1 + self.below(min(3, 15 // (frames - 1)))
            start = self.below(16 - stride * (frames - 1))
            full = min(scene[0].shape[2] / height, scene[0].shape[3] / width)
            top, left, rows, columns = self.window(
                scene, height, width, max(0.45, 0.75 / full) if full > 0.75 else 1
            )
            clip = (
                scene[0][start::stride][:frames, :, top : top + rows, left : left + columns].float()
                / 255
            )
            if (rows, columns) != (height, width):
                clip = F.interpolate(
                    clip, (height, width), mode="bilinear", align_corners=False, antialias=True
                ).clamp(0, 1)
            flips = [dim for dim in (0, 3) if self.below(2)]  # backwards, mirrored
            clips.append(clip.flip(flips))
        return torch.stack(clips)


def normalised(pictures):
    """Pixels (…, 3, height, width) from 0 to 1, as the encoder takes them."""
    return (pictures - MEAN.to(pictures).view(3, 1, 1)) / STD.to(pictures).view(3, 1, 1)


class Stage:
    """What a stage carries from step to step. A subclass makes its modules in `build`, and takes a
    step in `update`.
    """

    rate = 5e-4  # peak learning rate
    needs_start = True  # from the model of the previous stage

    def __init__(self, out, start, steps, seed, device):
        torch.manual_seed(seed)
        self.out, self.steps, self.step, self.device = Path(out), steps, 0, device
        self.generator = torch.Generator().manual_seed(seed)
        self.build(start)
        self.parts = {
            name: part for name, part in vars(self).items() if isinstance(part, nn.Module)
        }
        trained = [p for part in self.parts.values() for p in part.parameters() if p.requires_grad]
        # biases, norms and mask tokens do not decay
        single = lambda p: p.ndim == 1 or p.shape[0] == 1
        scales, matrices = self.scales(), {id(p) for p in self.matrices()}
        groups = {}
        for p in trained:
            if id(p) not in matrices:
                groups.setdefault((single(p), scales.get(p, 1.0)), []).append(p)
        groups = [
            {"params": kin, "scale": scale, "weight_decay": 0.0 if alone else WEIGHT_DECAY}
            for (alone, scale), kin in groups.items()
        ]
        self.optimizers = {"optimizer": torch.optim.AdamW(groups, betas=(0.9, 0.98))}
        if matrices:
            self.optimizers["muon"] = Muon(self.matrices(), weight_decay=WEIGHT_DECAY)
        self.parts |= self.optimizers
        self.trained = trained
        if (self.out / "last.pt").exists():
            saved = torch.load(self.out / "last.pt", map_location=device, weights_only=True)
            self.step, self.steps = saved.pop("step"), saved.pop("steps")
            for name, state in saved.items():
                self.parts[name].load_state_dict(state)
            self.generator.manual_seed(seed + self.step)

    def scales(self):
        """{parameter: its rate as a multiple of the stage's}, where that is not 1."""
        return {}

    def matrices(self):
        """Weights that Muon updates; AdamW updates the rest."""
        return []

    def save(self):
        self.out.mkdir(parents=True, exist_ok=True)
        states = {name: part.state_dict() for name, part in self.parts.items()}
        torch.save({"step": self.step, "steps": self.steps} | states, self.out / "last.tmp")
        os.replace(self.out / "last.tmp", self.out / "last.pt")

    def below(self, n):
        return int(torch.randint(n, (), generator=self.generator))

    def rectangle(self, rows, columns, share):
        """(rows, columns) bool: a rectangle of a share of the area and its proportions, at a random
        place.
        """
        mask = torch.zeros(rows, columns, dtype=torch.bool)
        tall, wide = max(1, round(rows * share**0.5)), max(1, round(columns * share**0.5))
        top, left = self.below(rows - tall + 1), self.below(columns - wide + 1)
        mask[top : top + tall, left : left + wide] = True
        return mask

    def autocast(self):
        """bfloat16 where the machine is fast at it."""
        return torch.autocast(
            self.device,
            torch.bfloat16,
            enabled=fast_dtype(torch.device(self.device)) == torch.bfloat16,
        )

    def descend(self, loss):
        """One step of the optimiser: warm-up, then a cosine down to 2 % of the rate."""
        done = self.step / self.steps
        rate = self.rate * min(1, done / WARM_UP)
        rate *= 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done))
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = rate * group.get("scale", 1.0)
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.trained, 1.0)
        for optimizer in self.optimizers.values():
            optimizer.step()
        self.step += 1

    def weights(self):
        """Weights and configuration of the model that is exported."""
        return self.model.weights(), self.model.config.to_diff_dict()

    def export(self, folder):
        """Write the model in Hugging Face format and half precision."""
        weights, config = self.weights()
        model = VJEPA2Model(VJEPA2Config(**config))
        model.load_state_dict(weights)
        model.half().save_pretrained(folder)


def train(stage, clips, about, steps, folders=None):
    """The command line of a stage.

    Args:
        stage: a subclass of `Stage`.  clips: a class such as `Clips`.  about: one line.  steps: how
            many by default.
        folders: {name: help} of more arguments, which go to `clips` by their names.
    """
    parser = argparse.ArgumentParser(description=about + ", or resume")
    parser.add_argument("--out", required=True, help="folder of the checkpoint and the log")
    parser.add_argument("--start", help="folder of the model of the previous stage")
    parser.add_argument(
        "--steps", type=int, default=steps, help="length of a new run (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save-every", type=int, default=100, metavar="STEPS")
    parser.add_argument(
        "--export", metavar="FOLDER", help="write the last checkpoint there as a model, and stop"
    )
    for name, text in (folders or {}).items():
        parser.add_argument(f"--{name}", help=text)
    arguments = parser.parse_args()
    if arguments.export and not (Path(arguments.out) / "last.pt").exists():
        parser.exit(1, f"error: there is no checkpoint {arguments.out}/last.pt to export\n")
    if stage.needs_start and not arguments.start:
        parser.error("--start is needed: the folder of the model of the previous stage")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        run = stage(arguments.out, arguments.start, arguments.steps, arguments.seed, device)
    except ValueError as error:  # no model in that folder
        parser.exit(1, f"error: {error}\n")
    if arguments.export:
        return run.export(arguments.export)
    supply = clips(
        arguments.seed + run.step,
        device,
        **{name: getattr(arguments, name) for name in folders or ()},
    )
    means = {}
    progress = tqdm(range(run.step, run.steps), initial=run.step, total=run.steps, desc=about)
    for step in progress:
        losses = run.update(supply)
        if step % 3 == 0:
            supply.renew(textures_too=step % 24 == 0)
        means |= {
            name: SMOOTH * means.get(name, value) + (1 - SMOOTH) * value
            for name, value in losses.items()
        }
        progress.set_postfix({name: f"{value:.3f}" for name, value in means.items()})
        if run.step % arguments.save_every == 0 or run.step == run.steps:
            run.save()
            with open(run.out / "log.txt", "a") as log:
                print(run.step, *(f"{name} {value:.4f}" for name, value in means.items()), file=log)
