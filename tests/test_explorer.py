"""The explorer's data and page; pure functions of its JavaScript against numbers from Python."""

import base64
import html
import io
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from scipy.stats import spearmanr
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import Ridge

import vjepa_utils as vj
from tests.conftest import GOLDEN, ROOT, grey_levels, write_video
from vjepa_utils.explorer import components, exploration, look
from vjepa_utils.explorer.page import document, script, to_json
from vjepa_utils.guided import guided

needs_node = pytest.mark.skipif(not shutil.which("node"), reason="node is not installed here")


@pytest.fixture(scope="module")
def looked():
    """Two encoders on some frames of the kite, with a mask."""
    video = vj.read_video(ROOT / "videos" / "kitesurfing.mp4", every=8)
    encoders = [vj.load_encoder(name, dtype=torch.float32) for name in ("vjepa2-demo", "dino-demo")]
    return look(video, encoders, 256, masks=["block"])


@pytest.fixture(scope="module")
def run_node(tmp_path_factory, looked):
    """Run JavaScript that prints JSON; `E` are the explorer's functions, `page` its data."""
    folder = tmp_path_factory.mktemp("node")
    (folder / "explorer.mjs").write_text(script())
    (folder / "page.json").write_text(to_json(looked.page()))

    def run(code):
        start = 'import * as E from "./explorer.mjs"; import fs from "fs";'
        start += 'const page = JSON.parse(fs.readFileSync("page.json"));'
        start += "const views = await Promise.all(page.views.map((v) => E.decodeView(v)));"
        (folder / "run.mjs").write_text(f"{start}\n{code}")
        done = subprocess.run(["node", "run.mjs"], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def true_cosine(features, tokens):
    """Cosine of some tokens with all: float64 (tokens, all)."""
    x = torch.nn.functional.normalize(features.values.flatten(0, 2).double(), dim=-1)
    return (x[tokens] @ x.T).numpy()


@needs_node
def test_cosine_maps_are_those_of_the_whole_features(looked, run_node):
    tokens = list(range(5, 1300, 61))
    code = f"""const maps = views.map((v) => {tokens}.map((t) => [...E.cosineMap(v, t)]));
    const best = E.bestMatches(E.cosineMap(views[0], 5), views[0].perStep);
    console.log(JSON.stringify({{maps, best: [...best.tokens]}}));"""
    found = run_node(code)
    for view, maps in zip(looked.views, np.array(found["maps"]), strict=True):
        true = true_cosine(view.features, tokens)
        assert np.abs(maps - true).max() < 0.02
        assert np.abs(maps - true).mean() < 0.01
        assert min(spearmanr(a, b)[0] for a, b in zip(maps, true, strict=True)) > 0.99
        assert maps[range(len(tokens)), tokens] == pytest.approx(1, abs=1e-5)
    steps = np.array(found["maps"])[0, 0].reshape(looked.grid[0], -1)
    each = steps.shape[1] * np.arange(len(steps))
    assert found["best"] == (steps.argmax(1) + each).tolist()


@needs_node
def test_change_is_one_minus_the_cosine_of_successive_steps(looked, run_node):
    code = "console.log(JSON.stringify(views.map((v) => [...E.changeMap(v)])));"
    for view, change in zip(looked.views, run_node(code), strict=True):
        values = view.features.values
        true = 1 - torch.cosine_similarity(values[1:], values[:-1], dim=-1).flatten().numpy()
        size = len(change) - len(true)
        assert change[:size] == [None] * size  # NaN
        assert np.abs(np.array(change[size:]) - true).max() < 0.02


@needs_node
def test_colours_are_those_of_the_projects_basis(looked, run_node):
    code = """console.log(JSON.stringify(views.map((v) =>
      [...E.paintColours(v, [0, 1, 2], 0, v.count, new Uint8ClampedArray(4 * v.count))])));"""
    for view, painted in zip(looked.views, run_node(code), strict=True):
        painted = np.array(painted).reshape(*looked.grid, 4)
        true = view.colours.colours(view.features)
        assert np.abs(painted[..., :3] / 255 - true).max() < 0.03 and (painted[..., 3] == 255).all()


@needs_node
def test_heat_is_inferno(run_node):
    from matplotlib import colormaps

    code = """const map = Float32Array.from({length: 256}, (_, i) => i / 255);
    const out = E.paintHeat(map, 0, 256, 0, 1, new Uint8ClampedArray(1024));
    console.log(JSON.stringify([...out]));"""
    painted = np.array(run_node(code)).reshape(256, 4)
    true = colormaps["inferno"](np.arange(256)) * 255
    assert np.abs(painted - true).max() < 2.5


@needs_node
def test_prediction_is_decoded(looked, run_node):
    code = """const [p] = await Promise.all(page.predictions.map((one) => E.decodePrediction(one)));
    console.log(JSON.stringify({hidden: [...p.hidden], cosine: [...p.cosines[0]],
      grid: [...p.cosineGrid], same: [...p.cosines[3]], filled: p.filled.length}));"""
    found, grid = run_node(code), looked.predictions[0]["grid"]
    hidden = np.array(found["hidden"]).reshape(grid).astype(bool)
    assert (hidden == vj.masks.block(grid)).all() and found["filled"] == 3 * hidden.size
    means = dict(looked.predictions[0]["means"])
    assert np.mean(found["cosine"]) == pytest.approx(means["prediction"], abs=0.005)
    shown = np.array(found["grid"], float).reshape(grid)
    assert (np.isnan(shown) == ~hidden).all() and set(found["same"]) == {None}
    assert means["same place"] is None


@needs_node
def test_the_view_survives_the_address(run_node):
    code = """const state = {...E.initialState(), step: 2, mode: "similarity", rgb: [3, 0, 1],
      overlay: 0.55, pins: [{step: 1, x: 300.5, y: 20}, {step: 0, x: 0, y: 1280}], active: 1,
      above: true, axes: [4, 2], brush: {axes: [4, 2], box: [-1.5, 2, 0.25, 3]}, view: 1};
    const back = E.fromAddress(E.toAddress(state), page);
    const hostile = ["", "#", "step=99&mode=evil&rgb=1.2&pins=a,b;1,2;0,-5,3;0,1e999,2&active=7",
      "rgb=0.0.0&axes=900.1&overlay=-3&brush=1,2,3&box=1.2,NaN,1,2,3&mask=4&view=2",
      "step=%3Cscript%3E&pins=0,1,2,3;0,10,10.0000001&brush=0,0,0,999,0"]
      .map((text) => E.fromAddress(text, page));
    console.log(JSON.stringify({state, back, hostile, start: E.initialState()}));"""
    found = run_node(code)
    assert found["back"] == found["state"]
    for state in found["hostile"][:4]:
        assert state == found["start"]
    assert found["hostile"][4]["pins"] == [{"step": 0, "x": 10, "y": 10.0000001}]
    assert found["hostile"][4]["step"] == 0 and found["hostile"][4]["brush"] is None


# For each part of the state another value than a new explorer's
OTHER = {
    "step": 2,
    "mode": "change",
    "rgb": [5, 0, 3],
    "overlay": 0.37,
    "pins": [{"step": 2, "x": 12.5, "y": 1279}, {"step": 0, "x": 700, "y": 3}],
    "active": 1,
    "view": 1,
    "axes": [3, 6],
    "mask": 0,
    "brush": {"step": 1, "rect": [2, 3, 27, 15]},
    "clicks": [
        {"step": 1, "x": 20.5, "y": 1000, "thing": 3, "is": True},
        {"step": 0, "x": 1, "y": 2, "thing": 0, "is": False},
    ],
    "thing": 3,
    "cut": -0.35,
    "shown": 3,
    "pull": [4, -0.35],
    "alone": True,
    "above": True,
    "live": True,
    "nearest": True,
    "unit": True,
    "guided": True,
    "allSteps": True,
}


@needs_node
def test_each_part_of_the_state_survives_the_address_alone_and_with_all_others(run_node):
    parts = [{name: value} for name, value in OTHER.items() if name != "active"] + [OTHER]
    parts += [{"brush": {"axes": [1, 5], "box": [-1.5, 0.25, -3, 1e-5]}}, {"mode": "prediction"}]
    parts += [{"mode": mode} for mode in ("similarity", "segment", "pixels")]
    parts += [{"active": 1, "pins": OTHER["pins"]}, {"overlay": 0}]
    code = f"""const states = {json.dumps(parts)}.map((part) => ({{...E.initialState(), ...part}}));
    const back = states.map((state) => E.fromAddress(E.toAddress(state), page));
    console.log(JSON.stringify({{states, back, names: Object.keys(E.initialState())}}));"""
    answer = run_node(code)
    assert set(answer["names"]) == set(OTHER)
    for state, back in zip(answer["states"], answer["back"], strict=True):
        assert state == back


@needs_node
@pytest.mark.parametrize("stride", [16, 8])
def test_guided_maps_are_those_of_python(run_node, stride):
    size, random = (80, 128), np.random.default_rng(0)  # 16 pixels are 4 of the clip
    grey = ndimage.gaussian_filter(random.random((20, 32)), 2)
    grey = np.rint(255 * (grey - grey.min()) / np.ptp(grey)).astype(np.uint8)
    rows, columns = (side // stride for side in size)
    maps = random.normal(size=(1, rows, columns)).astype(np.float32)
    features = vj.Features(
        torch.zeros(1, rows, columns, 3),
        torch.zeros(1, 2),
        16,
        size,
        grey.shape,
        "e",
        stride=stride,
    )
    true = guided(torch.from_numpy(maps), np.stack(3 * [grey], -1), features)[0]
    code = f"""const grey = Float32Array.from({(grey / 255).ravel().tolist()});
    const guide = {{width: 32, height: 20, grey}}, map = {maps.ravel().tolist()};
    const radius = Math.max(1, Math.round((0.5 * 20) / {rows}));
    console.log(JSON.stringify([...E.guidedMap(map, {rows}, {columns}, guide, radius,
      {features.offset})]));"""
    assert np.abs(np.reshape(run_node(code), grey.shape) - true.numpy()).max() < 1e-3


@needs_node
def test_a_brush_selects_tokens(looked, run_node):
    values, scale = looked.views[0].components.values, looked.views[0].components.scale
    code = """const box = E.brushed(views[0], {axes: [1, 3], box: [-1, 2, 0, 1.5]});
    const rect = E.brushed(views[0], {step: 1, rect: [2, 3, 4, 6]});
    console.log(JSON.stringify([[...box], [...rect]]));"""
    box, rect = (np.array(one).reshape(looked.grid).astype(bool) for one in run_node(code))
    x, y = values[..., 1] * scale[1], values[..., 3] * scale[3]
    assert (box == ((x >= -1) & (x <= 2) & (y >= 0) & (y <= 1.5))).all() and box.any()
    assert rect[1, 2:5, 3:7].all() and rect.sum() == 12


def unit_tokens(view, size=None):
    """Packed tokens of length 1, (tokens, size)."""
    packed = view.components
    x = packed.values.reshape(-1, len(packed.scale)) * packed.scale + packed.mean
    return (x / np.sqrt((x**2).sum(1, keepdims=True) + packed.rest**2))[:, :size]


@needs_node
def test_masks_are_connected_and_widened(run_node):
    mask = np.random.default_rng(0).random((9, 13)) < 0.4
    seeds = [int(seed) for seed in np.flatnonzero(mask)[[3, 20]]]
    code = f"""const mask = Uint8Array.from({mask.ravel().astype(int).tolist()});
    console.log(JSON.stringify([[...E.connected(mask, {seeds}, 9, 13)],
      ...[0, 1, 3].map((reach) => [...E.widened(mask, reach, 9, 13)])]));"""
    connected, *widened = (np.array(one).reshape(9, 13) == 1 for one in run_node(code))
    labels, _ = ndimage.label(mask, np.ones((3, 3)))
    assert (connected == np.isin(labels, labels.flat[seeds])).all() and not connected.all()
    for reach, wide in zip((0, 1, 3), widened, strict=True):
        window = np.ones((2 * reach + 1, 2 * reach + 1))
        assert (wide == ndimage.binary_dilation(mask, window)).all()


@needs_node
def test_one_click_takes_what_is_inside_the_outline_of_most_contrast(run_node):
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:20, :30]
    away = np.hypot(rows - 9, columns - 12)
    score = np.where(away < 5, 0.8, 0.35) - 0.02 * away + random.normal(0, 0.02, away.shape)
    score[2:5, 24:28] = 0.9  # as similar, elsewhere
    score[9, 12] = 1
    seed, values = 9 * 30 + 12, score.ravel().tolist()
    code = f"""const score = Float32Array.from({values});
    const mask = E.outlined(score, [{seed}], 20, 30);
    console.log(JSON.stringify([[...mask], E.contrast(score, mask, 20, 30)]));"""
    mask, contrast = run_node(code)
    mask = np.reshape(mask, score.shape) == 1
    assert (mask == (away < 5)).all()
    rim = mask & ~ndimage.binary_erosion(mask, border_value=1)
    around = ndimage.binary_dilation(mask) & ~mask
    assert contrast == pytest.approx(score[rim].mean() - score[around].mean(), rel=1e-5)


@needs_node
def test_the_discriminant_is_fishers(looked, run_node):
    inside, outside = list(range(40, 90)), list(range(300, 900, 3))
    code = f"""const one = E.discriminant(views[0], {inside}, {outside});
    console.log(JSON.stringify([[...one.weights], one.bias]));"""
    weights, bias = run_node(code)
    x = unit_tokens(looked.views[0], 64)
    first, second = x[inside], x[outside]
    labels = [1] * len(inside) + [0] * len(outside)
    fisher = LinearDiscriminantAnalysis("lsqr", shrinkage=0.03 / 1.03)  # 0.03 beside 1, as a share
    true = fisher.fit(x[inside + outside], labels).coef_[0]
    assert np.corrcoef(true, weights)[0, 1] > 0.9999
    assert bias == pytest.approx(-(first.mean(0) + second.mean(0)) / 2 @ weights, rel=1e-3)


@needs_node
def test_colours_of_a_thing_alone_are_its_own_components(looked, run_node):
    view, mask = looked.views[0], np.zeros(looked.grid, int)
    mask[:, 5:14, 3:12] = 1
    code = f"""const mask = Uint8Array.from({mask.ravel().tolist()});
    console.log(JSON.stringify(E.componentsOf(views[0], mask).map((c) => [...c])));"""
    shown = np.array(run_node(code))[:, mask.ravel() == 1]
    packed = view.components
    x = (packed.values * packed.scale)[..., :64].reshape(-1, min(64, len(packed.scale)))
    components = PCA(3, svd_solver="full").fit_transform(x[mask.ravel() == 1]).T
    low, high = np.percentile(components, [1, 99], axis=1)[..., None]
    for ours, true in zip(shown, np.clip((components - low) / (high - low), 0, 1), strict=True):
        assert min(np.abs(ours - true).mean(), np.abs(ours - (1 - true)).mean()) < 0.01


@needs_node
def test_pixels_are_those_of_a_ridge_regression(looked, run_node):
    view, (steps, rows, columns) = looked.views[0], looked.grid
    code = """const step = 1, view = views[0], { rows, columns } = view;
    console.log(JSON.stringify([64, 3].map((shown) => [...E.decodePixels(view, view.pixels, shown,
      step, new Uint8ClampedArray(4 * 256 * rows * columns))])));"""
    frames = looked.video[looked.video.positions(looked.frames[:, 0])].frames
    size = columns * 16, rows * 16
    frames = np.stack([Image.fromarray(frame).resize(size, 2) for frame in frames]) / 255
    patches = frames.reshape(steps, rows, 16, columns, 16, 3).swapaxes(2, 3)
    tokens = (view.components.values * view.components.scale)[..., :64]
    tokens = tokens.reshape(-1, tokens.shape[-1])
    whole, three = (np.reshape(one, (*size[::-1], 4))[..., :3] / 255 for one in run_node(code))
    shown = []
    for strength in (1e-4, 1e0, 1e1, 1e2, 1e3, 1e4, 1e5):  # of which the decoder chose one
        ridge = Ridge(strength).fit(tokens, patches.reshape(len(tokens), -1))
        fitted = np.clip(ridge.predict(tokens).reshape(patches.shape), 0, 1)
        shown.append(np.abs(whole - fitted.swapaxes(2, 3).reshape(frames.shape)[1]).mean())
    assert min(shown) < 0.004 < 0.01 < max(shown)  # 8 bits, and another resize
    error = [
        np.square(guess - frames[1]).mean() for guess in (whole, three, frames[1].mean((0, 1)))
    ]
    assert error[0] < 0.4 * error[2] and error[0] < error[1] < error[2]


def test_errors_are_measured_and_said(looked):
    for view in looked.views:
        packed, features = view.components, view.features
        assert packed.error["mean"] <= 0.01 and packed.error["worst"] <= components.WORST_ERROR
        x = packed.values.reshape(-1, len(packed.scale)) * packed.scale + packed.mean
        x = np.concatenate([x, np.full((len(x), 1), packed.rest)], 1)
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        off = np.abs(x @ x.T - true_cosine(features, range(len(x))))
        assert off.mean() == pytest.approx(packed.error["mean"], rel=0.1)
        assert np.percentile(off, 99) == pytest.approx(packed.error["p99"], rel=0.1)


def test_colours_follow_those_of_the_first_encoder(looked):
    first, second = (
        view.components.values[..., :3].reshape(-1, 3).astype(float) for view in looked.views
    )
    r = [np.corrcoef(a, b)[0, 1] for a, b in zip(first.T, second.T, strict=True)]
    assert r == pytest.approx(looked.views[1].colours.matched, abs=0.02) and min(r) >= 0


def test_few_components_are_kept_where_few_tell_all():
    values = torch.randn(2, 6, 7, 5) @ torch.randn(5, 40) + 3 * torch.randn(40)
    features = vj.Features(values, torch.tensor([[0, 1], [2, 3]]), 16, (96, 112), (96, 112), "x")
    packed, _ = components.pack(features)
    assert len(packed.scale) <= 5 and packed.error["worst"] < 0.018
    constant = vj.Features(
        torch.ones(1, 2, 2, 8), torch.tensor([[0, 1]]), 16, (32, 32), (32, 32), "x"
    )
    with pytest.warns(UserWarning, match="0 of 3 components"):
        packed, _ = components.pack(constant)
    assert packed.error["worst"] < 1e-5


def test_the_page_stands_alone(looked, tmp_path):
    looked.save(tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert not re.search(r"""(src|href)=["'](?!data:)|url\(|import\s+[^(*]*from|@import""", text)
    assert "default-src 'none'" in text and len(text) < 1.5e6
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.S).group(1))
    assert [view["encoder"] for view in data["views"]] == ["vjepa2-demo", "dino-demo"]
    assert data["clip"]["name"] == "kitesurfing.mp4" and data["views"][0]["error"]["mean"] <= 0.01
    assert data["steps"][1]["frames"] == [16, 24]
    assert list(tmp_path.iterdir()) == [tmp_path / "page.html"]


def test_names_of_files_are_never_html(looked, monkeypatch):
    hostile = '"><script>alert(1)</script><img src=x onerror=alert(1)>&amp;.mp4'
    page = looked.page()
    page["clip"]["name"] = page["views"][0]["encoder"] = hostile
    text = document(page)
    assert "<script>alert" not in text and "<img src=x" not in text
    inside = re.search(r'id="data">(.*?)</script>', text, re.S).group(1)
    assert "<" not in inside and json.loads(inside)["clip"]["name"] == hostile
    source = script()
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", source)
    assert "</script" not in source.lower() and "<!--" not in source
    assert max(map(len, source.splitlines())) <= 100
    assert 'srcdoc="&lt;!DOCTYPE' in looked.fallback()


def test_what_a_notebook_stores_is_small(looked):
    stored = looked.fallback()
    assert len(stored) < 1e6 and stored.count("<iframe") == stored.count("<img") == 1
    limit = len(html.escape(document(looked.page(2))))
    (page,) = re.findall('srcdoc="(.*?)"', looked.fallback(limit=limit), re.S)
    data = json.loads(re.search(r'id="data">(.*?)</script>', html.unescape(page), re.S).group(1))
    assert len(data["steps"]) == 2 and data["whole"] == 3 and len(page) <= limit
    assert "<iframe" not in looked.fallback(limit=1000)


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        (dict(encoders=[]), "encoders must be at least one"),
        (
            dict(encoders=["dino-demo", "dino-demo"]),
            "each shown once, not ['dino-demo', 'dino-demo']",
        ),
        (dict(stride=5), "stride must be a divisor of the patch"),
        (dict(layers=(3, 3)), "list of different layers"),
        (dict(layers=(99,)), "layer must be None or a whole number from 1 to 8"),
        (dict(masks=["hole"]), "There is no mask 'hole'"),
        (dict(encoders="dino-demo", masks=["block"]), "dino-demo has no predictor"),
        (dict(encoders=["vjepa2-demo", "dino-demo"], context="clip"), "image encoder"),
        (dict(size=16384), "of at most 50: 0 of its 2 steps fit"),
    ],
)
def test_bad_input_is_one_sentence(how, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        vj.explore(grey_levels(4), **how)


def test_a_clip_that_is_too_long_is_refused_before_it_is_encoded():
    with pytest.raises(ValueError, match=r"MB of at most 50: \d+ of its 5000 steps fit"):
        vj.explore(np.zeros((10_000, 16, 16, 3), np.uint8))


def test_a_page_that_turns_out_too_large_is_not_written(looked, tmp_path, monkeypatch):
    monkeypatch.setattr(exploration, "LIMIT", 200_000)
    with pytest.raises(ValueError, match="MB of at most"):
        looked.save(tmp_path / "page.html")
    with pytest.raises(OSError, match="there is no folder"):
        looked.save(tmp_path / "none" / "page.html")
    assert not list(tmp_path.iterdir())


def test_without_anywidget_a_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "anywidget", None)
    monkeypatch.delitem(sys.modules, "vjepa_utils.explorer.widget", raising=False)
    with pytest.raises(vj.checks.UserError, match=r"anywidget is not installed: pip install"):
        vj.explore(grey_levels(4), GOLDEN / "model", size=64)


def test_the_command_writes_a_page(command, tmp_path):
    y, x = np.mgrid[:96, :128]
    frames = np.stack([np.stack([x + 8 * t, y * 2, x * 0 + 90], -1) % 256 for t in range(6)])
    clip = write_video(tmp_path / "a <b>.mp4", frames.astype(np.uint8))
    words = ["explore", clip, "--encoders", GOLDEN / "model", "--size", "64"]
    more = ["--layers", "1", "last", "--masks", "future"]
    done = command(*words, *more, "--stride", "8", "-o", tmp_path / "page.html")
    assert done.returncode == 0 and "3 steps of 8×10 patches" in done.stdout, done.stderr
    done = command(*words, *more, "-o", tmp_path / "page.html")
    assert done.returncode == 0, done.stderr
    assert "3 steps of 4×5 patches, model" in done.stdout
    text = (tmp_path / "page.html").read_text()
    assert "<b>" not in text and "a &lt;b&gt;.mp4 · model" in text
    for wrong, sentence in (
        (["-o", tmp_path / "a.png"], "must end in .html"),
        (["-o", clip], "must end in .html"),
        (["--masks", "hole", "-o", tmp_path / "b.html"], "invalid choice: 'hole'"),
        (["--layers", "7", "-o", tmp_path / "b.html"], "layer must be None or a whole number"),
    ):
        done = command(*words, *wrong)
        assert done.returncode == 1 and sentence in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a <b>.mp4", "page.html"]


def test_python_reads_back_and_sets_what_is_chosen():
    traitlets = pytest.importorskip("traitlets")
    explorer = vj.explore(_kite(), size=128)
    sent = []
    explorer.send = lambda message, buffers=None: sent.append(message)
    assert (explorer.point, explorer.step, explorer.mask) == (None, 0, None)
    mask = np.zeros(explorer.exploration.grid, bool)
    mask[:, 4:8, 2:5] = True
    explorer.mask = mask
    assert explorer.recovery.hidden.sum() == mask.sum() and sent[-1]["kind"] == "prediction"
    alone = vj.load_encoder().recover(_kite(), mask, size=128)
    assert torch.allclose(explorer.recovery.predicted, alone.predicted, atol=1e-4)
    assert np.allclose(explorer.recovery.cosine, alone.cosine, atol=1e-4)
    explorer._asked(explorer, {"ask": "decode"}, [])
    seen, decoder = json.loads(sent[-1]["pixels"]), vj.decoding.PixelDecoder()
    decoder.fit(explorer.recovery, _kite())
    assert seen["prediction"]["r2"] == decoder.score(explorer.recovery, _kite())["r2"]
    assert seen["features"]["r2"] > seen["prediction"]["r2"]
    picture = Image.open(io.BytesIO(base64.b64decode(seen["prediction"]["pictures"][1])))
    decoded = decoder.decode(explorer.recovery)[2].astype(float)
    assert np.abs(np.asarray(picture.convert("RGB")) - decoded).mean() < 6  # of lossy WebP
    explorer.edit = ((30, 40), (650, 1200))
    assert sent[-1]["kind"] == "edit", sent[-1]
    seen, features = json.loads(sent[-1]["edit"]), explorer.exploration.views[0].features
    places = np.zeros((2, *explorer.exploration.grid), bool)
    for place, point in zip(places, explorer.edit, strict=True):
        place[(0, *features.token_at(point))] = True
    hidden = vj.masks.future(explorer.exploration.grid, 0)
    direct = vj.recovery.edit(vj.load_encoder(), _kite(), *places[::-1], hidden, size=128)
    assert seen["means"][0] == pytest.approx(direct.change.mean(), rel=1e-3)
    assert seen["means"][1] == pytest.approx(direct.control_change.mean(), rel=1e-3)
    explorer.step, explorer.edit = explorer.exploration.grid[0] - 1, ((30, 40), (650, 1100))
    assert "No step follows" in sent[-1]["text"]
    explorer.mask = ~np.zeros_like(mask)
    assert sent[-1]["kind"] == "say" and "hides every token" in sent[-1]["text"]
    explorer._asked(explorer, {"ask": "page"}, [])
    assert sent[-1]["kind"] == "page" and sent[-1]["predicts"]
    assert json.loads(sent[-1]["page"])["views"][0]["encoder"] == "vjepa2-demo"
    explorer = vj.explore(_kite()[:2], "dino-demo", size=64)
    explorer.send = lambda message, buffers=None: sent.append(message)
    explorer._asked(explorer, {"ask": "prepare"}, [])
    assert "have no predictor" in sent[-1]["text"]
    finer = vj.explore(_kite(), size=128, stride=8)
    finer.send = explorer.send
    finer.mask = np.ones(finer.grid, bool)
    assert finer.recovery is None and "no stride smaller than its patch" in sent[-1]["text"]
    for name, value in (
        ("step", 9),
        ("point", (-1, 2)),
        ("edit", ((1, 2), (9e4, 2))),
        ("mask", np.zeros((1, 2, 3), bool)),
    ):
        with pytest.raises(traitlets.TraitError, match=name):
            setattr(explorer, name, value)


def test_clicks_become_masks_of_full_size():
    pytest.importorskip("traitlets")
    explorer, truth = vj.explore(_kite(), size=256), np.load(ROOT / "videos" / "kitesurfing.npz")
    assert explorer.masks is None
    first = explorer.exploration.frames[1, 0]  # clicked in the second step, on the kite and off it
    kite = truth["masks"] == 5
    y, x = (places[places.size // 2] for places in np.nonzero(kite[first]))
    away = dict(step=1, x=360.0, y=1000.0, thing=0)
    explorer.clicks = [dict(step=1, x=float(x), y=float(y), thing=0) | {"is": True}]
    explorer.clicks = [*explorer.clicks, away | {"is": False}]
    masks = explorer.masks
    assert masks.frames.tolist() == explorer.exploration.frames[:, 0].tolist()
    assert masks.labels.shape == (2, 1280, 720) and set(np.unique(masks.labels)) == {0, 1}
    for labels, number in zip(masks.labels, masks.frames, strict=True):
        assert (labels[kite[number]] == 1).mean() > 0.6 and (labels == 1).mean() < 0.1


def _kite():
    return vj.read_video(ROOT / "videos" / "kitesurfing.mp4", every=12)
