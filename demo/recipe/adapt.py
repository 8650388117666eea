"""Adapt the inflated encoder: from pictures to video, without losing what the teacher sees.

    python -m demo.recipe.adapt --start runs/inflated --out runs/adapt --targets runs/targets \\
        --teacher facebook/dinov2-small --photos PHOTOS --clips CLIPS     # again: resumes
    python -m demo.recipe.adapt --start runs/inflated --out runs/adapt --export runs/adapt/model

What things are: tokens of stills, of moving pairs and of clips that are encoded jointly take the
direction of the teacher's targets, in the teacher's own space. Motion is a small share of a token,
and losses of whole tokens pass over it, so it is taught by itself: a linear readout of the
difference between the tokens of a pair and those of its first frame twice gives what moves, and
how. The sum of the kernels of both frames stays as it was inflated, so that a still picture gives
what it gave; their difference is free. Matching of points weighs little. What all pictures share at
a place, and the mean of a picture, are penalised.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from demo.recipe.lessons import Lessons
from demo.recipe.motion import motion_losses, split_kernels, split_units, without_splits
from demo.recipe.targets import FOLDERS, prepare
from demo.recipe.training import PATCH, Stage, normalised, train
from demo.recipe.truth import kept, matches
from vjepa_utils.model.vjepa2 import encode_tokens
from vjepa_utils.weights.models import load_model

MODES = {"photos": ["frame"] + ["pair"] * 3 + ["clip"], "scenes": ["pair", "pair", "clip"]}
TEMPERATURE = 0.07  # of the cross-entropy over cosines
TOKENS = {"photos": 768, "scenes": 512}  # of a batch, stills included
SCENES = 2  # one step in so many has rendered scenes too
FILM = 8  # one batch of pictures in so many is film
SIZES = {
    "photos": 3 * [(192, 192), (160, 256), (256, 160), (256, 256)]
    + 2 * [(192, 320), (320, 192)]
    + [(320, 320), (256, 448), (448, 256)],
    "scenes": [(192, 192), (256, 256), (256, 256), (256, 144), (160, 288)],
    "frame": [(384, 512), (384, 640), (640, 384), (512, 512), (480, 832), (480, 832)],
    "clip": [(128, 128), (192, 192), (160, 256), (128, 224), (224, 128), (256, 256)],
}
STILL, TAUGHT, MOVING, FLOW, MATCH, PLACE, PICTURE = 6.0, 2.0, 0.7, 2.0, 0.3, 3.0, 0.5  # weights
# Rates: what was fitted reads small differences between large values, and is soon ruined.
FITTED, OUT, FREE, READOUT = 2e-6, 4e-5, 4e-4, 1e-3
LARGEST = 0.04  # of the root mean squares that other rates are multiplied with


class Places(nn.Module):
    """What the pictures seen lately share at each place, as a running mean on a grid of 16 × 16."""

    side, forget = 16, 0.02

    def __init__(self, channels):
        super().__init__()
        self.register_buffer("mean", torch.zeros(1, channels, self.side, self.side))
        self.register_buffer("count", torch.tensor(0))

    def forward(self, x, rows, columns):
        """Share of the variance of tokens (batch, steps, rows × columns, channels), each picture
        centred, along what earlier pictures had at the same place; then `x` joins the mean.
        """
        x = x - x.mean(-2, keepdim=True)
        each = x.mean(1).transpose(1, 2).unflatten(-1, (rows, columns))
        resize = lambda t, grid: F.interpolate(t, grid, mode="bilinear", align_corners=False)
        common = resize(self.mean, (rows, columns))
        share = (each * common).sum(1).mean() / x.square().sum(-1).mean()
        self.count += 1
        new = resize(each.detach().mean(0, keepdim=True), (self.side, self.side))
        self.mean.lerp_(new, max(self.forget, 1 / int(self.count)))
        return share


def picture_share(x):
    """Share of pictures' means in the squared norm of tokens (…, patches, channels)."""
    return x.mean(-2).square().sum(-1).mean() / x.square().sum(-1).mean()


def miss(x, goals, basis):
    """1 − cosine between tokens and targets.

    Args:
        x: (…, patches, channels).  goals: (…, patches, CHANNELS).  basis: (channels, CHANNELS).
    Returns:
        the mean. A crop cannot know the rest of its picture: what differs within it is compared.
    """
    x, goals = (t - t.mean(-2, keepdim=True) for t in (x @ basis, goals))
    return 1 - F.cosine_similarity(x, goals, dim=-1).mean()


@dataclass
class Lesson:
    """A batch. kind: "photos", "film" or "scenes".  mode: "frame" (stills), "pair" or "clip".
    pictures, owner, poses, thing: of `TrueClips.draw_true`.  goals: (batch, steps, 2, patches,
    CHANNELS), or None.  places: the visible ones (batch, k) of a clip, or None.
    """

    kind: str
    mode: str
    pictures: torch.Tensor
    owner: torch.Tensor
    poses: torch.Tensor
    thing: torch.Tensor
    goals: torch.Tensor | None = None
    places: torch.Tensor | None = None

    @property
    def grid(self):
        return tuple(side // PATCH for side in self.pictures.shape[-2:])

    def visible(self, x):
        """x (batch, …, patches, n) at the visible places."""
        if self.places is None or x is None:
            return x
        shape = len(x), *[1] * (x.ndim - 3), self.places.shape[1], 1
        return x.gather(-2, self.places.view(shape).expand(*x.shape[:-2], -1, x.shape[-1]))


class Adaptation(Stage):
    rate = 5e-3  # times the root mean square of a parameter

    def build(self, start):
        self.model = load_model(Path(start), torch.float32).to(self.device)
        encoder = self.model.encoder
        encoder.requires_grad_(True)
        self.fitted, *self.free = split_units(encoder)
        mean, self.difference = split_kernels(encoder)
        bias = encoder.embeddings.patch_embeddings.proj.bias
        for p in (mean, bias, *encoder.layernorm.parameters()):
            p.requires_grad_(False)
        # moves or not; flow in x, y
        self.readout = nn.Linear(self.model.config.hidden_size, 3).to(self.device)
        nn.init.normal_(self.readout.weight, std=0.01)
        self.places = Places(self.model.config.hidden_size).to(self.device)

    def scales(self):
        """Relative steps: what the layer scales were multiplied into is small, and at one rate for
        all it is ruined before the rest has learnt. What is motion's alone has rates of its own.
        """
        encoder = [p for p in self.model.encoder.parameters() if p.requires_grad]
        scales = {p: min(float(p.detach().square().mean().sqrt()), LARGEST) for p in encoder}
        rates = dict.fromkeys(self.readout.parameters(), READOUT)
        rates |= dict.fromkeys([p for block in self.free for p in block], FREE)
        rates |= {self.difference: FITTED, **dict.fromkeys(self.fitted, FITTED)}
        rates |= {self.fitted[-1]: OUT}
        return scales | {p: rate / self.rate for p, rate in rates.items()}

    def weights(self):
        return without_splits(self.model), self.model.config.to_diff_dict()

    @torch.no_grad()
    def centre(self, supply, batches=24):
        """Take the mean of all tokens out of the bias of the final norm."""
        drawn = (supply.draw_real(2, 1, 256, 256, "frame")[0] for _ in range(batches))
        means = [
            self.encode(normalised(pictures), "pair", None).mean((0, 1, 2)) for pictures in drawn
        ]
        self.model.encoder.layernorm.bias -= torch.stack(means).mean(0)

    def update(self, supply):
        """One step; returns the losses."""
        if self.step == 0:
            self.centre(supply)
        losses, total = {}, 0
        for kind in ("photos", "scenes") if self.step % SCENES else ("photos",):
            lesson = self.draw(supply, kind)
            for name, (weight, loss) in self.losses(lesson, supply.basis.to(self.device)).items():
                total = total + weight * loss
                losses[f"{name} {lesson.mode}" if lesson.mode == "clip" else name] = loss.item()
        self.descend(total)
        return losses

    def draw(self, supply, kind):
        mode = MODES[kind][self.below(len(MODES[kind]))]
        sizes = SIZES[kind if mode == "pair" else mode]
        height, width = sizes[self.below(len(sizes))]
        rows, columns = height // PATCH, width // PATCH
        steps = 2 if rows * columns <= 160 and self.below(2) else 1
        steps = [2, 4][self.below(2)] if mode == "clip" else steps
        batch = max(1, TOKENS[kind] // (2 * steps * rows * columns))
        places = None
        if mode == "clip" and self.below(3) == 0:
            places = self.kept_places(batch, rows, columns)
        if kind == "scenes":
            drawn = supply.draw_true(batch, steps, height, width, mode)
            return Lesson(kind, mode, *drawn, places=places)
        film = bool(supply.films) and self.below(FILM) == 0
        *drawn, goals = supply.draw_real(batch, steps, height, width, mode, film)
        goals = goals.flatten(-2).transpose(-1, -2)
        return Lesson("film" if film else kind, mode, *drawn, goals, places)

    def losses(self, lesson, basis):
        """{name: (weight, loss)} of a batch."""
        pixels, mode = normalised(lesson.pictures), lesson.mode
        # (batch, steps, patches, channels)
        x = self.encode(pixels, mode, lesson.places)
        losses = {}
        if lesson.goals is not None:
            goals = lesson.visible(lesson.goals)
            if mode != "clip":
                still = pixels[:, :, :1].expand_as(pixels)
                still = x if mode == "frame" else self.encode(still, "pair", None)
                losses["still"] = STILL, miss(still, goals[:, :, 0], basis)
            if mode != "frame":
                losses["taught"] = TAUGHT, miss(x, F.normalize(goals, dim=-1).mean(2), basis)
        if lesson.kind != "film" and mode != "frame":
            losses |= self.truth(lesson, x)
        if lesson.places is None:
            losses["place"] = PLACE, self.places(x, *lesson.grid).clamp_min(0)
            losses["picture"] = PICTURE, picture_share(x)
        return losses

    def truth(self, lesson, x):
        """Losses of motion, and of matching where there are two steps or more."""
        steps = x.shape[1]
        other = (torch.arange(steps) + 1 + self.below(max(1, steps - 1))) % steps
        truth = matches(lesson.owner, lesson.poses, other)  # (batch × steps, patches, patches)
        target = truth if lesson.places is None else kept(truth, lesson.places, steps)
        known = lesson.thing, lesson.owner, lesson.poses, lesson.visible
        moving, flow, none = motion_losses(self.readout(x), *known)
        losses = {"moving": (MOVING, moving), "flow": (FLOW, flow), "none": (0.0, none)}
        seen = target.sum(-1) > 0.3  # the wide part of the match is there, at least
        if steps > 1:
            losses["match"] = MATCH, matching(x, x[:, other], target, seen)
        return losses

    def encode(self, pixels, mode, places):
        """Pixels (batch, steps, 2, 3, height, width) to features (batch, steps, patches, channels).

        places: None, or (batch, k) the visible ones, the same in all steps.
        """
        batch, steps = pixels.shape[:2]
        with self.autocast():
            if mode != "clip":  # each step independently
                x = encode_tokens(self.model, pixels.flatten(0, 1))
                return x.float().unflatten(0, (batch, steps))
            visible = None
            if places is not None:
                patches = pixels.shape[-1] * pixels.shape[-2] // PATCH**2
                first = torch.arange(steps, device=self.device)[:, None] * patches
                visible = (first + places[:, None]).flatten(1)
            x = encode_tokens(self.model, pixels.flatten(1, 2), visible)
            return x.float().unflatten(1, (steps, -1))

    def kept_places(self, batch, rows, columns):
        """(batch, k) sorted places outside a random block of 30 to 70 % of the area."""
        share = 0.3 + 0.4 * torch.rand((), generator=self.generator).item()
        hidden = torch.stack([self.rectangle(rows, columns, share) for _ in range(batch)])
        return torch.nonzero(~hidden.flatten(1))[:, 1].view(batch, -1).to(self.device)


def matching(x, others, target, seen):
    """Cross-entropy of finding each patch's point among all patches of another step, and those of
    another clip.

    Args:
        x, others: (batch, steps, patches, channels).  target: of `matches`.  seen: (batch × steps,
            patches) bool, which to look for.
    Returns:
        the mean over the patches that are seen.
    """
    unit, others = (F.normalize(t, dim=-1) for t in (x, others))
    pools = [others, unit.roll(1, 0)] if len(x) > 1 else [others]
    logits = [unit.flatten(0, 1) @ pool.flatten(0, 1).mT / TEMPERATURE for pool in pools]
    likely = torch.cat(logits, -1).log_softmax(-1)[..., : target.shape[-1]]
    target = target / target.sum(-1, keepdim=True).clamp_min(1e-6)
    return -((target * likely).sum(-1) * seen).sum() / seen.sum().clamp_min(1)


def supply(seed, device, teacher, photos, clips, targets):
    lessons = Lessons(seed, device, prepare(teacher, photos, clips, targets))
    lessons.basis = torch.load(Path(targets) / "basis.pt")["basis"]
    return lessons


if __name__ == "__main__":
    train(Adaptation, supply, "adapting to video", steps=2000, folders=FOLDERS)
