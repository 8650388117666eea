"""Many clips: what is written, what is redone, and what is read back."""

import copy
import inspect
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import fsspec
import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors import safe_open

import vjepa_utils as vj
from tests.conftest import GOLDEN, ROOT, write_video
from vjepa_utils.collection import extraction
from vjepa_utils.collection.clips import find_clips

RANDOM = np.random.default_rng(0)
MODEL = str(GOLDEN / "model")


def moving(count, height=48, width=64, phase=0):
    """Frames of stripes that move, each clip with its own colours."""
    y, x = np.mgrid[:height, :width]
    grey = np.stack([128 + 100 * np.sin((x + 3 * t + y * phase) / 9) for t in range(count)])
    return np.stack([grey, 255 - grey, grey * 0 + 40 * phase % 255], -1).astype(np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Five clips, two of one name, one of an odd number of frames, and one that is broken."""
    root = tmp_path_factory.mktemp("clips")
    for number, (name, frames) in enumerate(
        {"a/x": 6, "a/y": 9, "b/x": 8, "b/deep/z": 4, "top": 2}.items()
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        write_video(root / f"{name}.mp4", moving(frames, phase=number))
    (root / "broken.mp4").write_bytes(b"this is no film " * 64)
    (root / "notes.md").write_text("not a clip")
    return root


@pytest.fixture
def encoded(monkeypatch):
    """Names of the clips that are encoded, as they are."""
    names, real = [], extraction.work_on

    def noted(clip, *given, **named):
        row = real(clip, *given, **named)
        names.extend([clip.name] if row["status"] == "done" else [])
        return row

    monkeypatch.setattr(extraction, "work_on", noted)
    return names


def files(out):
    return sorted(str(p.relative_to(out)) for p in Path(out).rglob("*") if p.is_file())


def test_a_folder_becomes_files_and_a_table(tiny, folder, tmp_path):
    found = vj.extract(folder, tmp_path / "out", tiny, size=64, pool="both")
    names = ["a/x", "a/y", "b/deep/z", "b/x", "top"]
    assert found.names == names and len(found) == 5
    assert files(tmp_path / "out") == sorted(
        [f"{name}.safetensors" for name in names] + ["index.parquet"]
    )
    for name, features in zip(names, found, strict=True):
        alone = tiny.encode(folder / f"{name}.mp4", size=64)
        for read in (features, vj.Features.load(tmp_path / "out" / f"{name}.safetensors")):
            assert read.values.dtype == torch.float32
            assert torch.equal(read.values, alone.values.half().float())
            assert torch.equal(read.frames, alone.frames) and read.grid == alone.grid
            assert read.source_size == (48, 64) and read.picture_size == alone.picture_size
    rows = {row["name"]: row for row in pq.read_table(tmp_path / "out/index.parquet").to_pylist()}
    assert rows["a/y"]["path"] == str(folder / "a/y.mp4") and rows["a/y"]["grid"] == [5, 4, 5]
    assert rows["a/y"]["frames"] == 9 and rows["a/y"]["times"] == pytest.approx([0, 8 / 30])
    assert rows["a/y"]["fingerprint"] == tiny.fingerprint and rows["a/y"]["seconds"] > 0
    assert json.loads(rows["a/y"]["parameters"])["size"] == 64
    assert rows["broken"]["status"] == "failed" and rows["broken"]["pooled"] is None
    why = (
        f"{folder}/broken.mp4 cannot be read as a video: it is damaged, cut off or of another kind."
    )
    assert rows["broken"]["message"] == why and found.failed == {f"{folder}/broken.mp4": why}


def test_float32_is_what_encode_gives(tiny, folder, tmp_path):
    how = dict(size=(32, 48), context=4, every=2, layer=2)
    found = vj.extract(folder / "a", tmp_path / "out", tiny, **how, dtype="float32")
    video = vj.read_video(folder / "a" / "y.mp4", every=2)
    alone = tiny.encode(video, context=4, size=(32, 48), layer=2)
    assert torch.equal(found["y"].values, alone.values)
    assert found["y"].frames.tolist() == [[0, 2], [4, 6], [8, 8]]


def test_pooled_vectors(tiny, folder, tmp_path):
    means = {
        pool: vj.extract(folder, tmp_path / pool, tiny, size=32, pool=pool)
        for pool in ("none", "mean", "both")
    }
    expected = np.stack([
        tiny.encode(folder / f"{name}.mp4", size=32).values.double().mean((0, 1, 2)).numpy()
        for name in means["mean"].names
    ])  # fmt: skip
    for pool, found in means.items():
        assert found.pooled.dtype == np.float32 and found.pooled.shape == (5, 96)
        assert np.allclose(found.pooled, expected, atol=2e-3 if pool == "none" else 1e-6)
    one = means["mean"]["a/y"]  # one token, which stands for the clip
    assert one.grid == (1, 1, 1) and one.frames.tolist() == [[0, 8]]
    assert np.allclose(one.values.flatten(), expected[1], atol=2e-3)


def test_nearest(tiny, folder, tmp_path):
    found = vj.extract(folder, tmp_path / "out", tiny, size=32, pool="mean")
    unit = found.pooled / np.linalg.norm(found.pooled, axis=1, keepdims=True)
    cosine = unit @ unit[3]
    order = [i for i in np.argsort(-cosine) if i != 3]
    nearest = found.nearest("b/x", 2)
    assert [path for path, _ in nearest] == [found.paths[i] for i in order[:2]]
    assert [value for _, value in nearest] == pytest.approx(cosine[order[:2]])
    assert found.nearest(found.paths[3], 2) == nearest
    assert found.nearest(found.pooled[3], 1)[0] == (found.paths[3], pytest.approx(1))
    other = tiny.encode(folder / "b/x.mp4", size=32)
    assert found.nearest(other, 1)[0][0] == found.paths[3]
    with pytest.raises(ValueError, match="A vector of 96 channels is needed"):
        found.nearest(np.zeros(5))
    with pytest.raises(ValueError, match="There is no clip 'nobody'"):
        found.nearest("nobody")


def test_one_basis_of_colours_for_all(tiny, folder, tmp_path, monkeypatch):
    found = vj.extract(folder, tmp_path / "out", tiny, size=64)
    whole, spread = vj.PCAColours().fit(found), vj.PCAColours().fit(*found)
    together = vj.PCAColours().fit(*[vj.Features(**vars_of(f)) for f in found])
    for basis in (spread, together):
        assert np.array_equal(whole.colours(found[0]), basis.colours(found[0]))
    monkeypatch.setattr("vjepa_utils.colours.MOST_TOKENS", 50)
    assert vj.PCAColours().fit(found).explained_variance_ratio.sum() <= 1


def vars_of(features):
    names = features.__dataclass_fields__
    return {name: getattr(features, name) for name in names}


# Never twice


def test_a_second_call_does_only_what_is_missing_changed_or_failed(tiny, tmp_path, encoded, folder):
    source, out = tmp_path / "clips", tmp_path / "out"
    source.mkdir()
    for name in "abcd":
        write_video(source / f"{name}.mp4", moving(4, phase=ord(name)))
    (source / "late.mp4").write_bytes(b"")
    again = lambda **how: vj.extract(source, out, tiny, size=32, pool="both", **how)
    first = again()
    assert encoded == ["a", "b", "c", "d"] and "late.mp4 is empty." in str(first.failed)
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*.safetensors")}
    encoded.clear()
    again()
    assert encoded == [] and before == {p: p.stat().st_mtime_ns for p in before}

    (out / "a.safetensors").unlink()  # missing
    write_video(source / "b.mp4", moving(6, phase=9))  # changed
    whole = (out / "c.safetensors").read_bytes()
    (out / "c.safetensors").write_bytes(whole[:-1])  # cut off
    write_video(source / "late.mp4", moving(2))  # failed
    write_video(source / "new.mp4", moving(2))
    found = again()
    assert encoded == ["a", "b", "c", "late", "new"] and not found.failed
    assert found["b"].grid[0] == 3 and (out / "c.safetensors").read_bytes()[-100:] == whole[-100:]
    assert len(found.table) == 6 and found.pooled.shape == (6, 96)


def test_a_lost_table_comes_back_from_the_files(tiny, folder, tmp_path, encoded):
    first = vj.extract(folder, tmp_path / "out", tiny, size=32, pool="both")
    (tmp_path / "out" / "index.parquet").unlink()
    encoded.clear()
    second = vj.extract(folder, tmp_path / "out", tiny, size=32, pool="both")
    assert encoded == [] and second.table.drop_columns("seconds").equals(
        first.table.drop_columns("seconds")
    )


def test_other_parameters_are_refused_with_the_difference(tiny, folder, tmp_path):
    vj.extract(folder / "a", tmp_path / "out", tiny, size=32)
    before = {p: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()}
    with pytest.raises(ValueError, match=r"\(size 32 there, 48 here; every 1 there, 2 here\)"):
        vj.extract(folder / "a", tmp_path / "out", tiny, size=48, every=2)
    other = vj.load_encoder(GOLDEN / "model", dtype=torch.float32)
    with torch.no_grad():
        other.model.encoder.layernorm.bias += 1
    with pytest.raises(ValueError, match=r"other parameters \(weights"):
        vj.extract(folder / "a", tmp_path / "out", other, size=32)
    assert before == {p: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()}


def test_a_collection_is_of_one_precision(tiny, folder, tmp_path):
    coarse = vj.load_encoder(GOLDEN / "model", device="cpu", dtype=torch.bfloat16)
    vj.extract(folder / "a/x.mp4", tmp_path / "out", coarse, size=32, dtype="float32")
    with pytest.raises(ValueError, match=r"\(precision 'bfloat16' there, 'float32' here\)"):
        vj.extract(folder / "a", tmp_path / "out", tiny, size=32, dtype="float32")
    found = vj.extract(folder / "a", tmp_path / "out", MODEL, size=32, dtype="float32")
    assert torch.equal(found["y"].values, coarse.encode(folder / "a/y.mp4", size=32).values)


@pytest.mark.slow
def test_a_killed_run_goes_on(folder, tmp_path):
    """SIGKILL when two files are written: the next run does the others, and touches neither."""
    source, out = tmp_path / "clips", tmp_path / "out"
    source.mkdir()
    for number in range(8):
        write_video(source / f"{number}.mp4", moving(4, phase=number))
    script = (
        "import sys, time, vjepa_utils as vj\n"
        "from vjepa_utils.collection import extraction\n"
        "real = extraction.work_on\n"
        "extraction.work_on = lambda *given: (time.sleep(0.2), real(*given))[1]\n"
        "vj.extract(sys.argv[1], sys.argv[2], sys.argv[3], size=32)\n"
    )
    words = [sys.executable, "-c", script, source, out, MODEL]
    process = subprocess.Popen(words, cwd=ROOT, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while len(list(out.glob("*.safetensors"))) < 2:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (out / ".unfinished-0").mkdir()  # as left by a run that is killed while it writes
    (out / ".unfinished-0" / "file").write_bytes(b"half")
    done = {p: (p.stat().st_ino, p.stat().st_mtime_ns) for p in out.glob("*.safetensors")}
    assert 2 <= len(done) < 8
    found = vj.extract(source, out, MODEL, size=32)
    assert len(found) == 8 and not found.failed
    assert done == {p: (p.stat().st_ino, p.stat().st_mtime_ns) for p in done}
    assert files(out) == [*(f"{n}.safetensors" for n in range(8)), "index.parquet"]


# Long films


@pytest.fixture
def film(tmp_path):
    return write_video(tmp_path / "film.mp4", moving(45, 32, 48))


@pytest.mark.parametrize("pool", ["none", "both", "mean"])
def test_a_long_film_goes_through_a_file(tiny, film, tmp_path, pool, monkeypatch):
    """What does not fit in memory is the same."""
    how = dict(size=32, context=4, dtype="float32", pool=pool)
    kept, outs = vj.extract(film, tmp_path / "kept", tiny, **how), []
    monkeypatch.setattr(extraction, "LARGE", 1000)
    encode = type(tiny).encode
    seen = lambda *given, **named: (outs.append(named.get("out")), encode(*given, **named))[1]
    monkeypatch.setattr(type(tiny), "encode", seen)
    found = vj.extract(film, tmp_path / "out", tiny, **how)
    assert sum(out is not None for out in outs) == 1
    assert torch.equal(found[0].values, kept[0].values)
    assert torch.equal(found[0].frames, kept[0].frames)
    assert torch.equal(found[0].times, kept[0].times)
    assert np.array_equal(found.pooled, kept.pooled)
    assert files(tmp_path / "out") == ["film.safetensors", "index.parquet"]


@pytest.mark.parametrize("pool", ["none", "both"])
def test_a_film_is_divided_by_rows(tiny, film, folder, tmp_path, pool, encoded):
    how = dict(size=32, context=4, every=2, pool=pool, dtype="float32")
    found = vj.extract([film, folder / "top.mp4"], tmp_path / "out", tiny, split=8, **how)
    rows = {row["name"]: row for row in found.table.to_pylist()}
    names = [name for name in rows if "film" in name]
    assert [rows[name]["start"] for name in names] == [0, 16, 32]
    assert [rows[name]["frames"] for name in names] == [8, 8, 7]
    assert [rows[name]["times"][0] for name in names] == pytest.approx([0, 16 / 30, 32 / 30])
    whole = next(row for name, row in rows.items() if "top" in name)
    assert whole["start"] is None and whole["frames"] == 1
    video = vj.read_video(film, every=2)
    for number, name in enumerate(names):
        alone = tiny.encode(video[8 * number : 8 * number + 8], context=4, size=32)
        assert torch.equal(found[name].values, alone.values)
        assert torch.equal(found[name].frames, alone.frames)
        mean = alone.values.double().mean((0, 1, 2)).float()
        assert np.allclose(found.pooled[found.names.index(name)], mean, atol=1e-6)
    assert found.nearest(names[0], 3)[0][0] in {f"{film} from frame {n}" for n in (16, 32)} | {
        str(folder / "top.mp4")
    }
    with pytest.raises(ValueError, match=f"There is no clip '{film}'"):
        found[str(film)]
    assert torch.equal(found[f"{film} from frame 16"].values, found[names[1]].values)
    # one of them is lost
    (tmp_path / "out" / f"{names[1]}.safetensors").unlink()
    encoded.clear()
    vj.extract([film, folder / "top.mp4"], tmp_path / "out", tiny, split=8, **how)
    assert encoded == [names[1]]


def test_frames_by_time(tiny, film, tmp_path):
    """fps, of a film as a whole and divided: 45 frames at 30 a second are 15 at 10 a second."""
    how = dict(fps=10, size=32, dtype="float32")
    whole = vj.extract(film, tmp_path / "whole", tiny, **how)
    assert whole[0].frames.flatten().tolist() == [*range(0, 45, 3), 42]
    assert json.loads(whole.table["parameters"][0].as_py())["fps"] == 10
    parts = vj.extract(film, tmp_path / "parts", tiny, split=4, **how)
    assert parts.table["start"].to_pylist() == [0, 12, 24, 36]
    assert torch.equal(torch.cat([part.frames for part in parts]), whole[0].frames)
    assert torch.equal(torch.cat([part.values for part in parts]), whole[0].values)
    with pytest.raises(ValueError, match="every and fps exclude each other"):
        vj.extract(film, tmp_path / "out", tiny, fps=10, every=2)
    with pytest.raises(ValueError, match="fps must be frames a second"):
        vj.extract(film, tmp_path / "out", tiny, fps=-1)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("at_once", [2**29, 0])
def test_stretches_of_a_rate_are_those_of_the_film(tiny, clips, tmp_path, monkeypatch, at_once):
    """Also where frames have no constant rate, and where one is shown at several moments."""
    monkeypatch.setattr("vjepa_utils.video.DECODE_AT_ONCE", at_once)
    how = dict(fps=37.3, size=32, dtype="float32")
    path = clips / "formats" / "dog_vfr_640x360.mp4"
    whole = vj.extract(path, tmp_path / "whole", tiny, **how)
    parts = vj.extract(path, tmp_path / "parts", tiny, split=6, **how)
    assert len(parts) > 2 and not parts.failed
    assert torch.equal(torch.cat([part.frames for part in parts]), whole[0].frames)


def test_a_film_that_breaks_ends_there(tiny, clips, tmp_path, monkeypatch):
    path = (clips / "formats" / "corrupted_midstream.mp4").resolve()  # frames 28 to 49 are lost
    for at_once in (2**29, 0):  # decoded when it is opened, or when it is used
        monkeypatch.setattr("vjepa_utils.video.DECODE_AT_ONCE", at_once)
        whole = vj.extract(path, tmp_path / f"whole{at_once}", tiny, size=32, dtype="float32")
        (row,) = whole.table.to_pylist()
        assert row["status"] == "done" and row["frames"] == 28
        assert "damaged at frame 28" in row["message"] and row["times"][1] == whole[0].times[-1, 1]
    parts = vj.extract(path, tmp_path / "parts", tiny, size=32, dtype="float32", split=20)
    rows = parts.table.to_pylist()
    assert [row["frames"] for row in rows[:2]] == [20, 8] and len(parts) == 2
    assert torch.equal(torch.cat([part.values for part in parts]), whole[0].values)
    assert all("damaged at frame 28" in reason for reason in parts.failed.values())
    assert list(parts.failed) == [f"{path} from frame 40"]


# Runs that fail, and two at once


def open_below(folder):
    return [p for p in psutil.Process().open_files() if str(folder) in p.path]


def test_a_failed_run_gives_all_back(tiny, folder, tmp_path, monkeypatch):
    """Warnings, files and the lock, although a notebook keeps the traceback."""
    shown, real = warnings.showwarning, extraction.work_on

    def full(*given):
        raise OSError("the disk is full")

    monkeypatch.setattr(extraction, "work_on", full)
    with pytest.raises(OSError, match="the disk is full") as failure:
        vj.extract(folder / "a", tmp_path / "out", tiny, size=32)
    assert failure.value.__traceback__ and warnings.showwarning is shown
    assert open_below(folder) == [] and open_below(tmp_path) == []
    with pytest.warns(UserWarning, match="heard"):
        warnings.warn("heard", stacklevel=1)
    monkeypatch.setattr(extraction, "work_on", real)
    assert len(vj.extract(folder / "a", tmp_path / "out", tiny, size=32)) == 2


def test_a_second_run_is_refused(tiny, folder, tmp_path, monkeypatch):
    out, refused, real = tmp_path / "out", [], extraction.work_on

    def second(*given):
        if not refused:
            with pytest.raises(ValueError) as told:
                vj.extract(folder / "b", out, tiny, size=32)
            refused.append(str(told.value))
        return real(*given)

    monkeypatch.setattr(extraction, "work_on", second)
    found = vj.extract(folder / "a", out, tiny, size=32)
    assert refused[0].startswith(f"Another run is writing {out}/: wait") and len(found) == 2
    both = vj.extract(folder / "b", out, tiny, size=32)  # of clips with the same name
    for name, path in zip(both.names, both.paths, strict=True):
        assert torch.equal(both[name].values, tiny.encode(path, size=32).values.half().float())


# Each argument that changes features, with another value.
OTHERS = dict(size=48, context=4, every=2, layer=1, pool="both", dtype="float32", split=4, fps=9)


def test_each_argument_of_extract_tells_runs_apart(tiny, folder, tmp_path):
    arguments = set(inspect.signature(vj.extract).parameters)
    assert arguments - {"sources", "out", "encoder", "workers", "address"} == set(OTHERS)
    vj.extract(folder / "top.mp4", tmp_path / "out", tiny, size=32)
    for name, value in OTHERS.items():
        with pytest.raises(ValueError, match=rf"other parameters \({name} "):
            vj.extract(folder / "top.mp4", tmp_path / "out", tiny, **dict(size=32) | {name: value})
    for name in ("mean", "std"):
        other = copy.copy(tiny)
        setattr(other, name, getattr(tiny, name) + 0.1)
        with pytest.raises(ValueError, match=rf"other parameters \({name} "):
            vj.extract(folder / "top.mp4", tmp_path / "out", other, size=32)


def test_a_clip_of_the_same_size_and_date_is_another(tiny, tmp_path, encoded):
    path = write_video(tmp_path / "x.mp4", moving(8, phase=1))
    vj.extract(path, tmp_path / "out", tiny, size=32)
    before = path.stat()
    data = write_video(tmp_path / "y.mp4", moving(4)).read_bytes()
    path.write_bytes(data.ljust(before.st_size, b"\0"))
    assert path.stat().st_size == before.st_size
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    vj.extract(path, tmp_path / "out", tiny, size=32)
    assert encoded == ["x", "x"]


# Sources and places


def test_names_mirror_the_folders_and_keep_clips_apart(tmp_path):
    for name in ("a/x.mp4", "b/x.mp4", "b/x.mov", "b/.hidden.mp4", "b/cover.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"0")
    (tmp_path / "b" / "pictures").mkdir()
    for number in range(3):
        Image.fromarray(moving(1)[0]).save(tmp_path / "b" / "pictures" / f"{number}.png")
    names = lambda *sources, **how: [c.name for c in find_clips(map(str, sources), **how)]
    assert names(tmp_path) == ["a/x", "b/x", "b/pictures", "b/x.mp4"] or names(tmp_path) == [
        "a/x",
        "b/pictures",
        "b/x",
        "b/x.mp4",
    ]
    assert names(tmp_path / "a") == ["x"]
    assert names(tmp_path / "a", tmp_path / "b" / "x.mp4") == ["a/x", "b/x"]
    assert names(tmp_path / "a", tmp_path) == ["a/x", "b/pictures", "b/x", "b/x.mp4"]
    known = {str(tmp_path / "b" / "x.mp4"): "x"}  # the table's names stay
    assert names(tmp_path / "a", tmp_path / "b" / "x.mp4", names=known) == ["a/x", "x"]


def test_lists_of_clips(tiny, folder, tmp_path):
    (tmp_path / "list.txt").write_text(f"{folder}/a/x.mp4\n\n{folder}/nowhere.mp4\n")
    (tmp_path / "list.csv").write_text(f"label,path\nwalk,{folder}/a/y.mp4\nrun,{folder}/b/x.mp4\n")
    lists = [tmp_path / "list.txt", tmp_path / "list.csv"]
    found = vj.extract(lists, tmp_path / "out", tiny, size=32)
    assert found.names == ["a/x", "a/y", "b/x"]
    assert "There is no file or folder" in found.failed[f"{folder}/nowhere.mp4"]
    (folder.parent / "near.txt").write_text(f"{folder.name}/top.mp4\n")
    assert find_clips(folder.parent / "near.txt")[0].path == f"{folder}/top.mp4"


LISTED = {
    "spelt.txt": ("a/x.mp4\n./a/x.mp4\n../{0}/a/x.mp4\n{1}/a/x.mp4\nfile://{1}/a/x.mp4\n", 1),
    "labels.txt": ("a/x.mp4 0\nb/x.mp4 1\n", 2),
    "counts.txt": ("a/x.mp4 6 0\nb/x.mp4 8 1\n", 2),
    "label first.txt": ("0 a/x.mp4\n1 b/x.mp4\n", 2),
    "vjepa.csv": ("{1}/a/x.mp4 0\n{1}/b/x.mp4 1\n", 2),
    "header.csv": ("video_path,label\na/x.mp4,0\nb/x.mp4,1\n", 2),
    "quoted.csv": ('label;clip\n0;"a/x.mp4"\n1;"b/x.mp4"\n', 2),
    "tabs.tsv": ("id\tfile name\n0\ta/x.mp4\n1\tb/x.mp4\n", 2),
    "windows.txt": ("\ufeffa/x.mp4\r\nb/x.mp4\r\n", 2),
    "spaces.txt": ("with space.mp4 0\na/x.mp4 1\n", 2),
}


@pytest.mark.parametrize("name", LISTED)
def test_lists_as_people_have_them(folder, tmp_path, name):
    root = shutil.copytree(folder, tmp_path / "root")
    shutil.copy(root / "top.mp4", root / "with space.mp4")
    text, count = LISTED[name]
    (root / name).write_text(text.format("root", root), newline="")
    found = find_clips(root / name)
    assert len(found) == count and all(Path(clip.path).is_file() for clip in found)
    assert all(".." not in clip.name and clip.name[0] != "/" for clip in found)


def test_names_stay_in_the_collection_whatever_clips_are_called(tiny, folder, tmp_path):
    odd = ["a::b/c.mp4", "12:30.mp4", "x*?.mp4", "caf\udce9.mp4", "A.mp4", "a.mp4"]
    for name in odd:
        (tmp_path / "clips" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / "top.mp4", tmp_path / "clips" / name)
    (tmp_path / "clips" / "list.txt").write_text("../outside.mp4\n12:30.mp4\n")
    shutil.copy(folder / "top.mp4", tmp_path / "outside.mp4")
    sources = [tmp_path / "clips", tmp_path / "clips" / "list.txt"]
    for _ in range(2):
        found = vj.extract(sources, tmp_path / "out", tiny, size=32)
        assert not found.failed and set(found.paths) == {
            *(str(tmp_path / "clips" / name) for name in odd),
            str(tmp_path / "outside.mp4"),
        }
    assert len({name.casefold() for name in found.names}) == len(odd) + 1
    assert not set("".join(found.names)) & set(':*?\\"<>|')  # Windows writes none of these
    assert len(list((tmp_path / "out").rglob("*.safetensors"))) == len(odd) + 1


def test_a_folder_of_images_is_a_clip(tiny, tmp_path):
    (tmp_path / "clips" / "run").mkdir(parents=True)
    for number, frame in enumerate(moving(5)):
        Image.fromarray(frame).save(tmp_path / "clips" / "run" / f"{number}.png")
    found = vj.extract(tmp_path / "clips", tmp_path / "out", tiny, size=32, dtype="float32")
    assert found.names == ["run"]
    assert torch.equal(found[0].values, tiny.encode(moving(5), size=32).values)


def test_sources_and_features_on_another_file_system(tiny, folder, tmp_path, encoded):
    """fsspec's file system in memory stands for a bucket."""
    memory = fsspec.filesystem("memory")
    memory.put(str(folder), "/bucket/clips", recursive=True)
    url = "memory://bucket/features"
    try:
        far = vj.extract("memory://bucket/clips", url, tiny, size=32, pool="both")
        near = vj.extract(folder, tmp_path / "out", tiny, size=32, pool="both")
        assert far.names == near.names and far.paths[0].startswith("memory://")
        assert all(torch.equal(a.values, b.values) for a, b in zip(far, near, strict=True))
        assert np.array_equal(far.pooled, near.pooled)
        assert "memory://bucket/clips/broken.mp4 cannot be read" in str(far.failed) or (
            "memory:///bucket/clips/broken.mp4 cannot be read" in str(far.failed)
        )
        encoded.clear()
        vj.extract("memory://bucket/clips", url, tiny, size=32, pool="both")
        assert encoded == [] and len(vj.Collection(url)) == 5
        assert not [p for p in memory.find("/bucket/features") if "unfinished" in p]
    finally:
        memory.rm("/bucket", recursive=True)


# Arguments and errors


def test_values_beyond_float16_are_a_row(tiny, folder, tmp_path):
    large = vj.load_encoder(GOLDEN / "model", dtype=torch.float32)
    with torch.no_grad():
        large.model.encoder.layernorm.weight *= 1e6
    found = vj.extract(folder / "a" / "x.mp4", tmp_path / "out", large, size=32)
    assert "beyond float16: take float32" in next(iter(found.failed.values()))


def test_one_context_that_cannot_be_held_is_a_row(tiny, folder, tmp_path, monkeypatch):
    free = "vjepa_utils.model.devices.free_memory"
    monkeypatch.setattr(free, lambda device: 1e6)
    found = vj.extract(folder / "a/y.mp4", tmp_path / "out", tiny, size=64, context="clip")
    assert "frames encoded jointly are" in next(iter(found.failed.values()))


def test_cuts_are_kept(tiny, film, tmp_path):
    frames = moving(40, 32, 48)
    frames[21:] = RANDOM.integers(0, 256, frames[21:].shape)
    path = write_video(tmp_path / "cut.mp4", frames)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = vj.extract(path, tmp_path / "out", tiny, size=32)
    assert (20, 21) in found[0].cuts and found[0].cuts == tiny.encode(path, size=32).cuts


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (dict(pool="max"), "pool must be one of none, mean, both"),
        (dict(dtype="int8"), "dtype must be one of float16, float32"),
        (dict(every=0), "every must be a whole number of at least 1"),
        (dict(workers=0), "workers must be a whole number of at least 1"),
        (dict(split=0), "split must be a whole number of at least 1"),
        (dict(workers=1), "encoder must be a name"),
        (dict(size=8), "size must be"),
        (dict(layer=9), "layer must be"),
        (dict(context=3), "context must be"),
        (dict(sources="nowhere"), "There is no file or folder 'nowhere'"),
        (dict(sources=[]), "There are no clips"),
    ],
)
def test_arguments_out_of_range(tiny, folder, tmp_path, arguments, words):
    with pytest.raises((ValueError, OSError), match=words):
        vj.extract(**dict(sources=folder, out=tmp_path / "out", encoder=tiny) | arguments)
    assert not list((tmp_path / "out").rglob("*.safetensors"))


def test_a_folder_that_is_no_collection(tmp_path):
    with pytest.raises(ValueError, match="is no collection: it has no index.parquet"):
        vj.Collection(tmp_path)
    (tmp_path / "index.parquet").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="is no table of a collection"):
        vj.Collection(tmp_path)


def test_files_are_safetensors(tiny, folder, tmp_path):
    vj.extract(folder / "top.mp4", tmp_path / "out", tiny, size=32, pool="both")
    with safe_open(tmp_path / "out" / "top.safetensors", "np") as file:
        assert set(file.keys()) == {"values", "frames", "times", "pooled"}
        assert file.get_tensor("values").dtype == np.float16
        assert json.loads(file.metadata()["row"])["path"] == str(folder / "top.mp4")


def test_the_command_says_what_failed_and_exits_with_1(folder, tmp_path, command):
    words = ["-o", tmp_path / "out", "--encoder", MODEL, "--size", "32", "--pool", "mean"]
    done = command("extract", folder, *words)
    assert done.returncode == 1
    assert f"failed: {folder}/broken.mp4 cannot be read as a video" in done.stderr
    assert "5 clips done, 29 frames in" in done.stdout and "1 failed" in done.stdout
    done = command("extract", folder / "a", *words)
    assert done.returncode == 0 and "0 clips done" in done.stdout, done.stderr
    assert "2 were done before, 0 failed" in done.stdout
    done = command("extract", folder, *words[:-2])
    assert done.returncode == 1 and "pool 'mean' there, 'none' here" in done.stderr


def test_without_ray_a_sentence_says_what_to_install(folder, tmp_path, command, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)  # cannot be imported
    words = ["--encoder", MODEL, "--size", "32"]
    done = command("extract", folder / "a", "-o", tmp_path / "out", *words)
    assert done.returncode == 0 and "2 clips done" in done.stdout, done.stderr
    done = command("extract", folder / "a", "-o", tmp_path / "other", *words, "--workers", "1")
    assert done.returncode == 1 and 'pip install "vjepa-utils[cluster]"' in done.stderr
    assert done.stderr.startswith("error: ") and not (tmp_path / "other").exists()


@pytest.mark.parametrize("place", ["foo://bucket/clips", "s3://bucket/clips"])
def test_places_that_cannot_be_reached(folder, tmp_path, command, monkeypatch, place):
    """Of no known kind, or without the package for it: as sources, as OUT, and in a list."""
    monkeypatch.setitem(sys.modules, "s3fs", None)  # cannot be imported
    (tmp_path / "list.txt").write_text(f"{place}/a.mp4\n")
    for source, out in (
        (place, "out"),
        (folder / "top.mp4", place),
        (tmp_path / "list.txt", "out"),
    ):
        words = ["-o", out if "://" in out else tmp_path / out, "--encoder", MODEL, "--size", 32]
        done = command("extract", source, *words)
        assert done.returncode == 1 and "Traceback" not in done.stderr
        assert re.fullmatch(rf"error: {place}(/a.mp4)? cannot be reached: .+\.\n", done.stderr)
    with pytest.raises(ValueError, match=f"{place} cannot be reached"):
        vj.Collection(place)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "nowhere.invalid:6379"])
def test_a_cluster_that_is_not_there(folder, tmp_path, command, address):
    pytest.importorskip("ray", reason="Ray is not installed: requirements-cluster.txt")
    words = ["-o", tmp_path / "out", "--encoder", MODEL, "--address", address]
    done = command("extract", folder / "a", *words)
    assert done.returncode == 1 and not (tmp_path / "out").exists()
    assert done.stderr.startswith(f"error: There is no Ray cluster at '{address}': ")


def test_the_command_tells_of_a_clip_that_is_damaged(clips, tmp_path, command):
    """What was warned of is not only in the table."""
    words = [clips / "formats" / "corrupted_midstream.mp4", "--encoder", GOLDEN / "model"]
    done = command("extract", *words, "--size", 32, "-o", tmp_path / "out")
    assert done.returncode == 0
    assert re.search("warning: .*corrupted_midstream.mp4 is damaged at frame 28", done.stderr)
