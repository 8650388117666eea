"""Room for motion in the inflated encoder, and which way things move: fitted in a minute.

    python -m demo.recipe.motion --start runs/inflated --out runs/motion --photos PHOTOS

Products of changes in time and in space tell which way something moves. An image encoder has no
room for them, and gradient descent does not find them through all blocks: what they are made of is
a tiny share of a token's variance. So room is made, and filled before training: in the first blocks
the units of the MLPs that contribute least are given up; the kernels of the two frames are made to
differ, by cosines of low frequency, along the directions that vary least in the residual stream;
and the free units of block 1 are fitted alone, to give the motion of a patch of a photograph that
moves as a whole, from a few cosines of the patch's change and of its mean, each decorrelated, which
the block reads off its tokens linearly. What they tell is added along three of those directions. A
still picture gives nearly what it gave.
"""

import argparse
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from torch.nn.utils import parametrize
from tqdm import tqdm
from transformers import VJEPA2Config, VJEPA2Model

from demo.recipe.training import PATCH, normalised
from demo.recipe.truth import look_up, patch_centres
from demo.render.scenes import compose, invert, pose, transform
from vjepa_utils.model.vjepa2 import encode_layers, encode_tokens
from vjepa_utils.weights.models import load_model

BLOCKS, UNITS = 3, 256  # the first blocks, and the units of each that are given up
DIRECTIONS = 64  # of a token that change in time writes into
WAVES, SIZE = 8, 0.08  # frequencies in y and in x of its kernels, and their size
LOW = 6  # frequencies in y and in x together, at most, that the fitted units see
SIDE = 256  # pixels of a picture
PHOTOS, PAIRS, STEPS, BATCH = 40, 2500, 5000, 2048  # to find room; to fit; of the fit; its patches
FLOW, FASTEST = 4.0, 5.0  # pixels, the unit of motion in losses; of these, what is faster counts so
OUT = 0.8  # of a token's channel for a unit of motion


class MeanAndDifference(nn.Module):
    """The kernels of a tubelet (channels, 3, 2, patch, patch) as their mean over the two frames and
    half their difference.
    """

    def forward(self, mean, difference):
        return torch.stack([mean + difference, mean - difference], 2)

    def right_inverse(self, weight):
        first, second = weight.unbind(2)
        return (first + second) / 2, (first - second) / 2


class Split(nn.Module):
    """A weight as two parameters, the last `UNITS` along a dimension by themselves."""

    def __init__(self, dim):
        super().__init__()
        self.dim = dim

    def forward(self, old, new):
        return torch.cat([old, new], self.dim)

    def right_inverse(self, weight):
        return weight.split([weight.shape[self.dim] - UNITS, UNITS], self.dim)


def split_kernels(encoder):
    """Makes the kernels of both frames their mean and half difference; gives these parameters."""
    patches = encoder.embeddings.patch_embeddings.proj
    parametrize.register_parametrization(patches, "weight", MeanAndDifference())
    return patches.parametrizations.weight.original0, patches.parametrizations.weight.original1


def split_units(encoder):
    """Splits the last units of the first blocks' MLPs from the others; gives, of each block, the
    new parameters: weights and biases into the units, weights out of them.
    """
    new = []
    for block in encoder.layer[:BLOCKS]:
        fc1, fc2 = block.mlp.fc1, block.mlp.fc2
        for linear, name, dim in ((fc1, "weight", 0), (fc1, "bias", 0), (fc2, "weight", 1)):
            parametrize.register_parametrization(linear, name, Split(dim))
        new.append([fc1.parametrizations[name].original1 for name in ("weight", "bias")])
        new[-1].append(fc2.parametrizations.weight.original1)
    return new


def without_splits(model):
    """Weights as a transformers `VJEPA2Model` has them, of a model with split ones."""
    weights = {n: w for n, w in model.weights().items() if ".parametrizations." not in n}
    for place, module in model.named_modules():
        for name in getattr(module, "parametrizations", {}):
            weights[f"{place}.{name}"] = getattr(module, name).detach()
    return weights


def waves(side, count):
    """(count², side, side): the lowest frequencies of a cosine transform, of unit norm."""
    x = torch.arange(side) + 0.5
    one = torch.stack([torch.cos(torch.pi * n * x / side) for n in range(count)])
    one = one / one.norm(dim=1, keepdim=True)
    return torch.einsum("ay,bx->abyx", one, one).flatten(0, 1)


@torch.no_grad()
def make_room(model, pixels):
    """Room for motion: the units of the first MLPs are reordered, the ones that contribute least
    last and anew, and the two frames' kernels are made to differ along the directions that vary
    least in the residual stream.

    Args:
        model: a `VJEPA2`, changed in place.  pixels: (batch, 2, 3, height, width), normalised.
    """
    encoder, seen = model.encoder, {}
    keep = lambda name: lambda _, inputs: seen.update({name: inputs[0].flatten(0, 1).clone()})
    hooks = [encoder.layer[0].register_forward_pre_hook(keep("patches"))]
    hooks += [b.mlp.fc2.register_forward_pre_hook(keep(b)) for b in encoder.layer[:BLOCKS]]
    stream = encode_layers(model, pixels, range(1, len(encoder.layer) + 1))
    for hook in hooks:
        hook.remove()
    covariances = [x.flatten(0, -2).T.cov() for x in (seen["patches"], *stream)]
    directions = torch.linalg.eigh(sum(c / c.trace() for c in covariances))[1][:, :DIRECTIONS]
    for block in encoder.layer[:BLOCKS]:
        fc1, fc2, x = block.mlp.fc1, block.mlp.fc2, seen[block]
        order = (x.var(0) * fc2.weight.square().sum(0)).argsort(descending=True)
        fc2.bias += fc2.weight[:, order[-UNITS:]] @ x.mean(0)[order[-UNITS:]]
        fc1.weight.copy_(fc1.weight[order])
        fc1.bias.copy_(fc1.bias[order])
        fc2.weight.copy_(fc2.weight[:, order])
        fresh = torch.randn(UNITS, fc1.in_features).to(directions)
        fresh += 2 * (fresh @ directions) @ directions.T
        fc1.weight[-UNITS:] = fresh / fc1.in_features**0.5
        fc1.bias[-UNITS:] = 0
        fc2.weight[:, -UNITS:] = 0
    kernels = encoder.embeddings.patch_embeddings.proj.weight
    difference = directions @ waves(PATCH, WAVES).flatten(1) * SIZE  # (channels, patch²)
    difference = difference.view(-1, 1, PATCH, PATCH).to(kernels)
    mean = kernels.mean(2)
    kernels.copy_(torch.stack([mean + difference, mean - difference], 2))
    return directions


def moving_pair(photo, number):
    """Two frames of a part of a photograph that moves as a whole; one pair in five is still.

    Args:
        photo: (3, height, width), 0 to 1.  number: gives a random number between two.
    Returns:
        (2, 3, SIDE, SIDE), 0 to 1, and the flow of the patches (patches, 2), pixels.
    """
    size = torch.tensor(photo.shape[:0:-1])
    scale, moves = 2 ** number(-1.3, 0.3), number(0, 1) > 0.2  # of a frame's pixel in the photo's
    reach = torch.minimum(torch.tensor(0.75 * scale * SIDE), size / 2)
    x, y = (number(float(r), float(n - r)) for r, n in zip(reach, size, strict=True))
    speed, towards = moves * 2 ** number(-1.5, 4.2), number(0, 2 * math.pi)
    middle = 2 * (SIDE / 2,)
    motion = pose(
        SIDE / 2 + speed * math.cos(towards),
        SIDE / 2 + speed * math.sin(towards),
        moves * number(-0.03, 0.03),
        math.exp(moves * number(-0.03, 0.03)),
        centre=middle,
    )
    view = pose(x, y, number(-0.3, 0.3), scale, centre=middle)  # of the first frame in the photo
    side = torch.arange(SIDE) + 0.5
    pixels = torch.stack(torch.meshgrid(side, side, indexing="xy"), -1)
    grids = torch.stack([transform(m, pixels) for m in (view, compose(view, invert(motion)))])
    frames = F.grid_sample(
        photo.expand(2, -1, -1, -1),
        grids / size * 2 - 1,
        padding_mode="reflection",
        align_corners=False,
    )
    centres = patch_centres(SIDE // PATCH, SIDE // PATCH)
    return frames, transform(motion, centres) - centres


@torch.no_grad()
def examples(model, files, generator):
    """What the MLP of block 1 sees of moving photographs, and what it is to tell.

    Args:
        model: a `VJEPA2` with room.  files: of photographs.
    Returns:
        tokens (patches, channels) after its norm; waves (patches, 2 × low frequencies) of the
        change and of the mean of each patch's grey values, divided as the norm divides the token;
        flow (patches, 2), units of FLOW.
    """
    number = lambda low, high: float(low + (high - low) * torch.rand((), generator=generator))
    order = torch.arange(WAVES)
    low = waves(PATCH, WAVES)[(order[:, None] + order).flatten() <= LOW].flatten(1)
    norm, seen = model.encoder.layer[0].norm2, []
    hook = norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][0].clone()))
    tokens, cosines, flow = [], [], []
    for _ in tqdm(range(PAIRS), desc="moving photographs"):
        file = files[int(torch.randint(len(files), (), generator=generator))]
        photo = opened(file) ** number(0.7, 1.4) * number(0.7, 1.2)
        frames, motion = moving_pair(photo.clamp(0, 1), number)
        frames = frames + number(0, 0.03) * torch.randn(frames.shape, generator=generator)
        frames = normalised(frames.clamp(0, 1))
        encode_tokens(model, frames[None], layer=1)
        patches = F.unfold(frames.mean(1, keepdim=True), PATCH, stride=PATCH)  # (2, patch², n)
        first, second = low @ patches
        both = torch.cat([first - second, (first + second) / 2]).T
        cosines.append(both / seen[-1].std(-1, keepdim=True))
        tokens.append(norm(seen[-1]))
        flow.append((motion / FLOW).clamp(-FASTEST, FASTEST))
    hook.remove()
    return torch.cat(tokens), torch.cat(cosines), torch.cat(flow)


def fit(model, directions, files, generator):
    """Fit the free units of block 1 to the motion of whole photographs, in place."""
    tokens, cosines, flow = examples(model, files, generator)
    mean = tokens.mean(0)
    covariance = (tokens - mean).T @ (tokens - mean)
    damped = covariance + 1e-8 * covariance.trace() * torch.eye(len(mean))
    read = torch.linalg.solve(damped, (tokens - mean).T @ (cosines - cosines.mean(0)))
    read = read / ((tokens - mean) @ read).std(0)  # (channels, waves)
    seen, moves = (tokens - mean) @ read, (flow.norm(dim=1) > 0.25).float()
    network = nn.Sequential(nn.Linear(seen.shape[1], UNITS), nn.GELU(), nn.Linear(UNITS, 3))
    nn.init.normal_(network[0].weight, std=seen.shape[1] ** -0.5)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.02)
    for step in tqdm(range(STEPS), desc="fitting the units of block 1"):
        optimizer.param_groups[0]["lr"] = 4e-3 * min(1, step / 50) * (1 - step / STEPS)
        chosen = torch.randint(len(seen), (BATCH,), generator=generator)
        told = network(seen[chosen])
        loss = 2 * F.smooth_l1_loss(told[:, 1:], flow[chosen])
        loss += 0.3 * F.binary_cross_entropy_with_logits(told[:, 0], moves[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    into, out = network[0], network[2].weight.detach()
    mlp = model.encoder.layer[0].mlp
    with torch.no_grad():
        weight = into.weight @ read.T  # (units, channels)
        mlp.fc1.weight[-UNITS:], mlp.fc1.bias[-UNITS:] = weight, into.bias - weight @ mean
        # a logit is large where a flow is small
        out = directions[:, :3] @ (OUT * torch.tensor([0.1, 1, 1])[:, None] * out)
        mlp.fc2.weight[:, -UNITS:] = out
        mlp.fc2.bias -= out @ F.gelu(into(seen)).mean(0)


def opened(file):
    """A picture as (3, height, width) from 0 to 1."""
    picture = np.array(Image.open(file).convert("RGB"))
    return torch.from_numpy(picture).permute(2, 0, 1).float() / 255


def flows(owner, poses):
    """Where each patch's point goes between the two frames of a step.

    Args:
        owner, poses: of `TrueClips.draw_true`.
    Returns:
        layer (batch × steps, patches), flow (batch × steps, patches, 2) in pixels, and whether the
        patch shows that layer in both frames.
    """
    rows, columns = (n // PATCH for n in owner.shape[-2:])
    owner, poses = owner.flatten(0, 1), poses.flatten(0, 1)
    points = patch_centres(rows, columns, owner.device).expand(len(owner), -1, -1)
    layer = look_up(owner[:, 0], points)
    here = torch.arange(len(owner), device=owner.device)[:, None]
    after = transform(poses[here, 1, layer], transform(invert(poses[here, 0, layer]), points))
    return layer, after - points, look_up(owner[:, 1], after) == layer


def motion_losses(read, thing, owner, poses, visible=lambda t: t):
    """Losses of a readout of what moves, and how.

    Args:
        read: (batch, steps, patches, 3).  thing, owner, poses: of `TrueClips.draw_true`.
        visible: gives the patches that were encoded, of (batch, steps, patches, n).
    Returns:
        cross-entropy of "it moves"; error of the flow where the point stays visible, and what it
        would be if nothing moved.
    """
    steps = read.shape[1]
    layer, flow, stays = flows(owner, poses)
    moves = thing.repeat_interleave(steps, 0).gather(1, layer.clamp_min(0)) > 0
    flow = (flow / FLOW).clamp(-FASTEST, FASTEST)
    truth = torch.cat([moves.unsqueeze(-1), stays.unsqueeze(-1), flow], -1)
    moves, stays, flow = visible(truth.unflatten(0, (-1, steps))).split([1, 1, 2], -1)
    mean = lambda error: (error * stays).sum() / (2 * stays.sum()).clamp_min(1)
    return (
        F.binary_cross_entropy_with_logits(read[..., :1], moves),
        mean(F.smooth_l1_loss(read[..., 1:], flow, reduction="none")),
        mean(F.smooth_l1_loss(torch.zeros_like(flow), flow, reduction="none")),
    )


def main():
    parser = argparse.ArgumentParser(description="make room for motion, and fit it")
    parser.add_argument("--start", required=True, help="folder of the inflated model")
    parser.add_argument("--out", required=True, help="folder of the model")
    parser.add_argument("--photos", required=True, help="folder of photographs (.jpg)")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    files = sorted(Path(arguments.photos).glob("*.jpg"))
    if not files:
        parser.exit(1, f"error: {arguments.photos} holds no photographs (.jpg)\n")
    try:
        model = load_model(Path(arguments.start), torch.float32)
    except ValueError as error:  # no model in that folder
        parser.exit(1, f"error: {error}\n")
    size = SIDE, SIDE
    stills = [
        F.interpolate(opened(file)[None], size, mode="bilinear", antialias=True)
        for file in files[:: math.ceil(len(files) / PHOTOS)]
    ]
    stills = normalised(torch.cat(stills))[:, None].expand(-1, 2, -1, -1, -1)
    fit(model, make_room(model, stills), files, torch.Generator().manual_seed(0))
    made = VJEPA2Model(VJEPA2Config(**model.config.to_diff_dict()))
    made.load_state_dict(model.weights())
    made.save_pretrained(arguments.out)


if __name__ == "__main__":
    main()
