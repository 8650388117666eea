"""How close the encoder comes to the machine's limit: python -m benchmarks.encoder_speed [--models
vitl vitb-2.1 demo] [--json FILE]

Alternating in one run: the matrix products of one block alone (the machine's peak for exactly these
shapes, dtype and threads), stock transformers, and this project; on CUDA, or with --compile, this
project through torch.compile as well. Operations are counted for the published model, so that extra
work earns no credit; the share of the peak is their number per second over the peak. ViT-L and the
ViT-B of V-JEPA 2.1, which transformers lacks, have random weights: speed does not depend on them.
Medians, with the range in brackets; peak memory is what one call needs beyond the weights.

--attention times attention alone on the CPU instead: torch's fused attention in float32 and bf16.
"""

import argparse
import json
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch
import torch.nn.functional as F
from tqdm import tqdm
from transformers import VJEPA2Config, VJEPA2Model

from benchmarks.machine import machine
from vjepa_utils.model.devices import fast_dtype
from vjepa_utils.model.vjepa2 import VJEPA2, encode_tokens
from vjepa_utils.model.vjepa2_1 import VJEPA21, Config
from vjepa_utils.weights.checkpoints import SHIPPED

SHAPES = {  # (batch, frames, height, width) on the CPU
    "pairs 256×256": (8, 2, 256, 256),
    "pair 720×1280": (1, 2, 720, 1280),
    "16 frames 256×256": (1, 16, 256, 256),
    "pair 2160×3840": (1, 2, 2160, 3840),  # takes minutes; only on request
}
GPU_BATCH = {"pairs 256×256": 64, "pair 720×1280": 4, "16 frames 256×256": 8, "pair 2160×3840": 1}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
PARTS = {  # of the forward pass, by the profiler's names of operations; the first match counts
    "linear layers": ("addmm", "::mm", "linear", "gemm"),
    "attention": ("attention", "flash", "::bmm", "softmax"),  # torch's fused one
    "GELU": ("gelu",),
    "layer norm": ("layer_norm",),
    "rotation": ("::mul", "addcmul", "::cat", "::roll"),
    "residuals": ("::add",),
    "copies": ("copy", "::to"),
}


VITB_2_1 = Config(  # with the predictor's sizes; it does not run here
    hidden_size=768,
    num_hidden_layers=12,
    intermediate_size=3072,
    pred_hidden_size=384,
    pred_num_hidden_layers=1,
    pred_intermediate_size=1536,
    pred_num_mask_tokens=8,
    pred_levels=1,
    pred_out_size=1664,
)


SIZES = {  # of V-JEPA 2; a predictor of one block, which does not run here
    "vitl": dict(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, mlp_ratio=4),
    "vitg": dict(hidden_size=1408, num_hidden_layers=40, num_attention_heads=22, mlp_ratio=48 / 11),
    "tiny": dict(hidden_size=48, num_hidden_layers=2, num_attention_heads=2, mlp_ratio=4),
}


def config_of(name):
    if name == "vitb-2.1":
        return VITB_2_1
    if name in SIZES:
        return VJEPA2Config(**SIZES[name], pred_num_hidden_layers=1)
    return VJEPA2Config.from_pretrained(SHIPPED["vjepa2-demo"])


def models(name, dtype, device):
    """Stock and ours, with the same weights; None and ours for V-JEPA 2.1."""
    torch.manual_seed(0)
    config = config_of(name)
    if name == "vitb-2.1":
        ours = VJEPA21(config)
        random = {
            key: (torch.randn(value.shape) / value[0].numel() ** 0.5).to(dtype).to(device)
            for key, value in ours.state_dict().items()
        }
        return None, ours.take_weights(random).eval().requires_grad_(False)
    with device:  # a GPU draws the weights of ViT-g in no time
        stock = VJEPA2Model(config).to(dtype).eval().requires_grad_(False)
    return stock, VJEPA2(config).take_weights(stock.state_dict()).eval().requires_grad_(False)


def multiplications(config, batch, frames, height, width):
    """Floating-point operations of the published encoder; a multiply-add counts as two."""
    tokens, d = frames // 2 * (height // 16) * (width // 16), config.hidden_size
    linear = 2 * d * d * (4 + 2 * float(config.mlp_ratio))
    return (
        batch
        * tokens
        * (2 * 3 * 2 * 16 * 16 * d + config.num_hidden_layers * (linear + 4 * tokens * d))
    )


def products(config, tokens, dtype, device):
    """The matrix products of one block and nothing else: a function, and its floating-point
    operations.
    """
    d = config.hidden_size
    hidden = int(d * config.mlp_ratio)
    sizes = [(d, d)] * 4 + [(d, hidden), (hidden, d)]
    weights = [torch.randn(o, i, device=device).to(dtype) / i**0.5 for i, o in sizes]
    inputs = [torch.randn(tokens, i, device=device).to(dtype) for i, _ in sizes]
    return lambda: [F.linear(x, w) for x, w in zip(inputs, weights, strict=True)], 2 * tokens * sum(
        i * o for i, o in sizes
    )


def seconds(function, device):
    if device.type != "cuda":
        start = time.perf_counter()
        function()
        return time.perf_counter() - start
    events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
    events[0].record()
    function()
    events[1].record()
    torch.cuda.synchronize()
    return events[0].elapsed_time(events[1]) / 1000


def peak_memory(name, shape, dtype, contestant):
    """Bytes that one call needs beyond the weights; None where the system does not report them
    (Linux and CUDA do).
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = dict(zip(("stock", "ours"), models(name, dtype, device), strict=True))[contestant]
    pixels = pixels_of(shape, dtype, device)
    try:
        status = lambda key: (
            int(Path("/proc/self/status").read_text().split(key)[1].split()[0]) * 1024
        )
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        else:
            Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
        before = torch.cuda.memory_allocated() if device.type == "cuda" else status("VmRSS:")
        with torch.inference_mode():
            model(pixels, skip_predictor=True) if contestant == "stock" else encode_tokens(
                model, pixels
            )
        return (
            torch.cuda.max_memory_allocated() if device.type == "cuda" else status("VmHWM:")
        ) - before
    except OSError:
        return None


def pixels_of(shape, dtype, device):
    batch, frames, height, width = shape
    return torch.randn(batch, frames, 3, height, width, device=device).to(dtype)


def measure(name, shape, dtype, threads, repeats, device, compiled):
    """{contestant: {seconds: [...], share: of the peak, memory: bytes}}, and the peak in operations
    a second.
    """
    stock, ours = models(name, dtype, device)
    batch, frames, height, width = shape
    pixels = pixels_of(shape, dtype, device)
    peak, work = products(
        ours.config, batch * frames // 2 * (height // 16) * (width // 16), dtype, device
    )
    contestants = {"ours": lambda: encode_tokens(ours, pixels)}
    if stock:
        contestants = {"stock": lambda: stock(pixels, skip_predictor=True), **contestants}
    if compiled:
        faster = torch.compile(encode_tokens)
        contestants["compiled"] = lambda: faster(ours, pixels)
    torch.set_num_threads(threads)
    with ProcessPoolExecutor(
        1, get_context("spawn"), max_tasks_per_child=1
    ) as fresh:  # an allocator that holds nothing yet
        memory = {
            key: fresh.submit(peak_memory, name, shape, dtype, key).result()
            for key in contestants
            if key != "compiled"
        }
    times = {key: [] for key in ("products", *contestants)}
    for turn in range(repeats + 1):
        for key, function in {"products": peak, **contestants}.items():
            taken = seconds(function, device)
            if turn:  # the first is a warm-up
                times[key].append(taken)
    rate = work / statistics.median(times.pop("products"))
    total = multiplications(ours.config, *shape)
    share = {key: total / statistics.median(values) / rate for key, values in times.items()}
    return {
        key: dict(seconds=times[key], share=share[key], memory=memory.get(key))
        for key in contestants
    }, rate


def profile(name, shape, dtype, threads, device):
    """{part of the forward pass: its share of the time}."""
    _, ours = models(name, dtype, device)
    pixels = pixels_of(shape, dtype, device)
    torch.set_num_threads(threads)
    encode_tokens(ours, pixels)
    with torch.profiler.profile() as seen:
        encode_tokens(ours, pixels)
    device_time = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    spent = {event.key.lower(): getattr(event, device_time) for event in seen.key_averages()}
    shares = dict.fromkeys([*PARTS, "the rest"], 0.0)
    for operation, value in spent.items():
        part = next(
            (part for part, words in PARTS.items() if any(word in operation for word in words)),
            "the rest",
        )
        shares[part] += value / sum(spent.values())
    return shares


def attention_alone(name, shape, threads, repeats):
    """{way: operations a second} of one block's attention, on heads as the encoder has them."""
    config = config_of(name)
    batch, frames, height, width = shape
    tokens, heads = frames // 2 * (height // 16) * (width // 16), config.num_attention_heads
    channels = config.hidden_size // heads
    q, k, v = torch.randn(3, batch, tokens, heads, channels).transpose(2, 3)
    rounded = [x.bfloat16() for x in (q, k, v)]
    ways = {
        "fp32 fused": lambda: F.scaled_dot_product_attention(q, k, v),
        "bf16 fused": lambda: F.scaled_dot_product_attention(*rounded),
    }
    torch.set_num_threads(threads)
    times, device = {way: [] for way in ways}, torch.device("cpu")
    for turn in range(repeats + 1):
        for way, function in ways.items():
            taken = seconds(function, device)
            if turn:  # the first is a warm-up
                times[way].append(taken)
    work = 4 * batch * heads * tokens**2 * channels
    return {way: work / statistics.median(taken) for way, taken in times.items()}


def main():
    parser = argparse.ArgumentParser(
        description="Speed against stock transformers and the machine's matrix products"
    )
    names = ["vitl", "vitb-2.1", "demo"]
    parser.add_argument("--models", nargs="+", choices=[*names, *SIZES], default=names)
    shapes = f"of {', '.join(SHAPES)} (default: the first three)"
    parser.add_argument(
        "--shapes",
        nargs="+",
        choices=list(SHAPES),
        default=list(SHAPES)[:3],
        metavar="SHAPE",
        help=shapes,
    )
    parser.add_argument(
        "--dtypes",
        nargs="+",
        choices=list(DTYPES),
        help="default: fp32, and bf16 where the machine is fast at it",
    )
    parser.add_argument(
        "--threads", nargs="+", type=int, default=[1, 2], help="on the CPU (default: 1 2)"
    )
    parser.add_argument(
        "--repeats", type=int, default=5, help="of each measurement (default: %(default)s)"
    )
    parser.add_argument(
        "--compile", action="store_true", help="also on the CPU, where it needs a C++ compiler"
    )
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--profile", action="store_true", help="show where the time goes instead")
    instead.add_argument(
        "--attention", action="store_true", help="time attention alone on the CPU instead"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all measurements")
    arguments = parser.parse_args()
    gpu = torch.cuda.is_available() and not arguments.attention
    device = torch.device("cuda" if gpu else "cpu")
    cuda = device.type == "cuda"
    if arguments.repeats < 1 or min(arguments.threads) < 1:
        sys.exit("error: --repeats and --threads must be at least 1.")
    print(machine(device))
    fast = fast_dtype(device) == torch.bfloat16
    dtypes = arguments.dtypes or (["fp32", "bf16"] if fast else ["fp32"])
    if arguments.attention:
        dtypes = ["bf16"]  # and float32 beside it
    if not fast:
        print(
            "This machine has no bf16 matrix units"
            + ("." if "bf16" in dtypes else ": bf16 is left out.")
        )
    cases = [
        (m, s, d, t)
        for m in arguments.models
        for s in arguments.shapes
        for d in dtypes
        for t in ([1] if cuda else arguments.threads)
    ]
    shape_of = lambda s: (GPU_BATCH[s] if cuda else SHAPES[s][0], *SHAPES[s][1:])
    found = []
    if arguments.attention:
        print(attention_heading())
    else:
        print(profile_heading() if arguments.profile else heading())
    with torch.inference_mode():
        for case in tqdm(cases, leave=False):
            name, shape, dtype, threads = case[0], shape_of(case[1]), DTYPES[case[2]], case[3]
            about = dict(model=name, shape=case[1], batch=shape[0], dtype=case[2], threads=threads)
            if arguments.profile:
                found.append(about | dict(parts=profile(name, shape, dtype, threads, device)))
                print(profile_line(found[-1]), flush=True)
            elif arguments.attention:
                rates = attention_alone(name, shape, threads, arguments.repeats)
                found.append(about | dict(attention=rates))
                print(attention_line(found[-1]), flush=True)
            else:
                results, rate = measure(
                    name,
                    shape,
                    dtype,
                    threads,
                    arguments.repeats,
                    device,
                    cuda or arguments.compile,
                )
                found.append(about | dict(peak=rate, results=results))
                print("\n".join(lines(found[-1])), flush=True)
    if arguments.json:
        arguments.json.write_text(
            json.dumps(dict(machine=machine(device), found=found), indent=1) + "\n"
        )


def heading():
    left = f"{'model':9}{'shape':19}{'dtype':6}{'threads':>8}{'products':>12}"
    return f"{left}   {'':9}{'seconds':>24}{'of stock':>10}{'of peak':>9}{'memory':>10}"


def lines(case):
    """A line of the table for each contestant."""
    left = f"{case['model']:9}{case['shape']:19}{case['dtype']:6}{case['threads']:8}"
    left += f"{case['peak'] / 1e9:7.0f} GF/s   "
    stock = case["results"].get("stock")
    for key, result in case["results"].items():
        middle = statistics.median(result["seconds"])
        seconds = f"{middle:.3f} ({min(result['seconds']):.3f} to {max(result['seconds']):.3f})"
        memory = "" if result["memory"] is None else f"{result['memory'] / 2**20:.0f} MiB"
        faster = f"{statistics.median(stock['seconds']) / middle:.2f}×" if stock else "–"
        numbers = f"{seconds:>24}{faster:>10}{result['share']:>9.0%}{memory:>10}"
        yield f"{left:{len(left)}}{key:9}{numbers}"
        left = " " * len(left)


def profile_heading():
    return f"{'model':9}{'shape':19}{'dtype':6}{'threads':>8}" + "".join(
        f"{part:>15}" for part in [*PARTS, "the rest"]
    )


def profile_line(case):
    shares = "".join(f"{case['parts'][part]:>15.0%}" for part in [*PARTS, "the rest"])
    return f"{case['model']:9}{case['shape']:19}{case['dtype']:6}{case['threads']:8}{shares}"


def attention_heading():
    left = f"{'model':9}{'shape':19}{'threads':>8}"
    return left + "".join(f"{way:>16}" for way in ("fp32 fused", "bf16 fused"))


def attention_line(case):
    rates = "".join(f"{rate / 1e9:11.0f} GF/s" for rate in case["attention"].values())
    return f"{case['model']:9}{case['shape']:19}{case['threads']:8}{rates}"


if __name__ == "__main__":
    main()
