"""``--compile true``: the forward pass of a model, and with it the backward, compiled by torch."""

from __future__ import annotations

import os
import shutil

import torch
from torch import nn

from valle.errors import UserError


def compile_forward(model: nn.Module, device: torch.device) -> None:
    """In place: the names of weights stay, and only ``model(batch)`` is compiled, for lengths of any kind."""
    if device.type == "cpu" and not has_compiler():
        raise UserError("--compile true needs a C++ compiler on a CPU, found none; install g++ or clang, set CXX, or leave it out")
    model.compile(dynamic=True)


def has_compiler() -> bool:
    """Whether torch finds what it compiles for CPUs with."""
    return any(shutil.which(name) for name in (os.environ.get("CXX", ""), "g++", "clang++") if name)
