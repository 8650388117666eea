"""V-JEPA 2 and 2.1 in the layouts of others, against the outputs of the reference code: each file
in ../shared was renamed there by code written apart from this repository's.
"""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import vjepa_utils as vj
from tests.conftest import GOLDEN, GOLDEN21, ROOT
from vjepa_utils.model.vjepa2 import encode_tokens, predict_tokens

LAYOUTS = ROOT.parent / "shared" / "golden21_layouts"
GOLDEN_PT = ROOT.parent / "shared" / "golden_pt"
CASES = json.loads((GOLDEN21 / "cases.json").read_text())
HEADS = {"num_attention_heads": 4, "pred_num_attention_heads": 2, "crop_size": 64}
FOLDERS = {  # layout: whether it has all four norms, and a predictor
    "vjepa21-student": (True, True),
    "vjepa21-teacher": (True, True),
    "pr45497-encoder-student": (False, False),
    "mlxforge-student": (True, True),
    "lukasugar-student": (True, False),
    "inferred/pr45497-full-student": (False, True),
    "inferred/mnmly-student": (True, False),
}


def error(a, b):
    return ((a - b).norm() / b.norm()).item()


def load(place, **options):
    return vj.load_encoder(place, device="cpu", dtype=torch.float32, **options)


@pytest.fixture
def layouts():
    if not LAYOUTS.is_dir():
        pytest.skip(f"the copies in other layouts are not here ({LAYOUTS})")
    return LAYOUTS


@pytest.fixture
def copy(layouts, tmp_path):
    """Copies a layout to a folder that may be changed."""
    return lambda name: shutil.copytree(layouts / name, tmp_path / name, copy_function=shutil.copy)


@pytest.mark.parametrize("folder", FOLDERS)
@torch.no_grad()
def test_each_layout_equals_the_reference(folder, layouts):
    encoder, (all_norms, has_predictor) = load(layouts / folder), FOLDERS[folder]
    model = encoder.model
    assert encoder.training_size == 384 and (model.predictor is not None) == has_predictor
    for name in ("square", "landscape", "portrait", "image"):
        name = f"{'teacher' if 'teacher' in folder else 'student'}-{name}"
        about, case = CASES[name], load_file(GOLDEN21 / f"{name}.safetensors")
        grid, image = [about[side] for side in ("steps", "rows", "columns")], about["frames"] == 1
        x = encoder.pixels(case["frames"].numpy(), (about["height"], about["width"])).unsqueeze(0)
        visible, hidden = case["visible"].unsqueeze(0), case["hidden"].unsqueeze(0)
        assert error(encode_tokens(model, x)[0], case["tokens"]) < 1e-5
        assert error(encode_tokens(model, x, layer=6)[0], case["after_block_6"]) < 1e-5
        assert error(encode_tokens(model, x, visible)[0], case["visible_tokens"]) < 1e-5
        levels = encode_tokens(model, x, layer="levels")[0]
        known = levels.shape[1] if all_norms else 128  # the last norm alone
        assert error(levels[:, -known:], case["four_levels"][:, -known:]) < 1e-5
        if not all_norms:  # the others as they are before training
            centred = torch.nn.functional.layer_norm(case["after_block_6"], (128,), eps=1e-6)
            assert error(levels[:, 128:256], centred) < 1e-5
        if has_predictor:
            context = encode_tokens(model, x, visible, model.predictor_layer)
            for of, word in (("hidden", ""), ("visible", "visible_")):
                predicted = predict_tokens(model, context, visible, hidden, grid, 0, image, of=of)
                assert error(predicted[0], case[f"predicted_{word}stretched"]) < 1e-5


def test_an_encoder_alone_recovers_nothing(layouts, golden):
    encoder = load(layouts / "lukasugar-student")
    frames = golden["square"][1]["frames"]
    hidden = torch.arange(16).view(1, 4, 4) < 8
    with pytest.raises(ValueError, match="lukasugar-student has no predictor"):
        encoder.recover(frames, hidden, size=(64, 64))


def test_a_file_of_weights_without_its_folder(layouts):
    (file,) = (layouts / "lukasugar-student").glob("*.safetensors")
    assert load(file).fingerprint == load(layouts / "lukasugar-student").fingerprint


@pytest.mark.parametrize(
    ("folder", "field", "value"),
    [
        ("vjepa21-student", "hidden_size", 192),
        ("vjepa21-student", "num_hidden_layers", 11),
        ("vjepa21-student", "num_attention_heads", 4),
        ("vjepa21-student", "mlp_ratio", 4.0),
        ("vjepa21-student", "pred_num_mask_tokens", 10),
        ("vjepa21-student", "pred_teacher_embed_dim", 128),
        ("vjepa21-student", "interpolate_rope", False),
        ("vjepa21-student", "modality_embedding", False),
        ("vjepa21-student", "tubelet_size", 4),
        ("vjepa21-student", "patch_size", 14),
        ("vjepa21-teacher", "n_output_distillation", 1),
        ("pr45497-encoder-student", "use_rope_interleave", False),
        ("pr45497-encoder-student", "hierarchical_layers", [2, 5, 8, 10]),
        ("pr45497-encoder-student", "layer_norm_eps", 1e-5),
        ("mlxforge-student", "embed_dim", 1024),
        ("mlxforge-student", "depth", 24),
    ],
)
def test_configurations_that_do_not_fit(folder, field, value, copy):
    folder = copy(folder)
    about = json.loads((folder / "config.json").read_text())
    assert about[field] != value
    (folder / "config.json").write_text(json.dumps(about | {field: value}))
    with pytest.raises(ValueError, match=r"its configuration says that \w+ is") as error:
        load(folder)
    assert repr(value) in str(error.value) and str(folder) in str(error.value)


def test_what_a_configuration_may_leave_open(copy):
    folder = copy("vjepa21-student")
    about = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(about | {"crop_size": 256, "mlp_ratio": None}))
    assert load(folder).training_size == 256


def test_names_that_fit_no_layout(copy):
    folder = copy("vjepa21-student")
    weights = load_file(folder / "model.safetensors")
    odd = {name.replace("encoder.layer.", "trunk."): value for name, value in weights.items()}
    save_file(odd, folder / "model.safetensors")
    with pytest.raises(ValueError, match=r"missing weights, such as (encoder\S+ ){3}and") as error:
        load(folder)
    left = r"192 unexpected weights, such as trunk.0.\S+, trunk.0.\S+, trunk.0.\S+: it is not a"
    assert error.match(left)
    quantised = weights | {"encoder.norms_block.3.bias": torch.zeros(128, dtype=torch.uint32)}
    save_file(quantised, folder / "model.safetensors")
    with pytest.raises(ValueError, match="norms_block.3.bias is no tensor of floating point"):
        load(folder)


# Upstream's own files of V-JEPA 2


@pytest.fixture(scope="module")
def pt():
    if not GOLDEN_PT.is_dir():
        pytest.skip(f"upstream's training checkpoint is not here ({GOLDEN_PT})")
    return GOLDEN_PT


@pytest.mark.parametrize("name", ["square", "landscape", "portrait", "clip", "larger"])
@torch.no_grad()
def test_a_training_checkpoint_is_the_golden_model(name, pt, golden):
    model = load(pt / "vjepa2.pt", config=HEADS).model
    about, case = golden[name]
    encoder = load(pt / "vjepa2.pt", config=HEADS)
    x = encoder.pixels(case["frames"].numpy(), (about["height"], about["width"])).unsqueeze(0)
    visible, hidden = case["visible"].unsqueeze(0), case["hidden"].unsqueeze(0)
    assert error(encode_tokens(model, x)[0], case["tokens"]) < 1e-5
    context = encode_tokens(model, x, visible)
    assert error(context[0], case["visible_tokens"]) < 1e-5
    grid = [about[side] for side in ("steps", "rows", "columns")]
    for token in (0, 1):
        predicted = predict_tokens(model, context, visible, hidden, grid, token)[0]
        assert error(predicted, case[f"predicted_mask_token_{token}"]) < 1e-5
    if name in ("square", "landscape"):
        expected = load_file(pt / f"{name}.safetensors")
        online = load(pt / "vjepa2.pt", weights="encoder", config=HEADS).model
        assert error(encode_tokens(online, x)[0], expected["tokens_online"]) < 1e-5


@pytest.mark.parametrize("name", ["square", "landscape"])
@pytest.mark.filterwarnings("ignore:.*mask tokens")
def test_recovery_is_exact_with_both_encoders(name, pt, golden):
    """Context from the online encoder, target from the moving average, as in training."""
    about, case = golden[name]
    size = about["height"], about["width"]
    hidden = torch.zeros(about["steps"], about["rows"], about["columns"], dtype=torch.bool)
    hidden.view(-1)[case["hidden"]] = True
    exact = load(pt / "vjepa2.pt", weights="both", config=HEADS)
    recovery = exact.recover(case["frames"], hidden, 0, size)
    expected = load_file(pt / f"{name}.safetensors")["predicted_from_online"]
    assert error(recovery.predicted, expected) < 1e-5
    target = torch.nn.functional.layer_norm(case["tokens"], (96,))
    assert error(recovery.target.flatten(0, 2), target) < 1e-5
    averaged = load(pt / "vjepa2.pt", config=HEADS).recover(case["frames"], hidden, 0, size)
    assert error(averaged.predicted, case["predicted_mask_token_0"]) < 1e-5


@pytest.mark.filterwarnings("ignore:.*mask tokens")
def test_surprise_predicts_from_the_online_encoder(pt, golden):
    """Of one window it is what is recovered of its future, where the whole clip is the window."""
    frames = golden["clip"][1]["frames"][:4]
    future = torch.zeros(2, 4, 4, dtype=torch.bool)
    future[1] = True
    cosines = []
    for weights in ("both", None):
        encoder = load(pt / "vjepa2.pt", weights=weights, config=HEADS)
        recovery = encoder.recover(frames, future, 0, (64, 64))
        surprise = encoder.surprise(frames, context=2, horizon=1, size=(64, 64), mask_token=0)
        expected = torch.from_numpy(recovery.cosine).view(1, 4, 4)
        assert torch.allclose(torch.as_tensor(surprise.cosine[1:]), expected, atol=1e-5)
        cosines.append(expected)
    assert not torch.allclose(*cosines, atol=0.01)


# What a folder in Hugging Face format may hold instead


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(GOLDEN / "model", tmp_path / "model", copy_function=shutil.copy)


def test_only_pickled_weights(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(
        ValueError, match="lacks model.safetensors: .* such as .bin files, which are not read"
    ):
        load(folder)


def test_a_pointer_in_place_of_the_weights(folder):
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 2208016\n"
    (folder / "model.safetensors").write_text(pointer)
    with pytest.raises(ValueError, match="is a Git LFS pointer, .* run git lfs pull"):
        load(folder)
    (folder / "model.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(ValueError, match="model.safetensors cannot be loaded: "):
        load(folder)


def test_a_byte_order_mark_and_statistics_that_are_null(folder, tiny, golden):
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(f"\ufeff{text}", "utf-8")
    nothing = {"image_mean": None, "image_std": None}
    (folder / "video_preprocessor_config.json").write_text(json.dumps(nothing))
    encoder, frames = load(folder), golden["square"][1]["frames"]
    assert torch.equal(encoder.encode(frames, size=64).values, tiny.encode(frames, size=64).values)
    named = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
    (folder / "video_preprocessor_config.json").write_text(json.dumps(named))
    for values, name in ((load(folder).mean, "image_mean"), (load(folder).std, "image_std")):
        assert values.shape == (3, 1, 1) and np.allclose(values.flatten(), named[name])
    (folder / "video_preprocessor_config.json").write_text('{"image_mean": [0.5, 0.5]}')
    with pytest.raises(ValueError, match=r"image_mean .* three numbers each, not \[0.5, 0.5\]"):
        load(folder)
    (folder / "config.json").write_text(text[:50])
    with pytest.raises(ValueError, match="config.json is damaged: delete it, or fetch it again"):
        load(folder)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"tubelet_size": 4}, "tubelet_size is 4, where only 2 fits"),
        ({"in_chans": 1}, "in_chans is 1, where only 3 fits"),
        ({"use_rope_interleave": True}, "use_rope_interleave is True, where only False fits"),
        ({"num_hidden_layers": 4}, "num_hidden_layers is 4, where only 3 fits"),
        ({"hidden_act": "relu"}, "its activation is 'relu', and only gelu is known"),
        ({"crop_size": "64"}, "its configuration is damaged .*'crop_size'"),
        ({"num_attention_heads": 5}, "how many heads share 96 channels .* is 5"),
        (
            {"architectures": ["VJEPA2ForOtherThings"]},
            "holds a model of type .* VJEPA2ForOtherThings: .* without a head, and VJEPA2ForVideoC",
        ),
        ({"model_type": "videomae"}, "holds a model of type 'videomae'"),
    ],
)
def test_configurations_of_v_jepa_2_that_do_not_fit(fields, sentence, folder):
    about = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(about | fields))
    with pytest.raises(ValueError, match=sentence) as error:
        load(folder)
    assert "\n" not in str(error.value)
