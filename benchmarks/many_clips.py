"""Many clips: what `extract` costs beside a plain loop, alone and with Ray, and whether memory
stays flat: python -m benchmarks.many_clips [--clips 60] [--many 1000]

The same clips are encoded by a loop over `encode` and `save`, by `extract` in one process, and by
`extract` with one and two Ray actors, alternating, each in its own process. Clips a second are
counted between the first and the last file, which excludes start-up; that has a column. Peak memory
is that of the process and all its children, shared pages counted once. Needs Linux, and
Ray (requirements-cluster.txt).
"""

import argparse
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

import vjepa_utils as vj
from tests.conftest import write_video

ROOT = Path(__file__).parent.parent
LOOP = """
import sys, pathlib, warnings, vjepa_utils as vj
warnings.simplefilter("ignore")
source, out, name, size = sys.argv[1:]
encoder = vj.load_encoder(name)
pathlib.Path(out).mkdir()
for clip in sorted(pathlib.Path(source).iterdir()):
    features = encoder.encode(clip, size=int(size))
    features.save(f"{out}/{clip.stem}.safetensors")
"""
EXTRACT = """
import sys, vjepa_utils as vj
source, out, name, size = sys.argv[1:]
vj.extract(source, out, name, size=int(size), dtype="float32", workers=WORKERS)
"""
WAYS = {
    "a plain loop": LOOP,
    "extract, one process": EXTRACT.replace("WORKERS", "None"),
    "extract, Ray, 1 worker": EXTRACT.replace("WORKERS", "1"),
    "extract, Ray, 2 workers": EXTRACT.replace("WORKERS", "2"),
}


def write_clips(folder, count, frames, size):
    """Clips that pan over the shipped one. size: (height, width)."""
    folder.mkdir()
    source = vj.read_video(ROOT / "videos" / "kitesurfing.mp4").frames
    height, width = size
    wide = [Image.fromarray(frame).resize((width * 2, height)) for frame in source[:frames]]
    for number in range(count):
        shift = number * 7 % width
        pan = [frame.crop((shift, 0, shift + width, height)) for frame in wide]
        write_video(folder / f"{number:05d}.mp4", np.stack(pan))
    return folder


def run(code, *words, kind="Pss"):
    """Runs a script; seconds in all, and the peak of its memory and its children's in bytes."""
    begin, most = time.perf_counter(), 0
    words = [sys.executable, "-c", code, *map(str, words)]
    process = subprocess.Popen(words, cwd=ROOT, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        most = max(most, memory(process.pid, kind))
        time.sleep(0.3)
    if process.returncode:
        sys.exit(f"error: {words[2]} failed.")
    return time.perf_counter() - begin, most


def memory(pid, kind):
    """Memory of a process and its children, in bytes: Pss, whose sum counts shared pages once, or
    Pss_Anon, which no file backs.
    """
    total = 0
    try:
        for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
            rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
            total += int(rollup.split(f"\n{kind}:")[1].split()[0]) * 1024
    except (psutil.Error, OSError, IndexError):
        return 0  # one of them ended meanwhile
    return total


def rate(out):
    """Clips a second between the first and the last file."""
    written = sorted(path.stat().st_mtime for path in out.rglob("*.safetensors"))
    return (len(written) - 1) / (written[-1] - written[0])


def main():
    parser = argparse.ArgumentParser(description="Clips a second and memory of many clips")
    parser.add_argument("--encoder", default="vjepa2-demo")
    parser.add_argument("--size", type=int, default=128, help="(default: %(default)s)")
    parser.add_argument("--clips", type=int, default=60, help="(default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--many", type=int, default=1000, help="small clips (default: %(default)s)")
    arguments = parser.parse_args()
    model = Path("/proc/cpuinfo").read_text().split("model name")[1].split("\n")[0].strip("\t: ")
    print(f"{psutil.cpu_count()} cores, {model}, Python {platform.python_version()}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        folder, how = Path(folder), (arguments.encoder, arguments.size)
        clips = write_clips(folder / "clips", arguments.clips, 60, (240, 320))
        found = {way: [] for way in WAYS}
        for turn in range(arguments.repeats):
            for number, (way, code) in enumerate(WAYS.items()):
                out = folder / f"out{turn}{number}"
                seconds, most = run(code, clips, out, *how)
                clips_a_second = rate(out)
                start = seconds - arguments.clips / clips_a_second
                found[way].append((clips_a_second, start, most / 2**20))
        loop = statistics.median(rates for rates, _, _ in found["a plain loop"])
        print(f"{arguments.clips} clips of 60 frames, 320×240, short side encoded {how[1]}")
        for way, measured in found.items():
            rates, starts, peaks = zip(*measured, strict=True)
            middle = statistics.median(rates)
            print(
                f"{way:24} {middle:6.2f} clips/s ({min(rates):.2f} to {max(rates):.2f})  "
                f"{middle / loop:5.0%} of the loop  start {statistics.median(starts):4.0f} s  "
                f"peak {max(peaks):5.0f} MiB",
                flush=True,
            )
        for count in (10, arguments.many // 10, arguments.many):
            small = write_clips(folder / f"small{count}", count, 8, (48, 64))
            code = EXTRACT.replace("WORKERS", "None")
            seconds, most = run(
                code, small, folder / f"small-out{count}", how[0], 32, kind="Pss_Anon"
            )
            again, _ = run(code, small, folder / f"small-out{count}", how[0], 32)
            print(
                f"{count:5} small clips, one process: peak {most / 2**20:.0f} MiB of anonymous "
                f"memory, {seconds:.0f} s; a second call {again:.0f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
