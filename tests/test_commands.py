"""The command line, as a user types it."""

import hashlib
import subprocess
import sys

import av
import numpy as np
import pytest
from PIL import Image

from tests.conftest import GOLDEN, ROOT, grey_levels, write_video


@pytest.fixture
def clip(tmp_path):
    y, x = np.mgrid[:96, :128]
    frames = np.stack(
        [np.stack([x + 8 * t, y * 2, x * 0 + 90], -1) % 256 for t in range(10)]
    ).astype(np.uint8)
    return write_video(tmp_path / "clip.mp4", frames)


@pytest.mark.parametrize("kind", ["png", "mp4", "gif"])
def test_pca_writes_pictures_and_films(clip, tmp_path, kind, command):
    done = command(
        "pca",
        clip,
        "--encoder",
        GOLDEN / "model",
        "--size",
        "96",
        "--start",
        "1",
        "--every",
        "2",
        "--count",
        "4",
        "-o",
        tmp_path / f"out.{kind}",
    )
    assert done.returncode == 0 and "2 steps of 6×8 patches, model" in done.stdout, done.stderr
    assert "warning" not in done.stderr
    if kind == "mp4":
        with av.open(str(tmp_path / "out.mp4")) as container:
            assert (
                container.streams.video[0].average_rate == 15
                and len(list(container.decode(video=0))) == 4
            )
    else:
        with Image.open(tmp_path / f"out.{kind}") as picture:
            assert picture.width > picture.height > 150 and getattr(picture, "n_frames", 1) == (
                4 if kind == "gif" else 1
            )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["clip.mp4", f"out.{kind}"]


def test_recover_draws_several_masks_and_prints_their_tables(clip, tmp_path, command):
    words = [
        "--encoder",
        GOLDEN / "model",
        "--size",
        "64",
        "--count",
        "7",
        "--mask",
        "block",
        "future",
        "--after",
        "0",
    ]
    done = command("recover", clip, *words, "-o", tmp_path / "out.png")
    assert done.returncode == 0 and "4 steps of 4×5 patches, model" in done.stdout, done.stderr
    assert "warning: 10 of the 10 mask tokens of model are not zero" in done.stderr
    block, future = (part.splitlines() for part in done.stdout.split("\n\n")[:2])
    assert block[0] == "block" and future[0] == "future"
    assert [line.split()[0] for line in block[2:6]] == ["prediction", "mean", "nearest", "same"]
    assert (
        block[5].endswith("0%")
        and future[5].endswith("100%")
        and "60 of 80 tokens hidden (75%)" in future[6]
    )
    with Image.open(tmp_path / "out.png") as picture:
        assert picture.height > picture.width > 300  # seven rows of four steps


@pytest.mark.slow
def test_figures_are_the_same_a_second_time(tmp_path, command):
    digests = []
    for _ in range(2):
        done = command(
            "figures",
            "--encoder",
            GOLDEN / "model",
            "--size",
            "64",
            "--every",
            "12",
            "-o",
            tmp_path / "figures",
        )
        assert done.returncode == 0, done.stderr
        digests.append(
            {
                p.name: hashlib.sha256(p.read_bytes()).hexdigest()
                for p in (tmp_path / "figures").iterdir()
            }
        )
    assert digests[0] == digests[1] and len(digests[0]) == 15


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["pca", "nothing.mp4", "-o", "out.png"], "There is no file or folder 'nothing.mp4'."),
        (["pca", "{clip}", "-o", "{clip}"], "-o names the clip itself"),
        (["figures", "--every", "30", "-o", "figures"], "at least four frames"),
        (["pca", "{clip}", "-o", "out.txt"], "-o must end in .png, .mp4 or .gif"),
        (["pca", "{clip}", "-o", "no/folder/out.png"], "there is no folder no/folder"),
        (["pca", "{clip}", "--start", "10", "-o", "out.png"], "has 10 frames (0 to 9)"),
        (
            ["recover", "{clip}", "--mask", "block", "-o", "out.mp4"],
            "-o must end in .png, not out.mp4",
        ),
        (
            ["recover", "{clip}", "--mask", "block", "--share", "1", "-o", "out.png"],
            "share must lie between 0 and 1, not 1.0",
        ),
        (
            ["recover", "{clip}", "--mask", "future", "--after", "4", "-o", "out.png"],
            "after must be a step from 0 to 3",
        ),
        (
            ["recover", "{clip}", "--mask", "future", "--count", "2", "-o", "out.png"],
            "future needs at least two steps",
        ),
        (["pca", "{clip}", "--size", "8", "-o", "out.png"], "at least the patch, 16"),
        (["pca", "{clip}", "--context", "3", "-o", "out.png"], "context must be"),
        (["pca", "{clip}", "--encoder", "nobody", "-o", "out.png"], "There is no encoder 'nobody'"),
        (
            ["pca", "{clip}", "--encoder", "facebook/vjepa2-vitl-fpc64-256", "-o", "out.png"],
            "hf download facebook/vjepa2-vitl-fpc64-256",
        ),
    ],
)
def test_bad_input_ends_in_one_sentence(clip, tmp_path, words, sentence, monkeypatch, command):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "empty"))
    before = sorted(tmp_path.rglob("*"))
    done = command(*(word.format(clip=clip) for word in words), folder=tmp_path)
    assert done.returncode == 1 and done.stderr.startswith("error: ") and sentence in done.stderr
    assert "Traceback" not in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_a_clip_of_one_frame(tmp_path, command):
    path = write_video(tmp_path / "one.mp4", grey_levels(1))
    done = command(
        "pca", path, "--encoder", GOLDEN / "model", "--size", "64", "-o", tmp_path / "out.png"
    )
    assert done.returncode == 0 and "1 steps" in done.stdout


def test_damage_is_a_warning(clips, tmp_path, command):
    words = [
        "pca",
        clips / "formats" / "corrupted_midstream.mp4",
        "--encoder",
        GOLDEN / "model",
        "--size",
        "64",
        "--start",
        "20",
    ]
    done = command(*words, "-o", tmp_path / "out.png")
    assert (
        done.returncode == 0 and "warning: " in done.stderr and "damaged at frame 28" in done.stderr
    )


def test_the_module_runs_and_exits_with_an_error(tmp_path):
    """The one test that starts a process: `python -m vjepa_utils`, as a user types it."""
    words = [sys.executable, "-m", "vjepa_utils", "pca", "nothing.mp4", "-o", "out.png"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == "error: There is no file or folder 'nothing.mp4'.\n"


def test_a_cut_is_said_once(tmp_path, command):
    frames = np.zeros((8, 48, 64, 3), np.uint8)
    frames[3:] = 255
    path, words = write_video(tmp_path / "cut.mp4", frames), ["--encoder", GOLDEN / "model"]
    done = command("pca", path, *words, "--size", "64", "-o", tmp_path / "out.png")
    assert done.returncode == 0 and done.stderr.count("cut seems to lie between frames 2+3") == 1
