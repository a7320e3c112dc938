"""The device and the number format that a flag names."""

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
    if device.type not in here:
        raise UserError(
            f"--device {name} was asked for and torch finds no {device.type.upper()} device here; use auto or {', '.join(here)}"
        )
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"--device {name} was asked for and torch finds {torch.cuda.device_count()} here, counted from 0; use auto")
    return device


DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def find_dtype(name: str | torch.dtype) -> torch.dtype:
    """``float32``, ``bfloat16`` or ``float16``, by name or as torch has it; anything else is refused."""
    found = DTYPES.get(str(name).removeprefix("torch."))
    if found is None:
        raise UserError(f"expected a number format of {', '.join(DTYPES)}, found {name}; use one of these")
    return found


def has_bfloat16_instructions() -> bool | None:
    """Whether the processor multiplies in bfloat16, by its own flags; None where they are not known.

    Without, kernels convert to float32 and back, and a pass can take ten times as long as in float32.
    """
    flags = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}  # older torch does not tell
    if flags.get("architecture") in ("x86_64", "amd64"):
        return bool(flags.get("avx512_bf16") or flags.get("amx_bf16"))
    return bool(flags["bf16"]) if "bf16" in flags else None
