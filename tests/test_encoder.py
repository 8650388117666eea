"""Preprocessing, contexts and loading."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

import vjepa_utils as vj
from tests.conftest import GOLDEN, ROOT, grey_levels, write_video
from vjepa_utils.checks import UserError
from vjepa_utils.model.devices import BATCH_TOKENS
from vjepa_utils.model.vjepa2 import encode_layers
from vjepa_utils.reading.pixels import resized

FRAMES = np.random.default_rng(0).integers(0, 256, (5, 32, 48, 3), np.uint8)
FILM = grey_levels(23, 32, 48)


def test_a_precision_by_name_or_by_type():
    for dtype in ("bfloat16", "torch.bfloat16", torch.bfloat16):
        assert vj.load_encoder(GOLDEN / "model", "cpu", dtype).dtype == torch.bfloat16
    for dtype in ("bfloat", "int8", torch.int64, 16):
        with pytest.raises(UserError, match="dtype must be such as"):
            vj.load_encoder(GOLDEN / "model", "cpu", dtype)


def test_pixels_are_scaled_and_normalised(tiny):
    frames = np.zeros((1, 32, 32, 3), np.uint8)
    frames[..., 0], frames[..., 1], frames[..., 2] = 255, 51, 0
    values = tiny.pixels(frames, (32, 32))[0, :, 0, 0]
    # (1 - 0.485) / 0.229, (0.2 - 0.456) / 0.224, (0 - 0.406) / 0.225
    assert values.tolist() == pytest.approx([2.248908, -1.142857, -1.804444], abs=1e-5)


def test_resize_is_bilinear_and_antialiased(tiny):
    ramp = np.tile(np.arange(64, dtype=np.uint8).repeat(3).reshape(1, 1, 64, 3), (1, 64, 1, 1))
    row = tiny.pixels(ramp, (32, 32))[0, 0, 16] * 0.229 + 0.485
    # Halving weighs four neighbours 1 3 3 1: in the middle of a ramp the value at its centre, 2 i +
    # 0.5.
    assert (row[4:-4] * 255).tolist() == pytest.approx(
        [2 * i + 0.5 for i in range(4, 28)], abs=1e-3
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])  # `extract` resizes before it encodes
@pytest.mark.parametrize("size", [(32, 48), (120, 160), (90, 70)])
def test_a_frame_is_resized_channel_by_channel(dtype, size, monkeypatch):
    """With the bits of the whole at once, and a third of its memory."""
    frame = np.random.default_rng(0).integers(0, 256, (90, 70, 3), np.uint8).astype(dtype)
    whole = torch.tensor(frame).float().permute(2, 0, 1)[None]
    interpolate, seen = F.interpolate, []
    monkeypatch.setattr(
        F, "interpolate", lambda x, *how, **more: seen.append(x) or interpolate(x, *how, **more)
    )
    found = resized(frame, size)
    assert [x.numel() for x in seen] == ([] if size == (90, 70) else [90 * 70] * 3)
    how = dict(mode="bilinear", align_corners=False, antialias=True)
    assert torch.equal(found, interpolate(whole, size, **how)[0])


def test_statistics_of_the_checkpoint_are_used(tiny, tmp_path):
    shutil.copytree(GOLDEN / "model", tmp_path / "other")
    (tmp_path / "other" / "video_preprocessor_config.json").write_text(
        json.dumps({"image_mean": [0.5] * 3, "image_std": [0.25] * 3})
    )
    other = vj.load_encoder(tmp_path / "other", dtype=torch.float32)
    assert other.pixels(np.full((1, 16, 16, 3), 255, np.uint8), (16, 16)).unique().tolist() == [2.0]


@pytest.mark.parametrize(
    ("height", "width", "size", "expected"),
    [
        (720, 1280, None, (256, 448)),  # 455.1 is nearer to 448 than to 464
        (1280, 720, None, (448, 256)),
        (720, 1280, 720, (720, 1280)),
        (100, 100, 40, (48, 48)),  # half-way goes up
        (24, 400, 16, (16, 272)),  # 266.7
        (100, 300, (32, 64), (32, 64)),
    ],
)
def test_size_keeps_the_aspect_in_whole_patches(tiny, height, width, size, expected):
    video = np.zeros((2, height, width, 3), np.uint8)
    assert tiny.grid(video, size=size) == (1, expected[0] // 16, expected[1] // 16)
    if height < 200:
        assert tiny.encode(video, size=size).picture_size == expected


def test_default_size_is_the_training_size_if_that_is_larger():
    from transformers import VJEPA2Config

    from vjepa_utils.encoder import Encoder
    from vjepa_utils.model.vjepa2 import VJEPA2

    config = json.loads((GOLDEN / "model" / "config.json").read_text()) | {"crop_size": 384}
    large = Encoder(
        VJEPA2(VJEPA2Config(**config)), "large", torch.zeros(3, 1, 1), torch.ones(3, 1, 1)
    )
    assert large.grid(np.zeros((2, 50, 50, 3), np.uint8)) == (1, 24, 24)


@pytest.mark.parametrize(
    ("context", "frames"),
    [
        (None, [[0, 1], [2, 3], [4, 4]]),
        ("pair", [[0, 1], [2, 3], [4, 4]]),
        ("clip", [[0, 1], [2, 3], [4, 4]]),
        ("frame", [[0, 0], [1, 1], [2, 2], [3, 3], [4, 4]]),
        (4, [[0, 1], [2, 3], [4, 4]]),
    ],
)
def test_contexts_cover_the_frames(tiny, context, frames):
    features = tiny.encode(FRAMES, context=context, size=32)
    assert features.frames.tolist() == frames
    assert features.grid == tiny.grid(FRAMES, size=32, context=context) == (len(frames), 2, 3)


def test_contexts_are_what_they_say(tiny):
    """Each context equals the joint encoding of just its frames."""
    alone = lambda *numbers: tiny.encode(FRAMES[list(numbers)], context="clip", size=32).values
    same = lambda a, b: torch.allclose(a, b, atol=1e-5)
    assert same(
        tiny.encode(FRAMES, size=32).values, torch.cat([alone(0, 1), alone(2, 3), alone(4, 4)])
    )
    assert same(
        tiny.encode(FRAMES, context="frame", size=32).values[1:3],
        torch.cat([alone(1, 1), alone(2, 2)]),
    )
    assert same(
        tiny.encode(FRAMES, context=4, size=32).values, torch.cat([alone(0, 1, 2, 3), alone(4, 4)])
    )
    assert same(tiny.encode(FRAMES, context="clip", size=32).values, alone(0, 1, 2, 3, 4, 4))
    assert not same(
        tiny.encode(FRAMES, context="clip", size=32).values, tiny.encode(FRAMES, size=32).values
    )


def test_frame_numbers_are_those_of_the_file(tiny, tmp_path):
    video = vj.read_video(
        write_video(tmp_path / "v.mp4", grey_levels(30)), start=7, every=5, count=4
    )
    assert tiny.encode(video, size=32).frames.tolist() == [[7, 12], [17, 22]]


def test_features_can_train_a_head(tiny):
    head = torch.nn.Linear(96, 2)
    head(tiny.encode(FRAMES, size=32).values).sum().backward()
    assert head.weight.grad.abs().sum() > 0


def test_layers(tiny):
    from transformers import VJEPA2Model

    stock = VJEPA2Model.from_pretrained(GOLDEN / "model").eval()
    frames = np.random.default_rng(1).integers(0, 256, (2, 64, 64, 3), np.uint8)
    outputs = []
    for layer in stock.encoder.layer:
        layer.register_forward_hook(lambda module, inputs, output: outputs.append(output[0]))
    with torch.no_grad():
        stock(tiny.pixels(frames, (64, 64)).unsqueeze(0), skip_predictor=True)
    for k in (1, 2, 3):
        ours = tiny.encode(frames, size=64, layer=k).values.flatten(0, 2)
        assert (ours - outputs[k - 1][0]).norm() < 1e-5 * ours.norm()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (dict(context="pairs"), "context must be"),
        (dict(context=3), "context must be"),
        (dict(size=8), "size must be .* 16"),
        (dict(size=(30, 32)), "multiples of the patch"),
        (dict(size=32.0), "size must be"),
        (dict(layer=0), "layer must be None or a whole number from 1 to 3"),
        (dict(layer=4), "layer must be"),
        (dict(layer=1.0), "layer must be"),
    ],
)
def test_arguments_out_of_range(tiny, arguments, words):
    with pytest.raises(ValueError, match=words):
        tiny.encode(FRAMES, **arguments)


def test_a_clip_that_cannot_fit_names_the_context_that_can(tiny, monkeypatch):
    class Little:
        available = 2_000_000

    monkeypatch.setattr("vjepa_utils.model.devices.psutil.virtual_memory", lambda: Little)
    video = np.zeros((400, 32, 32, 3), np.uint8)
    with pytest.raises(MemoryError, match=r"400 frames .* context=\d+ fits") as error:
        tiny.encode(video, context="clip", size=32)
    fits = int(str(error.value).split("context=")[1].split()[0])
    assert tiny.encode(video, context=fits, size=32).grid == (200, 2, 2)


def test_a_file_that_breaks_while_it_is_streamed(tiny, clips, monkeypatch):
    monkeypatch.setattr("vjepa_utils.video.DECODE_AT_ONCE", 0)
    with pytest.warns(UserWarning, match="damaged at frame 28"):
        features = tiny.encode(clips / "formats" / "corrupted_midstream.mp4", size=32)
    assert features.frames[-1].tolist() == [26, 27] and features.grid[0] == 14


# Long films: features that go to a file


@pytest.fixture
def film(tmp_path, monkeypatch):
    """Opens a clip of 23 frames that is decoded as it is used, and encoded in 5 batches of 2 steps
    and 2 of one at 32 pixels.
    """
    monkeypatch.setattr("vjepa_utils.video.DECODE_AT_ONCE", 0)
    monkeypatch.setitem(BATCH_TOKENS, "cpu", 12)
    path = write_video(tmp_path / "film.mp4", FILM)
    return lambda: vj.read_video(path)


@pytest.fixture
def batches(monkeypatch):
    """Counts the batches that are encoded; `batches.stop_after(n)` is a power cut."""

    class Batches:
        count, most = 0, 100

        def stop_after(self, most):
            self.most = self.count + most

        def stop_now(self):
            raise KeyboardInterrupt

    seen = Batches()

    def counted(*given, **named):
        if seen.count == seen.most:
            raise KeyboardInterrupt
        seen.count += 1
        return encode_layers(*given, **named)

    monkeypatch.setattr("vjepa_utils.encoder.encode_layers", counted)
    return seen


def test_a_file_holds_what_memory_would(tiny, film, batches, tmp_path):
    kept, streamed = (
        tiny.encode(film(), size=32),
        tiny.encode(film(), size=32, out=tmp_path / "film.safetensors"),
    )
    for features in (streamed, vj.Features.load(tmp_path / "film.safetensors")):
        assert torch.equal(features.values, kept.values) and torch.equal(
            features.frames, kept.frames
        )
        assert (
            features.grid == (12, 2, 3)
            and features.source_size == kept.source_size
            and features.encoder == kept.encoder
        )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["film.mp4", "film.safetensors"]
    done = batches.count
    assert torch.equal(
        tiny.encode(film(), size=32, out=tmp_path / "film.safetensors").values, kept.values
    )
    assert batches.count == done  # it was whole: nothing is computed twice
    with pytest.raises(ValueError, match=r"film.safetensors belongs to another run \(layer 'None'"):
        tiny.encode(film(), size=32, layer=1, out=tmp_path / "film.safetensors")
    again = vj.Features.load(tmp_path / "film.safetensors")
    assert torch.equal(again.values, kept.values) and batches.count == done


@pytest.mark.parametrize("context", [None, 4])
def test_a_stopped_run_goes_on_where_it_was(tiny, film, batches, tmp_path, context):
    kept, out = tiny.encode(film(), context, 32), tmp_path / "film.safetensors"
    total = batches.count
    batches.stop_after(2)
    with pytest.raises(KeyboardInterrupt):
        tiny.encode(film(), context, 32, out=out)
    assert not out.exists() and Path(f"{out}.partial").exists()
    batches.stop_after(100)
    assert torch.equal(tiny.encode(film(), context, 32, out=out).values, kept.values)
    # of the second run, nothing was computed twice
    assert batches.count == 2 * total and not Path(f"{out}.partial").exists()


def test_cuts_are_data_and_outlive_a_stopped_run(tiny, batches, tmp_path, monkeypatch):
    """Pairs 2+3 and 18+19 join black and white; the run stops between them."""
    monkeypatch.setattr("vjepa_utils.video.DECODE_AT_ONCE", 0)
    monkeypatch.setitem(BATCH_TOKENS, "cpu", 12)
    frames = np.zeros((24, 32, 48, 3), np.uint8)
    frames[3:19] = 255
    path, out = write_video(tmp_path / "cuts.mp4", frames), tmp_path / "cuts.safetensors"
    kept = tiny.encode(path, size=32)
    assert kept.cuts == ((2, 3), (18, 19)) and kept[:5].cuts == ((2, 3),)
    kept.save(tmp_path / "kept.safetensors")
    assert vj.Features.load(tmp_path / "kept.safetensors").cuts == kept.cuts
    batches.stop_after(2)
    with pytest.raises(KeyboardInterrupt):
        tiny.encode(path, size=32, out=out)
    batches.stop_after(100)
    again = tiny.encode(path, size=32, out=out)
    assert again.cuts == kept.cuts and torch.equal(again.values, kept.values)


def test_reprs_say_what_is_held(tiny, film):
    video, features = film(), tiny.encode(FRAMES, size=32)
    assert repr(video) == "Video(film.mp4, 23 frames 0 to 22, 0.00 to 0.73 s, 48×32 pixels)"
    text = "3 steps × 2×3 × 96 channels, model, frames 0 to 4"
    assert repr(features).startswith(f"Features({text}")
    assert repr(vj.PCAColours()) == "PCAColours(not fitted)"
    basis = vj.PCAColours().fit(features)
    share = 100 * basis.explained_variance_ratio.sum()
    assert repr(basis) == f"PCAColours(first three components: {share:.0f} % of the variance)"


def test_the_fingerprint_is_computed_once(golden, monkeypatch):
    fresh, hashed = vj.load_encoder(GOLDEN / "model", device="cpu", dtype=torch.float32), []
    sha256 = hashlib.sha256
    monkeypatch.setattr(hashlib, "sha256", lambda *given: hashed.append(1) or sha256(*given))
    assert fresh.fingerprint == fresh.fingerprint and len(hashed) == 1


def test_a_run_that_is_stopped_when_all_is_written(tiny, film, batches, tmp_path, monkeypatch):
    """The last context is shorter than the others: 21 frames, four at a time."""
    path, out = write_video(tmp_path / "odd.mp4", FILM[:21]), tmp_path / "film.safetensors"
    kept = tiny.encode(path, 4, 32)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        replace = os.replace
        patched.setattr(
            "vjepa_utils.stream.os.replace",
            lambda old, new: batches.stop_now() if new == out else replace(old, new),
        )
        tiny.encode(path, 4, 32, out=out)
    done = batches.count
    assert (
        torch.equal(tiny.encode(path, 4, 32, out=out).values, kept.values) and batches.count == done
    )
    assert vj.Features.load(out).grid == (11, 2, 3)


def test_a_batch_that_was_half_written_is_written_anew(tiny, film, batches, tmp_path):
    kept, out = tiny.encode(film(), size=32), tmp_path / "film.safetensors"
    for cut, again in (
        (5000, 2),
        (1, 1),
        (10**9, 4),
    ):  # bytes lost; the last time even of the header
        batches.stop_after(4)
        with pytest.raises(KeyboardInterrupt):
            tiny.encode(film(), size=32, out=out)
        partial, before = Path(f"{out}.partial"), batches.count
        os.truncate(partial, max(3, partial.stat().st_size - cut))
        batches.stop_after(100)
        assert torch.equal(tiny.encode(film(), size=32, out=out).values, kept.values)
        assert batches.count - before == 7 - 4 + again
        out.unlink()


def test_a_partial_file_of_another_run_is_kept(tiny, film, batches, tmp_path):
    out = tmp_path / "film.safetensors"
    batches.stop_after(2)
    with pytest.raises(KeyboardInterrupt):
        tiny.encode(film(), size=32, out=out)
    before = Path(f"{out}.partial").read_bytes()
    batches.stop_after(100)
    with pytest.raises(
        ValueError,
        match=r"film.safetensors.partial belongs to another run \(.*size '\(32, 48\)' there, "
        r"'\(32, 32\)' here",
    ):
        tiny.encode(film(), size=(32, 32), layer=1, out=out)
    with pytest.raises(ValueError, match="another run \\(clip"):
        tiny.encode(FILM, size=32, out=out)
    assert Path(f"{out}.partial").read_bytes() == before


def test_a_place_that_takes_no_file(tiny, tmp_path):
    clip = write_video(tmp_path / "clip.mp4", FILM)
    with pytest.raises(ValueError, match="out names the clip itself"):
        tiny.encode(clip, size=32, out=clip)
    with pytest.raises(OSError, match="cannot be written: there is no folder"):
        tiny.encode(FRAMES, size=32, out=tmp_path / "nowhere" / "film.safetensors")


def test_a_damaged_film_gives_a_whole_file(tiny, clips, batches, tmp_path, monkeypatch):
    monkeypatch.setattr("vjepa_utils.video.DECODE_AT_ONCE", 0)
    path = clips / "formats" / "corrupted_midstream.mp4"
    with pytest.warns(UserWarning, match="damaged at frame 28"):
        kept = tiny.encode(path, size=32)
    with pytest.warns(UserWarning, match="damaged at frame 28"):
        streamed = tiny.encode(path, size=32, out=tmp_path / "film.safetensors")
    assert (
        torch.equal(streamed.values, kept.values)
        and streamed.frames.tolist() == kept.frames.tolist()
    )


def test_one_batch_is_decoded_ahead_and_no_more(tiny, film, monkeypatch):
    video, events = film(), []
    read, seen = video._source.read, lambda what: sum(event[0] == what for event in events)

    def reading(numbers):
        events.append(("read", threading.get_ident()))
        return read(numbers)

    def encoding(*given, **named):
        deadline = time.monotonic() + 20
        while seen("read") < min(6, seen("encode") + 2):  # the next batch is read meanwhile
            assert time.monotonic() < deadline
            time.sleep(0.001)
        events.append(("encode", threading.get_ident()))
        return encode_layers(*given, **named)

    monkeypatch.setattr(video._source, "read", reading)
    monkeypatch.setattr("vjepa_utils.encoder.encode_layers", encoding)
    assert tiny.encode(video, size=32).grid[0] == 12
    ahead = np.cumsum([1 if what == "read" else -1 for what, _ in events])
    assert ahead.max() == 2 and {thread for what, thread in events if what == "read"}.isdisjoint(
        {threading.get_ident()}
    )


# Loading


def test_a_checkpoint_by_id_from_a_hand_built_cache(tmp_path):
    """As `hf download` lays it out, in a process without network: the pinned revision before the
    newest, which is taken with a warning; what is missing ends in a sentence with the command."""
    for name, revisions in {
        "vitl": [vj.CHECKPOINTS["facebook/vjepa2-vitl-fpc64-256"], "0" * 40],
        "vith": ["0" * 40],
    }.items():
        repository = tmp_path / "hub" / f"models--facebook--vjepa2-{name}-fpc64-256"
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / "main").write_text("0" * 40)
        for revision in revisions:
            shutil.copytree(GOLDEN / "model", repository / "snapshots" / revision)
    script = (
        "import warnings, vjepa_utils as vj\n"
        "for size in ('vitl', 'vith', 'vitg'):\n"
        "    with warnings.catch_warnings(record=True) as caught:\n"
        "        try: print(vj.load_encoder(f'facebook/vjepa2-{size}-fpc64-256').name, "
        "[str(w.message) for w in caught])\n"
        "        except ConnectionError as error: print(error)\n"
    )
    environment = os.environ | {
        "HF_HUB_CACHE": str(tmp_path / "hub"),
        "HF_HUB_OFFLINE": "1",
        "PYTHONWARNINGS": "always::UserWarning",
    }
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment, cwd=ROOT
    )
    pinned, newest, missing = done.stdout.splitlines()
    assert pinned == "facebook/vjepa2-vitl-fpc64-256 []"
    assert (
        newest.startswith("facebook/vjepa2-vith-fpc64-256 ['")
        and "as cached, at revision 0000" in newest
    )
    assert (
        "hf download facebook/vjepa2-vitg-fpc64-256 --revision "
        f"{vj.CHECKPOINTS['facebook/vjepa2-vitg-fpc64-256']} --include" in missing
    )


def test_a_classification_checkpoint_gives_its_encoder(tmp_path, tiny):
    from transformers import VJEPA2Config, VJEPA2ForVideoClassification

    config = VJEPA2Config(**json.loads((GOLDEN / "model" / "config.json").read_text()))
    whole = VJEPA2ForVideoClassification(config)
    whole.vjepa2.load_state_dict(load_file(GOLDEN / "model" / "model.safetensors"))
    whole.save_pretrained(tmp_path / "ssv2")
    loaded = vj.load_encoder(tmp_path / "ssv2", dtype=torch.float32)
    assert torch.equal(loaded.encode(FRAMES, size=32).values, tiny.encode(FRAMES, size=32).values)


def test_weights_that_are_missing_unexpected_or_of_another_shape(tmp_path):
    weights = load_file(GOLDEN / "model" / "model.safetensors")
    less = {k: v for k, v in weights.items() if k != "encoder.layer.1.mlp.fc1.weight"}
    more = weights | {"encoder.extra": torch.zeros(3)}
    other = weights | {"encoder.layernorm.weight": torch.zeros(95)}
    for name, changed in (("missing", less), ("unexpected", more), ("mismatch", other)):
        folder = tmp_path / name
        shutil.copytree(GOLDEN / "model", folder)
        save_file(changed, folder / "model.safetensors", {"format": "pt"})
        with pytest.raises(ValueError, match=name):
            vj.load_encoder(folder)


def test_names_that_lead_nowhere(tmp_path):
    with pytest.raises(ValueError, match="There is no encoder 'vjepa3'"):
        vj.load_encoder("vjepa3")
    with pytest.raises(ValueError, match="lacks config.json"):
        vj.load_encoder(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match="type 'bert'"):
        vj.load_encoder(tmp_path)


def test_the_package_and_its_help_load_neither_torch_nor_transformers():
    script = (
        "import sys, vjepa_utils, vjepa_utils.__main__ as m; m.parser(); print({'torch', "
        "'transformers'} & set(sys.modules))"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT
        ).stdout.strip()
        == "set()"
    )


def test_bfloat16_stays_near_float32(golden):
    frames = golden["larger"][1]["frames"]
    exact, rounded = (
        vj.load_encoder(GOLDEN / "model", device="cpu", dtype=dtype)
        .encode(frames, context="clip", size=128)
        .values
        for dtype in (torch.float32, torch.bfloat16)
    )
    assert (exact - rounded).norm() < 0.015 * exact.norm()


# What ships


@pytest.mark.parametrize("name", ["vjepa2-demo", "dino-demo"])
def test_the_shipped_encoders_are_of_the_stated_size(name):
    encoder = vj.load_encoder(name)
    parameters = sum(
        p.numel()
        for p in getattr(
            encoder.model, "encoder" if name == "vjepa2-demo" else "base_model"
        ).parameters()
    )
    card = (ROOT / "vjepa_utils" / "shipped" / name / "README.md").read_text()
    assert f"({parameters / 1e6:.2f} M parameters)" in card and f"{encoder.depth} blocks" in card
    assert encoder.channels == 64 * encoder.model.config.num_attention_heads
