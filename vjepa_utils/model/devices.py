"""Where to compute, and in which precision."""

from collections.abc import Callable

import psutil
import torch

# Tokens of a batch: enough to keep the device busy; bounds memory.
BATCH_TOKENS = {"cpu": 2048, "mps": 8192, "cuda": 32768}


def batch_tokens(device: torch.device) -> int:
    """Tokens to encode at a time; on a device not known here as on a CPU."""
    return BATCH_TOKENS.get(device.type, BATCH_TOKENS["cpu"])


def best_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def fast_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 if the device is fast at it, else float32."""
    fast, abilities = False, torch.cpu.get_capabilities()
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    elif device.type == "cpu":
        fast = abilities.get("amx_bf16") or abilities.get("avx512_bf16")
    return torch.bfloat16 if fast else torch.float32


def free_memory(device: torch.device) -> int:
    """Free bytes, including what torch's cache could release."""
    if device.type != "cuda":
        return psutil.virtual_memory().available
    reusable = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + reusable


def check_fits(needed: float, device: torch.device, what: str, remedy: Callable) -> None:
    """MemoryError if a device has fewer free bytes than needed. what: needs them; remedy: of the
    share of them that is free, what to do instead.
    """
    free, gib = free_memory(device), 2**30
    if needed > free:
        sizes = f"{needed / gib:.1f} GiB, where {free / gib:.1f} GiB are free"
        raise MemoryError(f"{what} need about {sizes}: {remedy(free / needed)}.")
