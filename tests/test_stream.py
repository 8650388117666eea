"""Features that go to a file while they are encoded: whose they are, and what is left of a run that
was stopped at any moment."""

import inspect
import os

import numpy as np
import pytest
import torch

import vjepa_utils as vj
from tests.conftest import GOLDEN, write_video
from vjepa_utils import stream
from vjepa_utils.model.devices import BATCH_TOKENS

FILM = np.random.default_rng(0).integers(0, 256, (10, 32, 48, 3), np.uint8)
HOW = dict(context=4, size=32)
# Of each argument that changes features, two ways to call with it.
VALUES = {
    "context": (HOW, HOW | dict(context=None)),
    "size": (HOW, HOW | dict(size=(32, 32))),
    "layer": (HOW, HOW | dict(layer=1)),
    "overlap": (HOW, HOW | dict(overlap=2)),
    "stride": (HOW, HOW | dict(stride=8)),
    "repeat": (dict(context="frame", size=32), dict(context="frame", size=32, repeat=4)),
}


@pytest.fixture
def film(tmp_path):
    return write_video(tmp_path / "film.mp4", FILM)


@pytest.fixture
def small_batches(monkeypatch):
    """One context of four frames at a time, and the journal after each."""
    monkeypatch.setitem(BATCH_TOKENS, "cpu", 12)
    monkeypatch.setattr(stream, "SECONDS", 0)


def test_each_argument_of_encode_tells_runs_apart(tiny, film, tmp_path):
    arguments = set(inspect.signature(vj.encoder.Encoder.encode).parameters)
    arguments -= {"self", "video", "out", "layers"}  # layers: refused with out
    assert arguments == set(VALUES)
    for name, (here, there) in VALUES.items():
        out = tmp_path / f"{name}.safetensors"
        kept = tiny.encode(film, **here, out=out)
        with pytest.raises(ValueError, match=rf"{name}.safetensors belongs to .*\({name} '"):
            tiny.encode(film, **there, out=out)
        assert torch.equal(tiny.encode(film, **here, out=out).values, kept.values)


def rewritten(path, tmp_path):
    """Another film in its place, of the same size and date."""
    before, other = path.stat(), write_video(tmp_path / "other.mp4", 255 - FILM)
    data = other.read_bytes()[: before.st_size].ljust(before.st_size, b"\0")
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_mtime_ns == before.st_mtime_ns and path.stat().st_size == before.st_size


CHANGES = "start", "every", "content", "dtype", "mean", "std", "weights", "config"


@pytest.mark.parametrize("change", CHANGES)
def test_clip_and_encoder_tell_runs_apart(tiny, film, tmp_path, change):
    out, frames, encoder = tmp_path / "out.safetensors", {}, tiny
    kept = tiny.encode(vj.read_video(film), **HOW, out=out)
    if change in ("start", "every"):
        frames = {change: 2}
    elif change == "content":
        rewritten(film, tmp_path)
    else:
        dtype = torch.bfloat16 if change == "dtype" else torch.float32
        encoder = vj.load_encoder(GOLDEN / "model", device="cpu", dtype=dtype)
        if change == "weights":
            encoder.model.encoder.layernorm.bias.data += 1
        elif change == "config":
            encoder.model.config.layer_norm_eps = 1e-3
        elif change != "dtype":
            setattr(encoder, change, getattr(encoder, change) + 0.1)
    with pytest.raises(ValueError, match="out.safetensors belongs to another run"):
        encoder.encode(vj.read_video(film, **frames), **HOW, out=out)
    assert torch.equal(vj.Features.load(out).values, kept.values)


def test_only_one_run_writes_a_file(tiny, film, tmp_path, monkeypatch):
    """A second run is refused while the first encodes; after the first has failed it is not."""
    out, kept, refused = tmp_path / "out.safetensors", tiny.encode(film, **HOW), []
    append = stream.FeatureFile.append

    def second(*given):
        monkeypatch.setattr(stream.FeatureFile, "append", append)
        with pytest.raises(ValueError) as told:
            tiny.encode(film, **HOW, out=out)
        refused.append(str(told.value))
        raise RuntimeError("the first fails")

    monkeypatch.setattr(stream.FeatureFile, "append", second)
    with pytest.raises(RuntimeError, match="the first fails") as failure:
        tiny.encode(film, **HOW, out=out)
    assert refused == [f"Another run is writing {out}: wait until it ends, or give another name."]
    # a notebook keeps the traceback, and with it all that is in its frames
    assert failure.value.__traceback__
    assert torch.equal(tiny.encode(film, **HOW, out=out).values, kept.values)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["film.mp4", "out.safetensors"]


@pytest.mark.parametrize("data", [b"", b"my notes", b"\xff" * 99])
def test_a_file_of_the_user_is_not_overwritten(tiny, film, tmp_path, data):
    out = tmp_path / "out.safetensors"
    out.write_bytes(data)
    with pytest.raises(ValueError, match="it is damaged, or of another kind"):
        tiny.encode(film, **HOW, out=out)
    assert out.read_bytes() == data
    features = tiny.encode(film, **HOW)
    features.save(out)  # whole, but nobody knows of which run
    with pytest.raises(ValueError, match="belongs to another run"):
        tiny.encode(film, **HOW, out=out)


def test_a_run_is_resumed_from_whatever_a_power_cut_leaves(
    tiny, film, tmp_path, monkeypatch, small_batches
):
    """The folder is looked at before and after each write, and with half of it written."""
    place, moments = tmp_path / "place", []
    place.mkdir()
    kept, write, replace = tiny.encode(film, **HOW), stream.FeatureFile._write, os.replace

    def look():
        now = {path.name: path.read_bytes() for path in place.iterdir()}
        moments.extend([now] if now not in moments else [])

    def torn(self, mode, data):
        look()
        data = memoryview(data).cast("B")
        write(self, mode, data[: len(data) // 2])
        look()
        if mode == "r+b":
            write(self, mode, data)
        else:
            write(self, "ab", data[len(data) // 2 :])
        look()

    def replaced(old, new):
        look()
        replace(old, new)
        look()

    with monkeypatch.context() as patched:
        patched.setattr(stream.FeatureFile, "_write", torn)
        patched.setattr(os, "replace", replaced)
        tiny.encode(film, **HOW, out=place / "out.safetensors")
    assert len(moments) > 15
    for number, moment in enumerate(moments):
        folder = tmp_path / str(number)
        folder.mkdir()
        for name, data in moment.items():
            (folder / name).write_bytes(data)
        again = tiny.encode(film, **HOW, out=folder / "out.safetensors")
        assert torch.equal(again.values, kept.values) and torch.equal(again.frames, kept.frames)
        assert not (folder / "out.safetensors.partial").exists()
