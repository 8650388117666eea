"""A predictor that copies what is near, before it has learnt anything: a start for `predict`.

Block 1 gives a hidden token the mean of the visible ones around it. With queries and keys that are
the same for all tokens, rotary positions make attention a function of the distance alone; a channel
that tells mask tokens from others turns it away from these. Values are tokens on the principal axes
of what is predicted. The other blocks add nothing yet. From random weights a predictor takes
thousands of steps to come as far.

    python -m demo.recipe.copying --start runs/adapt/model --out runs/copying \\
        --teacher facebook/dinov2-small --photos PHOTOS --clips CLIPS --targets runs/added
"""

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from transformers import VJEPA2Model

from demo.recipe.adapt import supply
from demo.recipe.targets import FOLDERS
from demo.recipe.training import normalised
from vjepa_utils.model.vjepa2 import encode_tokens
from vjepa_utils.weights.models import load_model

FLAG = 3.0  # size of the channel that tells visible tokens (+) from mask tokens (−)
BARRIER = 16.0  # of a score between the two
# What a score loses with distance, of cosines of two pairs of frequencies: along steps, rows and
# columns, each of (1, 0.4) and of (0.16, 0.06) radians a token
FALL = ((1.5, 3.0), (3.0, 6.0), (3.0, 6.0))
FLATTER = 0.7  # of each further head: the axes that vary less are noisier


@torch.no_grad()
def principal_axes(model, batches, count):
    """What the predictor is to predict, on few axes.

    Args:
        model: a `VJEPA2`.  batches: of pixels (batch, frames, 3, height, width), normalised.
        count: of axes.
    Returns:
        mean (channels,) of layer-normed tokens; their principal axes (channels, count), the first
        of most variance; variance along these, in all.
    """
    tokens = [encode_tokens(model, pixels).float().flatten(0, 1) for pixels in batches]
    tokens = torch.cat([F.layer_norm(x, x.shape[-1:]) for x in tokens])
    variances, axes = (x.flip(-1)[..., :count] for x in torch.linalg.eigh(tokens.T.cov()))
    return tokens.mean(0), axes, variances.sum().item()


def constants(fall, pairs):
    """Entries of a query, and of its key, for one axis of the grid, (4 × pairs,): even channels of
    the first half, odd ones of the second.

    Channels 2j and 2j + 1 rotate by frequencies of their own, and the second half repeats those of
    the first. An even channel alone gives cos·cos + sin·sin of unlike frequencies at two places, an
    odd one the other halves; both together give the cosine of the distance, for either frequency.
    """
    out = torch.zeros(2, pairs, 2)
    for pair, weight in enumerate(fall):
        out[0, pair, 0] = out[1, pair, 1] = weight**0.5
    return out.flatten()


@torch.no_grad()
def start_by_copying(model, mean, axes, variance):
    """Make the predictor of a model copy, in place.

    Args:
        model: a `VJEPA2` whose predictor has heads of 60 to 64 channels.
        mean, axes, variance: of `principal_axes`, with two axes fewer than the predictor has
            channels.
    """
    prefix, config = "predictor.", model.config
    width, heads = config.pred_hidden_size, config.pred_num_attention_heads
    size = width // heads
    group = 2 * (size // 3 // 2)  # channels of a head for one axis of the grid
    # Of the predictor's channels: what a layer norm takes away, the flag, the axes
    first = torch.ones(width, 1) / width**0.5
    basis = torch.linalg.qr(torch.cat([first, torch.randn(width, width - 1)], 1))[0]
    flag, inner = basis[:, 1], basis[:, 2:]  # (width,), (width, count)
    weights = {name: w.clone() for name, w in model.weights().items()}

    def put(name, weight, bias=None):
        weights[f"{prefix}{name}.weight"] = weight
        weights[f"{prefix}{name}.bias"] = torch.zeros(len(weight)) if bias is None else bias

    put("embeddings.predictor_embeddings", inner @ axes.T, FLAG * flag - inner @ (axes.T @ mean))
    weights[f"{prefix}embeddings.mask_tokens"] = -FLAG * flag.expand(1, 1, 1, -1)
    spread = ((variance + FLAG**2) / width) ** 0.5  # of a visible token over the channels
    query, key = torch.zeros(width), torch.zeros(width)
    look = torch.zeros(width, width)  # of the key for the flag
    values = torch.zeros(width, width)  # (heads' channels, the predictor's)
    for head in range(heads):
        start = head * size
        for axis, fall in enumerate(FALL):
            flat = [w * FLATTER**head * size**0.5 for w in fall]
            at = slice(start + axis * group, start + (axis + 1) * group)
            query[at] = key[at] = constants(flat + [0] * (group // 4 - len(flat)), group // 4)
        free = start + 3 * group  # is not rotated
        query[free] = 1.0
        # a mask token has nothing but its flag, which its norm makes sqrt(width)
        look[free] = BARRIER * size**0.5 / (width**0.5 + FLAG / spread) * flag
        own = inner[:, start : start + size].T
        values[start : start + len(own)] = own
    put("layer.0.attention.query", torch.zeros(width, width), query)
    put("layer.0.attention.key", look, key)
    put("layer.0.attention.value", values)
    put("layer.0.attention.proj", spread * values.T)
    for number in range(config.pred_num_hidden_layers):
        for name in ("attention.proj", "mlp.fc2") if number else ("mlp.fc2",):
            shape = weights[f"{prefix}layer.{number}.{name}.weight"].shape
            put(f"layer.{number}.{name}", torch.zeros(shape))
    # the final norm makes a hidden token, axes and flag, sqrt(width) long
    put("proj", axes @ inner.T * (variance / width) ** 0.5, mean)
    device = model.device
    model.take_weights({name: w.to(device) for name, w in weights.items()})


def main():
    parser = argparse.ArgumentParser(description="a predictor that copies what is near")
    parser.add_argument("--start", required=True, help="folder of the model with the encoder")
    parser.add_argument("--out", required=True, help="folder of the model")
    for name, text in FOLDERS.items():
        parser.add_argument(f"--{name}", help=text, required=name != "clips")
    parser.add_argument("--batches", type=int, default=60, help="default: %(default)s")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    try:
        model = load_model(Path(arguments.start), torch.float32)
    except ValueError as error:  # no model in that folder
        parser.exit(1, f"error: {error}\n")
    lessons = supply(0, "cpu", *(getattr(arguments, name) for name in FOLDERS))
    batches = (
        normalised(lessons.draw_real(2, 4, 160, 224, "clip", bool(lessons.films) and n % 4 == 0)[0])
        for n in range(arguments.batches)
    )
    count = model.config.pred_hidden_size - 2
    start_by_copying(model, *principal_axes(model, (p.flatten(1, 2) for p in batches), count))
    written = VJEPA2Model(model.config)
    written.load_state_dict(model.weights())
    written.save_pretrained(arguments.out)


if __name__ == "__main__":
    main()
