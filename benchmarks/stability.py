"""How much of a token is content, and how much its place in the window; and stills fed more often:
python -m benchmarks.stability [ENCODER ...]

Windows of 16 frames, two frames apart, over real or shipped clips; `random weights` is the control.
"""

import argparse

import numpy as np
import torch

import vjepa_utils as vj
from benchmarks import pages
from benchmarks.baselines import random_weights

CLIPS = "videos/kitesurfing.mp4", "videos/monkey.mp4"
REPEATS = 2, 4, 8, 16


def stillness(video, encoder, repeats=REPEATS, size=None):
    """{how often a frame is fed: mean cosine of its tokens with those of the most often fed}."""
    fed = {n: encoder.encode(video, "frame", size, repeat=n).values for n in repeats}
    cosine = lambda x: torch.cosine_similarity(x, fed[max(repeats)], dim=-1)
    return {n: float(cosine(x).mean()) for n, x in fed.items()}


def main():
    parser = argparse.ArgumentParser(description="Content and place of tokens in a window")
    parser.add_argument("encoders", nargs="*", default=["vjepa2-demo"], help="names")
    parser.add_argument("--clips", nargs="+", default=CLIPS, help="files")
    parser.add_argument("--context", type=int, default=16, help="frames of a window")
    pages.add_into(parser)
    arguments = parser.parse_args()
    loaded = [vj.load_encoder(name) for name in arguments.encoders]
    windows, stills = [], []
    for encoder in [*loaded, *map(random_weights, loaded)]:
        count = 2 * arguments.context + 4
        clips = [vj.read_video(path, count=count) for path in arguments.clips]
        found = [vj.stability(clip, encoder, arguments.context) for clip in clips]
        shares = [np.mean([f.shares[name] for f in found]) for name in found[0].shares]
        ends = [np.mean([f.curve[[0, -1]] for f in found]), np.mean([f.curve[1:-1] for f in found])]
        windows.append([encoder.name, *(f"{value:.3f}" for value in shares + ends)])
        cosine = [stillness(clip[:1], encoder) for clip in clips]
        stills.append([encoder.name, *(f"{np.mean([c[n] for c in cosine]):.3f}" for n in REPEATS)])
    head = ["encoder", "content", "place", "other frames", "cosine at the ends", "in the middle"]
    text = f"Shares of the variance, windows of {arguments.context} frames; means over "
    text += f"{len(arguments.clips)} clips.\n\n{pages.table(head, windows)}\n\n"
    text += "A still fed so often, cosine with 16 times:\n\n"
    text += pages.table(["encoder", *map(str, REPEATS)], stills)
    pages.publish({"benchmarks.stability": text}, arguments.into)


if __name__ == "__main__":
    main()
