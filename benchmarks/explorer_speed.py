"""How fast is the explorer? Times the page in headless Chromium, and the export.

python -m benchmarks.explorer_speed [--every 2] [--size 512]
"""

import argparse
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from playwright.sync_api import sync_playwright

import vjepa_utils as vj
from vjepa_utils.explorer import Exploration
from vjepa_utils.explorer.components import pack
from vjepa_utils.explorer.exploration import View
from vjepa_utils.explorer.page import script

ROOT = Path(__file__).parent.parent

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
TOKENS, COMPONENTS = (10_000, 50_000, 100_000), 64

MAPS = """async ([count, components]) => {
  const vector = (v) => new Float32Array(components).fill(v);
  const values = Int8Array.from({length: count * components}, () => Math.random() * 255 - 127);
  const view = {count, components, values, scale: vector(0.01), mean: vector(0.1), rest: 0.2};
  view.inverse = window.E.inverseNorms(view);
  const out = new Float32Array(count), times = [];
  for (let i = 0; i < 60; i++) {
    const start = performance.now();
    window.E.cosineMap(view, (i * 7919) % count, out);
    times.push(performance.now() - start);
    await new Promise((next) => setTimeout(next));
  }
  return times.slice(10);
}"""

# A pointer event requests one frame; it is drawn between a callback before it and one after.
HOVER = """async () => {
  const picture = document.querySelector(".picture"), box = picture.getBoundingClientRect();
  const times = [];
  for (let i = 0; i < 40; i++) {
    times.push(await new Promise((done) => {
      let start = 0;
      requestAnimationFrame(() => { start = performance.now(); });
      const x = box.left + ((i * 37) % 100) / 100 * box.width;
      const y = box.top + ((i * 61) % 100) / 100 * box.height;
      const where = {clientX: x, clientY: y, bubbles: true};
      picture.dispatchEvent(new PointerEvent("pointermove", where));
      requestAnimationFrame(() => done(performance.now() - start));
    }));
  }
  return times.slice(5);
}"""


def row(*cells):
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def said(times):
    return f"{np.min(times):.1f} / {np.median(times):.1f} / {np.percentile(times, 90):.1f} ms"


def maps(browser):
    page = browser.new_page()
    names = "{inverseNorms, cosineMap}"
    page.add_script_tag(type="module", content=f"{script()}\nwindow.E = {names};")
    row("tokens", "one cosine map: fastest / median / 90th percentile")
    row("---", "---")
    for count in TOKENS:
        row(f"{count:,} × {COMPONENTS}", said(page.evaluate(MAPS, [count, COMPONENTS])))
    page.close()


def clip(browser, path, encoders, every, size, folder):
    video, views, encoding, export = vj.read_video(path, every=every), [], 0, 0
    grid = encoders[0].grid(video, size)
    for encoder in encoders:
        start = time.perf_counter()
        side = size if encoder is encoders[0] else tuple(n * encoder.patch_size for n in grid[1:])
        features = encoder.encode(video, "pair", side)
        encoding += time.perf_counter() - start
        start = time.perf_counter()
        views.append(View(features, *pack(features, *views[:1])))
        export += time.perf_counter() - start
    start = time.perf_counter()
    file = folder / "page.html"
    Exploration(video, views, [], "pair", []).save(file)
    export += time.perf_counter() - start
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    start = time.perf_counter()
    page.goto(file.as_uri() + "#mode=similarity")
    page.wait_for_selector("html[data-ready]", timeout=60_000)
    first = time.perf_counter() - start
    hover = page.evaluate(HOVER)
    page.close()
    row(
        path.stem,
        f"{np.prod(grid):,} × {len(views)}",
        ", ".join(str(len(view.components.scale)) for view in views),
        f"{encoding:.1f} s",
        f"{export:.1f} s",
        f"{file.stat().st_size / 1e6:.1f} MB",
        f"{first:.2f} s",
        said(hover),
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--size", type=int, default=512)
    arguments = parser.parse_args()
    print(f"{torch.get_num_threads()} threads, headless Chromium without a GPU\n")
    encoders = [vj.load_encoder(name) for name in ("vjepa2-demo", "dino-demo")]
    with sync_playwright() as driver, tempfile.TemporaryDirectory() as folder:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        maps(browser)
        print()
        row("clip", "tokens", "components", "encoding", "export", "page", "first picture", "hover")
        row(*["---"] * 8)
        for every in arguments.every:
            for name in ("kitesurfing", "monkey"):
                path = ROOT / "videos" / f"{name}.mp4"
                clip(browser, path, encoders, every, arguments.size, Path(folder))
        browser.close()


if __name__ == "__main__":
    main()
