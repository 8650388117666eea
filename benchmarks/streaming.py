"""Long films: memory, a run that is killed, and the gain from prefetching: python -m
benchmarks.streaming [--minutes 10]

A film of 1280×720 pixels and 10 seconds, and the same film repeated for ten minutes, are encoded to
a file, each in its own process, whose anonymous memory (backed by no file) is sampled. The long one
is then encoded again, killed without warning half-way and restarted. Needs
Linux.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
import torch
from PIL import Image

import vjepa_utils as vj
import vjepa_utils.encoder

RATE, SECONDS = 30, 10
ROOT = Path(__file__).parent.parent
CHILD = """
import sys, threading, time, warnings
import vjepa_utils as vj
warnings.simplefilter("ignore")
most, over = [0], threading.Event()
def watch():
    while not over.wait(0.02):
        most[0] = max(most[0], int(open("/proc/self/status").read().split("RssAnon:")[1].split()[0])
        * 1024)
threading.Thread(target=watch, daemon=True).start()
encoder, start = vj.load_encoder(sys.argv[1]), time.perf_counter()
features = encoder.encode(sys.argv[2], size=int(sys.argv[3]), out=sys.argv[4])
over.set()
print(most[0], time.perf_counter() - start, features.grid[0])
"""


def write_films(folder, minutes):
    """A film of ten seconds, panning over the shipped clip, and its packets repeated."""
    short, long = folder / "short.mp4", folder / "long.mp4"
    clip = vj.read_video(ROOT / "videos" / "kitesurfing.mp4").frames
    with av.open(str(short), "w") as container:
        stream = container.add_stream("h264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt, stream.options = (
            1280,
            720,
            "yuv420p",
            {"preset": "ultrafast", "bf": "0"},
        )
        for number in range(RATE * SECONDS):
            wide = Image.fromarray(clip[number % len(clip)]).resize((1408, 792))
            frame = wide.crop((number % 128, 0, number % 128 + 1280, 720))
            container.mux(stream.encode(av.VideoFrame.from_image(frame)))
        container.mux(stream.encode())
    with av.open(str(long), "w") as target:
        for turn in range(round(minutes * 60 / SECONDS)):
            with av.open(str(short)) as source:
                stream = (
                    target.streams.video[0]
                    if turn
                    else target.add_stream_from_template(source.streams.video[0])
                )
                base = source.streams.video[0].time_base
                for packet in source.demux(video=0):
                    if packet.dts is not None:
                        packet.pts += int(turn * SECONDS / base)
                        packet.dts += int(turn * SECONDS / base)
                        packet.stream = stream
                        target.mux(packet)
    return short, long


def start(encoder, film, size, out):
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, encoder, film, str(size), out],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
    )


def finish(process):
    """Peak of anonymous memory in bytes, seconds, steps."""
    printed = process.communicate()[0].split()
    if process.returncode:
        sys.exit("error: a run failed, for the reason above.")
    memory, taken, steps = printed
    return int(memory), float(taken), int(steps)


def ahead(name, film, size, repeats=3):
    """Seconds with and without prefetching, alternating: two medians."""
    encoder, reading = (
        vj.load_encoder(name),
        {True: vjepa_utils.encoder.read_ahead, False: iter},
    )
    times = {True: [], False: []}
    for _ in range(repeats):
        for way, function in reading.items():
            vjepa_utils.encoder.read_ahead = function
            begin = time.perf_counter()
            encoder.encode(film, size=size)
            times[way].append(time.perf_counter() - begin)
    vjepa_utils.encoder.read_ahead = reading[True]
    return [statistics.median(values) for values in times.values()]


def main():
    parser = argparse.ArgumentParser(
        description="Memory, interruption and prefetching on long films"
    )
    parser.add_argument("--encoder", default="vjepa2-demo")
    parser.add_argument(
        "--size",
        type=int,
        default=128,
        help="short side of the encoded picture (default: %(default)s)",
    )
    parser.add_argument(
        "--minutes", type=float, default=10, help="of the long film (default: %(default)s)"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder, size, name = Path(folder), arguments.size, arguments.encoder
        films = dict(zip(("short", "long"), write_films(folder, arguments.minutes), strict=True))
        peaks = {}
        for which, film in films.items():
            peaks[which], taken, steps = finish(
                start(name, film, size, folder / f"{which}.safetensors")
            )
            print(
                f"{which} film: {steps} steps in {taken:.0f} s, peak anonymous memory "
                f"{peaks[which] / 2**20:.0f} MiB",
                flush=True,
            )
        print(f"long to short: {peaks['long'] / peaks['short']:.2f}")

        out, partial = folder / "again.safetensors", folder / "again.safetensors.partial"
        whole = vj.Features.load(folder / "long.safetensors")
        process = start(name, films["long"], size, out)
        while not (partial.exists() and partial.stat().st_size > whole.values.nbytes / 2):
            if process.poll() is not None:
                sys.exit("error: the run ended before it could be killed.")
            time.sleep(0.05)
        process.kill()
        process.wait()
        share = partial.stat().st_size / whole.values.nbytes
        _, taken, _ = finish(start(name, films["long"], size, out))
        equal = torch.equal(vj.Features.load(out).values, whole.values)
        verdict = "equal" if equal else "NOT equal"
        print(
            f"killed at {share:.0%}, started again: {taken:.0f} s for the rest; all values "
            f"{verdict} to the first run's"
        )

        with_, without = ahead(name, films["short"], size)
        ratio = f"{without / with_:.2f}×, {torch.get_num_threads()} threads"
        print(f"prefetching on the short film: {with_:.2f} s, without {without:.2f} s ({ratio})")


if __name__ == "__main__":
    main()
