"""Files of V-JEPA 2.1: what is accepted, what is refused, how they are fetched and kept."""

import hashlib
import os
import pickle
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import vjepa_utils as vj
from tests.conftest import GOLDEN21, ROOT
from tests.released_2_1 import shapes, state
from vjepa_utils.weights import download, released_2_1

NAME = "vjepa2_1_vitb_dist_vitG_384"
FRAMES = np.random.default_rng(0).integers(0, 256, (2, 32, 48, 3), np.uint8)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "vjepa_utils"


@pytest.fixture(scope="module")
def golden_state():
    return torch.load(GOLDEN21 / "student.pt", weights_only=True)


def load(path):
    return vj.load_encoder(path, device="cpu", dtype=torch.float32)


def saved(contents, path):
    torch.save(contents, path)
    return path


def test_the_layout_is_that_of_the_golden_files():
    for kind, levels, out in (("student", 1, 160), ("teacher", 4, 128)):
        made = shapes(128, 12, 256, 64, 4, levels, out)
        file = torch.load(GOLDEN21 / f"{kind}.pt", weights_only=True)
        key = {"student": "ema_encoder", "teacher": "target_encoder"}[kind]
        for part, given in zip((key, "predictor"), made, strict=True):
            held = {name: tuple(value.shape) for name, value in file[part].items()}
            inner = {  # its predictor has another MLP ratio
                name: tuple(2 * 64 if side == 4 * 64 else side for side in shape)
                if ".mlp." in name and part == "predictor"
                else shape
                for name, shape in given.items()
            }
            assert held == {f"module.backbone.{name}": shape for name, shape in inner.items()}


# What is kept


def test_the_next_load_uses_what_was_kept(tmp_path, cache, monkeypatch):
    path = tmp_path / "mine.pt"
    shutil.copy(GOLDEN21 / "student.pt", path)
    first = load(path)
    assert first.name == "mine"
    (folder,) = (each for each in cache.iterdir() if each.is_dir())
    assert sorted(p.name for p in folder.iterdir()) == [
        "config.json",
        "model.safetensors",
        "source.json",
    ]
    values = first.encode(FRAMES, size=32).values
    with monkeypatch.context() as patched:
        patched.setattr(torch, "load", None)  # nobody reads the .pt again
        assert torch.equal(load(path).encode(FRAMES, size=32).values, values)
        assert torch.equal(load(folder).encode(FRAMES, size=32).values, values)
    shutil.copy(GOLDEN21 / "teacher.pt", path)  # another file of the same name
    assert load(path).fingerprint != first.fingerprint
    assert len([each for each in cache.iterdir() if each.is_dir()]) == 1


def test_only_what_is_needed_is_kept(tmp_path, cache):
    path = saved(state(*shapes(192, 2, 768, 96, 1, 4, 192), "target_encoder"), tmp_path / "run.pt")
    encoder = load(path)
    (kept,) = cache.rglob("model.safetensors")
    assert kept.stat().st_size < path.stat().st_size / 3
    found = load_file(kept)
    assert set(found) == set(encoder.model.state_dict())
    # query, key and value are the thirds of one matrix
    qkv = torch.load(path)["target_encoder"]["module.backbone.blocks.1.attn.qkv.weight"]
    parts = [
        found[f"encoder.layer.1.attention.{part}.weight"] for part in ("query", "key", "value")
    ]
    assert torch.equal(torch.cat(parts), qkv)


@pytest.mark.parametrize("prefix", ["module.", "backbone.", ""])
def test_names_with_part_of_the_prefix(golden_state, tmp_path, prefix):
    renamed = {
        key: {name.replace("module.backbone.", prefix): value for name, value in part.items()}
        if isinstance(part, dict)
        else part
        for key, part in golden_state.items()
    }
    whole = load(GOLDEN21 / "student.pt")
    assert load(saved(renamed, tmp_path / "bare.pt")).fingerprint == whole.fingerprint


# What is refused


def changed(state, part, **names):
    """A state with weights of a part replaced, or removed where None."""
    weights = state[part] | {f"module.backbone.{k}": v for k, v in names.items()}
    return state | {part: {name: value for name, value in weights.items() if value is not None}}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda s: s | {"something": 1},
            "and this one holds encoder, predictor, ema_encoder, epoch",
        ),
        (lambda s: s | {"target_encoder": s["ema_encoder"]}, "one of ema_encoder and target_enc"),
        (lambda s: {"predictor": s["predictor"]}, "and this one holds predictor"),
        (lambda s: torch.zeros(3), "and this one holds Tensor"),
        (lambda s: s | {"predictor": 3}, "its predictor holds no weights"),
        (
            lambda s: changed(s, "ema_encoder", **{"blocks.7.mlp.fc1.bias": None}),
            "1 missing weights, such as encoder.layer.7.mlp.fc1.bias: it is not a whole V-JEPA 2.1",
        ),
        (
            lambda s: changed(s, "ema_encoder", **{"blocks.0.norm1.weight": None}),
            "'encoder.layer.0.norm1.weight' is missing",
        ),
        (
            lambda s: changed(s, "predictor", **{"mask_tokens.3": None}),
            "mask_tokens",
        ),
        (
            lambda s: changed(s, "ema_encoder", pos_embed=torch.zeros(1, 9, 128)),
            "1 unexpected weights, such as encoder.pos_embed",
        ),
        (
            lambda s: changed(s, "predictor", **{"predictor_proj.bias": torch.zeros(3)}),
            "1 mismatched weights, such as predictor.proj.bias",
        ),
        (
            lambda s: changed(
                s, "ema_encoder", **{"blocks.0.attn.qkv.weight": torch.zeros(4, 128)}
            ),
            "missing weights, such as encoder.layer.0.attention.key.weight",
        ),
        (
            lambda s: changed(s, "predictor", **{"predictor_norm.bias": "text"}),
            "predictor_norm.bias of its predictor is no tensor",
        ),
        (
            lambda s: s | {"predictor": s["predictor"] | {"mask_tokens.0": torch.zeros(1, 1, 64)}},
            "holds mask_tokens.0 twice",
        ),
    ],
)
def test_files_that_are_not_whole(golden_state, tmp_path, cache, make, words):
    path = saved(make(golden_state), tmp_path / "odd.pt")
    with pytest.raises(ValueError) as error:
        load(path)
    assert words in str(error.value) and str(path) in str(error.value)
    assert "\n" not in str(error.value) and not list(cache.rglob("*.safetensors"))


class Evil:
    def __reduce__(self):
        return os.mkdir, ("evil",)


def test_a_file_that_would_run_code_is_refused(golden_state, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in (
        saved(golden_state | {"opt": Evil()}, tmp_path / "evil.pt"),
        tmp_path / "evil.pkl",
    ):
        if not path.exists():
            path.write_bytes(pickle.dumps(Evil()))
        with pytest.raises(ValueError) as error:
            load(path)
        assert "\n" not in str(error.value)
    assert not (tmp_path / "evil").exists()
    with pytest.raises(ValueError, match="reading it could run code"):
        load(tmp_path / "evil.pt")


def test_damaged_files(tmp_path):
    whole = (GOLDEN21 / "student.pt").read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for name, contents in {
        "short": whole[: len(whole) // 2],
        "flipped": flipped,
        "text": b"not found",
        "empty": b"",
    }.items():
        (tmp_path / f"{name}.pt").write_bytes(contents)
        with pytest.raises(ValueError, match=f"{name}.pt cannot be loaded: it is damaged"):
            load(tmp_path / f"{name}.pt")


# Fetching


@contextmanager
def server(contents, break_after=(), ranges=True):
    """Serves one file on loopback; answer i breaks off after break_after[i] bytes. Yields its URL
    and the list of (first byte asked for, bytes sent).
    """
    seen = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked = self.headers.get("Range")
            start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and ranges else 0
            if start >= len(contents):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(contents)}")
                self.end_headers()
                return
            self.send_response(206 if asked and ranges else 200)
            self.send_header("Content-Length", str(len(contents) - start))
            self.end_headers()
            most = break_after[len(seen)] if len(seen) < len(break_after) else len(contents)
            seen.append((start, min(most, len(contents) - start)))
            self.wfile.write(contents[start : start + most])

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{http.server_port}/{{}}.pt", seen
        finally:
            http.shutdown()
            thread.join()


@pytest.fixture
def released(monkeypatch):
    """Puts the golden student in the place of the released ViT-B; returns its bytes."""
    contents = (GOLDEN21 / "student.pt").read_bytes()
    about = replace(
        released_2_1.RELEASED[NAME], width=128, sha256=hashlib.sha256(contents).hexdigest()
    )
    monkeypatch.setitem(released_2_1.RELEASED, NAME, about)
    return contents


def test_a_download_goes_on_where_it_broke_off(released, cache, monkeypatch):
    with server(released, break_after=[1_000_000, 500_000]) as (url, seen):
        monkeypatch.setattr(released_2_1, "URL", url)
        encoder = load(NAME)
        assert seen == [
            (0, 1_000_000),
            (1_000_000, 500_000),
            (1_500_000, len(released) - 1_500_000),
        ]
    assert encoder.name == NAME
    assert encoder.fingerprint == load(GOLDEN21 / "student.pt").fingerprint
    assert not list(cache.glob("*.pt*"))  # only what is needed is kept
    again = load(NAME)  # and the server is gone
    assert again.fingerprint == encoder.fingerprint


def test_a_later_call_goes_on_too(released, cache, monkeypatch):
    with server(released, break_after=[1_000_000, 0]) as (url, seen):
        monkeypatch.setattr(released_2_1, "URL", url)
        with pytest.raises(ConnectionError, match="1 MiB are kept in .*partial.*give its path"):
            load(NAME)
        assert (cache / f"{NAME}-128.pt.partial").stat().st_size == 1_000_000
        load(NAME)
        assert seen[2:] == [(1_000_000, len(released) - 1_000_000)]


def test_a_server_without_ranges(released, monkeypatch):
    with server(released, break_after=[1_000_000], ranges=False) as (url, seen):
        monkeypatch.setattr(released_2_1, "URL", url)
        load(NAME)
        assert seen == [(0, 1_000_000), (0, len(released))]


def test_a_download_that_was_stopped_when_all_was_there(released, cache, monkeypatch):
    cache.mkdir(parents=True)
    (cache / f"{NAME}-128.pt.partial").write_bytes(released)
    with server(released) as (url, seen):
        monkeypatch.setattr(released_2_1, "URL", url)
        load(NAME)
        assert seen == []


def test_another_file_than_the_released_one(released, cache, monkeypatch):
    with server(released[:-1] + b"x") as (url, _):
        monkeypatch.setattr(released_2_1, "URL", url)
        with pytest.raises(ValueError, match="is not the released file: its SHA-256 is .* removed"):
            load(NAME)
    assert not list(cache.glob("*.pt*")) and not list(cache.rglob("*.safetensors"))


@pytest.mark.parametrize("name", released_2_1.RELEASED)
def test_without_internet_a_sentence_says_what_to_do(name, cache, monkeypatch):
    def nowhere(*_, **__):
        raise download.urllib.error.URLError("no route to host")

    monkeypatch.setattr(download.urllib.request, "urlopen", nowhere)
    with pytest.raises(ConnectionError) as error:
        load(name)
    url = f"https://dl.fbaipublicfiles.com/vjepa2/{name}.pt"
    sentence = f"where there is internet fetch that file, and put it at {cache / name}.pt or give"
    assert f"{url} cannot be reached" in str(error.value) and sentence in str(error.value)
    assert "\n" not in str(error.value) and not list(cache.glob("*.pt*"))


def test_capitals_do_not_tell_two_checkpoints_apart():
    """On macOS and Windows vitg and vitG are one name."""
    folders = {str(released_2_1.kept_folder(name)).lower() for name in released_2_1.RELEASED}
    assert len(folders) == len(released_2_1.RELEASED)


def test_a_file_that_the_user_put_there(released, cache, monkeypatch):
    monkeypatch.setattr(released_2_1, "URL", "http://127.0.0.1:9/{}.pt")
    cache.mkdir(parents=True)
    (cache / f"{NAME}.pt").write_bytes(released)
    assert load(NAME).channels == 128
    assert (cache / f"{NAME}.pt").read_bytes() == released  # it belongs to the user
    (cache / f"{NAME}.pt").unlink()
    assert load(NAME).channels == 128
    shutil.rmtree(released_2_1.kept_folder(NAME))
    (cache / f"{NAME}.pt").write_bytes(released[:-1] + b"x")
    with pytest.raises(ValueError, match="its SHA-256 is"):
        load(NAME)


def test_another_size_than_the_released_one(released, cache, monkeypatch):
    """Where no hash is known, depth and width are."""
    cache.mkdir(parents=True)
    (cache / "vjepa2_1_vitg_384.pt").write_bytes(released)
    with pytest.raises(ValueError, match="has 12 blocks of 128 channels, not the 40 of 1408"):
        load("vjepa2_1_vitg_384")


def test_a_full_disk(released, monkeypatch):
    monkeypatch.setattr(
        download.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 0)
    )
    with server(released) as (url, _):
        monkeypatch.setattr(released_2_1, "URL", url)
        with pytest.raises(OSError, match="needs 0.0 GiB, where 0.0 GiB are free"):
            load(NAME)


# The released widths

WIDTHS = {  # width, channels of the MLP, levels predicted, channels of one, key
    "vitb": (768, 3072, 1, 1664, "ema_encoder"),
    "vitl": (1024, 4096, 1, 1664, "ema_encoder"),
    "vitg": (1408, 6144, 4, 1408, "target_encoder"),
    "vitG": (1664, 8192, 4, 1664, "target_encoder"),
}
MEASURE = """
import sys, torch, vjepa_utils as vj
status = lambda key: int(open("/proc/self/status").read().split(key)[1].split()[0]) * 1024
load = lambda path, dtype: vj.load_encoder(path, device="cpu", dtype=dtype)
load(sys.argv[1], torch.float32)  # what is imported and started once
for path in map(str.strip, sys.stdin):
    for dtype in (torch.float32, torch.float32, torch.bfloat16):  # from the .pt file, then as kept
        open("/proc/self/clear_refs", "w").write("5")  # the high-water mark starts anew
        before = status("VmRSS:")
        encoder = load(path, dtype)
        peak = status("VmHWM:") - before
        kept = sum(p.numel() * p.element_size() for p in encoder.model.parameters())
        first = encoder.model.encoder.layer[0]
        inner, heads = first.mlp.fc1.out_features, first.attention.heads
        print(peak, kept, encoder.channels, inner, heads, flush=True)
        del encoder, first
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="Linux tells peak memory")
def test_peak_memory_is_near_what_is_kept(tmp_path, cache):
    """Real widths, one block; the file holds over three times as much as is kept."""
    words = [sys.executable, "-c", MEASURE, GOLDEN21 / "student.pt"]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as child:
        for name, (width, hidden, levels, out, key) in WIDTHS.items():
            made = shapes(width, 1, hidden, 384, 1, levels, out)
            path = saved(state(*made, key, random=False), tmp_path / "run.pt")
            child.stdin.write(f"{path}\n")
            child.stdin.flush()
            for _ in range(3):
                peak, kept, *sizes = map(int, child.stdout.readline().split())
                assert sizes == [width, hidden, width // 64], name
                assert peak < 1.3 * kept and kept < path.stat().st_size / 3, (name, peak, kept)
        child.stdin.close()
    assert child.returncode == 0
