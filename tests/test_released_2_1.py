"""Files of V-JEPA 2 and 2.1 as upstream saves them: what is accepted, refused, fetched, kept."""

import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import vjepa_utils as vj
from tests.conftest import GOLDEN, GOLDEN21, ROOT
from tests.released_2_1 import shapes, state, upstream
from vjepa_utils.weights import download
from vjepa_utils.weights.models import convert

NAME = "vjepa2_1_vitb_dist_vitG_384"
FRAMES = np.random.default_rng(0).integers(0, 256, (2, 32, 48, 3), np.uint8)
HEADS = {"num_attention_heads": 4, "pred_num_attention_heads": 2, "crop_size": 64}  # of golden


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "vjepa_utils"


@pytest.fixture(scope="module")
def golden_state():
    return torch.load(GOLDEN21 / "student.pt", weights_only=True)


@pytest.fixture(scope="module")
def golden_weights():
    return load_file(GOLDEN / "model" / "model.safetensors")


def load(path, **options):
    return vj.load_encoder(path, device="cpu", dtype=torch.float32, **options)


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


# What is accepted


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


def test_a_file_overwritten_with_the_same_size_is_read_again(golden_state, tmp_path):
    """As a later checkpoint of a training run is; even its date may be the same."""
    path = saved(golden_state, tmp_path / "run.pt")
    first, status = load(path), path.stat()
    name = "module.backbone.blocks.3.mlp.fc1.bias"
    golden_state["ema_encoder"][name] = golden_state["ema_encoder"][name] + 1
    saved(golden_state, path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size
    second = load(path)
    assert second.fingerprint != first.fingerprint
    values = [encoder.encode(FRAMES, size=32).values for encoder in (first, second)]
    assert not torch.allclose(*values)


def test_the_two_encoders_of_a_file(golden_weights, tmp_path, tiny):
    """The moving average is the golden model; the online encoder has another first norm."""
    contents = upstream(golden_weights)
    contents["encoder"]["module.backbone.blocks.0.norm1.weight"] += 0.1
    path = saved(contents, tmp_path / "run.pt")
    for weights, same in ((None, True), ("target_encoder", True), ("encoder", False)):
        encoder = load(path, weights=weights, config=HEADS)
        values = encoder.encode(FRAMES, size=32).values
        assert torch.equal(values, tiny.encode(FRAMES, size=32).values) == same
    with pytest.raises(ValueError, match='weights must be "target_encoder" or "encoder" for'):
        load(path, weights="ema_encoder", config=HEADS)
    with pytest.raises(ValueError, match="weights='encoder' chooses between the two encoders"):
        load(GOLDEN / "model", weights="encoder")


def test_a_configuration_beside_a_file(golden_weights, tmp_path, tiny):
    path = saved(upstream(golden_weights), tmp_path / "run.pt")
    with pytest.raises(ValueError, match="does not tell how many heads share 96 channels"):
        load(path)
    shutil.copy(GOLDEN / "model" / "config.json", tmp_path)
    encoder = load(path)
    assert encoder.training_size == 64 and encoder.fingerprint == tiny.fingerprint
    assert load(path, config={"crop_size": 128}).training_size == 128
    about = json.loads((tmp_path / "config.json").read_text())
    for field, value in dict(hidden_size=192, num_hidden_layers=4, tubelet_size=4).items():
        (tmp_path / "config.json").write_text(json.dumps(about | {field: value}))
        with pytest.raises(ValueError, match=f"its configuration says that {field} is {value}"):
            load(path)


def test_heads_and_training_size_of_published_models_are_known(golden_weights, tmp_path):
    """ViT-H has 80 channels a head, the others 64; the name says which ViT-g was trained at 384."""
    from transformers import VJEPA2Config, VJEPA2Model

    sizes = dict(hidden_size=1280, num_hidden_layers=1, mlp_ratio=1.0, pred_num_hidden_layers=1)
    with torch.device("meta"):
        stock = VJEPA2Model(VJEPA2Config(**sizes)).state_dict()
    zeros = {name: torch.zeros(value.shape, dtype=torch.float16) for name, value in stock.items()}
    model = load(saved(upstream(zeros), tmp_path / "vith.pt")).model
    assert (model.encoder.layer[0].attention.heads, model.config.crop_size) == (16, 256)
    assert model.predictor.layer[0].attention.heads == 12
    heads = {name: count for name, count in HEADS.items() if name != "crop_size"}
    path = saved(upstream(golden_weights), tmp_path / "vitg-384.pt")
    assert load(path, config=heads).training_size == 384


# What is refused


def changed(state, part, **names):
    """A state with weights of a part replaced, or removed where None."""
    weights = state[part] | {f"module.backbone.{k}": v for k, v in names.items()}
    return state | {part: {name: value for name, value in weights.items() if value is not None}}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda s: s | {"target_encoder": s["ema_encoder"]}, "one of target_encoder and ema_enc"),
        (lambda s: {"predictor": s["predictor"]}, "and this one holds predictor"),
        (lambda s: torch.zeros(3), "and this one holds Tensor"),
        (lambda s: s | {"predictor": 3}, "its predictor holds no weights"),
        (
            lambda s: changed(s, "ema_encoder", **{"blocks.7.mlp.fc1.bias": None}),
            "1 missing weights, such as encoder.layer.7.mlp.fc1.bias: it is not a whole V-JEPA 2.1",
        ),
        (
            lambda s: changed(
                s, "ema_encoder", **{f"blocks.0.norm{i}.weight": None for i in (1, 2)}
            ),
            "such as encoder.layer.0.norm1.weight, encoder.layer.0.norm2.weight",
        ),
        (
            lambda s: changed(s, "predictor", **{"mask_tokens.3": None}),
            "mask_tokens",
        ),
        (
            lambda s: changed(s, "ema_encoder", extra=torch.zeros(1, 9, 128)),
            "1 unexpected weights, such as encoder.extra",
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
            "predictor_norm.bias is no tensor of floating point",
        ),
        (
            lambda s: s | {"predictor": s["predictor"] | {"mask_tokens.0": torch.zeros(1, 1, 64)}},
            "mask_tokens.0 twice",
        ),
    ],
)
def test_files_that_are_not_whole(golden_state, tmp_path, make, words):
    path = saved(make(golden_state), tmp_path / "odd.pt")
    with pytest.raises(ValueError) as error:
        load(path)
    assert words in str(error.value) and str(path) in str(error.value)
    assert "\n" not in str(error.value)


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


# Conversion


def test_a_converted_file_is_the_golden_model(golden_weights, tmp_path, tiny):
    """Bit for bit: transformers' names and shapes, and what transformers itself makes of it."""
    from transformers import VJEPA2Model

    path, folder = saved(upstream(golden_weights), tmp_path / "run.pt"), tmp_path / "folder"
    convert(path, folder, config=HEADS)
    written = load_file(folder / "model.safetensors")
    assert written.keys() == golden_weights.keys()
    assert all(torch.equal(value, golden_weights[name]) for name, value in written.items())
    assert (folder / "model.safetensors").stat().st_size < 0.53 * path.stat().st_size
    encoder = load(folder)
    values = encoder.encode(FRAMES, size=(64, 64)).values
    assert torch.equal(values, tiny.encode(FRAMES, size=(64, 64)).values)
    stock = VJEPA2Model.from_pretrained(folder).eval()
    with torch.no_grad():
        pixels = encoder.pixels(FRAMES, (64, 64)).unsqueeze(0)
        expected = stock(pixels, skip_predictor=True).last_hidden_state[0]
    assert torch.allclose(values.flatten(0, 2), expected, atol=1e-5)
    with pytest.raises(OSError, match="folder exists: give the name of a new folder"):
        convert(path, folder, config=HEADS)


@pytest.mark.parametrize("kind", ["student", "teacher"])
def test_converting_2_1_there_and_back(kind, tmp_path):
    convert(GOLDEN21 / f"{kind}.pt", tmp_path / "folder")
    expected, encoder = load(GOLDEN21 / f"{kind}.pt"), load(tmp_path / "folder")
    here, there = encoder.model.state_dict(), expected.model.state_dict()
    assert here.keys() == there.keys() and encoder.name == "folder"
    assert all(torch.equal(here[name], there[name]) for name in here)
    key = json.loads((tmp_path / "folder" / "config.json").read_text())["encoder_key"]
    assert key == {"student": "ema_encoder", "teacher": "target_encoder"}[kind]


def test_a_conversion_that_fails_leaves_nothing(golden_weights, tmp_path, monkeypatch):
    path = saved(upstream(golden_weights), tmp_path / "run.pt")
    with pytest.raises(OSError, match="none/folder cannot be written: No such file"):
        convert(path, tmp_path / "none" / "folder", config=HEADS)

    def fault(*_):
        raise KeyError("a bug")

    monkeypatch.setattr("vjepa_utils.weights.models.save_file", fault)
    with pytest.raises(KeyError, match="a bug"):  # it is not told as a full disk
        convert(path, tmp_path / "folder", config=HEADS)
    assert [each.name for each in tmp_path.iterdir()] == ["run.pt"]


# Fetching


@contextmanager
def server(contents, most=None):
    """Serves one file on loopback, broken off after `most` bytes; yields its URL and how often it
    was asked for.
    """
    requests = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(contents)))
            self.end_headers()
            self.wfile.write(contents[:most])

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{http.server_port}/{{}}.pt", requests
        finally:
            http.shutdown()
            thread.join()


@pytest.fixture
def released(monkeypatch):
    """Puts the golden student in the place of the released ViT-B; returns its bytes."""
    contents = (GOLDEN21 / "student.pt").read_bytes()
    student = download.RELEASED[NAME]._replace(
        width=128, sha256=hashlib.sha256(contents).hexdigest()
    )
    monkeypatch.setitem(download.RELEASED, NAME, student)
    return contents


@pytest.mark.filterwarnings("ignore:.*is downloaded once")
def test_a_released_file_is_fetched_once(released, cache, monkeypatch):
    with server(released) as (url, requests):
        monkeypatch.setattr(download, "URL", url)
        encoder = load(NAME)
        assert len(requests) == 1
    assert encoder.name == NAME
    assert encoder.fingerprint == load(GOLDEN21 / "student.pt").fingerprint
    assert not list(cache.glob("*.pt*"))  # only what is needed is kept
    again = load(NAME)  # and the server is gone
    assert again.fingerprint == encoder.fingerprint
    (kept,) = cache.rglob("model.safetensors")
    assert kept.stat().st_size <= len(released)


def test_a_broken_download_says_how_to_resume(released, cache, monkeypatch):
    with server(released, most=1_000_000) as (url, _):
        monkeypatch.setattr(download, "URL", url)
        resume = f"curl -C - -o {cache / NAME}.pt {url.format(NAME)}"
        with (
            pytest.warns(UserWarning, match=f"1.7 GB, is downloaded once.*{resume}"),
            pytest.raises(ConnectionError, match=f"run {resume}, or give that file's path"),
        ):
            load(NAME)
    assert not list(cache.glob("*.pt")) and not list(cache.rglob("*.safetensors"))


@pytest.mark.filterwarnings("ignore:.*is downloaded once")
def test_another_file_than_the_released_one(released, cache, monkeypatch):
    with server(released[:-1] + b"x") as (url, _):
        monkeypatch.setattr(download, "URL", url)
        with pytest.raises(ValueError, match="is not the released file"):
            load(NAME)
    assert not list(cache.glob("*.pt*")) and not list(cache.rglob("*.safetensors"))


@pytest.mark.filterwarnings("ignore:.*is downloaded once")
def test_without_internet_a_sentence_says_what_to_do(cache, monkeypatch):
    monkeypatch.setattr(download, "URL", "http://127.0.0.1:9/{}.pt")
    with pytest.raises(ConnectionError) as error:
        load("vjepa2_1_vitG_384")
    assert f"curl -C - -o {cache}/vjepa2_1_vitG_384.pt http://127.0.0.1:9/" in str(error.value)
    assert "\n" not in str(error.value) and not list(cache.glob("*.pt*"))


@pytest.mark.filterwarnings("ignore:.*is downloaded once")
def test_a_disk_that_is_full_after_the_download(released, cache, monkeypatch):
    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr(download, "write_folder", full)
    with server(released) as (url, _):
        monkeypatch.setattr(download, "URL", url)
        with pytest.raises(OSError, match="no space left"):
            load(NAME)
    assert (cache / f"{NAME}.pt").read_bytes() == released  # hours are not lost


def test_capitals_do_not_tell_two_checkpoints_apart():
    """On macOS and Windows vitg and vitG are one name."""
    folders = {str(download.kept_folder(name)).lower() for name in download.RELEASED}
    assert len(folders) == len(download.RELEASED)


def test_a_file_that_the_user_put_there(released, cache, monkeypatch):
    monkeypatch.setattr(download, "URL", "http://127.0.0.1:9/{}.pt")
    cache.mkdir(parents=True)
    (cache / f"{NAME}.pt").write_bytes(released)
    assert load(NAME).channels == 128
    assert (cache / f"{NAME}.pt").read_bytes() == released  # it belongs to the user
    (cache / f"{NAME}.pt").unlink()
    assert load(NAME).channels == 128
    shutil.rmtree(download.kept_folder(NAME))
    (cache / f"{NAME}.pt").write_bytes(released[:-5])
    with pytest.raises(ValueError, match="or not all of it: curl -C - .* completes it"):
        load(NAME)


def test_another_size_than_the_released_one(released, cache):
    """Where no hash is known, depth and width are."""
    cache.mkdir(parents=True)
    (cache / "vjepa2_1_vitg_384.pt").write_bytes(released)
    with pytest.raises(ValueError, match="has 12 blocks of 128 channels, not the 40 of 1408"):
        load("vjepa2_1_vitg_384")


def test_a_full_disk(released, monkeypatch):
    monkeypatch.setattr(
        download.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 0)
    )
    with pytest.raises(OSError, match=r"needs 2\.2 GB in .*, where 0\.0 are free"):
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
from vjepa_utils.weights.models import convert
status = lambda key: int(open("/proc/self/status").read().split(key)[1].split()[0]) * 1024
load = lambda path, dtype: vj.load_encoder(path, device="cpu", dtype=dtype)
load(sys.argv[1], torch.float32)  # what is imported and started once
for path in map(str.strip, sys.stdin):
    convert(path, path + ".folder")
    for place, dtype in (
        (path, torch.float32), (path + ".folder", torch.float32), (path + ".folder", torch.bfloat16)
    ):
        open("/proc/self/clear_refs", "w").write("5")  # the high-water mark starts anew
        before = status("VmRSS:")
        encoder = load(place, dtype)
        peak = status("VmHWM:") - before
        kept = sum(p.numel() * p.element_size() for p in encoder.model.parameters())
        first = encoder.model.encoder.layer[0]
        inner, heads = first.mlp.fc1.out_features, first.attention.heads
        print(peak, kept, encoder.channels, inner, heads, flush=True)
        del encoder, first
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="Linux tells peak memory")
def test_peak_memory_is_near_what_is_kept(tmp_path):
    """Real widths, one block; the file holds over three times as much as is kept."""
    words = [sys.executable, "-c", MEASURE, GOLDEN21 / "student.pt"]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as child:
        for name, (width, hidden, levels, out, key) in WIDTHS.items():
            made = shapes(width, 1, hidden, 384, 1, levels, out)
            path = saved(state(*made, key, random=False), tmp_path / f"{name}.pt")
            child.stdin.write(f"{path}\n")
            child.stdin.flush()
            for _ in range(3):
                peak, kept, *sizes = map(int, child.stdout.readline().split())
                assert sizes == [width, hidden, width // 64], name
                assert peak < 1.3 * kept and kept < path.stat().st_size / 3, (name, peak, kept)
            path.unlink()
        child.stdin.close()
    assert child.returncode == 0
