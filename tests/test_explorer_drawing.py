"""What the explorer draws, read back from the browser against numpy: a page of synthetic features,
every token its own colour, two views, and a prediction with baselines that are known.
"""

import io
import json
import re
import zlib

import numpy as np
import pytest
import torch
from matplotlib import colormaps
from PIL import Image

import vjepa_utils as vj
from tests.browser import browser, drawn, pages, state, until
from vjepa_utils.explorer import Exploration
from vjepa_utils.explorer.components import pack
from vjepa_utils.explorer.exploration import View
from vjepa_utils.explorer.page import script, to_json
from vjepa_utils.explorer.prediction import packed_decoder

STEPS, ROWS, COLUMNS = 3, 4, 6
WIDTH, HEIGHT = 240, 160  # of the clip: a patch is 40 × 40 of its pixels
FRAMES = [(2, 5), (8, 11), (14, 17)]  # of each step; a frame's grey level is 10 times its number
PINS = [{"step": 0, "x": 100, "y": 60}, {"step": 2, "x": 220, "y": 140}]  # x and y are no mirror
TOKENS = [1 * COLUMNS + 2, 2 * ROWS * COLUMNS + 3 * COLUMNS + 5]  # under the pins
COLOURS = ["#35d0e6", "#ff6fae"]  # of the first two pins
START = {"step": 0, "mode": "colours", "rgb": [0, 1, 2], "overlay": 0.8, "pins": [], "active": 0}
START |= {"view": 0, "axes": [0, 1], "mask": 0, "brush": None, "clicks": [], "thing": 0, "cut": 0}
START |= {"shown": 64, "pull": [0, 0]}
FLAGS = "above", "live", "nearest", "unit", "alone", "guided", "allSteps"
START |= dict.fromkeys(FLAGS, False)
GREY = 205, 205, 205


# ------------------------------------------------------------------ a page whose truth is known


@pytest.fixture(scope="module")
def exploration():
    levels = 10 * np.arange(18, dtype=np.uint8)
    frames = np.broadcast_to(levels[:, None, None, None], (18, HEIGHT, WIDTH, 3))
    video = vj.video.as_video(np.ascontiguousarray(frames))[2::3]
    views = []
    for seed in (1, 2):
        values = torch.randn(STEPS, ROWS, COLUMNS, 12, generator=torch.manual_seed(seed))
        values = values * torch.linspace(3, 0.2, 12) + 1
        size, name = (16 * ROWS, 16 * COLUMNS), f"encoder {seed}"
        features = vj.Features(values, torch.tensor(FRAMES), 16, size, (HEIGHT, WIDTH), name)
        components, colours = pack(features)
        pixels = packed_decoder(features, components, linear(features))
        views.append(View(features, components, colours, pixels))
    return Exploration(video, views, [], "pair", [prediction()])


def linear(features):
    """A clip whose pixels are linear in the tokens."""
    random = np.random.default_rng(0)
    patches = 128 + features.values.numpy() @ random.normal(0, 6, (12, 40 * 40 * 3))
    frames = np.zeros((18, HEIGHT, WIDTH, 3), np.uint8)
    for pair, step in zip(FRAMES, patches.clip(0, 255), strict=True):
        picture = step.reshape(ROWS, COLUMNS, 40, 40, 3).swapaxes(1, 2)
        frames[list(pair)] = picture.reshape(HEIGHT, WIDTH, 3)
    return vj.video.as_video(frames)


def prediction():
    """A packed prediction of the first two steps on a grid of its own, with random numbers."""
    random, grid = np.random.default_rng(0), (2, 3, 5)
    hidden = np.zeros(grid, bool)
    hidden[:, 1, 1:4] = hidden[1, 0, 4] = True
    cosine = random.integers(-90, 127, (4, hidden.sum()), dtype=np.int8)
    cosine[3, :2] = -128  # "same place" has no value there
    packed = {"hidden": hidden, "cosine": cosine}
    packed |= {name: random.integers(0, 256, (*grid, 3), np.uint8) for name in ("whole", "filled")}
    return {
        **{name: zlib.compress(array.tobytes()) for name, array in packed.items()},
        "name": "made up",
        "encoder": "encoder 1",
        "grid": list(grid),
        "picture": [48, 80],
        "frames": [list(pair) for pair in FRAMES[:2]],
        "means": [["prediction", 0.71], ["mean", 0.52], ["nearest", 0.33], ["same place", None]],
        "share": float(hidden.mean()),
        "beaten": 0.25,
    }


def unpacked(name, dtype, shape):
    return np.frombuffer(zlib.decompress(prediction()[name]), dtype).reshape(shape)


@pytest.fixture(scope="module")
def chromium():
    with browser() as running:
        yield running


@pytest.fixture(scope="module")
def file(exploration, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "page.html"
    exploration.save(path)
    return path


@pytest.fixture(scope="module")
def page(chromium, file):
    with pages(chromium) as open_page:
        yield open_page(file)


@pytest.fixture(autouse=True)
def at_rest(request):
    """Each test finds the page as it opened."""
    if "page" in request.fixturenames:
        page = request.getfixturevalue("page")
        page.mouse.move(2, 2)
        page.evaluate("(explorer.point(null), explorer.setTool('point'), 0)")
        show(page)


def show(page, **parts):
    """A new explorer, but for these parts of its state; drawn."""
    page.evaluate(f"explorer.change({json.dumps(START | parts)})")
    drawn(page)


# ------------------------------------------------------------------ numpy twins


def cosines(view, token):
    """Cosine of one token with all, from the packed components: (steps, rows, columns)."""
    packed = view.components
    x = packed.values.reshape(-1, len(packed.scale)) * packed.scale + packed.mean
    x = np.concatenate([x, np.full((len(x), 1), packed.rest)], 1)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return (x @ x[token]).reshape(STEPS, ROWS, COLUMNS)


def changes(view):
    """1 - cosine with the step before; NaN in the first."""
    tokens = np.arange(STEPS * ROWS * COLUMNS)
    with_all = np.stack([cosines(view, token).ravel() for token in tokens])
    step = ROWS * COLUMNS
    change = np.full(len(tokens), np.nan)
    change[step:] = 1 - with_all[tokens[step:], tokens[:-step]]
    return change.reshape(STEPS, ROWS, COLUMNS)


def shares(values, low, high):
    return np.clip((values - low) / (high - low), 0, 1)


def inferno(values, low, high):
    heat = colormaps["inferno"](shares(np.nan_to_num(values), low, high))[..., :3] * 255
    return np.where(np.isnan(values)[..., None], GREY, heat)


def decoded(view, step, shown=64, pull=(0, 0), places=()):
    """A step in pixels from its first components: (side · rows, side · columns, 3), unclipped; a
    component is pulled by a part of its range at some places.
    """
    pixels, packed = view.pixels, view.components
    side, count = pixels["side"], len(pixels["scale"]) - 1
    weights = np.frombuffer(zlib.decompress(pixels["weights"]), np.int8).reshape(count + 1, -1)
    weights = weights * np.array(pixels["scale"])[:, None]
    shown = min(shown, count)
    x = packed.values[step, ..., :count] * packed.scale[:count]
    x[..., shown:] = 0
    for row, column in places:
        x[row, column, pull[0]] += pull[1] * (packed.high - packed.low)[pull[0]]
    patches = 255 * (x @ weights[:count] + weights[-1]).reshape(ROWS, COLUMNS, 3, side, side)
    return np.einsum("rckyx->rycxk", patches).reshape(ROWS * side, COLUMNS * side, 3)


def coloured(view, rgb=(0, 1, 2)):
    packed, rgb = view.components, list(rgb)
    values = packed.values[..., rgb] * packed.scale[rgb]
    return 255 * shares(values, packed.low[rgb], packed.high[rgb])


def nearest(view, low):
    maps = np.stack([cosines(view, token) for token in TOKENS])
    rgb = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in COLOURS])
    return rgb[maps.argmax(0)] * shares(maps.max(0), low, 1)[..., None]


# ------------------------------------------------------------------ reading back

PIXELS = """(c) => { const d = c.getContext("2d").getImageData(0, 0, c.width, c.height);
  return [d.height, d.width, [...d.data]]; }"""


def pixels(locator):
    """RGBA of a canvas: (height, width, 4)."""
    height, width, data = locator.evaluate(PIXELS)
    return np.reshape(data, (height, width, 4)).astype(int)


def stage(page, panel, canvas="map"):
    return pixels(page.locator(".picture").nth(panel).locator(f"canvas.{canvas}"))


def strip(page, row, gap=1):
    """The steps of a row of the strip, without the gaps: (steps, rows, columns, 4)."""
    painted = pixels(page.locator(".thumbs canvas.map").nth(row))
    painted = np.pad(painted, ((0, 0), (0, gap), (0, 0)))
    return painted.reshape(len(painted), STEPS, -1, 4).swapaxes(0, 1)[:, :, :-gap]


def check_maps(page, expected, panel=0, row=None):
    """A panel's map in every step, and its row of the strip; expected: (steps, …, 3)."""
    assert np.ptp(expected, axis=(1, 2)).max() > 50  # it could tell one picture from another
    for step in range(STEPS):
        page.evaluate(f"explorer.setStep({step})")
        drawn(page)
        assert np.abs(stage(page, panel)[..., :3] - expected[step]).max() < 3
    assert np.abs(strip(page, panel if row is None else row)[..., :3] - expected).max() < 3
    page.evaluate("explorer.setStep(0)")


# ------------------------------------------------------------------ the maps


@pytest.mark.parametrize("rgb", [(0, 1, 2), (4, 0, 2)])
def test_colours_are_drawn(page, exploration, rgb):
    show(page, rgb=rgb)
    for panel, view in enumerate(exploration.views):
        check_maps(page, coloured(view, rgb), panel)


@pytest.mark.parametrize("unit", [False, True])
def test_similarity_is_drawn_and_its_bar_says_the_range(page, exploration, unit):
    show(page, mode="similarity", pins=PINS, active=1, unit=unit)
    for panel, view in enumerate(exploration.views):
        low = 0 if unit else view.components.black
        check_maps(page, inferno(cosines(view, TOKENS[1]), low, 1), panel)
        bar = page.locator(".bar").nth(panel).inner_text()
        assert bar.split() == [f"{low:.2f}".replace("-", "−"), "1.00", "cosine"]


def test_a_selected_region_is_compared_as_one(page, exploration):
    show(page, mode="similarity", brush={"step": 1, "rect": [1, 2, 2, 3]})
    page.evaluate("explorer.point({x: 30, y: 130})")  # it is not followed
    tokens = [ROWS * COLUMNS + row * COLUMNS + column for row in (1, 2) for column in (2, 3)]
    for panel, view in enumerate(exploration.views):
        mean = np.mean([cosines(view, token) for token in tokens], 0)
        check_maps(page, inferno(mean, view.components.black, 1), panel)
        assert "mean cosine with the selected" in page.locator(".bar").nth(panel).inner_text()
        assert not stage(page, panel, "veil").any()
        ring = page.locator(".picture").nth(panel).locator("ellipse.ring")
        row, column = np.unravel_index(mean[0].argmax(), (ROWS, COLUMNS))
        assert [float(ring.get_attribute(name)) for name in ("cy", "cx")] == [
            row + 0.5,
            column + 0.5,
        ]
    said = page.locator(".readout").inner_text()
    assert numbers_in(said)[-1] == pytest.approx(mean[0, 3, 0], abs=6e-4)


def test_black_is_the_5th_percentile_of_the_cosine(exploration):
    for view in exploration.views:
        every = np.stack([cosines(view, token) for token in range(STEPS * ROWS * COLUMNS)])
        assert view.components.black == pytest.approx(np.percentile(every, 5), abs=0.02)


def test_each_token_is_drawn_in_the_colour_of_its_nearest_pin(page, exploration):
    show(page, mode="similarity", pins=PINS, nearest=True)
    for panel, view in enumerate(exploration.views):
        check_maps(page, nearest(view, view.components.black), panel)


def test_similarity_follows_the_pointer_where_asked(page, exploration):
    for live, token in ((True, 2 * COLUMNS + 4), (False, TOKENS[0])):
        show(page, mode="similarity", pins=PINS, live=live)
        page.evaluate("explorer.point({x: 180, y: 100})")
        drawn(page)
        view = exploration.views[1]
        expected = inferno(cosines(view, token)[0], view.components.black, 1)
        assert np.abs(stage(page, 1)[..., :3] - expected).max() < 3


def test_change_is_drawn_and_its_bar_says_the_range(page, exploration):
    show(page, mode="change")
    for panel, view in enumerate(exploration.views):
        change = changes(view)
        top = np.sort(change[1:].ravel())[round(0.99 * (change[1:].size - 1))]
        check_maps(page, inferno(change, 0, top), panel)
        assert page.locator(".bar").nth(panel).inner_text().split()[:2] == ["0.00", f"{top:.2f}"]


@pytest.mark.parametrize("shown", [64, 2])
def test_pixels_are_drawn(page, exploration, shown):
    show(page, mode="pixels", shown=shown)
    for panel, view in enumerate(exploration.views):
        for step in range(STEPS):
            page.evaluate(f"explorer.setStep({step})")
            drawn(page)
            expected = decoded(view, step, shown).clip(0, 255)
            assert np.ptp(expected) > 50
            assert np.abs(stage(page, panel)[..., :3] - expected).max() < 2
            small = decoded(view, step, shown).reshape(2 * ROWS, 8, 2 * COLUMNS, 8, 3).mean((1, 3))
            assert np.abs(strip(page, panel, 2)[step, ..., :3] - small.clip(0, 255)).max() < 2


def test_a_component_is_pulled_at_a_patch_or_at_the_selected_ones(page, exploration):
    show(page, mode="pixels", pins=PINS[:1], pull=[3, 0], shown=4)
    slider = page.get_by_label("pull", exact=True)
    slider.evaluate("e => { e.value = 0.6; e.dispatchEvent(new Event('input')); }")
    assert state(page)["pull"] == [3, 0.6]
    drawn(page)
    view, corner = exploration.views[1], [(2, 1), (2, 2), (3, 1), (3, 2)]
    pulled = decoded(view, 0, 4, (3, 0.6), [(1, 2)])
    moved = np.abs(pulled - decoded(view, 0, 4)).max(-1) > 0
    assert moved[16:32, 32:48].any() and moved.sum() <= 256  # in this patch only
    assert np.abs(stage(page, 1)[..., :3] - pulled.clip(0, 255)).max() < 2
    assert page.locator(".picture").nth(1).locator("rect.ring").get_attribute("x") == "2"
    said = page.locator(".readout").inner_text()
    packed, opacity = view.components, "document.querySelectorAll('canvas.map')[1].style.opacity"
    value = packed.values[0, 1, 2, 3] * packed.scale[3]
    expected = [value, value + 0.6 * (packed.high - packed.low)[3]]
    assert numbers_in(said)[-2:] == pytest.approx(expected, abs=6e-3)
    assert page.evaluate(opacity) == "1"  # nothing of the frame shows through
    show(page, mode="pixels", pull=[3, -1], brush={"step": 0, "rect": [2, 1, 3, 2]})
    pulled = decoded(view, 0, 64, (3, -1), corner)
    assert np.abs(stage(page, 1)[..., :3] - pulled.clip(0, 255)).max() < 2
    show(page, mode="pixels", pull=[3, -1])
    assert not page.get_by_label("pull", exact=True).is_visible()


def test_prediction_is_drawn(page):
    grid = (2, 3, 5)
    hidden = unpacked("hidden", bool, grid)
    cosine = np.full(grid, np.nan)
    cosine[hidden] = unpacked("cosine", np.int8, (4, -1))[0] / 127
    absent = np.full((1, 3, 5, 3), GREY)
    show(page, mode="prediction")
    for row, name in enumerate(("whole", "filled")):
        truth = np.concatenate([unpacked(name, np.uint8, (*grid, 3)), absent])
        check_maps(page, truth, row + 1, row)
    check_maps(page, np.concatenate([inferno(cosine, 0, 1), absent]), 3, 2)
    drawn(page)
    veil = stage(page, 0, "veil")
    assert (veil[..., 3] == np.where(hidden[0], 235, 0)).all()  # grey where hidden
    outline = page.locator(".picture").nth(2).locator("path.region").get_attribute("d")
    assert outline.count("h1") + outline.count("v1") == 8  # around 1 × 3 patches
    said = re.findall(r"[\d.]+", page.locator(".card.numbers").inner_text().split("%")[0])
    assert said[:3] == ["0.710", "0.520", "0.330"]
    widths = page.locator(".guess .track i").evaluate_all("all => all.map((i) => i.style.width)")
    assert widths == ["71%", "52%", "33%", "0%"]


def test_things_are_drawn_in_their_colours_with_their_areas(page):
    show(page, mode="segment", clicks=CLICKS, cut=-0.5)
    lines = page.locator(".curve polyline.best").evaluate_all(
        "all => all.map((p) => p.getAttribute('points').split(' ').map((xy) => xy.split(',')))"
    )
    rgb = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in COLOURS])
    for panel in (0, 1):
        painted = strip(page, panel)[..., :3]
        things = (painted == rgb[:, None, None, None]).all(-1)  # (2, steps, rows, columns)
        assert (things.any(0) | (painted == (24, 27, 35)).all(-1)).all()
        assert things[0, 0, 1, 2] and not things[0, 1, 3, 0] and things[1, 2, 3, 5]  # as clicked
        for step in range(STEPS):
            page.evaluate(f"explorer.setStep({step})")
            drawn(page)
            assert (stage(page, panel)[..., :3] == painted[step]).all()
            said = re.findall(r"thing \d: ([\d.]+) %", page.locator(".bar").nth(panel).inner_text())
            areas = 100 * things[:, step].mean((1, 2))
            assert [float(number) for number in said] == pytest.approx(areas, abs=0.06)
        heights = np.array(lines[2 * panel : 2 * panel + 2], float)[..., 1]
        areas = things.mean((2, 3))
        assert np.corrcoef(heights.ravel(), areas.ravel())[0, 1] < -0.999  # up is more
    assert page.locator("section:has(.curve) h2").inner_text() == "Area over time"


# ------------------------------------------------------------------ what a person sees


def seen(page, panel=0):
    """A screenshot of a picture: (height, width, 3)."""
    box = page.locator(".picture").nth(panel)
    return np.asarray(Image.open(io.BytesIO(box.screenshot())).convert("RGB")).astype(int)


def patches(picture, inset):
    """The pixel at a place within each patch, (0.5, 0.5) its middle: (rows, columns, 3)."""
    height, width, _ = picture.shape
    rows = ((np.arange(ROWS) + inset[0]) / ROWS * height).astype(int)
    columns = ((np.arange(COLUMNS) + inset[1]) / COLUMNS * width).astype(int)
    return picture[rows][:, columns]


@pytest.mark.parametrize("overlay", [0, 0.5, 1])
def test_overlay_lies_over_the_frame_of_the_step_with_sharp_edges(page, exploration, overlay):
    for step in (0, 2):
        show(page, overlay=overlay, step=step)
        level = 10 * FRAMES[step][0]
        expected = level * (1 - overlay) + overlay * coloured(exploration.views[1])[step]
        for inset in [(0.5, 0.5), (0.06, 0.5), (0.5, 0.94)]:
            assert np.abs(patches(seen(page, 1), inset) - expected).max() < 5


def test_the_frame_above_gives_its_brightness(page, exploration):
    show(page, above=True, step=2)
    middles = patches(seen(page), (0.5, 0.5))
    assert np.abs(middles @ [0.3, 0.59, 0.11] - 10 * FRAMES[2][0]).max() < 6
    assert np.ptp(middles, axis=-1).max() > 30  # and not its grey


def test_the_veil_is_seen_where_nothing_is_selected(page, exploration):
    show(page, brush={"step": 1, "rect": [1, 2, 2, 4]}, step=1, overlay=1)
    selected = np.zeros((ROWS, COLUMNS), bool)
    selected[1:3, 2:5] = True
    colours, dark = coloured(exploration.views[0]), np.array([12, 14, 20])
    veiled = np.where(selected[..., None], colours[1], colours[1] + (dark - colours[1]) * 190 / 255)
    assert np.abs(patches(seen(page), (0.5, 0.5)) - veiled).max() < 5
    in_strip = strip(page, 0)[..., :3]
    assert np.abs(in_strip[1] - np.where(selected[..., None], 1, 0.22) * colours[1]).max() < 3
    assert np.abs(in_strip[[0, 2]] - 0.22 * colours[[0, 2]]).max() < 3
    show(page, brush={"step": 1, "rect": [1, 2, 2, 4]})
    assert page.locator(".picture rect.brush").count() == 0  # it is in another step


def test_pictures_and_times_are_those_of_the_first_frame_of_each_step(exploration):
    for step, (first, _) in zip(exploration.page()["steps"], FRAMES, strict=True):
        picture = np.asarray(Image.open(io.BytesIO(step["picture"])).convert("RGB"))
        assert picture.shape == (HEIGHT, WIDTH, 3) and abs(picture.mean() - 10 * first) < 3
        times = exploration.video.times[exploration.video.positions([first])]
        assert step["time"] == pytest.approx(times[0], abs=1e-3)


def test_numbers_and_curve_stand_beside_two_landscape_pictures(page):
    page.set_viewport_size({"width": 1280, "height": 720})
    show(page, mode="similarity", pins=PINS)
    page.evaluate("scrollTo(0, 0)")
    for part in (".picture", ".readout", ".curve"):
        box = page.locator(part).last.bounding_box()
        assert box["y"] > 0 and box["y"] + box["height"] <= 720
    page.set_viewport_size({"width": 1280, "height": 900})
    drawn(page)


def test_numbers_of_each_representation_stand_below(page, exploration):
    rows = page.evaluate(
        "[...document.querySelectorAll('.about tbody tr')].map("
        "row => [...row.children].map(cell => cell.textContent))"
    )
    assert len(rows) == 2
    for row, view in zip(rows, exploration.views, strict=True):
        values = view.features.values.double().flatten(0, 2)
        centred = values - values.mean(0)
        share = torch.linalg.svdvals(centred) ** 2 / centred.square().sum()
        rank = torch.exp(-(share * share.log()).sum())
        unit = values / values.norm(dim=1, keepdim=True)
        cosine = (unit @ unit.T)[~torch.eye(len(unit), dtype=bool)].mean()
        places = view.features.values.double().mean(0).flatten(0, 1) - values.mean(0)
        place = STEPS * places.square().sum() / centred.square().sum()
        assert row[-4:-1] == [f"{rank:.1f}", f"{cosine:.2f}", f"{100 * place:.0f} %"]
        assert row[0] == view.features.encoder and int(row[-1]) == 0


def test_the_view_is_saved_as_png_with_marks_and_scale(page, exploration):
    show(page, mode="similarity", pins=PINS, active=1, step=1, overlay=0.7)
    with page.expect_download() as saved:
        page.keyboard.press("i")
    assert saved.value.suggested_filename == "clip step 1 similarity.png"
    sheet = np.asarray(Image.open(saved.value.path()).convert("RGB")).astype(int)
    width, height, top = 480, 320, 64
    assert sheet.shape == (114 + height, 16 + 2 * (width + 16), 3)
    view, black = exploration.views[1], exploration.views[1].components.black
    colours = inferno(cosines(view, TOKENS[1])[1], black, 1)
    picture = sheet[top : top + height, 32 + width : 32 + 2 * width]
    expected = 0.7 * colours + 0.3 * 10 * FRAMES[1][0]
    marked = np.zeros((ROWS, COLUMNS), bool)
    for token in TOKENS:
        row, column = best(view, token, 1)
        marked[max(0, row - 2) : row + 3, max(0, column - 2) : column + 3] = True
        edge = picture[int((row + 0.5) * 80), :, :]  # the ring crosses the middle of its row
        rgb = [int(COLOURS[TOKENS.index(token)][i : i + 2], 16) for i in (1, 3, 5)]
        assert np.abs(edge - rgb).sum(-1).min() < 20
    off = np.abs(patches(picture, (0.5, 0.5)) - expected).max(-1)
    assert off[~marked].max() < 5 and (~marked).sum() > 3
    bar = sheet[top + height + 22 - 5, 32 + width :]
    ends = colormaps["inferno"]([0, 255])[:, :3] * 255
    for colour in (ends[0], ends[1] - 3):
        assert np.abs(bar - colour).sum(-1).min() < 25


# ------------------------------------------------------------------ marks, numbers, curve, scatter


def best(view, token, step):
    """(row, column) of the most similar patch of a step."""
    return np.unravel_index(cosines(view, token)[step].argmax(), (ROWS, COLUMNS))


def test_rings_and_squares_are_where_each_pin_is_found(page, exploration):
    for step in range(STEPS):
        show(page, mode="similarity", pins=PINS, active=1, step=step)
        for panel, view in enumerate(exploration.views):
            marks = (
                page.locator(".picture")
                .nth(panel)
                .locator(".ring")
                .evaluate_all(
                    """all => all.map((e) => [e.tagName, e.getAttribute("stroke"), Number(
                e.getAttribute("cy") ?? e.getAttribute("y")), Number(e.getAttribute("cx")
                ?? e.getAttribute("x")), e.classList.contains("thin")])"""
                )
            )
            expected = []
            for pin, token, colour in zip(PINS, TOKENS, COLOURS, strict=True):
                row, column = best(view, token, step)
                if pin["step"] == step:
                    expected.append(["rect", colour, row, column, False])
                else:
                    thin = pin is PINS[0]
                    expected.append(["ellipse", colour, row + 0.5, column + 0.5, thin])
            assert marks == expected
            rings = page.locator(".row").nth(panel + 1).locator("ellipse.ring")
            in_strip = rings.evaluate_all(
                """all => all.map((e) => [e.getAttribute("stroke"),
                Number(e.getAttribute("cy")), Number(e.getAttribute("cx"))])"""
            )
            places = [
                [colour, best(view, token, s)[0] + 0.5, s * 7 + best(view, token, s)[1] + 0.5]
                for token, colour in zip(TOKENS, COLOURS, strict=True)
                for s in range(STEPS)
            ]
            assert sorted(in_strip) == sorted(places)
    here = page.locator(".row rect.here").evaluate_all("all => all.map(r => r.getAttribute('x'))")
    assert here == [str(2 * (COLUMNS + 1))] * 3


def numbers_in(text):
    return [float(number) for number in re.findall(r"-?\d+\.\d+", text.replace("−", "-"))]


def test_readout_gives_the_numbers_of_each_pin_and_place(page, exploration):
    show(page, mode="similarity", pins=PINS, step=1)
    page.evaluate("explorer.point({x: 30, y: 130})")
    drawn(page)
    said = page.locator(".readout").inner_text()
    assert "step 1, row 3, column 0" in said and "pixel 30, 130" in said
    assert "frames 8+11" in said and f"{exploration.video.times[2]:.2f} s" in said
    for view in exploration.views:
        (line,) = re.findall(rf"{view.features.encoder}(.*?)(?:encoder|cosine)", said, re.S)
        expected = [cosines(view, token)[1, 3, 0] for token in TOKENS]
        assert numbers_in(line) == pytest.approx(expected, abs=6e-4)
    show(page, rgb=(2, 0, 4), step=1)
    said = page.locator(".readout").inner_text()
    packed = exploration.views[0].components
    (line,) = re.findall(r"encoder 1(.*?)encoder", said, re.S)
    expected = (packed.values[1, 3, 0] * packed.scale)[[2, 0, 4]]
    assert numbers_in(line) == pytest.approx(expected, abs=6e-3)
    show(page, mode="change", step=1)
    said = page.locator(".readout").inner_text()
    expected = [changes(view)[1, 3, 0] for view in exploration.views]
    assert numbers_in(said)[1:] == pytest.approx(expected, abs=6e-4)


def test_readout_gives_the_prediction_beside_its_baselines(page):
    show(page, mode="prediction", step=1)
    hidden = unpacked("hidden", bool, (2, 3, 5))
    place = hidden[:1].sum() + hidden[1, 0].sum() + 1  # the second of three in the middle row
    page.evaluate("explorer.point({x: 120, y: 80})")  # row 1, column 2 of 3 × 5
    drawn(page)
    guesses = unpacked("cosine", np.int8, (4, -1))[:, place] / 127
    said = page.locator(".readout").inner_text()
    shown = dict(re.findall(r"(prediction|mean|nearest|same place)\s+([−\d.]+)", said))
    assert [float(v.replace("−", "-")) for v in shown.values()] == pytest.approx(guesses, abs=6e-4)
    assert list(shown) == ["prediction", "mean", "nearest", "same place"]
    page.evaluate("explorer.point({x: 10, y: 150})")
    drawn(page)
    assert "visible here" in page.locator(".readout").inner_text()


def test_the_curve_is_the_cosine_of_the_best_match_over_the_frames(page, exploration):
    show(page, mode="similarity", pins=PINS, step=1)
    svg = page.locator(".curve svg").first
    lines = svg.locator("polyline.best").evaluate_all(
        """all => all.map((p) => [p.style.stroke, p.getAttribute("points").split(" ")
        .map((xy) => xy.split(",").map(Number))])"""
    )
    labels = svg.locator("text").evaluate_all(
        """all => all.map((t) => [t.textContent, Number(t.getAttribute("x")),
        Number(t.getAttribute("y")), t.getAttribute("text-anchor")])"""
    )
    below = {float(text): x for text, x, _, anchor in labels if anchor == "middle"}
    assert list(below) == [first for first, _ in FRAMES]
    left = [(float(t.replace("−", "-")), y - 3.5) for t, _, y, anchor in labels if anchor == "end"]
    (low, bottom), (high, top) = left[0], left[-1]
    views = [view for view in exploration.views for _ in PINS]
    for (stroke, points), view, token, colour in zip(
        lines, views, TOKENS * 2, COLOURS * 2, strict=True
    ):
        rgb = tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))
        assert tuple(map(int, re.findall(r"\d+", stroke))) == rgb
        x, y = np.transpose(points)
        assert x == pytest.approx(list(below.values()), abs=0.06)
        cosine = low + (bottom - y) / (bottom - top) * (high - low)
        expected = cosines(view, token).reshape(STEPS, -1).max(1)
        assert cosine == pytest.approx(expected, abs=0.006)
    now = svg.locator("line.now").get_attribute("x1")
    assert float(now) == pytest.approx(below[FRAMES[1][0]], abs=0.06)
    x = below[FRAMES[2][0]] / 420 * svg.bounding_box()["width"]
    svg.click(position={"x": x, "y": 40})
    assert state(page)["step"] == 2


def test_the_scatter_shows_the_tokens_of_the_step_in_their_colours(page, exploration):
    show(page, axes=(3, 1), view=1, step=1, rgb=(1, 4, 0))
    view, canvas = exploration.views[1], page.locator(".scattermap")
    packed, painted = view.components, pixels(canvas)
    height, width, _ = painted.shape

    def place(component, room, margin):
        values = packed.values[..., component].astype(float)
        pad = max(1, 0.04 * np.ptp(values))
        low, high = values.min() - pad, values.max() + pad
        return margin + (values[1].ravel() - low) / (high - low) * room

    x = place(3, width - 22, 22)
    y = height - 22 - place(1, height - 22, 0)
    alone = [
        i for i in range(len(x)) if np.sort(np.maximum(np.abs(x - x[i]), np.abs(y - y[i])))[1] > 5
    ]
    assert len(alone) > 10
    found = painted[y[alone].astype(int), x[alone].astype(int), :3]
    assert np.abs(found - coloured(view, (1, 4, 0))[1].reshape(-1, 3)[alone]).max() < 9
    show(page, axes=(3, 1), view=1, brush={"axes": [3, 1], "box": [-1.0, 2.0, -1.5, 1.0]})
    chosen = (packed.values * packed.scale)[..., [3, 1]]
    inside = ((chosen >= [-1, -1.5]) & (chosen <= [2, 1])).all(-1)
    assert ((stage(page, 0, "veil")[..., 3] == 0) == inside[0]).all() and 0 < inside[0].sum() < 24


# ------------------------------------------------------------------ the mouse and the keys


def test_a_click_chooses_the_patch_that_it_is_on(page):
    picture = page.locator(".picture").nth(1)
    box = picture.bounding_box()
    picture.click(position={"x": 0.9 * box["width"], "y": 0.3 * box["height"]})
    (pin,) = state(page)["pins"]
    assert pin["step"] == 0
    assert pin["x"] == pytest.approx(0.9 * WIDTH, abs=2)
    assert pin["y"] == pytest.approx(0.3 * HEIGHT, abs=2)
    assert state(page)["mode"] == "similarity"


def test_a_drag_in_choose_is_no_click(page):
    box = page.locator(".picture").first.bounding_box()
    page.mouse.move(box["x"] + 20, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + 60, box["y"] + 20, steps=3)
    page.mouse.up()
    assert not state(page)["pins"]
    page.mouse.down()
    page.mouse.move(box["x"] + 62, box["y"] + 21)
    page.mouse.up()
    assert len(state(page)["pins"]) == 1


def test_the_square_of_the_pointer_stays_in_its_step(page):
    squares = page.locator(".picture").first.locator("rect.pointer")
    page.evaluate("explorer.point({x: 60, y: 100})")
    for step, count in ((0, 1), (1, 0), (0, 1)):
        page.evaluate(f"explorer.setStep({step})")
        drawn(page)
        assert squares.count() == count
    page.keyboard.press(".")
    page.keyboard.press("ArrowRight")  # from where it was
    drawn(page)
    assert squares.get_attribute("x") == "2"


# ------------------------------------------------------------------ finer maps


def saved(features, frames, path):
    """A page of some features of a clip."""
    components, colours = pack(features)
    view = View(features, components, colours)
    Exploration(vj.video.as_video(frames), [view], [], "pair", []).save(path)
    return components


def test_guided_colours_change_where_the_frame_does(chromium, tmp_path):
    edge, frames = 110, np.full((2, HEIGHT, WIDTH, 3), 60, np.uint8)
    frames[:, :, edge:] = 200  # within the patch that begins at 80
    share = np.clip((np.arange(COLUMNS) + 1) - edge / 40, 0, 1)  # of each patch that is light
    two = torch.randn(2, 12, generator=torch.manual_seed(0))
    row = torch.from_numpy(np.stack([1 - share, share], -1)).float() @ two
    features = vj.Features(
        row.expand(1, ROWS, COLUMNS, 12), torch.tensor([[0, 1]]), 16, (64, 96), (HEIGHT, WIDTH), "e"
    )
    saved(features, frames, tmp_path / "page.html")

    def steepest(picture):
        change = np.abs(np.diff(picture[..., :3].sum(-1), axis=1)).mean(0)[8:-8]  # no corners
        return (change.argmax() + 9) / picture.shape[1] * WIDTH

    with pages(chromium) as open_page:
        page = open_page(tmp_path / "page.html", "#overlay=100")
        before = seen(page)
        assert steepest(before) == pytest.approx(120, abs=2)  # the end of the patch
        at = {"step": 0, "x": 20, "y": 20}
        similarity, segment = {"mode": "similarity", "pins": [at]}, {"mode": "segment"}
        for mode in ({}, similarity, segment | {"clicks": [{**at, "thing": 0, "is": True}]}):
            show(page, overlay=1, guided=True, **mode)
            assert stage(page, 0).shape == (HEIGHT, WIDTH, 4)
            assert steepest(stage(page, 0)) == pytest.approx(edge, abs=2)
            assert "guided by the frame" in page.locator("figcaption").inner_text()
        page.evaluate("explorer.point(null)")
        page.mouse.move(2, 2)
        show(page, overlay=1)
        assert (seen(page) == before).all()
        assert page.locator("figcaption").inner_text() == "e"


def test_tokens_of_a_finer_stride_stand_at_the_centres_of_their_patches(chromium, tmp_path):
    values = torch.randn(1, 8, 12, 12, generator=torch.manual_seed(0))
    pair, size = torch.tensor([[0, 1]]), (HEIGHT, WIDTH)
    features = vj.Features(values, pair, 16, (64, 96), size, "e", stride=8)
    packed = saved(features, np.zeros((2, *size, 3), np.uint8), tmp_path / "page.html")
    colours = 255 * shares(
        packed.values[0, ..., :3] * packed.scale[:3], packed.low[:3], packed.high[:3]
    )
    with pages(chromium) as open_page:
        page = open_page(tmp_path / "page.html", "#overlay=100")
        picture = seen(page)
        for x, y in ((3, 5), (31, 100), (118, 33), (200, 12), (237, 157)):
            page.evaluate(f"explorer.point({{x: {x}, y: {y}}})")
            drawn(page)
            row, column = features.token_at((x, y))
            assert f"row {row}, column {column}" in page.locator(".readout").inner_text()
            if min(x, y) > 10:  # left of the first token there is none
                scale = np.array(picture.shape[:2]) / size
                at = picture[int(y * scale[0]), int(x * scale[1])]
                assert np.abs(at - colours[row, column]).max() < 5
        assert page.get_by_role("button", name="Pixels").count() == 0


TWO_PINS = {"mode": "similarity", "pins": PINS}
HERE = {"step": 0, "x": 60, "y": 100}
CLICKS = [
    {"step": 0, "x": 100, "y": 60, "thing": 0, "is": True},
    {"step": 1, "x": 20, "y": 140, "thing": 0, "is": False},
    {"step": 2, "x": 220, "y": 140, "thing": 1, "is": True},
]
THINGS = {"mode": "segment", "clicks": CLICKS}
# Help's text of a key: what is shown before, the key that is pressed, and what it changes
PRESSED = {
    "step back, step on": [({"step": 1}, ",", {"step": 0}), ({"step": 1}, ".", {"step": 2})],
    "the first step, the last": [
        ({"step": 1}, "Home", {"step": 0}),
        ({"step": 1}, "End", {"step": 2}),
    ],
    "choose the patch under the pointer (Shift: pin another one)": [
        (THINGS, "Enter", {"clicks": [*CLICKS, {**HERE, "thing": 0, "is": True}]}),
        (THINGS, "Shift+Enter", {"clicks": [*CLICKS, {**HERE, "thing": 0, "is": False}]}),
        (TWO_PINS, "Enter", {"pins": [HERE, PINS[1]]}),
        (TWO_PINS, "Shift+Enter", {"pins": [*PINS, HERE], "active": 2}),
    ],
    "pin another patch, in a colour of its own": [
        (TWO_PINS, "p", {"pins": [*PINS, HERE], "active": 2})
    ],
    "the next pin, or in Segment the next thing, becomes the chosen one": [
        (THINGS, "n", {"thing": 1}),
        ({**THINGS, "thing": 1}, "n", {"thing": 0}),
        (TWO_PINS, "n", {"active": 1}),
        ({**TWO_PINS, "active": 1}, "n", {"active": 0}),
    ],
    "remove the chosen pin, or in Segment the last click; Shift+X: all": [
        (THINGS, "x", {"clicks": [CLICKS[0], CLICKS[2]]}),
        ({**THINGS, "thing": 1}, "Shift+X", {"clicks": [], "thing": 0}),
        (TWO_PINS, "x", {"pins": PINS[1:]}),
        ({**TWO_PINS, "active": 1}, "x", {"pins": PINS[:1], "active": 0}),
        (TWO_PINS, "Shift+X", {"pins": []}),
    ],
    "segment: take more, or less, for the thing": [
        (THINGS, "[", {"cut": -0.05}),
        ({**THINGS, "cut": 0.95}, "]", {"cut": 1}),
    ],
    "segment: colour a thing by the three components of its own tokens": [
        (THINGS, "o", {"alone": True})
    ],
    "pixels: from half as many components (Shift: twice)": [
        ({}, "y", {"shown": 32}),
        ({"shown": 5}, "Shift+Y", {"shown": 10}),
    ],
    "pixels: pull the next component (Shift: the one before)": [
        ({"pull": [1, 0.5]}, "w", {"pull": [2, 0.5]}),
        ({"pull": [0, 0.5]}, "Shift+W", {"pull": [11, 0.5]}),
    ],
    "pixels: pull the component down, or up, at the patch": [
        ({"pull": [1, 0.95]}, "'", {"pull": [1, 1]}),
        ({"pull": [1, 0]}, ";", {"pull": [1, -0.05]}),
    ],
    "colours, similarity, change, prediction, segment, pixels, forecast": [
        ({}, "7", {}),  # this page has no kernel
        ({}, "6", {"mode": "pixels"}),
        ({}, "5", {"mode": "segment"}),
        ({"mode": "change"}, "1", {"mode": "colours"}),
        ({}, "2", {"mode": "similarity"}),
        ({}, "3", {"mode": "change"}),
        ({}, "4", {"mode": "prediction"}),
    ],
    "next component as red, green or blue (Shift: the one before)": [
        ({}, "r", {"rgb": [1, 1, 2]}),
        ({}, "g", {"rgb": [0, 2, 2]}),
        ({}, "b", {"rgb": [0, 1, 3]}),
        ({}, "Shift+B", {"rgb": [0, 1, 1]}),
    ],
    "stronger or weaker overlay": [({}, "+", {"overlay": 0.9}), ({}, "-", {"overlay": 0.7})],
    "draw the frame above the overlay, keeping its colours": [({}, "f", {"above": True})],
    "similarity follows the pointer, even when a patch is chosen": [({}, "l", {"live": True})],
    "each token in the colour of the pin that it is most similar to": [
        ({}, "a", {"nearest": True}),
        ({"nearest": True}, "a", {"nearest": False}),
    ],
    "similarity from 0 to 1; otherwise black is the clip's 5th percentile": [
        ({}, "u", {"unit": True})
    ],
    "for display: upsample the map and let it follow the outlines of the frame": [
        ({}, "e", {"guided": True})
    ],
    "scatter: tokens of all steps, or of this one": [({}, "t", {"allSteps": True})],
    "next encoder or layer in the scatter": [
        ({}, "v", {"view": 1}),
        ({"view": 1}, "v", {"view": 0}),
    ],
    "next mask": [({"mode": "prediction"}, "k", {"mask": 0})],  # the only one
    "clear the selection, then the pointer": [
        ({"brush": {"step": 0, "rect": [0, 0, 1, 1]}}, "Escape", {"brush": None})
    ],
    "hide patches (with a kernel): Enter hides or shows one": [({}, "m", {})],
    "move a patch (with a kernel): Enter, arrows, Enter drags it": [({}, "j", {})],
}
# Those that change no state are tested one by one
OTHERS = {
    "play or stop",
    "move the pointer from patch to patch",
    "brush: Enter, arrows, Enter selects a region of the picture",
    "Enter opens a brush, arrows move it, Shift+arrows size it",
    "copy the link to this view",
    "save the pictures with their marks and scales as PNG",
    "light or dark",
    "this list",
}


def test_each_key_does_what_help_says(page):
    lines = page.locator(".help dd").evaluate_all("all => all.map((line) => line.textContent)")
    assert set(lines) == set(PRESSED) | OTHERS and len(lines) == len(set(lines))
    for text, cases in PRESSED.items():
        for before, key, after in cases:
            show(page, **before)
            page.evaluate("explorer.point({x: 60, y: 100})")
            start = state(page)
            page.keyboard.press(key)
            assert state(page) == {**start, **after}, (text, key)


def test_keys_that_change_no_state(page):
    pointer = "[explorer.pointer.x, explorer.pointer.y]"
    page.evaluate("explorer.point({x: 60, y: 100})")
    for key, place in (
        ("ArrowRight", [100, 100]),
        ("ArrowUp", [100, 60]),
        ("ArrowLeft", [60, 60]),
        ("ArrowDown", [60, 100]),
    ):
        page.keyboard.press(key)
        assert page.evaluate(pointer) == place
    page.keyboard.press("s")
    page.keyboard.press("Enter")
    for key in ("ArrowRight", "ArrowDown", "Enter", "ArrowDown"):
        page.keyboard.press(key)
    assert state(page)["brush"] == {"step": 0, "rect": [2, 1, 3, 2]}
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    assert page.evaluate("[explorer.pointer, explorer.tool]") == [None, "point"]
    page.keyboard.press("Space")
    until(page, "explorer.state.step === 1")
    page.keyboard.press("Space")
    assert page.evaluate("explorer.playing") is None
    page.keyboard.press("?")
    assert page.locator(".help").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator(".help").is_visible()
    dark = "explorer.ink('--dark').trim()"
    before = page.evaluate(dark)
    page.keyboard.press("d")
    assert {before, page.evaluate(dark)} == {"0", "1"}
    page.keyboard.press("d")
    canvas = page.locator(".scattermap")
    canvas.focus()
    canvas.press("Enter")
    left, right, bottom, top = state(page)["brush"]["box"]
    canvas.press("ArrowRight")
    moved = state(page)["brush"]["box"]
    assert moved[0] > left and moved[1] > right and moved[2:] == [bottom, top]
    canvas.press("Shift+ArrowUp")
    assert state(page)["brush"]["box"][:3] == moved[:3] and state(page)["brush"]["box"][3] > top
    canvas.evaluate("canvas => canvas.blur()")


# ------------------------------------------------------------------ errors


def test_an_exception_in_a_handler_is_a_sentence(chromium, file):
    with chromium.new_page() as page:
        page.goto(file.as_uri())
        page.wait_for_selector("html[data-ready]")
        page.evaluate("void (explorer.setStep = () => { throw new Error('no such step') })")
        page.get_by_role("button", name="the next step").click()
        assert "Something went wrong: no such step" in page.locator(".status").inner_text()
        page.evaluate(
            "void (explorer.say(''), explorer.parts.push({draw() { throw Error('ink') }}))"
        )
        page.evaluate("explorer.draw()")
        until(page, "document.querySelector('.status').textContent.includes('ink')")


# ------------------------------------------------------------------ a notebook without a kernel

MODEL = """
  const values = {point: null, step: 0, mask: null, edit: null, _fallback: "none"};
  const listeners = {}, sent = [], saved = [];
  const model = {
    get: (name) => values[name],
    set: (name, value) => { values[name] = value; saved.push([name, value]); },
    save_changes: () => {},
    send: (message) => sent.push(message),
    on: (name, listener) => { listeners[name] = listener; },
    off: (name) => { delete listeners[name]; },
  };
  window.notebook = {
    model, values, sent, saved,
    hear: (message) => listeners["msg:custom"](message, []),
    chosen(name, value) { values[name] = value; listeners["change:" + name](); },
    close: () => listeners["comm:close"](),
  };
  render({model, el: document.body});
"""


@pytest.fixture
def notebook(chromium, exploration, tmp_path):
    """The widget's side of the browser, with a model that only takes notes."""
    file = tmp_path / "notebook.html"
    file.write_text(f"<meta charset=utf-8><script type=module>{script()}\n{MODEL}</script>")
    with chromium.new_page(viewport={"width": 1280, "height": 900}) as page:
        page.goto(file.as_uri())
        until(page, "Boolean(window.notebook)")
        data = json.dumps(to_json(exploration.page()))
        page.evaluate(f"notebook.hear({{kind: 'page', page: {data}, predicts: true}})")
        until(page, "document.body.dataset.ready === '1'")
        yield page


def in_picture(page, x, y, panel=0):
    """A place in a picture, given in pixels of the clip, on the screen."""
    box = page.locator(".picture").nth(panel).bounding_box()
    return box["x"] + x / WIDTH * box["width"], box["y"] + y / HEIGHT * box["height"]


def test_python_is_told_the_point_and_the_patches_that_are_painted(notebook):
    page = notebook
    assert page.evaluate("notebook.sent") == [{"ask": "page"}]
    page.mouse.click(*in_picture(page, 220, 50))
    page.keyboard.press(".")
    assert page.evaluate("notebook.values.point") == pytest.approx([220, 50], abs=2)
    assert page.evaluate("notebook.values.step") == 1
    page.get_by_role("button", name="Hide").click()
    page.mouse.move(*in_picture(page, 60, 20))
    page.mouse.down()
    page.mouse.move(*in_picture(page, 60, 100), steps=4)
    page.mouse.up()
    mask = page.evaluate("notebook.values.mask")
    painted = np.reshape(mask, (STEPS, ROWS, COLUMNS)) == 1
    assert painted[:, 0:3, 1].all()
    assert painted.sum() == 3 * STEPS
    drawn(page)
    assert ((stage(page, 0, "veil")[..., 3] > 0) == painted[1]).all()
    page.get_by_text("through all steps").click()
    page.mouse.click(*in_picture(page, 60, 20))  # shows it again, in this step only
    painted ^= np.reshape(page.evaluate("notebook.values.mask"), painted.shape) == 1
    assert np.argwhere(painted).tolist() == [[1, 0, 1]]


def test_python_is_told_the_clicks_of_segment(notebook):
    page = notebook
    page.get_by_role("button", name="Segment").click()
    page.mouse.click(*in_picture(page, 220, 50))
    page.keyboard.press(".")
    page.keyboard.down("Shift")
    page.mouse.click(*in_picture(page, 60, 100))
    page.keyboard.up("Shift")
    first, second = page.evaluate("notebook.values.clicks")
    assert (first["step"], first["thing"], first["is"]) == (0, 0, True)
    assert (second["step"], second["thing"], second["is"]) == (1, 0, False)
    assert [first["x"], first["y"]] == pytest.approx([220, 50], abs=2)
    assert [second["x"], second["y"]] == pytest.approx([60, 100], abs=2)


def test_what_python_sets_is_drawn(notebook):
    page = notebook
    page.evaluate("notebook.chosen('point', [30, 130])")
    page.evaluate("notebook.chosen('step', 2)")
    page.evaluate("notebook.chosen('mask', [...Array(72).keys()].map((i) => i == 50 || i == 71))")
    page.evaluate("notebook.model.send({ask: 'nothing'})")
    page.get_by_role("button", name="Hide").click()
    drawn(page)
    assert page.locator(".pin").inner_text().startswith("step 0, row 3, column 0")
    assert "step 2 of" in page.locator(".steplabel").inner_text()
    hidden = np.zeros((STEPS, ROWS, COLUMNS), bool)
    hidden.ravel()[[50, 71]] = True
    assert ((stage(page, 1, "veil")[..., 3] > 0) == hidden[2]).all()


def test_what_was_painted_over_is_shown_in_pixels(notebook, exploration):
    """Hidden, the clip, and what was decoded from the features and from the prediction."""
    page, random, pixels_of = notebook, np.random.default_rng(0), {}
    shown = random.integers(0, 256, (2, 2, 3, 5, 1, 1, 3), np.uint8)  # (part, step, …), by patch
    shown = np.broadcast_to(shown, (2, 2, 3, 5, 16, 16, 3)).swapaxes(3, 4).reshape(2, 2, 48, 80, 3)
    for name, r2, frames in zip(("features", "prediction"), (0.75, 0.25), shown, strict=True):
        files = [io.BytesIO() for _ in frames]
        for file, frame in zip(files, frames, strict=True):
            Image.fromarray(frame).save(file, "WEBP", lossless=True)
        pixels_of[name] = {"r2": r2, "pictures": [file.getvalue() for file in files]}
    page.evaluate("notebook.chosen('mask', [...Array(72).keys()].map((i) => i === 8))")
    painted = json.dumps(to_json(prediction() | {"name": "painted"}))
    page.evaluate(f"notebook.hear({{kind: 'prediction', prediction: {painted}}})")
    until(page, "document.querySelectorAll('.picture').length === 4")
    page.get_by_role("button", name="Pixels").click()
    assert page.evaluate("notebook.sent.pop()") == {"ask": "decode"}
    text = json.dumps(to_json(pixels_of))
    page.evaluate(f"notebook.hear({{kind: 'pixels', pixels: {text}}})")
    until(page, "document.querySelectorAll('.picture').length === 4")
    said = page.locator("figcaption").all_inner_texts()
    assert [re.findall(r"R² [\d.]+", title) for title in said[2:]] == [["R² 0.75"], ["R² 0.25"]]
    for step in (0, 1):
        assert np.abs(stage(page, 1)[..., :3] - 10 * FRAMES[step][0]).max() < 4
        for part in (0, 1):
            assert np.abs(stage(page, 2 + part)[..., :3] - shown[part, step]).max() < 3
        thumbs = pixels(page.locator(".thumbs canvas.map").nth(2))[:, 12 * step : 12 * step + 10]
        assert np.abs(thumbs[..., :3] - shown[1, step, 4::8, 4::8]).max() < 3
        page.keyboard.press(".")
        drawn(page)
    outline = page.locator(".picture").nth(3).locator("path.region")
    assert outline.count() == 0 and (stage(page, 3)[..., 3] == 0).all()  # a step it does not cover


def test_a_patch_is_dragged_and_how_far_the_forecast_moved_is_drawn(notebook):
    page, random = notebook, np.random.default_rng(0)
    page.get_by_role("button", name="Move", exact=True).click()
    page.mouse.move(*in_picture(page, 60, 20))
    page.mouse.down()
    page.mouse.move(*in_picture(page, 180, 140), steps=3)
    page.mouse.up()
    edit = page.evaluate("notebook.values.edit")
    assert np.ravel(edit) == pytest.approx([60, 20, 180, 140], abs=2)
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    page.mouse.move(*in_picture(page, 60, 20))
    for key in ("Enter", "ArrowRight", "ArrowDown", "Enter"):
        page.keyboard.press(key)
    assert np.ravel(page.evaluate("notebook.values.edit")) == pytest.approx([60, 20, 100, 60])
    hidden = np.zeros((STEPS, ROWS, COLUMNS), bool)
    hidden[1:] = True
    maps = random.uniform(0, 0.7, (2, *hidden.shape)).astype(np.float32)
    maps[:, ~hidden] = np.nan
    answer = {"encoder": "encoder 1", "grid": hidden.shape, "frames": FRAMES, "points": edit}
    answer |= {"hidden": zlib.compress(hidden.tobytes()), "means": [0.25, 0.125]}
    names = ("moved", "random")
    answer |= {n: zlib.compress(m.tobytes()) for n, m in zip(names, maps, strict=True)}
    page.evaluate(f"notebook.hear({{kind: 'edit', edit: {json.dumps(to_json(answer))}}})")
    until(page, "document.querySelectorAll('.picture').length === 3")
    drawn(page)
    assert "step 1 of" in page.locator(".steplabel").inner_text()  # the first that is forecast
    top = np.nanmax(maps)
    for panel, (values, mean) in enumerate(zip(maps, ("0.25", "0.125"), strict=True), 1):
        expected = inferno(values, 0, top)
        assert np.abs(stage(page, panel)[..., :3] - expected[1]).max() < 6
        assert np.abs(strip(page, panel - 1)[..., :3] - expected).max() < 6
        said = page.locator(".bar").nth(panel).inner_text()
        assert re.findall(r"\d\.\d\d", said)[:2] == ["0.00", f"{top:.2f}"]
        assert said.endswith(f"mean {mean}")
    assert (stage(page, 0, "veil")[..., 3] == 235).all()
    marks = page.locator(".picture").first.locator(".marks")
    assert marks.locator("path.ring").get_attribute("d") == "M1.5 0.5L4.5 3.5"
    page.mouse.move(*in_picture(page, 180, 100))
    drawn(page)
    said = numbers_in(page.locator(".readout").inner_text())
    assert said[-2:] == pytest.approx(maps[:, 1, 2, 4], abs=6e-4)


def test_a_kernel_that_is_gone_is_a_sentence(notebook):
    page = notebook
    page.evaluate("notebook.hear({kind: 'say', text: 'no such mask'})")
    until(page, "document.querySelector('.status').textContent === 'no such mask'")
    gone = "document.querySelector('.status').textContent.includes('kernel does not answer')"
    page.evaluate("notebook.close()")
    until(page, gone)
    page.evaluate("void (notebook.model.send = () => { throw new Error('comm is closed') })")
    page.evaluate("document.querySelector('.status').textContent = ''")
    page.get_by_role("button", name="Hide").click()
    until(page, gone)
    page.evaluate("notebook.hear({kind: 'prediction', prediction: '{}'})")
    until(page, "document.querySelector('.status').textContent.includes('Something went wrong')")
