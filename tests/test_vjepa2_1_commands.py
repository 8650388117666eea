"""A random V-JEPA 2.1 of the demo encoder's size, as a .pt file, through every command."""

import pickle

import numpy as np
import pytest
import torch
from PIL import Image

import vjepa_utils as vj
from tests.conftest import GOLDEN_HEADS, write_video
from tests.released_2_1 import shapes, state
from vjepa_utils.weights.regime import regime_of


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with large.pt, laid out as ViT-g and ViT-G, small.pt as the distilled ViT-B and
    ViT-L, and clips of two classes.
    """
    folder = tmp_path_factory.mktemp("made")
    for name, levels, out, key in (
        ("large", 4, 192, "target_encoder"),
        ("small", 1, 256, "ema_encoder"),
    ):
        contents = state(*shapes(192, 12, 768, 96, 2, levels, out), key)
        torch.save(contents, folder / f"{name}.pt")
    y, x = np.mgrid[:96, :128]
    for kind, speed in (("slow", 2), ("fast", 12)):
        (folder / "clips" / kind).mkdir(parents=True)
        for i in range(4):
            frames = [np.stack([x + speed * t + 9 * i, y * 2, x * 0], -1) % 256 for t in range(8)]
            clip = np.stack(frames).astype(np.uint8)
            write_video(folder / "clips" / kind / f"{i}.mp4", clip)
    return folder


@pytest.fixture(autouse=True)
def cache(made, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(made / "cache"))


@pytest.fixture
def clip(made):
    return made / "clips" / "fast" / "0.mp4"


@pytest.mark.parametrize("encoder", ["large", "small"])
@pytest.mark.parametrize("context", ["pair", "clip", "frame"])
def test_pca(made, clip, tmp_path, command, encoder, context):
    words = ["--encoder", made / f"{encoder}.pt", "--size", 64, "--context", context]
    done = command("pca", clip, *words, "-o", tmp_path / "out.png")
    steps = 8 if context == "frame" else 4
    assert done.returncode == 0, done.stderr
    assert f"{steps} steps of 4×5 patches, {encoder}" in done.stdout
    with Image.open(tmp_path / "out.png") as picture:
        assert picture.width > picture.height > 150


def test_recover(made, clip, tmp_path, command):
    words = ["--size", 64, "--mask", "block", "future", "-o", tmp_path / "out.png"]
    done = command("recover", clip, "--encoder", made / "large.pt", *words)
    assert done.returncode == 0 and "4 steps of 4×5 patches, large" in done.stdout, done.stderr
    assert done.stdout.count("prediction") >= 2 and (tmp_path / "out.png").exists()
    done = command("recover", clip, "--encoder", made / "small.pt", *words)
    assert done.returncode == 1 and "small was distilled" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("words", [["compare"], ["similarity", "--point", "40,40"]])
@pytest.mark.parametrize("context", ["pair", "frame"])
def test_compare_and_similarity(made, clip, tmp_path, command, words, context):
    encoders = ["--encoders", made / "large.pt", made / "small.pt", "dino-demo"]
    how = ["--size", 64, "--context", context, "-o", tmp_path / "out.png"]
    done = command(words[0], clip, *words[1:], *encoders, *how)
    assert done.returncode == 0 and (tmp_path / "out.png").exists(), done.stderr


def test_track(made, clip, tmp_path, command):
    words = ["--encoder", made / "small.pt", "--size", 64, "--grid", 4, "-o", tmp_path / "out.mp4"]
    done = command("track", clip, *words)
    assert done.returncode == 0 and (tmp_path / "out.mp4").exists(), done.stderr


def test_tapvid(made, tmp_path, command):
    video = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), np.uint8)
    points = np.full((2, 4, 2), 0.5, np.float32)
    contents = {"clip": {"video": video, "points": points, "occluded": np.zeros((2, 4), bool)}}
    (tmp_path / "davis.pkl").write_bytes(pickle.dumps(contents))
    words = ["--encoder", made / "small.pt", "--size", 64]
    done = command("tapvid", tmp_path / "davis.pkl", *words)
    assert done.returncode == 0 and "small" in done.stdout, done.stderr


@pytest.mark.slow
def test_probe_and_classify(made, clip, tmp_path, command):
    encoder, file = ["--encoder", made / "large.pt"], tmp_path / "probe.safetensors"
    done = command("probe", made / "clips", *encoder, "--size", 64, "--save", file)
    assert done.returncode == 0 and "attentive probe" in done.stdout, done.stderr
    done = command("classify", clip, "--probe", file, *encoder)
    assert done.returncode == 0 and "attentive probe on large, 2 classes" in done.stdout
    done = command("classify", clip, "--checkpoint", made / "large.pt")
    assert done.returncode == 1 and "large has no classification head" in done.stderr


@pytest.mark.slow
def test_figures(made, tmp_path, command):
    words = ["--encoder", made / "small.pt", "--size", 64, "--every", 12]
    done = command("figures", *words, "-o", tmp_path / "figures")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "figures" / "monkey-pca.png").exists()
    assert not (tmp_path / "figures" / "monkey-recovery.png").exists()  # it is distilled


def test_info(made, clip, command):
    """Against sizes by hand: 12 blocks of 192 channels, tokens of 4×5 patches, 2 steps jointly."""
    words = ["--video", clip, "--size", 64, "--count", 4]
    done = command("info", made / "large.pt", *words)
    assert done.returncode == 0, done.stderr
    lines = dict(line.strip().split("  ", 1) for line in done.stdout.splitlines()[1:])
    lines = {title: text.strip() for title, text in lines.items()}
    block = 12 * 192**2 + 13 * 192  # qkv, proj and MLP of 4 times the width, two norms
    patches = 192 * 3 * 256 * 3 + 2 * 192  # of two frames, and of one
    encoder = 12 * block + patches + 2 * 192 + 4 * 2 * 192
    assert lines["encoder"].startswith(f"{encoder / 1e6:.1f} M parameters: 12 blocks, 192 channels")
    state = torch.load(made / "large.pt")["predictor"]
    norms = [state[f"module.backbone.mask_tokens.{i}"].norm().item() for i in range(8)]
    assert lines["mask tokens"] == "8, of norm " + " ".join(f"{norm:.3g}" for norm in norms)
    assert lines["weights"] == "target_encoder of the training checkpoint, moving average"
    assert lines["clip"] == "4 frames: 2 steps of 4×5 patches"
    assert lines["2 frame(s)"].startswith("jointly: 20 tokens, about")
    assert lines["4 frame(s)"].startswith("jointly: 40 tokens, about")
    done = command("info", made / "large.pt", "--weights", "encoder")
    assert "encoder of the training checkpoint, online" in done.stdout
    done = command("info", GOLDEN_HEADS / "ssv2")
    assert "7 classes, for classify" in done.stdout


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("facebook/vjepa2-vitl-fpc64-256", (16, 64, 4, 256, "encoder", "MIT")),
        ("facebook/vjepa2-vitg-fpc64-384-ssv2", (16, 64, 4, 384, "encoder", "MIT")),
        ("vjepa2_1_vitl_dist_vitG_384", (16, 4, 384, "ema_encoder", "MIT")),
        ("vjepa2_1_vitG_384", (16, 4, 384, "target_encoder", "MIT")),
        ("apiantonio/vjepa2.1-vit-large-384", (16, 4, 384, "ema_encoder", "MIT")),
    ],
)
def test_the_regime_of_released_checkpoints(name, words):
    """facebookresearch/vjepa2, configs/train; which key, src/hub/backbones.py."""
    frames, *rest = regime_of(name)
    assert (*frames, *rest) == words
    assert regime_of("bert") is None


def test_convert(made, tmp_path, command):
    done = command("convert", made / "small.pt", tmp_path / "small")
    assert done.returncode == 0 and "12 blocks of 192 channels, ema_encoder" in done.stdout
    whole, kept = vj.load_encoder(made / "small.pt"), vj.load_encoder(tmp_path / "small")
    frames = np.random.default_rng(0).integers(0, 256, (2, 32, 48, 3), np.uint8)
    assert torch.equal(whole.encode(frames).values, kept.encode(frames).values)
    file = tmp_path / "small" / "model.safetensors"
    assert file.stat().st_size < 0.26 * (made / "small.pt").stat().st_size
    done = command("convert", made / "small.pt", tmp_path / "small")
    assert done.returncode == 1 and "small exists: give the name of a new folder" in done.stderr
    done = command("convert", tmp_path / "none.pt", tmp_path / "other")
    assert done.returncode == 1 and done.stderr.startswith("error: There is no file")
    assert not (tmp_path / "other").exists()
