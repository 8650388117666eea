"""What a benchmark ran on."""

import platform

import torch

UNITS = ("avx2", "avx512_f", "avx512_bf16", "amx_bf16")


def machine(device: torch.device) -> str:
    """The processor or GPU with the units that decide its speed, and torch, in one line."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    able = torch.cpu.get_capabilities()
    name = able.get("cpu_name") or platform.processor() or platform.machine()
    units = ", ".join(unit for unit in UNITS if able.get(unit)) or f"none of {', '.join(UNITS)}"
    return f"{name} ({units}), {able['num_logical_cores']} cores, torch {torch.__version__}"
