"""Loading: what the hub has, what a download left unfinished, and the memory that is free."""

import json
import shutil
from dataclasses import replace

import huggingface_hub.constants
import numpy as np
import pytest
import torch
import transformers
from huggingface_hub import snapshot_download
from safetensors.torch import load_file, save_file

import vjepa_utils as vj
from tests.conftest import GOLDEN
from vjepa_utils.actions.heads import READINGS, head_logits, load_classifier, segment_tokens
from vjepa_utils.model.devices import free_memory
from vjepa_utils.weights import checkpoints

FRAMES = np.random.default_rng(0).integers(0, 256, (2, 32, 48, 3), np.uint8)

# The configurations of the hub, in the fields of their config.json.

VJEPA2 = {
    "attention_dropout": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "drop_path_rate": 0.0,
    "hidden_act": "gelu",
    "in_chans": 3,
    "initializer_range": 0.02,
    "layer_norm_eps": 1e-06,
    "model_type": "vjepa2",
    "num_pooler_layers": 3,
    "patch_size": 16,
    "pred_hidden_size": 384,
    "pred_mlp_ratio": 4.0,
    "pred_num_attention_heads": 12,
    "pred_num_hidden_layers": 12,
    "pred_num_mask_tokens": 10,
    "pred_zero_init_mask_tokens": True,
    "qkv_bias": True,
    "torch_dtype": "float32",
    "transformers_version": "4.53.0.dev0",
    "tubelet_size": 2,
}
SIZES = {
    "vitl": (1024, 24, 16, 4),
    "vith": (1280, 32, 16, 4),
    "vitg": (1408, 40, 22, 4.363636363636363),
}
DINOV2 = {
    "architectures": ["Dinov2Model"],
    "attention_probs_dropout_prob": 0.0,
    "drop_path_rate": 0.0,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.0,
    "image_size": 518,
    "initializer_range": 0.02,
    "layer_norm_eps": 1e-06,
    "layerscale_value": 1.0,
    "mlp_ratio": 4,
    "model_type": "dinov2",
    "num_channels": 3,
    "patch_size": 14,
    "qkv_bias": True,
    "torch_dtype": "float32",
    "transformers_version": "4.31.0.dev0",
}
REGISTERS = DINOV2 | {
    "apply_layernorm": True,
    "architectures": ["Dinov2WithRegistersModel"],
    "interpolate_antialias": True,
    "interpolate_offset": 0.0,
    "model_type": "dinov2_with_registers",
    "num_register_tokens": 4,
    "reshape_hidden_states": True,
    "transformers_version": "4.48.0.dev0",
}
DINOV2_SIZES = {  # width, depth, heads, SwiGLU
    "small": (384, 12, 6, False),
    "base": (768, 12, 12, False),
    "large": (1024, 24, 16, False),
    "giant": (1536, 40, 24, True),
}
DINOV3 = {
    "architectures": ["DINOv3ViTModel"],
    "attention_dropout": 0.0,
    "drop_path_rate": 0.0,
    "image_size": 224,
    "initializer_range": 0.02,
    "key_bias": False,
    "layer_norm_eps": 1e-05,
    "layerscale_value": 1.0,
    "mlp_bias": True,
    "model_type": "dinov3_vit",
    "num_channels": 3,
    "num_register_tokens": 4,
    "patch_size": 16,
    "pos_embed_jitter": None,
    "pos_embed_rescale": 2.0,
    "pos_embed_shift": None,
    "proj_bias": True,
    "query_bias": True,
    "rope_theta": 100.0,
    "torch_dtype": "float32",
    "transformers_version": "4.56.0.dev0",
    "value_bias": True,
}
DINOV3_SIZES = {  # width, depth, heads, hidden, gated
    "vits16": (384, 12, 6, 1536, False),
    "vits16plus": (384, 12, 6, 1536, True),
    "vitb16": (768, 12, 12, 3072, False),
    "vitl16": (1024, 24, 16, 4096, False),
    "vith16plus": (1280, 32, 20, 5120, True),
    "vit7b16": (4096, 40, 32, 8192, True),
}
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}


def published(name):
    """The config.json of an id."""
    kind, size, *rest = name.split("/")[1].split("-")
    if kind == "vjepa2":
        width, depth, heads, ratio = SIZES[size]
        side, classes = int(rest[1]), {"ssv2": 174, "diving48": 48}.get(rest[-1], 0)
        head = {
            "architectures": ["VJEPA2ForVideoClassification" if classes else "VJEPA2Model"],
            "crop_size": side,
            "frames_per_clip": int(rest[0].removeprefix("fpc")),
            "image_size": side,
        }
        if classes:
            head["id2label"] = {str(i): f"class {i}" for i in range(classes)}
            head["label2id"] = {f"class {i}": i for i in range(classes)}
        size = dict(hidden_size=width, num_attention_heads=heads, mlp_ratio=ratio)
        return VJEPA2 | head | size | {"num_hidden_layers": depth}
    if kind == "dinov2":
        width, depth, heads, gated = DINOV2_SIZES[name.split("-")[-1]]
        size = dict(hidden_size=width, num_attention_heads=heads, use_swiglu_ffn=gated)
        base = REGISTERS if "registers" in name else DINOV2
    else:
        width, depth, heads, hidden, gated = DINOV3_SIZES[size]
        size = dict(hidden_size=width, num_attention_heads=heads, intermediate_size=hidden)
        size |= dict(use_gated_mlp=gated, hidden_act="silu" if gated else "gelu")
        base = DINOV3
    stages = {
        "num_hidden_layers": depth,
        "out_features": [f"stage{depth}"],
        "out_indices": [depth],
        "stage_names": ["stem", *(f"stage{i + 1}" for i in range(depth))],
    }
    return base | size | stages


def shallow(config):
    """A configuration with one layer of everything and all its widths."""
    config = config | {"num_hidden_layers": 1}
    if "stage_names" in config:
        config |= dict(out_features=["stage1"], out_indices=[1], stage_names=["stem", "stage1"])
    else:
        config |= dict(num_pooler_layers=1, pred_num_hidden_layers=1)
    return config


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    """A Hugging Face cache; gone afterwards, as it is large."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    yield tmp_path / "hub"
    shutil.rmtree(tmp_path / "hub", ignore_errors=True)


def snapshot(cache, name):
    """The folder of the pinned revision of an id, as the hub's client lays it out."""
    repository = cache / f"models--{name.replace('/', '--')}"
    folder = repository / "snapshots" / checkpoints.CHECKPOINTS[name]
    folder.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(folder.name)
    return folder


def put(cache, name):
    """A shallow checkpoint of an id in the cache, with random weights and active attention; the
    stock model.
    """
    folder, about = snapshot(cache, name), shallow(published(name))
    kind = getattr(transformers, about["architectures"][0])
    with torch.device("meta"):
        model = kind(kind.config_class.from_dict(about))
    noise = torch.randn(1 << 20, generator=torch.Generator().manual_seed(0))
    weights = {}
    for key, value in model.state_dict().items():
        scale = value[0].numel() ** -0.5 if value.ndim > 1 else 0.1
        one = float("norm" in key and "weight" in key)
        tiled = noise.repeat(-(-value.numel() // len(noise)))[: value.numel()]
        weights[key] = one + scale * tiled.view(value.shape)
    model.load_state_dict(weights, assign=True)
    model.save_pretrained(folder, max_shard_size="400MB" if "7b" in name else "5GB")
    (folder / "config.json").write_text(json.dumps(about))
    video = "video_" * (about["model_type"] == "vjepa2")
    (folder / f"{video}preprocessor_config.json").write_text(json.dumps(IMAGENET))
    for module in model.modules():  # what is computed and not stored has no memory yet
        for key, buffer in module.named_buffers(recurse=False):
            if buffer.is_meta:
                fresh = type(module)(model.config)
                setattr(module, key, getattr(fresh, key))
    return model.eval(), folder


# of the DINO encoders one of each kind, the smallest and the largest
IDS = [
    *(name for name in checkpoints.CHECKPOINTS if "vjepa2" in name),
    *(f"facebook/dinov2-{size}" for size in ("small", "giant")),
    *(f"facebook/dinov2-with-registers-{size}" for size in ("small", "giant")),
    *(f"facebook/dinov3-{size}-pretrain-lvd1689m" for size in DINOV3_SIZES if "vitl" not in size),
]
FIRST = {  # a weight as its published file names it
    "vjepa2": "encoder.layer.0.attention.query.weight",
    "dinov2": "encoder.layer.0.attention.attention.query.weight",
    "dinov2_with_registers": "encoder.layer.0.attention.attention.query.weight",
    "dinov3_vit": "layer.0.attention.q_proj.weight",
}


def check_head(name, monkeypatch):
    """The head of an id in the cache has all that the released one is read by, but for the depth of
    its levels.
    """
    short, about = name.split("/")[1], published(name)
    reading = READINGS[short]
    assert max(reading.levels, default=about["num_hidden_layers"]) == about["num_hidden_layers"]
    monkeypatch.setitem(READINGS, short, replace(reading, levels=(1,) if reading.levels else ()))
    model, found = load_classifier(checkpoints.find(name), name)
    assert found == READINGS[short]
    attention = model.pooler.self_attention_layers[0].self_attn
    assert (attention.num_heads, attention.head_dim) == (16, about["hidden_size"] // 16)
    tokens = segment_tokens(model, torch.randn(1, 2, 3, 32, 32), found.levels)
    assert head_logits(model, tokens).shape == (1, 174 if "ssv2" in name else 48)
    assert model.config.frames_per_clip == about["frames_per_clip"]


@pytest.mark.parametrize("name", IDS)
def test_the_checkpoints_of_the_hub_load_by_their_id(name, hub_cache, monkeypatch):
    """The features are those of stock transformers, on the training square for V-JEPA 2."""
    stock, folder = put(hub_cache, name)
    about = published(name)
    files = sorted(folder.glob("*.safetensors"))
    keys = {key for file in files for key in load_file(file)}
    head = "vjepa2." * (name.split("/")[1] in READINGS)
    assert head + FIRST[about["model_type"]] in keys and (len(files) > 1) == ("7b" in name)
    encoder = vj.load_encoder(name, device="cpu", dtype=torch.float32)
    assert (encoder.name, encoder.channels) == (name, about["hidden_size"])
    assert encoder.training_size == about.get("crop_size") and encoder.depth == 1
    side = encoder.training_size or 4 * encoder.patch_size
    pixels = encoder.pixels(FRAMES, (side, side))
    with torch.no_grad():
        if head or about["model_type"] == "vjepa2":
            whole = stock.vjepa2 if head else stock
            expected = whole(pixels[None], skip_predictor=True).last_hidden_state[0]
        else:
            special = 1 + about.get("num_register_tokens", 0)
            expected = stock(pixels).last_hidden_state[:, special:].flatten(0, 1)
    found = encoder.encode(FRAMES, size=(side, side)).values.flatten(0, 2)
    assert (found - expected).norm() < 1e-5 * expected.norm()
    if head:
        check_head(name, monkeypatch)


# Downloads that were not finished

VITL = "facebook/vjepa2-vitl-fpc64-256"
SHARDS = [f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]


def shards(folder):
    """The golden model in three files and an index."""
    weights = load_file(GOLDEN / "model" / "model.safetensors")
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(GOLDEN / "model" / "config.json", folder)
    where = {key: SHARDS[i % 3] for i, key in enumerate(sorted(weights))}
    for file in SHARDS:
        part = {key: weights[key] for key in weights if where[key] == file}
        save_file(part, folder / file, {"format": "pt"})
    index = {"metadata": {}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


@pytest.fixture
def hub(hub_cache, tmp_path, monkeypatch):
    """A hub that has the model in shards, over a cache; the requests that it gets."""
    shards(tmp_path / "origin")
    requests = []

    def download(name, revision, allow_patterns, local_files_only=False):
        if local_files_only:
            return snapshot_download(
                name, revision=revision, allow_patterns=allow_patterns, local_files_only=True
            )
        requests.append((name, revision))
        folder = hub_cache / f"models--{name.replace('/', '--')}" / "snapshots" / revision
        for file in (tmp_path / "origin").iterdir():
            (folder / file.name).unlink(missing_ok=True)
            shutil.copy(file, folder)
        return str(folder)

    monkeypatch.setattr(checkpoints, "snapshot_download", download)
    return requests


@pytest.mark.parametrize("lost", [SHARDS[1], SHARDS[0], "config.json", "all of the weights"])
@pytest.mark.parametrize("link", [False, True])
def test_a_snapshot_that_was_fetched_in_part_is_fetched_again(lost, link, hub, hub_cache, tiny):
    folder = snapshot(hub_cache, VITL)
    shards(folder)
    for file in SHARDS if lost == "all of the weights" else [lost]:
        (folder / file).unlink()
        if link:  # to a blob that never came
            (folder / file).symlink_to("../../blobs/none")
    encoder = vj.load_encoder(VITL, dtype=torch.float32)
    assert hub == [(VITL, checkpoints.CHECKPOINTS[VITL])]
    assert torch.equal(encoder.encode(FRAMES, size=32).values, tiny.encode(FRAMES, size=32).values)
    vj.load_encoder(VITL)
    assert len(hub) == 1  # it is whole now


def test_a_snapshot_in_part_without_a_hub(hub_cache):
    folder = snapshot(hub_cache, VITL)
    shards(folder)
    (folder / SHARDS[2]).unlink()
    with pytest.raises(
        ConnectionError,
        match=f"{VITL} is in the Hugging Face cache without {SHARDS[2]}, and .*run: hf",
    ):
        vj.load_encoder(VITL)


def test_a_folder_without_some_of_its_files(tmp_path):
    shards(tmp_path / "model")
    assert vj.load_encoder(tmp_path / "model").depth == 3
    (tmp_path / "model" / SHARDS[0]).unlink()
    (tmp_path / "model" / SHARDS[2]).unlink()
    with pytest.raises(
        ValueError, match=f"model lacks {SHARDS[0]} and {SHARDS[2]}: it was fetched in part"
    ):
        vj.load_encoder(tmp_path / "model")
    (tmp_path / "model" / "model.safetensors.index.json").write_text("{")
    with pytest.raises(ValueError, match=r"model.safetensors.index.json is damaged: delete it"):
        vj.load_encoder(tmp_path / "model")


# Memory


def test_free_memory_on_cuda_counts_the_cache_of_torch(monkeypatch):
    """10 bytes are free; of the 7 that torch has reserved, 4 are in use."""
    for what, value in dict(mem_get_info=(10, 100), memory_reserved=7, memory_allocated=4).items():
        monkeypatch.setattr(torch.cuda, what, lambda device, value=value: value)
    assert free_memory(torch.device("cuda")) == 10 + 7 - 4
    assert free_memory(torch.device("cpu")) > 2**20


def test_no_bar_for_weights_that_are_in_memory(capfd):
    vj.load_encoder("dino-demo")
    assert capfd.readouterr() == ("", "")
