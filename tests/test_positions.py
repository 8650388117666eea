"""True positions, against the reference implementation and stock transformers."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from transformers import VJEPA2Model
from transformers.models.vjepa2.modeling_vjepa2 import VJEPA2RopeAttention

from benchmarks.baselines import StockPositions
from tests.conftest import GOLDEN
from vjepa_utils.model.positions import grid_positions
from vjepa_utils.model.vjepa2 import encode_tokens, predict_tokens

CASES = ["square", "clip", "landscape", "portrait", "larger"]


def error(a, b):
    return ((a - b).norm() / b.norm()).item()


def pixels(encoder, frames):
    return ((frames.permute(0, 3, 1, 2).float() / 255 - encoder.mean) / encoder.std).unsqueeze(0)


@pytest.fixture
def stock():
    return VJEPA2Model.from_pretrained(GOLDEN / "model").eval()


@pytest.mark.parametrize("name", CASES)
@torch.inference_mode()
def test_equal_to_the_reference(tiny, golden, name):
    about, case = golden[name]
    x, grid = pixels(tiny, case["frames"]), (about["steps"], about["rows"], about["columns"])
    visible, hidden = case["visible"].unsqueeze(0), case["hidden"].unsqueeze(0)
    context = encode_tokens(tiny.model, x, visible)
    assert error(encode_tokens(tiny.model, x)[0], case["tokens"]) < 1e-5
    assert error(context[0], case["visible_tokens"]) < 1e-5
    for token in (0, 1):
        predicted = predict_tokens(tiny.model, context, visible, hidden, grid, token)
        assert error(predicted[0], case[f"predicted_mask_token_{token}"]) < 1e-5


@pytest.mark.parametrize("frames", [2, 16])
@torch.inference_mode()
def test_equal_to_stock_transformers_on_the_training_square(tiny, stock, frames):
    x = torch.randn(2, frames, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert (
        error(encode_tokens(tiny.model, x), stock(x, skip_predictor=True).last_hidden_state) < 1e-5
    )


@torch.inference_mode()
def test_equal_to_transformers_told_the_true_grid_at_1280_by_720(tiny, stock, monkeypatch):
    x = torch.randn(1, 2, 3, 720, 1280, generator=torch.Generator().manual_seed(0))
    ours = encode_tokens(tiny.model, x)
    # left alone it is far off
    assert error(stock(x, skip_predictor=True).last_hidden_state, ours) > 0.1
    true = tuple(grid_positions((1, 45, 80)).T)
    monkeypatch.setattr(VJEPA2RopeAttention, "get_position_ids", lambda self, x, masks=None: true)
    assert error(ours, stock(x, skip_predictor=True).last_hidden_state) < 1e-5


@torch.inference_mode()
def test_stock_positions_are_those_of_stock_transformers(tiny, stock, golden):
    frames = golden["portrait"][1]["frames"]
    wrong = StockPositions(tiny).encode(frames, size=tuple(frames.shape[1:3])).values.flatten(0, 2)
    assert (
        error(wrong, stock(pixels(tiny, frames), skip_predictor=True).last_hidden_state[0]) < 1e-5
    )


def test_hidden_pixels_do_not_leak(tiny, golden):
    about, case = golden["clip"]
    hidden = torch.zeros(about["steps"], about["rows"], about["columns"], dtype=torch.bool)
    hidden.view(-1)[case["hidden"]] = True
    # (frames, height, width)
    per_pixel = hidden.repeat_interleave(2, 0).repeat_interleave(16, 1).repeat_interleave(16, 2)
    repainted = torch.where(
        per_pixel.unsqueeze(-1), torch.tensor(200, dtype=torch.uint8), case["frames"]
    )
    visible = case["visible"].unsqueeze(0)
    with torch.inference_mode():
        before, after = (
            encode_tokens(tiny.model, pixels(tiny, f), visible) for f in (case["frames"], repainted)
        )
    assert torch.equal(before, after)


def test_weights_go_back_to_the_order_of_transformers(tiny, stock):
    ours, theirs = tiny.model.weights(), stock.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_no_state_between_calls(tiny, golden):
    """Two grids, alternating and in threads, give what each gives alone."""
    frames = [golden[name][1]["frames"] for name in ("landscape", "portrait")] * 4
    alone = [tiny.encode(f, size=tuple(f.shape[1:3])).values for f in frames[:2]]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda f: tiny.encode(f, size=tuple(f.shape[1:3])).values, frames))
    assert all(torch.equal(got, alone[i % 2]) for i, got in enumerate(together))
