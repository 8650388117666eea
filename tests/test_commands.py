"""The command line, as a user types it."""

import argparse
import hashlib
import inspect
import io
import itertools
import os
import pickle
import re
import subprocess
import sys
from collections import defaultdict
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

import vjepa_utils as vj
from tests.conftest import GOLDEN, ROOT, grey_levels, write_video
from vjepa_utils import cli
from vjepa_utils.__main__ import main, parser
from vjepa_utils.checks import UserError
from vjepa_utils.cli import convert
from vjepa_utils.tracking import tapvid
from vjepa_utils.tracking.head import TrackHead


@pytest.fixture
def clip(tmp_path):
    y, x = np.mgrid[:96, :128]
    frames = np.stack(
        [np.stack([x + 8 * t, y * 2, x * 0 + 90], -1) % 256 for t in range(10)]
    ).astype(np.uint8)
    return write_video(tmp_path / "clip.mp4", frames)


@pytest.mark.parametrize("kind", ["png", "mp4", "gif"])
def test_pca_writes_pictures_and_films(clip, tmp_path, kind, command):
    done = command(
        "pca",
        clip,
        "--encoder",
        GOLDEN / "model",
        "--size",
        "96",
        "--start",
        "1",
        "--every",
        "2",
        "--count",
        "4",
        "-o",
        tmp_path / f"out.{kind}",
    )
    assert done.returncode == 0 and "2 steps of 6×8 patches, model" in done.stdout, done.stderr
    assert "warning" not in done.stderr
    if kind == "mp4":
        with av.open(str(tmp_path / "out.mp4")) as container:
            assert (
                container.streams.video[0].average_rate == 15
                and len(list(container.decode(video=0))) == 4
            )
    else:
        with Image.open(tmp_path / f"out.{kind}") as picture:
            assert picture.width > picture.height > 150 and getattr(picture, "n_frames", 1) == (
                4 if kind == "gif" else 1
            )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["clip.mp4", f"out.{kind}"]


def test_recover_draws_several_masks_and_prints_their_tables(clip, tmp_path, command):
    words = [
        "--encoder",
        GOLDEN / "model",
        "--size",
        "64",
        "--count",
        "7",
        "--mask",
        "block",
        "future",
        "--after",
        "0",
    ]
    done = command("recover", clip, *words, "-o", tmp_path / "out.png")
    assert done.returncode == 0 and "4 steps of 4×5 patches, model" in done.stdout, done.stderr
    assert done.stderr.count("10 of the 10 mask tokens of model are not zero") == 1
    block, future = (part.splitlines() for part in done.stdout.split("\n\n")[:2])
    assert block[0] == "block" and future[0] == "future"
    assert [line.split()[0] for line in block[2:6]] == ["prediction", "mean", "nearest", "same"]
    assert (
        block[5].endswith("0%")
        and future[5].endswith("100%")
        and "60 of 80 tokens hidden (75%)" in future[6]
    )
    with Image.open(tmp_path / "out.png") as picture:
        assert picture.height > picture.width > 300  # seven rows of four steps


@pytest.mark.slow
def test_figures_are_the_same_a_second_time(tmp_path, command):
    digests = []
    for _ in range(2):
        done = command(
            "figures",
            "--encoder",
            GOLDEN / "model",
            "--size",
            "64",
            "--every",
            "12",
            "-o",
            tmp_path / "figures",
        )
        assert done.returncode == 0, done.stderr
        digests.append(
            {
                p.name: hashlib.sha256(p.read_bytes()).hexdigest()
                for p in (tmp_path / "figures").iterdir()
            }
        )
    assert digests[0] == digests[1] and len(digests[0]) == 20


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["pca", "nothing.mp4", "-o", "out.png"], "There is no file or folder 'nothing.mp4'."),
        (["pca", "{clip}", "-o", "{clip}"], "-o names the clip itself"),
        (["figures", "--every", "30", "-o", "figures"], "at least four frames"),
        (["pca", "{clip}", "-o", "out.txt"], "-o must end in .png, .mp4 or .gif"),
        (["pca", "{clip}", "-o", "no/folder/out.png"], "there is no folder no/folder"),
        (["pca", "{clip}", "--start", "10", "-o", "out.png"], "has 10 frames (0 to 9)"),
        (
            ["recover", "{clip}", "--mask", "block", "-o", "out.mp4"],
            "-o must end in .png, not out.mp4",
        ),
        (
            ["recover", "{clip}", "--mask", "block", "--share", "1", "-o", "out.png"],
            "share must lie between 0 and 1, not 1.0",
        ),
        (
            ["recover", "{clip}", "--mask", "future", "--after", "4", "-o", "out.png"],
            "after must be a step from 0 to 3",
        ),
        (
            ["recover", "{clip}", "--mask", "future", "--count", "2", "-o", "out.png"],
            "future needs at least two steps",
        ),
        (["pca", "{clip}", "--size", "8", "-o", "out.png"], "at least the patch, 16"),
        (["pca", "{clip}", "--context", "3", "-o", "out.png"], "context must be"),
        (["pca", "{clip}", "--encoder", "nobody", "-o", "out.png"], "There is no encoder 'nobody'"),
        (
            ["pca", "{clip}", "--encoder", "facebook/vjepa2-vitl-fpc64-256", "-o", "out.png"],
            "hf download facebook/vjepa2-vitl-fpc64-256",
        ),
    ],
)
def test_bad_input_ends_in_one_sentence(clip, tmp_path, words, sentence, monkeypatch, command):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "empty"))
    before = sorted(tmp_path.rglob("*"))
    done = command(*(word.format(clip=clip) for word in words), folder=tmp_path)
    assert done.returncode == 1 and done.stderr.startswith("error: ") and sentence in done.stderr
    assert "Traceback" not in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_places_of_two_clips_are_taken_out(tmp_path, command):
    """Means of a clip of one step and one of two, by hand; the picture of a still one is grey."""
    random = np.random.default_rng(0)
    for name, count in (("a", 2), ("b", 4)):
        frames = random.integers(0, 256, (count, 32, 48, 3), np.uint8)
        write_video(tmp_path / f"{name}.mp4", frames)
    clips, file = [tmp_path / "a.mp4", tmp_path / "b.mp4"], tmp_path / "places.safetensors"
    words = ["--encoder", GOLDEN / "model", "--size", 32]
    done = command("places", *clips, *words, "-o", file)
    assert done.returncode == 0 and "2×3 patches of 32×48 pixels, 2 frames; clips: 2" in done.stdout
    encoder = vj.load_encoder(GOLDEN / "model")
    (a,), (b, c) = (encoder.encode(clip, size=32).values.double().numpy() for clip in clips)
    assert np.allclose(load_file(file)["means"], (a + b + c) / 3, rtol=0, atol=1e-12)

    seen = []
    show = lambda video, features, colours, *_, **__: seen.append(colours) or vj.figures.Figure()
    out = ["-o", tmp_path / "out.png"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vj.figures, "pca_strip", show)
        for removed in (file, "place"):
            assert not command("pca", clips[1], *words, "--remove", removed, *out).returncode
    assert np.allclose(seen[0].place, (a + b + c) / 3) and np.allclose(seen[1].place, (b + c) / 2)
    assert [each.removed for each in seen] == ["places in places.safetensors", "places"]
    out[1].unlink()

    done = command("pca", clips[1], "--size", 48, *words[:2], "--remove", file, *out)
    assert "2×3 patches of 32×48 pixels" in done.stderr and "3×5 patches of 48×80" in done.stderr
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vj.encoder.Encoder, "fingerprint", "0" * 64)
        done = command("pca", clips[1], *words, "--remove", file, *out)
    assert f"model ({encoder.fingerprint[:12]}), 2×3" in done.stderr
    assert "model (000000000000), 2×3" in done.stderr and not out[1].exists()
    done = command("places", *clips, *words, "--context", "clip", "-o", file)
    assert "b.mp4 is encoded as" in done.stderr and done.stderr.count("\n") == 1
    done = command("pca", clips[0], *words, "--remove", tmp_path / "no.safetensors", *out)
    assert "There is no file" in done.stderr


def test_a_clip_of_one_frame(tmp_path, command):
    path = write_video(tmp_path / "one.mp4", grey_levels(1))
    done = command(
        "pca", path, "--encoder", GOLDEN / "model", "--size", "64", "-o", tmp_path / "out.png"
    )
    assert done.returncode == 0 and "1 steps" in done.stdout


def test_damage_is_a_warning(clips, tmp_path, command):
    words = [
        "pca",
        clips / "formats" / "corrupted_midstream.mp4",
        "--encoder",
        GOLDEN / "model",
        "--size",
        "64",
        "--start",
        "20",
    ]
    done = command(*words, "-o", tmp_path / "out.png")
    assert (
        done.returncode == 0 and "warning: " in done.stderr and "damaged at frame 28" in done.stderr
    )


def test_the_module_runs_and_exits_with_an_error(tmp_path):
    """The one test that starts a process: `python -m vjepa_utils`, as a user types it."""
    words = [sys.executable, "-m", "vjepa_utils", "pca", "nothing.mp4", "-o", "out.png"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == "error: There is no file or folder 'nothing.mp4'.\n"


def test_a_cut_is_said_once(tmp_path, command):
    frames = np.zeros((8, 48, 64, 3), np.uint8)
    frames[3:] = 255
    path, words = write_video(tmp_path / "cut.mp4", frames), ["--encoder", GOLDEN / "model"]
    done = command("pca", path, *words, "--size", "64", "-o", tmp_path / "out.png")
    assert done.returncode == 0 and done.stderr.count("cut seems to lie between frames 2+3") == 1


# Options: each is printed with its default, and arrives at the library

COMMANDS = next(action.choices for action in parser()._actions if action.dest == "command")
ABOVE = str(ROOT / "vjepa_utils" / "cli"), str(ROOT / "make_figures.py")
LIBRARY = tuple(
    str(path)
    for path in (ROOT / "vjepa_utils").iterdir()
    if path.name not in ("cli", "__main__.py")
)
# what to type for an option; words in braces are files of the fixture `files`
TYPED = {
    "address": "nowhere",
    "after": "1",
    "at": "3",
    "box": "9,20,40,50",
    "checkpoint": "{model}",
    "clips": "{clip}",
    "context": "4",
    "count": "10",
    "crop_size": "32",
    "dtype": "float32",
    "encoder": "{model}",
    "encoders": "{model}",
    "error": "l1",
    "every": "2",
    "folder": "{new}",
    "file": "{model}",
    "fps": "15",
    "frame": "3",
    "grid": "3",
    "head": "{head}",
    "horizon": "2",
    "most": "2",
    "kind": "angle",
    "layer": "1",
    "layers": "1",
    "mask": "tokens",
    "masks": "tubes",
    "mode": "strided",
    "name": "{model}",
    "num_attention_heads": "4",
    "on": "{picture}",
    "out": "{new}",
    "output": "{new}",
    "path": "{tapvid}",
    "point": "9,20",
    "points": "9,20",
    "pool": "mean",
    "pred_num_attention_heads": "2",
    "probe": "{probe}",
    "reject": "70,50",
    "remove": "{places}",
    "save": "{new}",
    "seed": "7",
    "share": "0.5",
    "size": "32x48",
    "source": "{classes}",
    "sources": "{classes}",
    "split": "2",
    "start": "1",
    "stride": "4",
    "target": "step",
    "top": "2",
    "video": "{clip}",
    "weights": "encoder",
    "workers": "2",
}
TYPED_FOR = {
    ("compare", "context"): "frame",
    ("segment", "mask"): "{picture}",
    ("similarity", "context"): "frame",
    ("probe", "target"): "{table}",
}
# what the library calls an option, where it is another name
CALLED = {"video": "path", "encoder": "name", "encoders": "name", "output": "path", "save": "path"}
CALLED |= {"mask": "name", "grid": "count", "probe": "path"}
CALLED |= {("tapvid", "head"): "name", ("extract", "encoder"): "encoder", "file": "path"}
CALLED |= {
    ("probe", "target"): "table",
    ("segment", "mask"): "masks",
    ("explore", "encoders"): "encoders",
    "on": "masks",
    "clips": "path",
    "remove": "path",
    "name": "name",
    "guided": "edges",
    "layers": "layers",  # with other values in calls before the figure's
}


WHOLE = [
    pytest.param(option.type, id=f"{name} {option.dest}")
    for name, parser in COMMANDS.items()
    for option in parser._actions
    if option.type not in (None, float) and TYPED.get(option.dest, "").isdecimal()
]


@pytest.mark.parametrize("kind", WHOLE)
def test_whole_numbers_beyond_what_libraries_take(kind):
    """Such as a seed of numpy's: below 2**32, and 4 bytes with a sign elsewhere."""
    for text in ("4294967296", "2147483648", "9" * 30):
        with pytest.raises(argparse.ArgumentTypeError, match=f"at most 2147483647, not {text}"):
            kind(text)


def test_a_seed_out_of_range_is_a_sentence(command):
    done = command("probe", "nowhere", "--seed", 2**32, "-o", "out.png")
    assert done.returncode and "Traceback" not in done.stderr
    assert "--seed must be a whole number of at least 0, at most 2147483647" in done.stderr


class Arrived(BaseException):
    """Nothing more to wait for."""


@pytest.fixture(scope="module")
def files(tmp_path_factory, tiny):
    """What options name: {word: path}."""
    folder = tmp_path_factory.mktemp("files")
    noise = np.random.default_rng(0).integers(0, 256, (6, 24, 64, 96, 3), np.uint8)
    for number, frames in enumerate(noise):
        place = folder / "classes" / "ab"[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        write_video(place / f"{number}.mp4", frames)
    shape = {"points": np.full((2, 24, 2), 0.5, np.float32), "occluded": np.zeros((2, 24), bool)}
    (folder / "tapvid.pkl").write_bytes(pickle.dumps({"clip": {"video": noise[0], **shape}}))
    rows = [f"classes/{'ab'[number % 2]}/{number}.mp4,{number}" for number in range(6)]
    (folder / "table.csv").write_text("\n".join(["clip,value", *rows]))
    Image.fromarray(np.tri(64, 96, dtype=np.uint8)).save(folder / "picture.png")
    config = dict(encoder="model", channels=tiny.channels, layer=None, size=64)
    TrackHead(config).save(folder / "head")
    features = [tiny.encode(frames[:4], size=32) for frames in noise]
    vj.train_probe(features, list("ababab"), "linear", tiny, size=32).save(folder / "p.safetensors")
    clip, probe = folder / "classes" / "a" / "0.mp4", folder / "p.safetensors"
    words = ["--size", "32x48", "--context", "4", "--encoder", GOLDEN / "model", "-o"]
    main([*map(str, ["places", clip, *words, folder / "places.safetensors"])])
    names = {path.name.split(".")[0]: path for path in folder.iterdir()}
    return {**names, "clip": clip, "probe": probe, "model": GOLDEN / "model"}


def variants(command):
    """The options of a command, but for help: once for each choice of those that exclude others."""
    groups = COMMANDS[command]._mutually_exclusive_groups
    grouped = [group._group_actions for group in groups]
    free = [each for each in COMMANDS[command]._actions if each not in sum(grouped, [])]
    if command == "info":  # of a .pt file; with the weights alone
        free = [each for each in free if each.dest not in ("weights", *convert.FIELDS)]
    for chosen in itertools.product(*grouped):
        # of truth, a command reads the pictures itself
        left_out = {"help", "debug", "truth"}
        if command == "probe":  # of classes, or of quantities
            left_out.add("kind" if chosen[-1].dest == "source" else "save")
        yield [o for o in (*free, *chosen) if o.dest not in left_out]


def typed(command, option, files, folder):
    """The words for an option."""
    if option.nargs == 0:
        return option.option_strings[:1]
    value = TYPED_FOR.get((command, option.dest)) or TYPED[option.dest]
    suffix = re.match(r"(\.\w+)?", option.help)[0]  # the first kind that its help names
    value = value.format(**files, new=folder / f"{option.dest}{suffix}")
    return [*option.option_strings[:1], value]


def plain(value):
    """A value as text, to compare a Path with a word; an element alone is as a list of it."""
    if isinstance(value, (list, tuple)) and len(value) == 1:
        return plain(value[0])
    return str(value) if isinstance(value, (int, float, str, Path, list, tuple, dict)) else None


def put_together(command, given):
    """What is given to the library, where a command makes something else of its options."""
    if command == "figures":  # of files in the folder: see a test above
        del given["output"]
    given.pop("pixels", None)  # draws more
    if command == "compare":  # prints more
        del given["numbers"]
    if command == "track":
        frame = given.pop("frame")
        if "points" in given:
            given["queries"] = [(frame, *point) for point in given.pop("points")]
    if command == "pca" and "point" in given:
        given["points"] = [(*given.pop("point"), 1)]
    if command == "segment":
        rejected = [(*point, 0) for point in given.pop("reject")]
        given["edges"] = not given.pop("no_edges")
        if "point" in given:
            given["points"] = [(*point, 1) for point in given.pop("point")] + rejected
    if "weights" in given:
        given["config"] = {key: given.pop(key) for key in convert.FIELDS}
    return given


@contextmanager
def arguments_of_calls(wanted):
    """{parameter: the values that commands give it, as text}, of calls into the library; until for
    each of `wanted`, {parameter: values}, there are all.
    """
    given = defaultdict(set)

    def see(frame, event, _):
        caller = frame.f_back
        if event != "call" or not frame.f_code.co_filename.startswith(LIBRARY):
            return
        while caller and not caller.f_code.co_filename.startswith((*LIBRARY, *ABOVE)):
            caller = caller.f_back  # out of torch.no_grad
        if not (caller and caller.f_code.co_filename.startswith(ABOVE)):
            return
        names, _, more, values = inspect.getargvalues(frame)
        arguments = {name: values[name] for name in names} | values.get(more, {})
        for name in wanted.keys() & arguments.keys():
            given[name].add(plain(arguments[name]))
        if all(values <= given[name] for name, values in wanted.items()):
            raise Arrived

    sys.setprofile(see)
    try:
        yield given
    except Arrived:
        pass
    finally:
        sys.setprofile(None)


CASES = [
    pytest.param(command, options, id=f"{command}-{number}")
    for command in COMMANDS
    for number, options in enumerate(variants(command))
]


@pytest.mark.parametrize(("name", "options"), CASES)
def test_every_option_arrives(name, options, files, tmp_path, command, monkeypatch):
    """All options of a command at once, none at its default: each value is given to the library
    under its name, and where a parameter has the name of one option, in every call.
    """
    if "checkpoint" in [option.dest for option in options]:  # which has an encoder of its own
        options = [option for option in options if option.dest != "encoder"]
    words = [word for option in options for word in typed(name, option, files, tmp_path)]
    arguments = parser().parse_args([name, *words])
    given = {option.dest: getattr(arguments, option.dest) for option in options}
    assert not [option for option in options if given[option.dest] == option.default]
    given = put_together(name, given)
    wanted = defaultdict(set)
    for option, value in given.items():
        called = CALLED.get((name, option), CALLED.get(option, option))
        wanted[called].add(plain(value))
    monkeypatch.setattr("vjepa_utils.collection.cluster.require", lambda *_: None)  # takes seconds
    done = None
    with arguments_of_calls(wanted) as passed:
        done = command(name, *words)
    assert not [parameter for parameter in wanted if not wanted[parameter] <= passed[parameter]], (
        done
    )
    alone = set() if name == "figures" else set(given) - CALLED.keys()  # it sets more than these
    assert not [option for option in alone if passed[option] != wanted[option]]


def test_recover_needs_nothing_that_another_command_loads(files, tmp_path):
    words = ["recover", files["clip"], "--encoder", files["model"], "--size", 64]
    words += ["--mask", "block", "-o", tmp_path / "out.png"]
    run = [sys.executable, "-m", "vjepa_utils", *map(str, words)]
    done = subprocess.run(run, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and "beats all three" in done.stdout, done.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_help_says_what_is_used(name):
    """Every option is explained, with its default where it has one."""
    assert len(COMMANDS[name].format_help()) > 200
    for option in COMMANDS[name]._actions:
        default = option.default
        if option.required or option.nargs == 0 or default in (None, [None]):
            continue
        default = " ".join(default) if isinstance(default, list) else default
        assert f"(default: {default})" in option.help % vars(option), option.dest


@pytest.mark.parametrize("mode", ["first", "strided"])
def test_tapvid_measures_in_the_mode_that_is_asked_for(mode, files, command):
    encoder = vj.load_encoder(GOLDEN / "model")
    (_, *clip), follow = next(tapvid.clips(files["tapvid"])), partial(vj.track, size=32)
    track = lambda frames, queries: follow(frames, queries, encoder)
    shares = {each: tapvid.evaluate(*clip, track, each) for each in ("first", "strided")}
    assert shares["first"] != shares["strided"]
    words = ["tapvid", files["tapvid"], "--encoder", GOLDEN / "model", "--size", 32, "--mode", mode]
    line = command(*words).stdout.splitlines()[2]
    expected = [f"{100 * shares[mode][column]:.1f}" for column in tapvid.COLUMNS]
    assert line.split() == [*expected, "clip"]


def test_recover_does_not_blame_an_option_that_it_lacks(clip, tmp_path, command):
    words = ["recover", clip, "--encoder", "dino-demo", "--mask", "block"]
    done = command(*words, "-o", tmp_path / "out.png")
    assert "dino-demo has no predictor" in done.stderr and "context" not in done.stderr


@pytest.mark.parametrize("bad", [["--point", "129,9"], ["--point", "9,9", "--frame", "10"]])
def test_a_point_that_is_nowhere_is_refused_before_a_model_is_loaded(clip, tmp_path, command, bad):
    words = ["similarity", clip, *bad, "--encoders", "no/model", "-o", tmp_path / "out.png"]
    done = command(*words)
    assert done.returncode == 1 and "no/model" not in done.stderr
    assert "outside the picture, which is 128×96" in done.stderr or "Frame 10" in done.stderr


def test_nothing_is_written_over_the_clip(tmp_path, command):
    """Not under another name of the file, nor into a folder of images."""
    path = write_video(tmp_path / "clip.mp4", grey_levels(4))
    os.link(path, tmp_path / "link.mp4")
    (tmp_path / "images").mkdir()
    for number in range(2):
        Image.new("RGB", (64, 48)).save(tmp_path / "images" / f"{number}.png")
    for source, out in ((path, "link.mp4"), (tmp_path / "images", "images/0.png")):
        before = (tmp_path / out).read_bytes()
        done = command("pca", source, "--encoder", GOLDEN / "model", "-o", tmp_path / out)
        assert done.returncode == 1 and "-o names the clip itself" in done.stderr
        assert (tmp_path / out).read_bytes() == before


def test_a_console_that_cannot_show_a_sign_shows_another(clip, tmp_path, monkeypatch):
    """As a redirected one of Windows, which has no δ and no ×."""
    console = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr(sys, "stdout", console)
    words = ["pca", clip, "--encoder", GOLDEN / "model", "--size", 32, "-o", tmp_path / "out.png"]
    main([str(word) for word in words])
    console.seek(0)
    assert console.read().endswith("5 steps of 2?3 patches, model\n")


def test_figures_runs_no_program_of_another_package(tmp_path, monkeypatch, command):
    """Installed, the folder beside the package is site-packages."""
    (tmp_path / "make_figures.py").write_text("raise AssertionError('this is another one')")
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "another"\n')
    monkeypatch.setattr(cli.figures, "ROOT", tmp_path)
    monkeypatch.delitem(sys.modules, "make_figures", raising=False)
    done = command("figures")
    assert done.returncode == 1 and "drawn in a checkout" in done.stderr


def test_only_what_the_user_can_mend_is_a_sentence(clip, tmp_path, monkeypatch, command):
    """A bug shows its traceback; --debug shows that of a user's error."""
    words = "pca", clip, "-o", tmp_path / "out.png"
    with pytest.raises(UserError, match="There is no encoder"):
        command(*words, "--encoder", "nobody", "--debug")

    def broken(*_, **__):
        raise ValueError("all the input array dimensions must match exactly")

    monkeypatch.setattr(vj, "load_encoder", broken)
    with pytest.raises(ValueError, match="dimensions"):
        command(*words)
