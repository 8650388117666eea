"""Many clips on a Ray cluster of two nodes, one of which is killed, and so is the driver."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

import vjepa_utils as vj
from tests import on_cluster
from tests.conftest import GOLDEN, ROOT, write_video
from vjepa_utils.collection import cluster, extraction, work

pytestmark = pytest.mark.slow
GOOD, FILM = 20, 60  # clips; frames of one more, which is read in three stretches
BROKEN = {"empty.mp4": b"", "text.mp4": b"no film" * 99, "cut.mp4": None}
# A separate network, where Ray finds the loopback only, and, where permitted, a separate table of
# processes, which die together.
SPACES = [
    ["unshare", *user, "--net", *processes]
    for processes in (["--pid", "--fork", "--kill-child", "--mount-proc"], [])
    for user in ([], ["--map-root-user"])
]


@pytest.fixture(scope="module")
def space():
    """The prefix that runs a command in such a network."""
    pytest.importorskip("ray.data", reason="Ray is not installed: requirements-cluster.txt")
    for words in SPACES:
        words = [*words, "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
        if shutil.which("unshare") and shutil.which("ip"):
            done = subprocess.run([*words, "true"], capture_output=True)
            if done.returncode == 0:
                return words
    pytest.skip("unshare and ip may not make a separate network here")


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """24 rendered clips in two folders, three of them broken."""
    root = tmp_path_factory.mktemp("clips")
    y, x = np.mgrid[:96, :128]
    for number in range(GOOD + 1):
        folder = root / "ab"[number % 2]
        folder.mkdir(exist_ok=True)
        count = FILM if number == GOOD else 20 + number % 5
        grey = np.stack([128 + 100 * np.sin((x + t * number + y) / 9) for t in range(count)])
        frames = np.stack([grey, 255 - grey, grey * 0 + 9 * number], -1).astype(np.uint8)
        write_video(folder / f"{number}.mp4", frames)
    whole = (root / "a" / "0.mp4").read_bytes()
    for name, data in BROKEN.items():
        (root / name).write_bytes(whole[: len(whole) // 3] if data is None else data)
    return root


@pytest.fixture(scope="module")
def ran(space, clips, tmp_path_factory):
    """The folder of features, and what `on_cluster.main` saw."""
    out = tmp_path_factory.mktemp("out")
    words = [sys.executable, "-m", "tests.on_cluster", clips, out, GOLDEN / "model"]
    done = subprocess.run(
        [*space, *map(str, words)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=500,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return out, json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def one_thread():
    """The actors' number of threads: the same bits need the same."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_all_good_clips_are_there_and_the_broken_are_named(ran, clips):
    out, seen = ran
    assert seen["returned"] == 0
    found = vj.Collection(out)
    assert len(found) == GOOD + 1 and len(found.table) == GOOD + 1 + len(BROKEN)
    assert {path: why for path, why in found.failed.items() if str(path) not in why} == {}
    assert sorted(found.failed) == sorted(str(clips / name) for name in BROKEN)
    kept = [path for path in out.rglob("*") if path.is_file()]
    assert len(kept) == GOOD + 2 and not list(out.rglob("*.parts"))


def test_nothing_is_computed_twice_after_it_was_finished(ran):
    _, seen = ran
    for moment in ("before the driver was killed", "before the node was killed"):
        then = {file: stat for file, stat in seen[moment].items() if ".parts/" not in file}
        assert 3 <= len(then) < GOOD + 1, moment  # in the middle
        assert then == {file: seen["in the end"][file] for file in then}


@pytest.fixture(scope="module")
def same():
    """The encoder in the precision of the actors, which is the fastest of this machine."""
    return vj.load_encoder(GOLDEN / "model", device="cpu")


def test_bits_are_those_of_a_single_process(ran, clips, same, tmp_path, monkeypatch, one_thread):
    monkeypatch.setattr(extraction, "STRETCH", on_cluster.STRETCH * 12 * 192 * 256)
    how = dict(size=192, dtype="float32", pool="both")
    alone, spread = vj.extract(clips, tmp_path / "out", same, **how), vj.Collection(ran[0])
    assert alone.names == spread.names and alone.failed == spread.failed
    for one, other in zip(alone, spread, strict=True):
        assert torch.equal(one.values, other.values) and torch.equal(one.frames, other.frames)
    assert np.array_equal(alone.pooled, spread.pooled)
    assert alone[str(clips / "a" / f"{GOOD}.mp4")].grid[0] == FILM // 2


def test_a_second_call_computes_nothing(ran, clips, same, monkeypatch):
    encoded, encode = [], work.encode

    def noted(part, *given):
        encoded.extend([part.name] if part.row is None else [])
        return encode(part, *given)

    monkeypatch.setattr(work, "encode", noted)
    monkeypatch.setattr(extraction, "STRETCH", on_cluster.STRETCH * 12 * 192 * 256)
    vj.extract(clips, ran[0], same, size=192, dtype="float32", pool="both")
    assert encoded == [] and on_cluster.finished(ran[0]) == {
        file: tuple(stat) for file, stat in ran[1]["in the end"].items()
    }


@pytest.mark.parametrize(
    ("nodes", "workers", "expected"),
    [
        ([dict(CPU=2)], 1, (1, 0.5, 0, 2)),
        ([dict(CPU=2)], 2, (2, 0.5, 0, 1)),
        ([dict(CPU=1)], 1, (1, 0, 0, 1)),
        ([dict(CPU=2)], 4, (4, 0.25, 0, 1)),
        ([dict(CPU=4), dict(CPU=4)], 2, (2, 0.5, 0, 4)),
        ([dict(CPU=16, GPU=2), dict(CPU=16, GPU=2)], None, (4, 0.5, 1, 8)),
        ([dict(CPU=16), dict(CPU=16)], None, (2, 0.5, 0, 16)),
    ],
)
def test_readers_find_a_core_beside_the_actors(nodes, workers, expected, monkeypatch):
    class Ray:
        nodes = staticmethod(lambda: [{"Alive": True, "Resources": each} for each in nodes])

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    found = cluster._sizes(Ray, workers)
    assert found == expected
    assert found[0] * found[1] <= max(0, min(node["CPU"] for node in nodes) - 1)
