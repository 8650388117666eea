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
from vjepa_utils.collection import cluster

pytestmark = pytest.mark.slow
GOOD, FILM = 20, 60  # clips; frames of one more, which is divided into three
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
    pytest.importorskip("ray", reason="Ray is not installed: requirements-cluster.txt")
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
    assert len(found) == GOOD + 3 and len(found.table) == GOOD + 3 + len(BROKEN)
    assert {path: why for path, why in found.failed.items() if str(path) not in why} == {}
    assert sorted(found.failed) == sorted(str(clips / name) for name in BROKEN)
    kept = [path for path in out.rglob("*") if path.is_file()]
    assert len(kept) == GOOD + 3 + 1, kept


def test_nothing_is_computed_twice_after_it_was_finished(ran):
    _, seen = ran
    for moment in ("before the driver was killed", "before the node was killed"):
        then = seen[moment]
        assert 3 <= len(then) < GOOD + 3, moment  # in the middle
        assert then == {file: seen["in the end"][file] for file in then}


@pytest.fixture(scope="module")
def same():
    """The encoder in the precision of the actors, which is the fastest of this machine."""
    return vj.load_encoder(GOLDEN / "model", device="cpu")


def test_bits_are_those_of_a_single_process(ran, clips, same, tmp_path, one_thread):
    alone = vj.extract(clips, tmp_path / "out", same, **on_cluster.HOW)
    spread = vj.Collection(ran[0])
    assert alone.names == spread.names and alone.failed == spread.failed
    for one, other in zip(alone, spread, strict=True):
        assert torch.equal(one.values, other.values) and torch.equal(one.frames, other.frames)
    assert np.array_equal(alone.pooled, spread.pooled)
    rows = [row for row in alone.table.to_pylist() if row["start"] is not None]
    assert [(row["start"], row["frames"]) for row in rows] == [(0, 24), (24, 24), (48, FILM - 48)]


def test_a_second_call_computes_nothing(ran, clips, same):
    vj.extract(clips, ran[0], same, **on_cluster.HOW)
    assert on_cluster.finished(ran[0]) == {
        file: tuple(stat) for file, stat in ran[1]["in the end"].items()
    }


# Nodes as Ray describes them, workers, and what is then reserved: actors, the cores and the GPUs of
# each, and its threads.
HEAD = dict(memory=1e9)  # a head node as it is recommended, with 0 CPUs
SHARES = [
    ([dict(CPU=2)], 1, (1, 2, 0, 2)),
    ([dict(CPU=2)], 2, (2, 1, 0, 1)),
    ([dict(CPU=1)], 1, (1, 1, 0, 1)),
    ([dict(CPU=2)], 4, (4, 0.5, 0, 1)),
    ([dict(CPU=4), dict(CPU=4)], 2, (2, 4, 0, 4)),
    ([dict(CPU=4), dict(CPU=32)], 9, (9, 0.8, 0, 1)),
    ([dict(CPU=16), dict(CPU=16)], None, (2, 16, 0, 16)),
    ([HEAD, dict(CPU=32), dict(CPU=32)], None, (2, 32, 0, 32)),
    ([dict(CPU=16, GPU=2), dict(CPU=16, GPU=2)], None, (4, 8, 1, 8)),
    ([HEAD, dict(CPU=16, GPU=4), dict(CPU=64)], 6, (6, 2, 0.5, 2)),
    ([dict(CPU=16, GPU=4)], 2, (2, 4, 1, 4)),
    ([dict(CPU=5)] * 3, 4, (4, 2, 0, 2)),
    ([dict(CPU=64, GPU=8), dict(CPU=8, GPU=1)], None, (9, 8, 1, 8)),
    ([dict(GPU=2)], None, (2, 0, 1, 1)),
]


@pytest.mark.parametrize(("nodes", "workers", "expected"), SHARES)
def test_all_actors_find_a_place(nodes, workers, expected, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    count, cores, gpus, threads = shares = cluster.shares(nodes, workers)
    assert shares == expected
    left = [[node.get("CPU", 0), node.get("GPU", 0)] for node in nodes]
    for _ in range(count):  # Ray packs them node by node
        node = next(node for node in left if node[0] >= cores and node[1] >= gpus)
        node[0], node[1] = node[0] - cores, node[1] - gpus
