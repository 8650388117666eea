"""Distil a real encoder into the demo encoder, on real pictures, keeping matching and motion.

    python -m demo.recipe.teach --start vjepa2-demo --out runs/teach --targets runs/targets \\
        --teacher ../shared/teacher --photos ../shared/photos \\
        --clips ../shared/train_clips     # again: resumes
    python -m demo.recipe.teach --start vjepa2-demo --out runs/teach --export runs/teach/model

A teacher's features say what things are (distillation, as V-JEPA 2.1's small models were made;
`demo/recipe/targets.py`). Trained on them alone, the student forgets which thing it is, and where
that goes. So photographs move, with other things over them (`demo/recipe/lessons.py`), and the
losses of `demo/recipe/correspond.py` continue on them and on rendered scenes. A token of a pair
must predict the teacher's target for its place in both frames, by a linear readout for each, so
that it encodes both what was there and what came.

Positional information is what a student learns before anything else. So it is removed from the
targets, crops lie anywhere, and what different clips share at the same place of the grid is
penalised, by an unbiased estimate (products between clips only).
"""

import torch
import torch.nn.functional as F
from torch import nn

from demo.recipe.correspond import JOINT_SIZES, Correspondence
from demo.recipe.lessons import Lessons
from demo.recipe.targets import CHANNELS, prepare
from demo.recipe.training import PATCH, normalised, train
from demo.recipe.truth import kept, matches

KINDS = ["photos"] * 13 + ["scenes"] * 6 + ["film"]  # each entry equally likely
MODES = ["frame", "frame", "pair", "pair", "pair", "clip"]
SIZES = 2 * [(192, 192), (160, 288), (288, 160), (256, 256), (256, 448), (448, 256), (320, 320)]
SIZES += [(384, 384), (384, 640), (512, 512), (480, 832)]
SCENE_SIZES = [(192, 192), (256, 256), (256, 144), (160, 288), (320, 320)]
TOKENS = 2048  # per step
BLOCKS = 9  # that are trained
KEPT = 7  # exported: the last ones serve the losses; in them place returns and motion fades
SAMPLE = 1024  # tokens of a step whose similarities are compared
MATCH_WEIGHT, TEACH_WEIGHT, LIKE_WEIGHT, PLACE_WEIGHT, PICTURE_WEIGHT = 0.5, 4.0, 1.0, 0.5, 1.0

FOLDERS = {
    "teacher": "an image encoder, as load_encoder takes it",
    "photos": "folder of photographs (.jpg)",
    "clips": "folder of clips (.mp4)",
    "targets": "folder for the teacher's features of them, computed once",
}


def shared_place(x):
    """Share of the variance that clips share at each place: unbiased, so it can be below zero.

    Args:
        x: (clips, steps, patches, channels), two clips or more.
    Returns:
        share of the variance.
    """
    clips = len(x)
    mean = x.mean((0, 1, 2))
    each = (x - mean).mean(1)  # (clips, patches, channels)
    between = each.sum(0).square().sum() - each.square().sum()  # products of different clips
    total = (x - mean).square().sum((2, 3)).mean()  # of a picture
    return between / (clips * (clips - 1)) / total


def picture_share(x):
    """Share of pictures' means in the squared norm of tokens (…, patches, channels)."""
    return x.mean(-2).square().sum(-1).mean() / x.square().sum(-1).mean()


def unlike(x, goals):
    """Relative squared error of cosines between tokens (…, channels) against those of targets."""
    chosen = torch.randperm(x[..., 0].numel())[:SAMPLE]
    ours, theirs = (F.normalize(t.flatten(0, -2)[chosen], dim=-1) for t in (x, goals))
    ours, theirs = ours @ ours.T, theirs @ theirs.T
    return (ours - theirs).square().mean() / theirs.square().mean()


class Teaching(Correspondence):
    rate = 2e-3
    modes = MODES

    def build(self, start):
        super().build(start)
        encoder, config = self.model.encoder, self.model.config
        if config.num_hidden_layers > BLOCKS:  # later ones served stage 2 alone
            config.num_hidden_layers, encoder.layer = BLOCKS, encoder.layer[:BLOCKS]
            nn.init.ones_(encoder.layernorm.weight)  # it was trained for the block now left off
            nn.init.zeros_(encoder.layernorm.bias)
        self.add_readouts(config.hidden_size)

    def add_readouts(self, channels):
        """One for the targets of either frame of a step."""
        readouts = nn.ModuleList(nn.Linear(channels, CHANNELS) for _ in range(2))
        self.readouts = readouts.to(self.device)

    def weights(self):
        """As for every stage, but of the first `KEPT` blocks, and a plain norm after them: the
        trained one belongs to the last block.
        """
        weights, config = super().weights()
        if config["num_hidden_layers"] > KEPT:
            late = tuple(f"encoder.layer.{n}." for n in range(KEPT, config["num_hidden_layers"]))
            weights = {name: w for name, w in weights.items() if not name.startswith(late)}
            for name, value in (("weight", 1.0), ("bias", 0.0)):
                norm = f"encoder.layernorm.{name}"
                weights[norm] = torch.full_like(weights[norm], value)
            config = config | {"num_hidden_layers": KEPT}
        return weights, config

    def matrices(self):
        """Weight matrices of the blocks."""
        return [p for p in self.model.encoder.layer.parameters() if p.ndim == 2]

    def update(self, supply):
        """One step; returns the losses."""
        kind, mode = KINDS[self.below(len(KINDS))], self.modes[self.below(len(self.modes))]
        kind = "photos" if kind == "film" and not supply.films else kind
        sizes = JOINT_SIZES if mode == "clip" else SCENE_SIZES if kind == "scenes" else SIZES
        height, width = sizes[self.below(len(sizes))]
        rows, columns = height // PATCH, width // PATCH
        steps = [2, 4][self.below(2)] if mode == "clip" else views(rows * columns)
        batch = max(2, TOKENS // (steps * rows * columns))
        goals, places, losses, loss = None, None, {}, 0
        if kind == "scenes":
            pictures, owner, poses, thing = supply.draw_true(batch, steps, height, width, mode)
        else:
            drawn = supply.draw_real(batch, steps, height, width, mode, kind == "film")
            pictures, owner, poses, thing, goals = drawn
            goals = goals.flatten(-2).transpose(-1, -2)  # (batch, steps, 2, patches, CHANNELS)
        if mode == "clip" and self.below(2):
            places = self.kept_places(batch, rows, columns)
        x = self.encode(normalised(pictures), mode, places)  # (batch, steps, n, channels)
        if kind != "film" and steps > 1:
            other = (torch.arange(steps) + 1 + self.below(steps - 1)) % steps
            truth = matches(owner, poses, other)
            truth = truth if places is None else kept(*truth, places, steps)
            match, motion, losses = self.truth(x, other, *truth, thing, mode)
            loss = MATCH_WEIGHT * match + motion
        if goals is not None:
            if places is not None:
                chosen = places[:, None, None, :, None].expand(*goals.shape[:3], -1, CHANNELS)
                goals = goals.gather(3, chosen)
            # A crop cannot know the rest of its photograph: what differs within it is compared.
            inside, goals = (t - t.mean(-2, keepdim=True) for t in (x, goals))
            read = torch.stack([readout(inside) for readout in self.readouts], 2)  # as goals
            taught = 1 - F.cosine_similarity(read, goals, dim=-1).mean()
            likeness = unlike(inside, goals.mean(2))
            loss = loss + TEACH_WEIGHT * taught + LIKE_WEIGHT * likeness
            losses |= {"taught": taught.item(), "unlike": likeness.item()}
        if places is None:
            place, whole = shared_place(x), picture_share(x)
            loss = loss + PLACE_WEIGHT * place + PICTURE_WEIGHT * whole
            losses |= {"place": place.item(), "picture": whole.item()}
        self.descend(loss)
        return losses


def views(patches):
    """Steps of a clip, given the patches of a frame: the larger the frames, the fewer."""
    return 2 if patches <= 400 else 1


def supply(seed, device, teacher, photos, clips, targets):
    return Lessons(seed, device, prepare(teacher, photos, clips, targets))


if __name__ == "__main__":
    train(Teaching, supply, "learning from a teacher", steps=3700, folders=FOLDERS)
