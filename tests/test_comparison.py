"""Image encoders against transformers' own modules, and what compares encoders, on cases worked by
hand.
"""

import json
from functools import partial

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score

import benchmarks.compare_encoders as table
import vjepa_utils as vj
from benchmarks import pages
from benchmarks.baselines import PatchColours
from tests.conftest import GOLDEN, grey_levels, write_video
from tests.test_colours import features
from vjepa_utils.__main__ import main
from vjepa_utils.segmentation.propagation import boundary_agreement, overlap

FRAMES = np.random.default_rng(0).integers(0, 256, (3, 60, 90, 3), np.uint8)
KINDS = {  # random weights in the format of the released checkpoints
    "Dinov2": dict(patch_size=14, image_size=70, layerscale_value=1.0),
    "Dinov2WithRegisters": dict(
        patch_size=14,
        image_size=70,
        num_register_tokens=4,
        layerscale_value=1.0,
        use_swiglu_ffn=True,
    ),
    "DINOv3ViT": dict(
        patch_size=16,
        image_size=64,
        num_register_tokens=4,
        intermediate_size=128,
        use_gated_mlp=True,
    ),
}


@pytest.fixture(scope="module", params=KINDS)
def stock(request, tmp_path_factory):
    """A transformers model, and the folder it is saved in."""
    torch.manual_seed(0)
    sizes = KINDS[request.param] | dict(hidden_size=48, num_hidden_layers=3, num_attention_heads=3)
    config = getattr(transformers, f"{request.param}Config")(**sizes)
    model = getattr(transformers, f"{request.param}Model")(config)
    for (
        name,
        parameter,
    ) in (
        model.named_parameters()
    ):  # with the usual small weights attention is uniform, and no error shows
        if "q_proj.weight" in name or "k_proj.weight" in name:
            parameter.data *= 12
    folder = tmp_path_factory.mktemp(request.param) / "image-model"
    model.eval().save_pretrained(folder)
    about = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.25, 0.3]}
    (folder / "preprocessor_config.json").write_text(json.dumps(about))
    return model, folder


def test_features_are_the_patch_tokens_of_transformers(stock):
    model, folder = stock
    encoder = vj.load_encoder(folder, device="cpu", dtype=torch.float32)
    rows, columns = 3, 5  # no square, and not the grid of training
    frames = FRAMES[:, : rows * encoder.patch_size, : columns * encoder.patch_size]
    pixels = torch.tensor(frames / 255, dtype=torch.float32).permute(0, 3, 1, 2)
    pixels = (pixels - torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1)) / torch.tensor(
        [0.2, 0.25, 0.3]
    ).view(3, 1, 1)
    blocks, layers = [], (getattr(model, "encoder", None) or model.model).layer
    watch = [
        block.register_forward_hook(lambda *given: blocks.append(given[-1])) for block in layers
    ]
    with torch.no_grad():
        whole = model(pixels).last_hidden_state  # (3, 1 + registers + patches, channels)
    for hook in watch:
        hook.remove()
    skip = 1 + getattr(model.config, "num_register_tokens", 0)
    grid = lambda x: x[:, skip:].unflatten(1, (rows, columns))
    size = (rows * encoder.patch_size, columns * encoder.patch_size)
    found = encoder.encode(frames, size=size)
    assert found.grid == (3, rows, columns) == encoder.grid(
        frames, size=size
    ) and found.frames.tolist() == [[0, 0], [1, 1], [2, 2]]
    assert torch.allclose(found.values, grid(whole), atol=1e-5)
    assert torch.allclose(
        encoder.encode(frames, size=size, layer=2).values, grid(blocks[1]), atol=1e-5
    )
    pairs = encoder.encode(frames, "pair", size)
    assert pairs.frames.tolist() == [[0, 1], [2, 2]]
    assert torch.allclose(
        pairs.values, torch.stack([grid(whole)[:2].mean(0), grid(whole)[2]]), atol=1e-5
    )


def test_a_repainted_patch_moves_its_own_feature_most(stock):
    encoder = vj.load_encoder(stock[1], device="cpu", dtype=torch.float32)
    side = encoder.patch_size
    frame = np.full((1, 3 * side, 5 * side, 3), 90, np.uint8)
    before = encoder.encode(frame, size=(3 * side, 5 * side)).values
    for row, column in ((0, 3), (2, 1)):
        painted = frame.copy()
        painted[:, row * side : (row + 1) * side, column * side : (column + 1) * side] = FRAMES[
            :1, :side, :side
        ]
        moved = (encoder.encode(painted, size=(3 * side, 5 * side)).values - before).norm(dim=-1)[0]
        assert moved.argmax() == row * 5 + column


def test_what_an_image_encoder_cannot_do(stock):
    encoder = vj.load_encoder(stock[1], dtype=torch.float32)
    # 16 patches, whatever their size and that of the training pictures
    assert encoder.grid(FRAMES) == (
        3,
        16,
        24,
    )
    for context in ("clip", 4, 3):
        with pytest.raises(ValueError, match='image encoder .* context must be "frame" or "pair"'):
            encoder.encode(FRAMES, context)
    with pytest.raises(ValueError, match="has no predictor"):
        encoder.recover(FRAMES, np.ones((3, 16, 24), bool))


def test_a_gated_checkpoint_says_how_to_get_access(monkeypatch):
    import httpx
    from huggingface_hub.errors import GatedRepoError

    def refuse(name, local_files_only=False, **_):
        if local_files_only:
            raise OSError
        raise GatedRepoError(
            "403",
            response=httpx.Response(403, request=httpx.Request("GET", "https://huggingface.co")),
        )

    monkeypatch.setattr("vjepa_utils.weights.checkpoints.snapshot_download", refuse)
    with pytest.raises(
        ValueError,
        match="is gated.* https://huggingface.co/facebook/dinov3-vits16-.* .*hf auth login",
    ):
        vj.load_encoder("facebook/dinov3-vits16-pretrain-lvd1689m")


def test_one_grid_whatever_the_patch(tiny, stock):
    other = vj.load_encoder(stock[1], dtype=torch.float32)
    found = vj.comparison.on_one_grid([tiny, other], FRAMES, 64)
    assert {name: f.grid for name, f in found.items()} == {
        "model": (2, 4, 6),
        "image-model": (2, 4, 6),
    }
    assert all(
        f.picture_size == (4 * f.patch_size, 6 * f.patch_size)
        and f.frames.tolist() == [[0, 1], [2, 2]]
        for f in found.values()
    )
    with pytest.raises(ValueError, match="model is named twice"):
        vj.comparison.on_one_grid([tiny, tiny], FRAMES)


def test_matched_colours_of_the_same_thing_are_the_same():
    """Channels of scale 3, 2, 1 against the same ones permuted, negated and scaled so that their
    order is another.
    """
    x = np.random.default_rng(0).normal(size=(40, 3))
    # three channels that do not correlate
    values = np.linalg.qr(x - x.mean(0))[0].reshape(2, 4, 5, 3) * [
        3,
        2,
        1,
    ]
    ours, theirs = features(values), features(values[..., [2, 0, 1]] * [-9, 1, 1])
    first, second = vj.PCAColours().fit(ours), vj.PCAColours().fit(theirs)
    assert not np.allclose(first.colours(ours), second.colours(theirs), atol=0.1)
    shares = sorted(second.explained_variance_ratio)
    before = second.colours(theirs)
    matched = second.match(theirs, first, ours)
    assert np.array_equal(second.colours(theirs), before) and not hasattr(second, "matched")
    second = matched
    assert np.allclose(first.colours(ours), second.colours(theirs), atol=1e-4)
    assert (
        second.matched == pytest.approx([1, 1, 1], abs=1e-4)
        and sorted(second.explained_variance_ratio) == shares
    )
    # the largest of theirs shows what our third does
    assert second.explained_variance_ratio.argmax() == 2
    with pytest.raises(ValueError, match="on one grid only"):
        second.match(theirs[:1], first, ours)


def test_similarity_is_the_cosine_with_the_token_under_the_point():
    values = np.zeros((2, 2, 2, 2))
    values[..., 0] = 1
    values[1, 1, 0] = 3, 3  # 45 degrees from all others
    # step 1 covers frames 2 and 3; the upper right patch
    alike = vj.comparison.similarity(features(values), (79, 1), 2)
    assert alike == pytest.approx(np.array([[[1, 1], [1, 1]], [[1, 1], [0.5**0.5, 1]]]))
    with pytest.raises(
        ValueError, match="Frame 4 is not among the 4 frames that were encoded, from 0 to 3."
    ):
        vj.comparison.similarity(features(values), (0, 0), 4)
    with pytest.raises(ValueError, match="outside the picture"):
        vj.comparison.similarity(features(values), (81, 0), 0)


# The command line


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return str(
        write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", grey_levels(8, 64, 96, 20))
    )


def test_compare_and_similarity_draw_a_row_for_each_encoder(clip, stock, tmp_path, capsys):
    encoders = [
        "--encoders",
        str(GOLDEN / "model"),
        str(stock[1]),
        "--size",
        "64",
        "--start",
        "1",
        "--every",
        "2",
    ]
    for command in (["compare"], ["similarity", "--point", "40,20.5", "--frame", "5"]):
        main([command[0], clip, *command[1:], *encoders, "-o", str(tmp_path / "out.png")])
        assert "model, image-model" in capsys.readouterr().out
        with Image.open(tmp_path / "out.png") as picture:
            assert 0.5 < picture.width / picture.height < 1.2  # two steps of three pictures, 3:2


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["compare", "{clip}", "-o", "out.mp4"], "-o must end in .png"),
        (
            ["compare", "{clip}", "--encoders", "nobody", "-o", "out.png"],
            "There is no encoder 'nobody'",
        ),
        (
            ["similarity", "{clip}", "--point", "200,3", "-o", "out.png"],
            "lies outside the picture, which is 96×64",
        ),
        (
            ["similarity", "{clip}", "--point", "2,3", "--frame", "9", "-o", "out.png"],
            "Frame 9 is not in this clip",
        ),
    ],
)
def test_bad_input_ends_in_one_sentence(clip, words, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    encoder = [] if "--encoders" in words else ["--encoders", str(GOLDEN / "model"), "--size", "32"]
    with pytest.raises(SystemExit, match=sentence):
        main([*(word.format(clip=clip) for word in words), *encoder])
    assert not list(tmp_path.iterdir())


# The table


def test_overlap_and_boundary_agreement():
    """A square of 10×10 pixels against the same moved by 4: 60 pixels in both, 140 in either.

    A line has 11 pixels above, 11 below and 9 on each side. Within 2 pixels of the other line lie,
    above and below, the 7 that are on it and the 2 next to those; of one side none, of the other
    the 2 nearest to each of its ends: 22 of 40.
    """
    a, b = np.zeros((100, 100), bool), np.zeros((100, 100), bool)
    a[40:50, 40:50], b[40:50, 44:54] = True, True
    assert overlap(a, b) == 60 / 140 and overlap(a & ~a, b & ~b) == 1
    assert (
        boundary_agreement(a, a) == 1 == boundary_agreement(a & ~a, b & ~b)
        and boundary_agreement(a, b & ~b) == 0
    )
    # rounded up: 2 pixels
    assert boundary_agreement(a, b, reach=1.9 / 141.5) == pytest.approx(22 / 40)
    assert boundary_agreement(a, b, reach=4 / 141.5) == 1  # no point is farther than 4


SCENE = np.array([0, 0, 0, 1, 1, 1, 1, 2, 2])


def test_area_within_scenes_by_hand():
    """Scene 0 has 1.5 of its 2 pairs right, scene 1 has 2 of 4, scene 2 nothing that moves; between
    scenes the predictions are reversed, which must not count.
    """
    truth = np.array([1, 0, 0, 1, 1, 0, 0, 0, 0], bool)
    guess = np.array([2, 1, 2, -5, -8, -6, -7, 90, 91.0])
    assert table.area_within(truth, guess, SCENE) == pytest.approx((0.75 + 0.5) / 2)
    assert np.isnan(table.area_within(truth & False, guess, SCENE))


def test_explained_share_by_hand():
    """Half of the error that the mean leaves, over both axes; no number where nothing moves."""
    truth = np.array([[1, 3], [-1, 5], [1, 3], [-1, 5.0]])  # 4 a column, around 0 and 4
    guess = np.array([[1, 4], [-1, 4], [1, 4], [-1, 4.0]])  # all of the first, none of the other
    assert table.explained(truth, guess) == pytest.approx(0.5)
    still = np.zeros(len(SCENE))
    with np.errstate(invalid="ignore"):
        assert np.isnan(table.explained(still, still))


def test_probes_are_fitted_on_each_draw_and_measured_on_the_next(monkeypatch):
    """Draw k's features are its truth times k: the slope fitted on one is wrong for the next."""
    random, asked = np.random.default_rng(0), []

    def gathered(encode, control, count, seed):
        asked.append((count, seed))
        truth = random.normal(size=(200, 2))
        return {"direction": (truth * len(asked), truth, np.repeat(np.arange(count), 20))}

    monkeypatch.setattr(table, "gather", gathered)
    value, spread = table.probes(None, False, each=10, draws=3)["direction"]
    shares = [1 - (k / at - 1) ** 2 for at, k in ((1, 2), (2, 3), (3, 1))]
    assert asked == [(10, 2), (10, 3), (10, 4)]
    assert value == pytest.approx(np.mean(shares), abs=0.03)
    assert spread == pytest.approx(np.std(shares), abs=0.03)


def test_probes_see_motion_and_not_the_scene():
    """Each scene has an appearance and a share of patches that move. What encodes appearance alone
    is at chance, what encodes motion is not.
    """
    random, scene = np.random.default_rng(0), np.repeat(np.arange(40), 30)
    first, other = scene < 20, scene >= 20
    flow = random.normal(size=(len(scene), 2))
    share = random.normal(size=40)[scene]
    moving = flow[:, 0] > share
    look = np.hstack([share[:, None], random.normal(size=(40, 8))[scene]])
    look += 1e-3 * random.normal(size=look.shape)  # or else the features have no deviations

    def measured(features, truth, score, within):
        probe = table.fitted(features[first], truth[first], scene[first], within)
        guess = probe.predict(features[other]).reshape(truth[other].shape)
        return score(truth[other], guess)

    pooled = Ridge().fit(look[first], moving[first]).predict(look[other])
    assert roc_auc_score(moving[other], pooled) > 0.6  # what the scenes reveal
    within = partial(table.area_within, scene=scene[other])
    assert abs(measured(look, moving, within, True) - 0.5) < 0.06
    # what holds in one scene only must not be learnt from it
    x = random.normal(size=(len(scene), 10))
    chance = table.deviations((x * random.normal(size=(40, 10))[scene]).sum(1), first)
    assert abs(measured(x, chance, table.explained, False)) < 0.01
    told = np.hstack([look, flow])
    assert measured(told, flow, table.explained, False) > 0.95
    assert measured(told, moving, within, True) > 0.9


def test_a_row_is_measured_once(tmp_path, monkeypatch):
    """And again with other options."""
    calls = []
    monkeypatch.setattr(table, "measure", lambda *_, **options: calls.append(options) or {"J": 1})
    for frames in (3, 3, 4):
        assert table.measured((str(GOLDEN / "model"), "weights"), {"frames": frames}, tmp_path) == {
            "J": 1
        }
    assert [options["frames"] for options in calls] == [3, 4]


def test_rows_and_what_they_must_beat(tiny, tmp_path):
    """A label for each encoder, random weights once for a kind; – where there is no number."""
    rows = table.beside([f"first={GOLDEN / 'model'}", f"second={GOLDEN / 'model'}"])
    assert [*rows] == ["first", "second", "random weights, video", "mean colours", "4×4 colours"]
    assert rows["second"] == (str(GOLDEN / "model"), "weights") and rows["4×4 colours"][1] == 4
    numbers = {"moving": (0.5, 0.01), "place": (0.25, None)}
    text = table.report({"a": numbers | {"J, scenes": (1, 0)}, "b": numbers}, "About.")
    assert "| b | – |" in text and "| b | 0.500 ± 0.010 | 0.250 | – |" in text


@pytest.mark.slow
def test_numbers_of_colours(tiny):
    """Mean colours encode neither place nor motion; few scenes, so loose bounds."""
    measured = table.measure(PatchColours(tiny), each=5, draws=2, clips=2)
    assert (
        measured["direction, control"][0] < 0.1
        and abs(measured["place"][0]) < 0.2
        and 0 <= measured["J, scenes"][0] <= 1
    )


def test_tables_are_written_into_their_place(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- one -->\nold\n<!-- /one -->\n<!-- two -->\n<!-- /two -->\nb")
    pages.publish({"two": "2", "one": pages.table(["", "J"], [["x", "0.5"]])}, page)
    new = "a\n<!-- one -->\n|  | J |\n| --- | --- |\n| x | 0.5 |\n\n<!-- /one -->\n"
    assert page.read_text() == new + "<!-- two -->\n2\n\n<!-- /two -->\nb"
    with pytest.raises(ValueError, match="<!-- three -->"):
        pages.write_between(page, "three", "")
    page.write_text("<!-- /one --> <!-- one -->")
    with pytest.raises(ValueError, match="after it"):
        pages.write_between(page, "one", "")


def test_a_folder_that_is_no_davis(tmp_path):
    with pytest.raises(ValueError, match="is no DAVIS-2017 folder"):
        table.sequences(str(tmp_path))
