"""The README's pictures are what `make figures` draws now."""

import numpy as np
import pytest
import torch
from PIL import Image

import make_figures
from tests.conftest import ROOT


@pytest.fixture
def threads():
    """`make_figures` sets one thread: restore the others."""
    count = torch.get_num_threads()
    yield
    torch.set_num_threads(count)


@pytest.mark.slow
def test_the_readmes_pictures_are_those_drawn_now(tmp_path, threads):
    """Within rounding: on another machine a few pixels in a hundred thousand differ by one level,
    which is 8 where levels are rounded to multiples of 8.
    """
    make_figures.main(["-o", str(tmp_path)])
    committed, drawn = (
        {path.name: path for path in folder.glob("*.png")} for folder in (ROOT / "assets", tmp_path)
    )
    assert set(drawn) == set(committed)
    for name, path in drawn.items():
        now, before = (
            np.asarray(Image.open(each).convert("RGB")).astype(int)
            for each in (path, committed[name])
        )
        assert now.shape == before.shape, name
        apart = np.abs(now - before).max(-1)
        assert apart.mean() < 0.05 and (apart > 8).mean() < 1e-3, name
        assert now.shape[1] <= 1300 and path.stat().st_size < 700_000, name
