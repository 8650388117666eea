"""Classification against the reference and stock transformers, probes on cases with a known answer,
and the truth of the rendered motions.
"""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from transformers import VJEPA2Config, VJEPA2ForVideoClassification

import vjepa_utils as vj
from demo.render.motions import BACKWARDS, SWEEPS, motion, motions
from demo.render.scenes import HELD_OUT_PHOTOS, photographs, textures
from tests.conftest import GOLDEN, GOLDEN_HEADS, ROOT, grey_levels, write_video
from vjepa_utils.__main__ import main
from vjepa_utils.actions.heads import (
    READINGS,
    Reading,
    head_logits,
    load_classifier,
    segment_frames,
    segment_tokens,
    square_views,
)
from vjepa_utils.encoder import Encoder
from vjepa_utils.features import Features
from vjepa_utils.model.vjepa2 import encode_tokens
from vjepa_utils.probing import labelled_clips
from vjepa_utils.probing.classes import accuracy
from vjepa_utils.probing.recordings import hold_out, showing_the_same

NAMES = ["Pushing [something]", "Folding [something]", "Turning [something]"]


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    """A folder with a random classification checkpoint whose attention is active, and the stock
    model.
    """
    torch.manual_seed(0)
    about = json.loads((GOLDEN / "model" / "config.json").read_text()) | {
        "id2label": dict(enumerate(NAMES))
    }
    model = VJEPA2ForVideoClassification(VJEPA2Config(**about)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            scale, shift = (
                0.15 if parameter.ndim > 1 else 0.3,
                float("norm" in name and "weight" in name),
            )
            parameter.copy_(shift + scale * torch.randn_like(parameter))
    folder = tmp_path_factory.mktemp("heads") / "head"
    model.save_pretrained(folder)
    return folder, model


def noise(frames, height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (frames, height, width, 3), np.uint8)


def normalised(frames):
    mean, std = (
        torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    return (torch.from_numpy(frames).permute(0, 3, 1, 2) / 255 - mean) / std


@pytest.fixture
def exact(monkeypatch):
    monkeypatch.setattr("vjepa_utils.actions.heads.fast_dtype", lambda device: torch.float32)


GOLDEN_READINGS = {
    "ssv2": Reading(2, 1, 16, 1e-5),
    "diving48": Reading(4, 1, 16, 1e-5, (1, 2, 3, 4)),
}


def golden_clip(name):
    """Frames whose segments and views are those of the reference's case, and its outputs: the
    views side by side, the segments one after another, each with a fifth frame that is not taken.
    """
    case = load_file(GOLDEN_HEADS / f"{name}.safetensors")
    beside = torch.cat([*case["clips"].transpose(0, 1)], 3)  # (segments, 4, 64, 3 × 64, 3)
    frames = torch.cat([beside, torch.full_like(beside[:, :1], 99)], 1).flatten(0, 1)
    return frames.numpy(), case


@pytest.mark.parametrize("name", GOLDEN_READINGS)
def test_heads_equal_the_reference(name, exact):
    frames, case = golden_clip(name)
    found = vj.classify(frames, GOLDEN_HEADS / name, top=7, reading=GOLDEN_READINGS[name])
    assert found.logits.shape == case["logits"].shape == (3, 7)
    assert (found.logits - case["logits"]).abs().max() < 1e-5 * case["logits"].abs().max()
    expected, order = case["probabilities"].sort(descending=True)
    assert found.labels == [f"LABEL_{i}" for i in order]
    assert abs(found.probabilities - expected.numpy()).max() < 1e-5


@pytest.mark.parametrize(
    ("name", "without"),
    [
        ("ssv2", dict(pooler_heads=None)),
        ("diving48", dict(pooler_heads=None)),
        ("diving48", dict(levels=())),
    ],
)
def test_without_a_part_of_the_reading_the_answer_is_another(name, without, exact):
    frames, case = golden_clip(name)
    reading = replace(GOLDEN_READINGS[name], **without)
    found = vj.classify(frames, GOLDEN_HEADS / name, top=7, reading=reading)
    assert (found.logits - case["logits"]).abs().max() > 0.1


def test_the_epsilon_is_that_of_the_pooler_alone():
    """On the golden cases it moves the logits by no more than rounding does."""
    model, _ = load_classifier(GOLDEN_HEADS / "ssv2", "ssv2", Reading(pooler_eps=1e-5))
    for part, eps in ((model.pooler, 1e-5), (model.vjepa2, 1e-6)):
        norms = [each for each in part.modules() if isinstance(each, torch.nn.LayerNorm)]
        assert len(norms) >= 8 and {each.eps for each in norms} == {eps}


def test_logits_equal_stock_transformers(head):
    """A head that transformers trained, on one segment and view: its own settings."""
    folder, stock = head
    pixels = normalised(noise(8, 64, 64))
    with torch.no_grad():
        expected = stock(pixels[None]).logits[0]
    model, reading = load_classifier(folder, "head", dtype=torch.float32)
    found = head_logits(model, segment_tokens(model, pixels[None]))[0]
    assert (found - expected).norm() / expected.norm() < 1e-5 and expected.std() > 0.05
    assert reading == Reading()


def test_segments_are_joined_and_the_softmax_is_averaged_over_views(head, exact):
    """Frames, crops, joining and averages worked out here, with the stock model."""
    folder, stock = head
    frames = noise(90, 64, 100)
    found = vj.classify(frames, folder, top=3)
    # 32 of each 45, in the middle
    chosen = np.array([[0, 4, 9, 13, 18, 22, 27, 31], [45, 49, 54, 58, 63, 67, 72, 76]]) + 6
    assert np.array_equal(found.frames, chosen)
    with torch.no_grad():
        logits = torch.cat(
            [
                stock.classifier(stock.pooler(tokens.flatten(0, 1)[None]))
                for tokens in (
                    stock.vjepa2(
                        torch.stack([normalised(frames[p, :, x : x + 64]) for p in chosen]),
                        skip_predictor=True,
                    ).last_hidden_state
                    for x in (0, 18, 36)
                )
            ]
        )
    assert torch.allclose(found.logits, logits, atol=1e-5 * logits[0].norm().item())
    mean = logits.softmax(1).mean(0)
    assert found.labels == [NAMES[i] for i in mean.argsort(descending=True)]
    assert found.probabilities == pytest.approx(mean.sort(descending=True).values.numpy(), abs=1e-5)
    assert (
        found.table().splitlines()[-1] == "head, 3 classes; frames 6 to 37 and 51 to 82, 3 views."
    )


def test_levels_are_read_in_one_pass_through_the_final_norm(tiny):
    pixels = tiny.pixels(noise(4, 32, 48), (32, 48))[None]
    norm = tiny.model.encoder.layernorm
    with torch.no_grad():
        apart = [norm(encode_tokens(tiny.model, pixels, layer=k)) for k in (1, 3)]
        joined = segment_tokens(SimpleNamespace(vjepa2=tiny.model, device="cpu"), pixels, (1, 3))
        last = encode_tokens(tiny.model, pixels)
    assert torch.equal(joined, torch.cat(apart, 1)) and torch.equal(apart[1], last)


def test_readings_of_the_released_heads():
    """Frames × segments and 16 heads of the reference's configs/inference, its four levels."""
    assert READINGS.keys() == {
        each.split("/")[1] for each in vj.CHECKPOINTS if each.endswith(("ssv2", "diving48"))
    }
    for name, reading in READINGS.items():
        diving, giant = name.endswith("diving48"), "vitg" in name
        assert (reading.pooler_heads, reading.pooler_eps) == (16, 1e-5)
        assert reading.segments == (4 if diving else 2)
        levels = (25, 30, 35, 40) if giant else (18, 20, 22, 24)
        assert reading.levels == (levels if diving else ())


def test_a_released_head_is_read_by_its_name(tmp_path, exact, monkeypatch):
    monkeypatch.setitem(READINGS, "vjepa2-vitl-fpc16-256-ssv2", GOLDEN_READINGS["ssv2"])
    folder = tmp_path / "vjepa2-vitl-fpc16-256-ssv2"
    shutil.copytree(GOLDEN_HEADS / "ssv2", folder)
    frames, case = golden_clip("ssv2")
    found = vj.classify(frames, folder)
    assert (found.logits - case["logits"]).abs().max() < 1e-5 * case["logits"].abs().max()


@pytest.mark.parametrize(
    "reading",
    [
        dict(pooler_heads=7),
        dict(pooler_heads=0),
        dict(pooler_eps=0.0),
        dict(levels=(3, 5)),
        dict(levels=(2, 2)),
        dict(levels=4),
        dict(segments=0),
        dict(step=1.5),
    ],
)
def test_readings_that_do_not_fit(reading):
    sentence = f"{next(iter(reading))}=.* does not fit ssv2: .* the 96 channels, .* from 1 to 4"
    with pytest.raises(ValueError, match=sentence):
        vj.classify(noise(4, 64, 64), GOLDEN_HEADS / "ssv2", reading=Reading(**reading))


@pytest.mark.parametrize("reading", ["facebook/vjepa2-vitl-fpc16-256-ssv2", 0, {}])
def test_a_reading_is_a_reading(reading):
    with pytest.raises(ValueError, match="reading must be a Reading, not"):
        vj.classify(noise(4, 64, 64), GOLDEN_HEADS / "ssv2", reading=reading)


@pytest.mark.parametrize(
    ("weights", "config", "sentence"),
    [
        (
            {"classifier.weight": (5, 96), "classifier.bias": (5,)},
            {},
            "such as classifier.bias, classifier.weight: its head does not fit .* 7 classes",
        ),
        ({}, {"num_pooler_layers": 2}, "its head does not fit config.json, which .* 2 blocks of"),
        ({}, {"num_pooler_layers": 4}, "16 missing weights, .*: its head does not fit"),
        (
            {"pooler.query_tokens": (1, 1, 64)},
            {},
            "mismatched weights, such as pooler.query_tokens: .* and 96 channels",
        ),
        (
            {},
            {"id2label": {str(i): "abcdefg"[i - 1] for i in range(1, 8)}},
            "must name the classes 0 to 6 in id2label of its config.json, and names 1, 2",
        ),
    ],
)
def test_heads_that_do_not_fit_their_configuration(weights, config, sentence, tmp_path):
    shutil.copytree(GOLDEN_HEADS / "ssv2", tmp_path / "head")
    file, about = tmp_path / "head" / "model.safetensors", tmp_path / "head" / "config.json"
    changed = {name: torch.zeros(shape) for name, shape in weights.items()}
    save_file(load_file(file) | changed, file, {"format": "pt"})
    about.write_text(json.dumps(json.loads(about.read_text()) | config))
    with pytest.raises(ValueError, match=sentence) as error:
        vj.classify(noise(4, 64, 64), tmp_path / "head")
    assert len(str(error.value).splitlines()) == 1


def test_what_cannot_fit_is_refused_before_it_starts(monkeypatch, exact):
    """Worked by hand: 2 segments of 2 steps of 4×4 patches, 4 levels of 4 segments of them; 12
    copies of 96 channels in float32."""
    for name, tokens in (("ssv2", 2 * 2 * 16), ("diving48", 4 * 4 * 2 * 16)):
        frames, _ = golden_clip(name)
        arguments = frames, GOLDEN_HEADS / name, 1, GOLDEN_READINGS[name]
        free = iter([12 * 96 * 4 * tokens, 12 * 96 * 4 * tokens - 1])
        monkeypatch.setattr(
            "vjepa_utils.model.devices.free_memory", lambda _, free=free: next(free)
        )
        vj.classify(*arguments)
        with pytest.raises(MemoryError, match=f"The {tokens} tokens of a view that {name} pools"):
            vj.classify(*arguments)


def test_frames_are_numbers_of_the_file_and_those_that_were_read(head, exact, monkeypatch):
    """A clip whose grey level is its frame number, from frame 6 on, every third."""
    video = vj.as_video(grey_levels(100, 64, 80, step=2))[6::3]
    seen = []
    pixels = Encoder.pixels

    def spy(self, frames, size):
        seen.append(frames[:, 0, 0, 0] / 2)
        return pixels(self, frames, size)

    monkeypatch.setattr(Encoder, "pixels", spy)
    classification = vj.classify(video, head[0])
    assert np.array_equal(classification.frames, seen)
    assert {*classification.frames.flat} <= {*video.indices}


def test_progress_counts_every_segment_and_view(monkeypatch, exact):
    seen = []

    class Bar:
        def __init__(self, total, **about):
            seen.append(total)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def update(self, done=1):
            seen.append(done)

    monkeypatch.setattr("vjepa_utils.actions.heads.tqdm", Bar)
    frames, _ = golden_clip("diving48")
    vj.classify(frames, GOLDEN_HEADS / "diving48", reading=GOLDEN_READINGS["diving48"])
    assert seen[0] == sum(seen[1:]) == 3 * 4


@pytest.mark.parametrize(
    ("total", "frames", "segments", "step", "expected"),
    [
        (20, 4, 2, 2, [[1, 3, 6, 8], [11, 13, 16, 18]]),  # 8 of each 10
        # overlap, 5 apart: a third of 7 each, then the end, and never the very last
        (
            13,
            4,
            2,
            2,
            [[0, 3, 6, 6], [5, 8, 11, 11]],
        ),
        (5, 4, 2, 2, [[0, 3, 3, 3], [0, 3, 3, 3]]),  # too short for one
        (1, 4, 2, 2, [[0, 0, 0, 0]] * 2),
    ],
)
def test_frames_of_segments(total, frames, segments, step, expected):
    assert segment_frames(total, frames, segments, step).tolist() == expected


def test_square_views():
    assert square_views(64, 100, 64) == ((64, 100), [(0, 0), (0, 18), (0, 36)])
    assert square_views(1280, 720, 256) == ((455, 256), [(0, 0), (99, 0), (198, 0)])
    assert square_views(300, 300, 64) == ((64, 64), [(0, 0)])


def test_an_untrained_head_says_so(tmp_path):
    about = json.loads((GOLDEN / "model" / "config.json").read_text())
    VJEPA2ForVideoClassification(VJEPA2Config(**about)).save_pretrained(tmp_path / "new")
    found = vj.classify(noise(4, 40, 40), tmp_path / "new")
    assert "The head is random: its biases are all zero" in found.remark
    assert found.table().endswith(found.remark) and len(found.labels) == 2


def toy(clips, seed, classes=("a", "b", "c"), spread=1.0):
    """Features in which three of eighteen tokens, anywhere, carry the class."""
    random, features, labels = torch.Generator().manual_seed(seed), [], []
    directions = 6 * torch.randn(len(classes), 64, generator=torch.Generator().manual_seed(9))
    for number in range(clips):
        values = spread * torch.randn(2, 3, 3, 64, generator=random)
        labels.append(classes[number % len(classes)])
        values.view(18, 64)[torch.randperm(18, generator=random)[:3]] += directions[
            number % len(classes)
        ]
        features.append(
            Features(values, torch.zeros(2, 2, dtype=torch.int64), 16, (48, 48), (48, 48), "toy")
        )
    return features, labels


def right(probe, features, labels):
    return np.mean([a == b for a, b in zip(probe.predict(features), labels, strict=True)])


@pytest.mark.parametrize("kind", ["attentive", "linear"])
def test_probes_learn_what_is_there_and_nothing_else(kind, tmp_path):
    features, labels = toy(90, 0)
    unseen = toy(60, 1)
    probe = vj.train_probe(features, labels, kind, size=48, context="pair")
    assert right(probe, *unseen) > (0.95 if kind == "attentive" else 0.6)
    # seeded
    assert torch.equal(
        vj.train_probe(features, labels, kind).logits(unseen[0]), probe.logits(unseen[0])
    )
    shuffled = np.random.default_rng(0).permutation(labels)
    _, low, high = accuracy([1] * 60, [1] * 20 + [0] * 40)
    assert low - 0.1 < right(vj.train_probe(features, shuffled, kind), *unseen) < high + 0.1
    probe.save(tmp_path / "probe.safetensors")
    loaded = vj.Probe.load(tmp_path / "probe.safetensors")
    assert torch.equal(loaded.logits(unseen[0]), probe.logits(unseen[0]))
    assert (loaded.kind, loaded.classes, loaded.encoder, loaded.size, loaded.context) == (
        kind,
        ["a", "b", "c"],
        "toy",
        48,
        "pair",
    )


@pytest.mark.parametrize("classes", [("a", "b"), ("a", "b", "c")])
def test_the_linear_probe_is_that_of_scikit_learn(classes):
    features, labels = toy(60, 0, classes)
    means = np.stack([each.values.mean((1, 2)).flatten().numpy() for each in features])
    scaler = StandardScaler().fit(means)
    expected = (
        LogisticRegression(C=0.1, max_iter=2000)
        .fit(scaler.transform(means), labels)
        .predict_proba(scaler.transform(means))
    )
    found = vj.train_probe(features, labels, "linear").logits(features).softmax(1).numpy()
    assert found == pytest.approx(expected, abs=1e-3)


def test_recordings_are_held_out_whole():
    """Every class on both sides, no recording on both; also where classes share recordings."""
    apart = [
        (c, f"{c}{i // n}") for c, n in (("a", 4), ("b", 1), ("c", 3)) for i in range(3 * n + 1)
    ]
    shared = [(c, f"person {i % 7}") for c in "abcd" for i in range(20)]
    for clips in (apart, shared):
        labels, recordings = (np.array(each) for each in zip(*clips, strict=True))
        for seed in range(20):
            seen, held = hold_out(labels, recordings, seed)
            assert sorted([*seen, *held]) == list(range(len(clips)))
            assert not {*recordings[seen]} & {*recordings[held]}
            assert {*labels[seen]} == {*labels[held]} == {*labels}
            assert 0.2 < len(held) / len(clips) < 0.5
        assert np.array_equal(
            hold_out(labels, recordings, 3)[1], hold_out(labels, recordings, 3)[1]
        )
        assert len({str(hold_out(labels, recordings, seed)[1]) for seed in range(20)}) > 2
    with pytest.raises(ValueError, match="class 'b' cannot be both .* their recordings is 1"):
        hold_out(["a", "a", "b", "b"], ["x", "y", "z", "z"])


def test_nothing_is_learnt_where_classes_are_given_to_recordings_at_random():
    """24 recordings of 4 clips nearly the same: with clips held out at random all is right."""
    random = np.random.default_rng(0)
    recordings = np.repeat(np.arange(24), 4)
    look = random.normal(size=(24, 1, 1, 1, 64)).repeat(2, 2)
    noisy = [
        torch.from_numpy(look[i] + random.normal(0, 0.05, look[i].shape)).float()
        for i in recordings
    ]
    about = dict(patch_size=16, picture_size=(32, 32), source_size=(32, 32), encoder="toy")
    features = [Features(values, torch.zeros(1, 2, dtype=torch.int64), **about) for values in noisy]
    scores = {"recordings": [], "clips": []}
    for seed in range(8):
        labels = random.permutation(["a", "b"] * 12)[recordings]
        for kind, groups in (("recordings", recordings), ("clips", range(96))):
            seen, held = hold_out(labels, groups, seed)
            probe = vj.train_probe([features[i] for i in seen], labels[seen], "linear")
            predicted = probe.predict([features[i] for i in held])
            scores[kind].append(accuracy(labels[held], predicted)[0])
    assert np.mean(scores["clips"]) > 0.95 and 0.35 < np.mean(scores["recordings"]) < 0.65


def test_the_interval_is_wilsons():
    # the ends by hand
    assert accuracy("aabbbbbbbb", "bbbbbbbbbb") == pytest.approx((0.8, 0.490, 0.943), abs=5e-4)


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_recordings_are_known_by_name_folder_or_column(tmp_path):
    names = ["Jump/v_Jump_g01_c01.avi", "Jump/v_Jump_g01_c02.avi", "Jump/v_Jump_g02_c01.avi"]
    names += ["Walk/a 3 times.mp4", "Walk/.hidden", "Walk/7.mp4", "Walk/stills/1.png"]
    touch(tmp_path / "named", *names)
    clips, known_by = labelled_clips(tmp_path / "named")
    assert known_by == "the part of the name before its last number"
    assert [(clip.clip.name, clip.value, clip.recording) for clip in clips] == [
        ("v_Jump_g01_c01.avi", "Jump", "v_Jump_g01_c"),
        ("v_Jump_g01_c02.avi", "Jump", "v_Jump_g01_c"),
        ("v_Jump_g02_c01.avi", "Jump", "v_Jump_g02_c"),
        ("7.mp4", "Walk", str(tmp_path / "named" / "Walk" / "7.mp4")),
        ("a 3 times.mp4", "Walk", "a "),
        ("stills", "Walk", "stills"),
    ]
    touch(tmp_path / "in folders", "a/anna/1.mp4", "a/ben/1.mp4", "b/anna/1.mp4", "b/ben/2.mp4")
    clips, known_by = labelled_clips(tmp_path / "in folders")
    assert known_by == "folder" and [c.recording for c in clips] == ["anna", "ben"] * 2
    touch(tmp_path / "numbered", "a/clip1.mp4", "a/clip2.mp4", "b/x.mp4", "b/y.mp4")
    clips, known_by = labelled_clips(tmp_path / "numbered")
    assert known_by == "clip" and len({clip.recording for clip in clips}) == 4
    table = tmp_path / "table.csv"
    table.write_text("label,path,recording\na,one.mp4,x\na,two.mp4,y\nb,in/three.mp4,x\n")
    clips, known_by = labelled_clips(table)
    assert known_by == "the column recording"
    assert clips[2][:3] == (tmp_path / "in" / "three.mp4", "b", "x")
    table.write_text("clip,class\none.mp4,a\n")
    with pytest.raises(ValueError, match="needs a first line with the columns path and label"):
        labelled_clips(table)


def test_a_copy_under_another_name_is_told(tmp_path):
    """By what it shows, compressed again; other frames of the same clip are other frames."""
    encoder = vj.load_encoder("vjepa2-demo", device="cpu", dtype=torch.float32)
    clips = [
        vj.read_video(ROOT / "videos" / f"{n}.mp4", count=40) for n in ("monkey", "kitesurfing")
    ]
    copy = vj.read_video(write_video(tmp_path / "copy.mp4", clips[0].frames))
    clips = [clips[0][:20], clips[0][20:], *clips, copy, copy[:20]]
    features = [vj.probing.classes.clip_features(clip, encoder, 64) for clip in clips]
    same = showing_the_same([each.values.mean((1, 2)) for each in features])
    pairs = {(i, j) for i, j in np.argwhere(same).tolist() if i < j}
    assert pairs == {(0, 2), (0, 4), (0, 5), (2, 4), (2, 5), (4, 5)} and same.diagonal().all()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda x, y: (x, y[1:]),
            "labels must name the class of each of the 6 clips, .*: there are 5",
        ),
        (lambda x, y: (x, ["a"] * 6), r"at least two classes: .* of the classes \['a'\]"),
        (
            lambda x, y: ([*x[:5], x[5][:1]], y),
            r"of one shape, \(2, 3, 3, 64\), not of toy and \(1, 3, 3, 64\): encode",
        ),
        (lambda x, y: ([], []), "at least two classes"),
    ],
)
def test_features_and_labels_that_do_not_match(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        vj.train_probe(*change(*toy(6, 0)))


def test_classes_are_those_of_the_configuration_in_any_order(tmp_path, exact):
    shutil.copytree(GOLDEN_HEADS / "ssv2", tmp_path / "head")
    file = tmp_path / "head" / "config.json"
    about = json.loads(file.read_text())
    about["id2label"] = {str(i): f"class {i}" for i in (3, 0, 6, 5, 1, 2, 4)}
    file.write_text(json.dumps(about))
    frames, case = golden_clip("ssv2")
    classified = vj.classify(frames, tmp_path / "head", 7, GOLDEN_READINGS["ssv2"])
    assert classified.labels == [
        f"class {i}" for i in case["probabilities"].argsort(descending=True)
    ]


def test_a_probe_reads_a_clip_as_those_it_learnt_from(tiny):
    """Its size and context, and the file's numbers of frames; classes that come unsorted."""
    video = vj.as_video(noise(40, 32, 48))[3::2]
    features = [
        vj.probing.classes.clip_features(video[i : i + 9], tiny, 32, "frame") for i in range(6)
    ]
    probe = vj.train_probe(features, [*"cabbca"], "linear", tiny, 32, "frame")
    assert probe.predict(features) == [*"cabbca"]
    again = probe.classify(video, tiny, top=3)
    expected = probe.logits([vj.probing.classes.clip_features(video, tiny, 32, "frame")])
    assert torch.equal(again.logits, expected)
    assert again.labels == ["abc"[i] for i in expected[0].argsort(descending=True)]
    chosen = np.linspace(0, len(video) - 1, 8).round().astype(int)
    assert np.array_equal(again.frames, video.indices[chosen][None])


def test_the_command_asks_about_clips_that_it_did_not_train_on(folder, command, monkeypatch):
    """Every clip is known by its mean: none of those asked about is among those trained on."""
    trained, asked = [], []
    mean = lambda clips: [float(clip.values.mean()) for clip in clips]
    train, predict = vj.train_probe, vj.Probe.predict
    spy = lambda clips, *rest, **named: trained.extend(mean(clips)) or train(clips, *rest, **named)
    monkeypatch.setattr(vj, "train_probe", spy, raising=False)
    spied = lambda self, clips: asked.extend(mean(clips)) or predict(self, clips)
    monkeypatch.setattr(vj.Probe, "predict", spied)
    status, *_ = command("probe", folder, "--encoder", GOLDEN / "model", "--size", "32")
    assert status == 0 and len(trained) == 2 * 5 and len(asked) == 2 * 3
    assert len({*trained, *asked}) == 8 and not {*trained} & {*asked}


def test_features_of_another_encoder():
    features, labels = toy(6, 0)
    probe = vj.train_probe(features, labels, "linear")
    features[0].encoder = "other"
    with pytest.raises(ValueError, match="must be of toy and .* not of other"):
        probe.predict(features)
    with pytest.raises(ValueError, match='kind must be "attentive" or "linear"'):
        vj.train_probe(features, labels, "deep")


def test_a_probe_refuses_other_weights_and_takes_the_same_in_another_dtype(tiny):
    video = noise(8, 32, 32)
    features = [vj.probing.classes.clip_features(video[i:], tiny, 32) for i in range(4)]
    probe = vj.train_probe(features, ["a", "a", "b", "b"], "linear", tiny, size=32)
    assert sum(probe.classify(video, tiny).probabilities) == pytest.approx(1)
    half = vj.load_encoder(GOLDEN / "model", device="cpu", dtype=torch.bfloat16)
    assert half.fingerprint == tiny.fingerprint == probe.fingerprint
    torch.manual_seed(0)
    model = vj.load_encoder(GOLDEN / "model", device="cpu", dtype=torch.float32).model
    with torch.no_grad():
        model.encoder.layer[1].mlp.fc1.bias[3] += 1
    with pytest.raises(
        ValueError, match="The probe was trained on other weights than those of model"
    ):
        probe.classify(video, Encoder(model, tiny.name, tiny.mean, tiny.std))


@pytest.fixture
def folder(tmp_path):
    """Bright clips and dark ones, and a file that is no clip."""
    for name, level in (("bright", 200), ("dark", 20)):
        (tmp_path / "clips" / name).mkdir(parents=True)
        for number in range(4):
            write_video(
                tmp_path / "clips" / name / f"{number}.mp4",
                grey_levels(6, step=2) + level + 4 * number,
            )
    (tmp_path / "clips" / "dark" / "broken.mp4").write_text("no clip")
    return tmp_path / "clips"


@pytest.fixture
def command(capsys):
    """The command line in this process: its exit status or message, standard output and errors."""

    def run(*words):
        status = 0
        try:
            main([str(word) for word in words])
        except SystemExit as stopped:
            status = stopped.code
        return status, *capsys.readouterr()

    return run


def test_probe_and_classify_as_commands(folder, tmp_path, command):
    file = tmp_path / "p.safetensors"
    status, said, warned = command(
        "probe",
        folder,
        "--encoder",
        GOLDEN / "model",
        "--size",
        "32",
        "--save",
        file,
        "-o",
        tmp_path / "p.png",
    )
    assert (
        status == 0
        and "skipped: " in warned
        and "broken.mp4" in warned
        and (tmp_path / "p.png").exists()
    )
    assert (
        "attentive probe: 100% of 3 held-out clips right (95 %: 44% to 100%)" in said
        and "held out by the part of the name before its last number: 3 of 8\n" in said
        and "1 of the files skipped" in said
    )
    words = ["--probe", file, "--encoder", GOLDEN / "model", "-o", tmp_path / "c.png"]
    status, said, _ = command("classify", folder / "dark" / "2.mp4", *words)
    assert (
        status == 0
        and said.startswith("dark")
        and "attentive probe on model, 2 classes; frames 0 to 5." in said
    )
    assert (tmp_path / "c.png").exists()


def test_classify_as_a_command(head, folder, command):
    status, said, _ = command(
        "classify", folder / "dark" / "2.mp4", "--checkpoint", head[0], "--top", "2"
    )
    assert status == 0 and len(said.splitlines()) == 3 and "something]" in said


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["classify", "{clip}", "--checkpoint", str(GOLDEN / "model")],
            "model has no classification head",
        ),
        (["classify", "{clip}", "--probe", "{clip}"], "is no probe file"),
        (["probe", "{one}"], "needs clips of at least two classes"),
        (
            ["probe", "{single}"],
            "Clips of the class 'b' cannot be both trained on and held out, as the number of their "
            "recordings is 1: add clips of others",
        ),
        (["probe", "{single}", "-o", "out.txt"], "-o must end in .png"),
        (
            ["classify", "{clip}", "--checkpoint", "x", "--encoder", "y"],
            "--encoder goes with --probe",
        ),
    ],
)
def test_bad_input_ends_in_one_sentence(folder, tmp_path, words, sentence, command):
    clip = folder / "dark" / "2.mp4"
    for place, name in (("one", "a"), ("single", "a"), ("single", "b")):
        (tmp_path / place / name).mkdir(parents=True)
        for number in range(1 if name == "b" else 2):
            (tmp_path / place / name / f"{number}.mp4").write_bytes(clip.read_bytes())
    (tmp_path / "single" / "b" / "text.mp4").write_text("no clip")
    places = dict(clip=clip, one=tmp_path / "one", single=tmp_path / "single")
    status, *_ = command(
        *(word.format(**places) for word in words),
        *(["--size", "32"] if words[0] == "probe" else []),
    )
    assert status.startswith("error: ") and sentence in status and len(status.splitlines()) == 1


@pytest.fixture(scope="module")
def bank():
    return textures(20, torch.Generator().manual_seed(0), photographs(tuple(HELD_OUT_PHOTOS)))


def centre(mask):
    return np.argwhere(mask).mean(0)[::-1]  # x, y


@pytest.mark.parametrize("name", SWEEPS)
def test_masks_move_as_the_class_says(bank, name):
    """Medians over nine clips, as objects may leave the picture or hide each other."""
    random, found = torch.Generator().manual_seed(3), []
    for _ in range(9):
        _, masks = motion(name, random, bank, side=48)
        apart = [
            np.linalg.norm(centre(m == 1) - centre(m == 2))
            if (m == 1).any() and (m == 2).any()
            else np.nan
            for m in masks
        ]
        first, last = masks[0] == 2, masks[-1] == 2  # the upper object, hidden by none
        if not (first.any() and last.any()):
            continue
        angles = [axis_of(mask) for mask in (masks == 2)[[0, 1, 2, 3]]]
        turned = np.unwrap(angles, period=np.pi)[-1] - angles[0]
        found.append(
            (
                *centre(last) - centre(first),
                np.log(last.sum() / first.sum()),
                turned,
                apart[-1] - apart[0],
            )
        )
    x, y, grown, turned, parted = np.nanmedian(found, 0)
    expected = {
        "left": x < -10,
        "right": x > 10,
        "up": y < -10,
        "down": y > 10,
        "nearing": grown > 0.4,
        "receding": grown < -0.4,
        # fmt: skip
        "clockwise": turned > 0.5,
        "counter-clockwise": turned < -0.5,
        "parting": parted > 5,
        "meeting": parted < -5,
    }
    assert name not in expected or expected.pop(name)
    if name not in ("passing behind", "camera moving"):
        assert not any(expected.values())


def test_one_passes_behind_the_other_and_a_camera_moves_all(bank):
    random, dips, apart, moved = torch.Generator().manual_seed(3), [], [], []
    for _ in range(9):
        _, masks = motion("passing behind", random, bank, side=64)
        seen = (masks == 1).sum((1, 2))  # of the lower object
        dips.append(seen[3:5].min() < 0.8 * max(seen[0], seen[-1]))
        _, masks = motion("camera moving", random, bank, side=64)
        whole = [n for n in range(8) if (masks[n] == 1).any() and (masks[n] == 2).any()]
        ways = (
            [centre(masks[whole[-1]] == n) - centre(masks[whole[0]] == n) for n in (1, 2)]
            if len(whole) > 1
            else [(np.nan, np.nan)] * 2
        )
        apart.append(np.linalg.norm(np.subtract(*ways)))
        moved.append(np.linalg.norm(ways[1]))
    assert (
        np.mean(dips) > 0.6
        and np.nanmedian(apart) < 0.5 * np.nanmedian(moved)
        and np.nanmedian(moved) > 6
    )


def axis_of(mask):
    """Angle of the long axis, clockwise on a screen whose y goes down."""
    places = np.argwhere(mask)[:, ::-1] - centre(mask)
    axis = np.linalg.eigh(places.T @ places)[1][:, 1]
    return np.arctan2(axis[1], axis[0])


def test_motions_are_seeded_and_backwards_is_the_twin(bank):
    clips = [
        [clip for _, clip, _ in motions(1, seed, ("left", "meeting"), frames=2, side=48)]
        for seed in (4, 4, 5)
    ]
    assert np.array_equal(clips[0], clips[1]) and not np.array_equal(clips[0], clips[2])
    assert all(BACKWARDS[BACKWARDS[name]] == name for name in SWEEPS)
    _, masks = motion("left", torch.Generator().manual_seed(3), bank, frames=16)
    assert (
        centre(masks[::-1][-1] > 0)[0] > centre(masks[::-1][0] > 0)[0] + 15
        and BACKWARDS["left"] == "right"
    )


def test_a_frame_at_random_says_nothing(bank):
    """What a frame shows of the objects, position and size, has one distribution in all classes."""
    random, seen = torch.Generator().manual_seed(0), {}
    for name in ("left", "right", "nearing", "camera moving"):
        values = []
        for _ in range(40):
            _, masks = motion(name, random, bank, frames=16, side=32)
            values += [
                [*centre(mask > 0), (mask > 0).sum() ** 0.5] for mask in masks if (mask > 0).any()
            ]
        seen[name] = np.array(values)
    spread = np.concatenate([*seen.values()]).std(0)
    for values in seen.values():
        assert np.all(abs(values.mean(0) - seen["left"].mean(0)) < 0.4 * spread) and np.all(
            abs(values.std(0) / spread - 1) < 0.25
        )


def test_a_motion_as_a_file(tmp_path, bank):
    frames, _ = motion("left", torch.Generator().manual_seed(3), bank, side=64)
    vj.drawing.write_film(frames, tmp_path / "m.mp4", rate=24)
    assert np.abs(vj.read_video(tmp_path / "m.mp4").frames.astype(int) - frames).mean() < 4


def test_a_clip_that_breaks_between_the_frames_taken(clips, tiny, monkeypatch):
    monkeypatch.setattr("vjepa_utils.video.DECODE_AT_ONCE", 0)
    video = vj.read_video(clips / "formats" / "corrupted_midstream.mp4")
    with pytest.raises(ValueError, match="damaged at frame 28"):
        vj.probing.classes.clip_features(video, tiny, 64)


def test_released_heads_are_sampled_as_the_reference_samples_them():
    """Segments of the clip and frame step, from configs/inference of facebookresearch/vjepa2."""
    sampling = {name: (reading.segments, reading.step) for name, reading in READINGS.items()}
    assert sampling == {
        "vjepa2-vitl-fpc16-256-ssv2": (2, 4),
        "vjepa2-vitg-fpc64-384-ssv2": (2, 2),
        "vjepa2-vitl-fpc32-256-diving48": (4, 2),
        "vjepa2-vitg-fpc32-384-diving48": (4, 2),
    }
    assert (Reading().segments, Reading().step) == (2, 4)  # of heads that are not listed
