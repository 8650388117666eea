"""Where to compute, and in which precision."""

from __future__ import annotations

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


def check_fits(
    needed: float, device: torch.device, what: str, remedy: Callable[[float], str]
) -> None:
    """MemoryError if a torch.device has fewer free bytes than needed.

    what: who needs them, such as "16 frames are 4096 tokens and".
    remedy: of the share of the needed bytes that is free, what to do instead.
    """
    free = free_memory(device)
    if needed > free:
        raise MemoryError(
            f"{what} need about {needed / 2**30:.1f} GiB, where {free / 2**30:.1f} GiB are free: "
            f"{remedy(free / needed)}."
        )
