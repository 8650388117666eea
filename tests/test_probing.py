"""Probes of layers: planted quantities are found, their controls are not; folds and bad input."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import vjepa_utils as vj
from tests.conftest import GOLDEN, write_video
from vjepa_utils.probing import Target, layers, read_targets
from vjepa_utils.recovery import edit

ANGLES = np.linspace(0, 2 * np.pi, 16, endpoint=False)[np.random.default_rng(1).permutation(16)]


@pytest.fixture(scope="module", autouse=True)
def few():
    """Few strengths and resamples: the tests are quick."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layers, "STRENGTHS", [1, 100, 1e5])
        patch.setattr(layers, "RESAMPLED", 30)
        yield


def noise(seed, frames=4):
    return np.random.default_rng(seed).integers(0, 256, (frames, 32, 48, 3), np.uint8)


def coloured(angle, seed):
    """A clip whose mean red and green are sine and cosine of an angle."""
    random = np.random.default_rng(seed)
    texture = random.uniform(-30, 30, (1, 32, 48, 3))
    means = 128 + 90 * np.array([np.sin(angle), np.cos(angle), 0])
    texture -= texture.mean((0, 1, 2))
    return (means + texture).round().astype(np.uint8).repeat(4, 0)


@pytest.fixture(scope="module")
def planted(tiny):
    """Clips, targets that are a linear function of the tokens of block 2, and their probes."""
    weights = torch.randn(96, generator=torch.Generator().manual_seed(3))
    targets = []
    for seed in range(16):
        features = tiny.encode(noise(seed), layer=2, size=32)
        clip = vj.as_video(noise(seed))
        for step, row, column in np.ndindex(features.grid):
            value = float(features.values[step, row, column] @ weights)
            point = features.centre_of(row, column)
            targets.append(Target(clip, value, str(seed), frame=2 * step, point=point))
    return targets, vj.probe(targets, tiny, layers=[2, None], size=32)


def test_a_planted_quantity_is_found_and_its_controls_are_not(planted):
    _, probes = planted
    assert probes.scores[2][0] > 0.99 and probes.scores[2][1] > 0.98
    assert all(abs(probes.controls["target shuffled"][k][0]) < 0.1 for k in (2, None))
    assert probes.controls["random weights"][2][0] < probes.scores[2][0] - 0.1
    assert probes.counts == (192, 16)
    lines = probes.table().splitlines()
    assert lines[1].startswith("2 ") and f"{probes.scores[2][0]:.2f}" in lines[1]
    assert lines[2].startswith("norm") and "192 targets in 16 recordings" in lines[3]


def test_the_curves_are_the_scores(planted):
    _, probes = planted
    figure = probes.figure()
    curves = {line.get_label(): line.get_ydata() for line in figure.axes[0].lines}
    expected = {"model": probes.scores, **probes.controls}
    assert curves.keys() == expected.keys()
    for name, scores in expected.items():
        assert curves[name].tolist() == [value for value, *_ in scores.values()]
    bands = [band.get_paths()[0].vertices[:, 1] for band in figure.axes[0].collections]
    assert bands[0].min() == min(low for _, low, _ in probes.scores.values())


def test_a_push_along_the_direction_raises_the_answer_most(planted, tiny):
    targets, probes = planted
    direction, tokens = probes.direction(2), tiny.encode(noise(50), layer=2, size=32).values[0, 0]
    assert float(direction.norm()) == pytest.approx(1)
    raised = lambda by: (probes.predict(tokens + by, 2) - probes.predict(tokens, 2)).mean()
    others = F.normalize(torch.randn(20, 96, generator=torch.Generator().manual_seed(0)), dim=1)
    assert raised(direction) > max(abs(raised(other)) for other in others)
    assert raised(-2 * direction) == pytest.approx(-2 * raised(direction), rel=1e-3)


@pytest.mark.filterwarnings("ignore:.*mask tokens")
def test_edits_are_pushed_along_a_probe_and_read_by_it(planted, tiny):
    """The answer to the predictions is that of the regression to their layer-normalised values."""
    _, probes = planted
    where = np.zeros((2, 2, 3), bool)
    where[0, 1, 1] = True
    found = edit(tiny, noise(51), where, probes.direction(), strength=2, controls=3, size=32)
    read = found.read(probes.predict)
    tokens = F.layer_norm(found.edited.predicted, (96,)).numpy()
    assert read["edited"] == pytest.approx(probes.models[None].predict(tokens).mean(), rel=1e-4)
    assert read["edited"] != read["plain"] and read["controls"].shape == (3,)


def test_angles_have_no_seam(tiny):
    """Colours hold sine and cosine; half of the angles are given a turn further."""
    clips = [coloured(angle, seed) for seed, angle in enumerate(ANGLES)]
    given = ANGLES + 2 * np.pi * (np.arange(16) % 2)
    targets = [Target(clip, angle) for clip, angle in zip(clips, given, strict=True)]
    probes = vj.probe(targets, tiny, "angle", [1], 32)
    assert probes.controls["raw pixels"][1][0] > 0.9
    assert probes.controls["target shuffled"][1][0] < 0.2
    features = [tiny.encode(clip, layer=1, size=32).values.mean((0, 1, 2)) for clip in clips]
    error = np.angle(np.exp(1j * (probes.predict(torch.stack(features), 1) - ANGLES)))
    assert probes.scores[1][0] > 0.8 and error.std() < 0.2
    across = probes.direction(1, towards=0.3) + probes.direction(1, towards=0.3 + np.pi)
    assert across.norm() < 1e-5


def test_classes_are_found_by_their_colour(tiny):
    names = ["red" if np.sin(angle) > 0 else "dark" for angle in ANGLES]
    clips = [coloured(angle, seed) for seed, angle in enumerate(ANGLES)]
    targets = [Target(clip, name) for clip, name in zip(clips, names, strict=True)]
    probes = vj.probe(targets, tiny, "class", [1], 32)
    assert probes.controls["raw pixels"][1][0] > 0.85
    assert probes.controls["target shuffled"][1][0] < 0.8
    tokens = torch.stack([tiny.encode(c, layer=1, size=32).values.mean((0, 1, 2)) for c in clips])
    right = np.mean(probes.predict(tokens, 1) == names)
    pushed = probes.predict(tokens + 100 * probes.direction(1, "red"), 1)
    assert right > 0.7 and set(pushed) == {"red"}


def test_scores_are_those_of_the_closed_form():
    """Folds, standardisation and strength worked out in numpy."""
    random = np.random.default_rng(0)
    groups, strengths = random.permutation(np.arange(12).repeat(9)), layers.STRENGTHS
    x = random.normal(size=(108, 30)) * random.uniform(0.1, 5, 30)
    y = np.stack([x[:, 0] + 2 * random.normal(size=108), x[:, 1:4].sum(1)], 1)

    def solve(x, y, seen, held, strength):
        mean, centre = x[seen].mean(0), y[seen].mean(0)
        a = x[seen] - mean
        inverse = np.linalg.inv(a.T @ a + strength * np.eye(30))
        return (x[held] - mean) @ inverse @ a.T @ (y[seen] - centre) + centre

    def folds(groups, count):
        """As evenly as can be, of equal groups: the k-th, sorted, is in fold k modulo `count`."""
        names, sizes = np.unique(groups, return_counts=True)
        order, totals, of = np.argsort(sizes, kind="stable")[::-1], np.zeros(count), {}
        for name in names[order]:
            of[name] = totals.argmin()
            totals[of[name]] += (groups == name).sum()
        fold = np.array([of[group] for group in groups])
        return [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(count)]

    predicted = np.empty_like(y)
    for seen, held in folds(groups, layers.FOLDS):
        z = (x - x[seen].mean(0)) / x[seen].std(0)
        inner = [(seen[a], seen[b]) for a, b in folds(groups[seen], layers.FOLDS)]
        loss = dict.fromkeys(strengths, 0)
        for (a, b), strength in itertools.product(inner, strengths):
            loss[strength] += ((y[b] - solve(z, y, a, b, strength)) ** 2).mean()
        best = min(loss, key=loss.get)
        predicted[held] = solve(z, y, seen, held, best)
    residual, total = (((y - m) ** 2).sum() for m in (predicted, y.mean(0)))
    value, low, high = layers.score(x, y, groups)
    assert value == pytest.approx(1 - residual / total, abs=1e-6) and low < value < high


def test_a_copy_under_another_name_does_not_help(tiny):
    """Values at random, of clips of which each is there twice: told, and nothing is learnt."""
    values = np.random.default_rng(0).normal(size=12)
    clips = [noise(seed) for seed in range(12)]
    copies = [np.clip(clip.astype(int) + 1, 0, 255).astype(np.uint8) for clip in clips]
    targets = [Target(c, v) for c, v in zip(clips + copies, [*values, *values], strict=True)]
    with pytest.warns(UserWarning, match="24 of them count as 12"):
        probes = vj.probe(targets, tiny, layers=[2], size=32)
    assert probes.counts == (24, 12) and probes.scores[2][0] < 0.3


@pytest.fixture
def table(tmp_path):
    """Six clips, and a function that writes a table of rows."""
    for seed in range(6):
        write_video(tmp_path / f"{seed}.mp4", noise(seed, 6))

    def write(*rows, head="clip,value,step,frame,x,y"):
        (tmp_path / "t.csv").write_text("\n".join([head, *rows]) + "\n")
        return tmp_path / "t.csv"

    return write


def test_a_table_says_which_tokens(table, tiny):
    rows = ["0.mp4,1.5,,,,", "0.mp4,2,1,,,", "0.mp4,3,,5,40,20", "1.mp4,4,,,,"]
    targets = read_targets(table(*rows))
    assert [(t.value, t.step, t.frame, t.point) for t in targets] == [
        (1.5, None, None, None),
        (2, 1, None, None),
        (3, None, 5, (40, 20)),
        (4, None, None, None),
    ]
    assert targets[0].clip is targets[2].clip and targets[2].origin.endswith("t.csv, line 4")
    values = tiny.encode(targets[0].clip, layer=1, size=32).values
    read = lambda target: layers._mean_token(features, target)
    features = tiny.encode(targets[0].clip, layer=1, size=32)
    assert torch.allclose(read(targets[0]), values.mean((0, 1, 2)), atol=1e-6)
    assert torch.allclose(read(targets[1]), values[1].mean((0, 1)), atol=1e-6)
    assert torch.equal(read(targets[2]), values[2, 1, 2])


SIX = [f"{seed}.mp4,{seed},,,," for seed in range(6)]


@pytest.mark.parametrize(
    ("rows", "words", "sentence"),
    [
        ([*SIX, "7.mp4,1,,,,"], [], "t.csv, line 8: There is no file or folder"),
        ([*SIX, "1.mp4,fast,,,,"], [], "t.csv, line 8: could not convert string to float: 'fast'"),
        ([*SIX, "1.mp4,1,,0,70,9"], [], "t.csv, line 8: The point (70, 9) lies outside"),
        ([*SIX, "1.mp4,1,,0,70,"], [], "t.csv, line 8 has only one of x and y"),
        ([*SIX, "1.mp4,1,3,,,"], [], "t.csv, line 8: The clip has 3 steps, of frames 0 to 5"),
        ([*SIX, "1.mp4,1,,9,,"], [], "no step None or frame 9"),
        ([*SIX, "1.mp4,nan,,,,"], [], "The targets must be finite"),
        ([f"{seed}.mp4,2,,,," for seed in range(6)], [], "have at least two values"),
        (SIX[:4], [], "The recordings of the clips are 4, fewer than the 5 folds"),
        (SIX, ["--save", "p.safetensors"], "--save goes with"),
    ],
)
def test_bad_input_ends_in_one_sentence(table, rows, words, sentence, command):
    words = ["--size", 32, "--encoder", GOLDEN / "model", *words]
    done = command("probe", "--target", table(*rows), *words)
    assert done.returncode == 1 and sentence in done.stderr.splitlines()[-1], done.stderr


def test_layers_and_kinds_that_are_not(tiny):
    targets = [Target(noise(seed), seed) for seed in range(6)]
    with pytest.raises(vj.UserError, match="layer must be None or a whole number from 1 to 3"):
        vj.probe(targets, tiny, layers=[5])
    with pytest.raises(vj.UserError, match='kind must be "number", "angle" or "class"'):
        vj.probe(targets, tiny, "speed")


def test_a_table_as_a_command(table, tmp_path, command):
    rows = [f"{seed}.mp4,{seed % 3},,,,film {seed}" for seed in range(6)]
    path = table(*rows, head="clip,value,step,x,y,recording")
    words = ["--size", 32, "--encoder", GOLDEN / "model", "-o", tmp_path / "curves.png"]
    done = command("probe", "--target", path, *words)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[:6]] == ["block", "1", "2", "3", "norm", "model,"]
    assert lines[5] == "model, number: R² of 6 targets in 6 recordings, 5 folds, 95 %."
    assert (tmp_path / "curves.png").exists()
