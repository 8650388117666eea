"""What limits throughput on a film: frames a second when decoding, with resizing, with encoding:
python -m benchmarks.reading_speed [FILM …] [--encoder vjepa2-demo]

Each way opens the film anew and reads a few frames at a time. `encode` reads ahead: decoding and
resizing run beside the encoder, and where *encoded* is near *resized*, reading is the
bottleneck. Medians; the three ways alternate.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch

import vjepa_utils as vj
from benchmarks.machine import machine
from vjepa_utils.reading.pixels import FRAMES_AT_ONCE, resized
from vjepa_utils.reading.sources import VideoFile
from vjepa_utils.video import Video

VIDEOS = Path(__file__).parent.parent / "videos"
FILMS = [VIDEOS / "kitesurfing.mp4", VIDEOS / "monkey.mp4"]


def opened(film, count):
    """The first frames of a film, none of them decoded yet: `read_video` decodes short ones."""
    source = VideoFile(film)
    numbers = np.arange(len(source.times))[:count]
    return Video(numbers, source.times[numbers], film, source.size, source)


def read(film, count, size=None):
    """Decode, and resize to (height, width) if one is given."""
    video = opened(film, count)
    for piece in video.pieces(FRAMES_AT_ONCE):
        if size:
            [resized(frame, size) for frame in piece.frames]


def measure(film, encoder, count, size, repeats):
    """Name, sizes, and {way: frames a second}."""
    video = opened(film, count)
    picture = encoder.plan(video, size=size).size
    ways = {
        "decoded": lambda: read(film, count),
        "resized": lambda: read(film, count, picture),
        "encoded": lambda: encoder.encode(opened(film, count), size=size),
    }
    times = {way: [] for way in ways}
    for _ in range(repeats):
        for way, function in ways.items():
            start = time.perf_counter()
            function()
            times[way].append(time.perf_counter() - start)
    sizes = f"{video.width}×{video.height} to {picture[1]}×{picture[0]}"
    return sizes, {way: len(video) / statistics.median(taken) for way, taken in times.items()}


def main():
    parser = argparse.ArgumentParser(description="Frames a second: decoded, resized, encoded")
    parser.add_argument("films", nargs="*", type=Path, default=FILMS, metavar="FILM")
    parser.add_argument("--encoder", default="vjepa2-demo")
    parser.add_argument("--count", type=int, default=64, help="frames (default: %(default)s)")
    parser.add_argument("--size", type=int, help="short side of the encoded picture, in pixels")
    parser.add_argument("--repeats", type=int, default=3, help="default: %(default)s")
    arguments = parser.parse_args()
    if min(arguments.count, arguments.repeats) < 1:
        sys.exit("error: --count and --repeats must be at least 1.")
    encoder = vj.load_encoder(arguments.encoder)
    how = f"{encoder.name}, {encoder.dtype}, {torch.get_num_threads()} threads"
    print(f"{machine(encoder.device)}; {how}; frames a second")
    print(f"{'film':18}{'pixels':26}{'decoded':>9}{'resized':>9}{'encoded':>9}")
    for film in arguments.films:
        sizes, rates = measure(film, encoder, arguments.count, arguments.size, arguments.repeats)
        columns = "".join(f"{rate:9.1f}" for rate in rates.values())
        print(f"{film.name:18}{sizes:26}{columns}", flush=True)


if __name__ == "__main__":
    main()
