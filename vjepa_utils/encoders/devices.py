"""Where to compute, and in which precision."""

import torch


def best_device():
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def fast_dtype(device):
    """bfloat16 if the torch.device is fast at it, else float32."""
    abilities = torch.cpu.get_capabilities()
    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16
    if device.type == "cpu" and (abilities.get("amx_bf16") or abilities.get("avx512_bf16")):
        return torch.bfloat16
    return torch.float32
