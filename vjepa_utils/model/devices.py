"""Where to compute, and in which precision."""

from __future__ import annotations

import time

import psutil
import torch


def best_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def fast_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 if the torch.device is fast at it, else float32."""
    abilities = torch.cpu.get_capabilities()
    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16
    if device.type == "cpu" and (abilities.get("amx_bf16") or abilities.get("avx512_bf16")):
        return torch.bfloat16
    return torch.float32


def free_memory(device: torch.device) -> int:
    """Free bytes of a torch.device, including what torch's cache could release."""
    if device.type != "cuda":
        return psutil.virtual_memory().available
    reusable = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + reusable


def operations_per_second(device: torch.device, dtype: torch.dtype) -> float:
    """Throughput of a matrix product on a torch.device, measured in milliseconds: an upper bound
    on a model's.
    """
    side = 1024
    matrix = torch.zeros(side, side, device=device, dtype=dtype)
    for _ in range(2):  # the first may include a library's initialisation
        start = time.perf_counter()
        (matrix @ matrix)[0, 0].item()  # waits for the result
    return 2 * side**3 / (time.perf_counter() - start)
