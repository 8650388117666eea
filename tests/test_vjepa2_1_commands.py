"""A random V-JEPA 2.1 of the demo encoder's size, as a .pt file, through every command."""

import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import write_video
from tests.released_2_1 import shapes, state


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
