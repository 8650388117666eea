"""What is true of a clip: the layer that each patch shows, and where its point is in other frames.

A renderer knows where every point of a scene goes, which supervises matching (the feature of a
patch finds the patch that shows the same point in another frame) and motion (what moves, and how).
"""

import torch
import torch.nn.functional as F

from demo.recipe.training import PATCH, Clips
from demo.render.scenes import compose, invert, normal, pose, transform, uniform

# patches: how far from the true place a patch counts, and how much the wide part
NARROW, WIDE, WIDE_SHARE = 0.5, 2.0, 0.3


class TrueClips(Clips):
    """Clips with ground truth: the layer of each patch, and where its point is in every frame."""

    def draw_true(self, batch, steps, height, width, mode):
        """`batch` clips of `steps` tubelets.

        Returns:
            pictures (batch, steps, 2, 3, height, width) float, 0 to 1.
            owner (batch, steps, 2, height, width): the layer that each pixel shows.
            poses (batch, steps, 2, layers, 2, 3): pixels of a layer's picture to pixels of the
                frame.
            thing (batch, layers): 0 for what is still in the world.
        """
        drawn = []
        for _ in range(batch):
            scene = self.pool[self.below(len(self.pool))]
            frames, owner, poses, thing = scene
            numbers, apart = self.moments(steps, mode)
            own_window = mode != "clip" and self.below(2)
            smallest, mirrored = self.number(0.4, 1), self.below(2)
            window = self.window(scene, height, width, smallest)
            clip = []
            for number in numbers:
                if own_window:
                    window = self.window(scene, height, width, max(smallest, 0.5))
                clip.append(
                    self.step(scene, (number, number + apart), window, height, width, mirrored)
                )
            pictures, owners, placed = (torch.stack(part) for part in zip(*clip, strict=True))
            drawn.append((self.light(pictures), owners, placed, thing))
        return [torch.stack(part) for part in zip(*drawn, strict=True)]

    def moments(self, steps, mode):
        """The first frame of each step, of the 16 of a scene, and how far apart a step's two frames
        are.
        """
        apart = (
            0
            if mode == "frame"
            else 1 + self.below(3 if mode == "pair" else max(1, min(3, 15 // (2 * steps - 1))))
        )
        if mode == "clip":
            first = self.below(16 - apart * (2 * steps - 1))
            return [first + 2 * apart * s for s in range(steps)], apart
        return torch.randperm(16 - apart, generator=self.generator)[:steps].tolist(), apart

    def step(self, scene, numbers, window, height, width, mirrored):
        """Two frames of a scene seen through a window, with their owners and poses."""
        frames, owner, poses, _ = scene
        top, left, rows, columns = window
        inside = slice(top, top + rows), slice(left, left + columns)
        pictures = torch.stack([frames[n][:, *inside] for n in numbers]).float() / 255
        pictures = F.interpolate(
            pictures, (height, width), mode="bilinear", align_corners=False, antialias=True
        ).clamp(0, 1)
        owners = F.interpolate(
            torch.stack([owner[n][inside] for n in numbers])[None].float(),
            (height, width),
            mode="nearest-exact",
        )[0]
        x, y = width / columns, height / rows
        view = pose(-left * x, -top * y, 0, x, y)
        if mirrored:
            pictures, owners = pictures.flip(-1), owners.flip(-1)
            view = compose(pose(width, 0, 0, -1, 1), view)
        return (
            pictures,
            owners.long(),
            compose(view.to(poses), torch.stack([poses[n] for n in numbers])),
        )

    def light(self, pictures):
        """Other colours for the whole clip, a little more or less light in each step, grain, and
        sometimes blur.
        """
        spread = normal(self.generator, 3, 3, device=self.device)
        channels = torch.eye(3, device=self.device) + self.number(0, 0.15) * spread
        mixed = torch.einsum(
            "sfchw,dc->sfdhw", pictures, channels / channels.sum(1, keepdim=True).clamp_min(0.5)
        )
        gain = uniform(
            self.generator, 0.85, 1.15, len(pictures), 1, 1, 1, 1, device=self.device
        ) * self.number(0.7, 1.2)
        mixed = mixed.clamp(0, 1) ** self.number(0.7, 1.4) * gain
        if self.below(4) == 0:
            small = F.interpolate(
                mixed.flatten(0, 1), scale_factor=0.5, mode="bilinear", antialias=True
            )
            mixed = F.interpolate(small, mixed.shape[-2:], mode="bilinear").view(mixed.shape)
        grain = normal(self.generator, *mixed.shape, device=self.device)
        return (mixed + self.number(0, 0.03) * grain).clamp(0, 1)


def patch_centres(rows, columns, device=None):
    """(rows × columns, 2) as x, y in pixels."""
    y, x = torch.meshgrid(
        torch.arange(rows, device=device), torch.arange(columns, device=device), indexing="ij"
    )
    return (torch.stack([x, y], -1).flatten(0, 1) + 0.5) * PATCH


def look_up(owner, points):
    """The layer at points (batch, n, 2) of maps (batch, H, W); -1 outside."""
    x, y = points.floor().long().unbind(-1)
    height, width = owner.shape[1:]
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    found = owner.flatten(1).gather(1, y.clamp(0, height - 1) * width + x.clamp(0, width - 1))
    return torch.where(inside, found, -1)


def matches(owner, poses, other):
    """Where each patch's point is in another step.

    Args:
        owner, poses: of `TrueClips.draw_true`.  other: (steps,) which step each step looks into.
    Returns:
        (batch × steps, patches, patches): for each patch, how much each patch of the other step is
        its match; rows sum to one, or are all zero where the point is hidden or mixed there.
    """
    rows, columns = (n // PATCH for n in owner.shape[-2:])
    centres = patch_centres(rows, columns, owner.device)
    flat = lambda x: x.flatten(0, 1)  # (batch × steps, …)
    first, second = flat(owner)[:, 0], flat(owner)[:, 1]
    every = centres.expand(len(first), -1, -1)
    layer = look_up(first, every)  # (batch × steps, patches)
    pure = layer == look_up(second, every)
    here = torch.arange(len(first), device=owner.device)[:, None]
    on_layer = transform(invert(flat(poses)[here, 0, layer]), every)
    # in the first frame of the other step
    there = transform(flat(poses[:, other])[here, 0, layer], on_layer)
    seen = pure & (look_up(flat(owner[:, other])[:, 0], there) == layer)
    other_layer = look_up(flat(owner[:, other])[:, 0], every)
    distance = torch.cdist(there / PATCH, every / PATCH).masked_fill(
        layer.unsqueeze(2) != other_layer.unsqueeze(1), 1e4
    )
    target = 0
    for reach, share in ((NARROW, 1 - WIDE_SHARE), (WIDE, WIDE_SHARE)):
        near = torch.exp(-((distance / reach) ** 2) / 2)
        target = target + share * near / near.sum(-1, keepdim=True).clamp_min(1e-6)
    return target * seen.unsqueeze(-1)


def kept(target, places, steps):
    """What `matches` gives, at the visible places (batch, k) alone."""
    everywhere = places.repeat_interleave(steps, 0)  # (batch × steps, k)
    rows = target.gather(1, everywhere.unsqueeze(-1).expand(-1, -1, target.shape[-1]))
    return rows.gather(2, everywhere.unsqueeze(1).expand(-1, places.shape[1], -1))
