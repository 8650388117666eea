import json
import os
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may depend on a network
ROOT = Path(__file__).parent.parent
GOLDEN = Path(__file__).parent / "golden"
GOLDEN_HEADS = Path(__file__).parent / "golden_heads"
GOLDEN21 = Path(__file__).parent / "golden21"
SHARED = ROOT.parent / "shared" / "clips"


@pytest.fixture(scope="session")
def golden():
    """{case: (its grid and counts, its tensors)} of the reference implementation."""
    from safetensors.torch import load_file

    cases = json.loads((GOLDEN / "cases.json").read_text())
    return {
        name: (about, load_file(GOLDEN / f"{name}.safetensors")) for name, about in cases.items()
    }


@pytest.fixture(scope="session")
def tiny():
    """The golden model as an encoder, in float32."""
    import torch

    import vjepa_utils as vj

    return vj.load_encoder(GOLDEN / "model", device="cpu", dtype=torch.float32)


@pytest.fixture(scope="session")
def clips():
    if not SHARED.is_dir():
        pytest.skip(f"the real clips are not here ({SHARED})")
    return SHARED


@pytest.fixture
def command(capsys, monkeypatch):
    """Runs the command line in this process: words and a folder to (returncode, stdout, stderr)."""
    import torch

    from vjepa_utils.__main__ import main

    def run(*words, folder=ROOT):
        code, threads = 0, torch.get_num_threads()
        capsys.readouterr()
        with monkeypatch.context() as patched, warnings.catch_warnings():
            patched.chdir(folder)
            try:
                main([str(word) for word in words])
            except SystemExit as error:
                code = error.code
            finally:
                torch.set_num_threads(threads)
        out, err = capsys.readouterr()
        if isinstance(code, str):  # Python prints it, and exits with 1
            code, err = 1, f"{err}{code}\n"
        return SimpleNamespace(returncode=code or 0, stdout=out, stderr=err)

    return run


def write_video(path, frames, rate=30, pts=None, aspect=None, gop=12):
    """Write uint8 (T, H, W, 3) losslessly enough to distinguish grey levels; pts in milliseconds
    for a variable rate.
    """
    from fractions import Fraction

    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("h264", rate=rate)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt, stream.options, stream.codec_context.gop_size = "yuv420p", {"crf": "4"}, gop
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        if pts is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for i, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, "rgb24")
            if pts is not None:
                picture.pts, picture.time_base = pts[i], Fraction(1, 1000)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


def grey_levels(count, height=48, width=64, step=5):
    """Frames whose brightness is their number times `step`."""
    return np.broadcast_to(
        (np.arange(count) * step).astype(np.uint8).reshape(-1, 1, 1, 1), (count, height, width, 3)
    ).copy()
