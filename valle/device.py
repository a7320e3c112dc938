"""The device that a flag names."""

from __future__ import annotations

import torch

from valle.errors import UserError


def find_device(name: str) -> torch.device:
    """``auto`` takes CUDA, then MPS, then the CPU; anything that is not here is refused."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    here = [kind for kind, found in available.items() if found]
    if name == "auto":
        return torch.device(here[0])
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"--device {name} names no device; use auto, cpu, cuda or mps") from error
    if device.type not in here or (device.index or 0) >= max(1, torch.cuda.device_count() if device.type == "cuda" else 1):
        raise UserError(f"--device {name} is not to be had here; use auto or {', '.join(here)}")
    return device
