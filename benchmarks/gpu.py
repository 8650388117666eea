"""What a GPU does with ViT-L and ViT-g, random weights: python -m benchmarks.gpu [--minutes 5]

The encoder in bf16 beside stock transformers and torch.compile, as a share of the rate of a square
matrix product measured here; a film from the file to its features, and what bounds it; how long a
painted mask takes to its prediction. `benchmarks/gpu.sh` runs it after the tests for GPUs. --tiny
tries the program itself, on any machine.
"""

import argparse
import statistics
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from transformers import VJEPA2Config, VJEPA2Model

from benchmarks.encoder_speed import SIZES, models, multiplications, pixels_of, seconds
from benchmarks.machine import machine
from benchmarks.pages import table
from benchmarks.reading_speed import opened, read
from vjepa_utils.encoder import Encoder
from vjepa_utils.model.vjepa2 import VJEPA2, encode_tokens

FILM = Path(__file__).parent.parent / "videos" / "kitesurfing.mp4"
REPEATS, SECONDS = 5, 20  # of a measurement; that a case may take without the compiler
SIDE = 256
BATCHES = {2: (1, 16, 64, 256), 64: (1, 4, 16)}  # of so many frames each


def median(function, device):
    """Seconds of a call, without the first."""
    function()
    return statistics.median(seconds(function, device) for _ in range(REPEATS))


def matrix_rate(device, dtype, side):
    """Operations a second of a product of two square matrices."""
    a, b = torch.randn(2, side, side, device=device).to(dtype)
    return 2 * side**3 / median(lambda: a @ b, device)


def encoders(names, batches, side, device, dtype, rate, left):
    """A row of the table for each model, number of frames and batch, while there is time."""
    for name in names:
        stock, ours = models(name, dtype, device)
        compiled = torch.compile(encode_tokens)
        for frames, sizes in batches.items():
            for batch in sizes:
                if left() < SECONDS:
                    yield [name, frames, batch, *["no time"] * 5]
                    continue
                pixels = pixels_of((batch, frames, side, side), dtype, device)
                ways = [partial(stock, pixels, skip_predictor=True)]
                ways.append(partial(encode_tokens, ours, pixels))
                # the compiler takes a minute
                if device.type == "cuda" and batch == sizes[-1] and left() > 4 * SECONDS:
                    ways.append(partial(compiled, ours, pixels))
                try:
                    yield [name, frames, batch, *row(ways, ours, pixels, device, rate)]
                except torch.OutOfMemoryError:
                    yield [name, frames, batch, *["no memory"] * 5]


def row(ways, ours, pixels, device, rate):
    """Clips a second of stock, this project and compiled; share of the rate; memory of a call."""
    batch, frames, _, height, width = pixels.shape
    times = [median(way, device) for way in ways]
    work = multiplications(ours.config, batch, frames, height, width)
    memory = "–"
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        ways[1]()
        memory = f"{(torch.cuda.max_memory_allocated() - before) / 2**30:.2f} GiB"
    speeds = [f"{batch / taken:.1f}" for taken in times] + ["–"] * (3 - len(times))
    return *speeds, f"{work / min(times[1:]) / rate:.0%}", memory


def whole_encoder(name, device, dtype):
    """An `Encoder` with random weights and a predictor."""
    narrow = dict(pred_hidden_size=24, pred_num_attention_heads=2) if name == "tiny" else {}
    config = VJEPA2Config(**SIZES[name], **narrow)
    with device:
        weights = VJEPA2Model(config).to(dtype).state_dict()
    model = VJEPA2(config).take_weights(weights).eval().requires_grad_(False)
    return Encoder(model, name, torch.zeros(3, 1, 1), torch.ones(3, 1, 1))


def film(encoder, count, side):
    """{part: frames a second} of a film: each part alone, then all in `encode`."""
    device, video = encoder.device, opened(FILM, count)
    plan = encoder.plan(video, size=side)
    contexts = min(encoder.at_once(plan), count // 2)
    pinned = torch.zeros(2 * contexts, 3, *plan.size, pin_memory=device.type == "cuda")
    there = pinned.to(device).unflatten(0, (contexts, 2))
    wall = partial(median, device=torch.device("cpu"))  # by the clock
    decoding, reading = wall(lambda: read(FILM, count)), wall(lambda: read(FILM, count, plan.size))
    parts = {
        "decode": count / decoding,
        "read": count / reading,  # decoded and resized, by one thread
        "copy": 2 * contexts / median(lambda: pinned.to(device, non_blocking=True), device),
        "encode": 2 * contexts / median(lambda: encode_tokens(encoder.model, there), device),
    }
    return parts | {"all": count / wall(lambda: encoder.encode(opened(FILM, count), size=side))}


def painting(encoder, frames, side):
    """Seconds to hold a clip, and from a painted mask to its prediction."""
    video = opened(FILM, frames)
    hold = lambda: encoder.hold(video, side)
    held, cpu = hold(), torch.device("cpu")
    hidden = np.zeros(held.grid, bool)
    hidden[:, held.grid[1] // 3 :, held.grid[2] // 3 :] = True
    return median(hold, cpu), median(lambda: held.recover(hidden, mask_token=0), cpu)


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description="What a GPU does with ViT-L and ViT-g")
    parser.add_argument("--minutes", type=float, default=5, help="default: %(default)s")
    parser.add_argument("--tiny", action="store_true", help="try the program on any machine")
    arguments = parser.parse_args()
    if not (arguments.tiny or torch.cuda.is_available()):
        parser.exit(1, "error: there is no GPU; --tiny tries the program without one\n")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    names, batches, side, dtype = ["vitl", "vitg"], BATCHES, SIDE, torch.bfloat16
    if arguments.tiny:
        names, batches, side, dtype = ["tiny"], {2: (1, 2), 8: (1,)}, 48, torch.float32
    end = time.monotonic() + 60 * arguments.minutes
    rate = matrix_rate(device, dtype, 128 if arguments.tiny else 8192)
    print(f"{machine(device)}; {rate / 1e12:.3g} TFLOP/s in {dtype}\n", flush=True)
    encoder = whole_encoder(names[0], device, dtype)
    count = 8 if arguments.tiny else 64
    rates = film(encoder, count, side)
    slowest = min(("read", "copy", "encode"), key=rates.get)
    print(table([*rates], [[f"{value:.0f}" for value in rates.values()]]))
    print(f"\nFrames a second of {FILM.name} with {encoder.name}; {slowest} bounds it.\n")
    held, predicted = painting(encoder, 16, side)
    print(
        f"{encoder.name}, 16 frames: held in {held:.3f} s, painted to predicted {predicted:.3f} s"
    )
    del encoder
    head = ["", "frames", "batch", "stock", "ours", "compiled", "of the rate", "memory"]
    print(f"\nClips a second at {side}×{side}:\n", flush=True)
    left = lambda: end - time.monotonic()
    print(table(head, []))
    for line in encoders(names, batches, side, device, dtype, rate, left):
        print(f"| {' | '.join(map(str, line))} |", flush=True)


if __name__ == "__main__":
    main()
