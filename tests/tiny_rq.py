"""Models with the acoustic model ``rq`` that run in a moment, and their requests."""

from __future__ import annotations

from typing import Any

import torch
from tiny_models import CODEBOOKS, CODES, UNITS, fresh_model, padded, random_row, tiny_model
from torch import Tensor

from valle.models import AudioLM
from valle.models.acoustic.base import AcousticRequest

SIZES: dict[str, Any] = {"acoustic_model": "rq", "depth_num_layers": 2, "depth_dim": 8, "depth_nhead": 2}
KINDS: dict[str, dict[str, Any]] = {
    "units": {"num_units": UNITS},
    "codes only": {},
    "units, level 0 by the depth": {"num_units": UNITS, "rq_first_level": "depth"},
    "units, delay 1": {"num_units": UNITS, "acoustic_delay": 1},
    "units, delay 2, level 0 by the depth": {"num_units": UNITS, "acoustic_delay": 2, "rq_first_level": "depth"},
    "codes only, delay 2, shared": {"acoustic_delay": 2, "depth_weights": "shared"},
    "50 Hz units beside 75 Hz codes, delay 1": {"num_units": UNITS, "units_per_period": 2, "frames_per_period": 3, "acoustic_delay": 1},
}


def fresh_rq(**fields: Any) -> AudioLM:
    """As a trainer starts it."""
    return fresh_model(**{**SIZES, **fields})


def tiny_rq(**fields: Any) -> AudioLM:
    """In double precision, with weights so large that every input shows."""
    return tiny_model(**{**SIZES, **fields})


def clips(model: AudioLM, periods: list[int], *, filler: int = 0, missing: int = 0) -> dict[str, Any]:
    """What ``RqLM.loss`` takes for clips of so many periods."""
    rows = [random_row(model, periods=count, seed=count, missing=missing) for count in periods]
    codes, lengths = padded([row["codes"] for row in rows], size=CODES, filler=filler)
    streams = {"codes": codes, "lengths": lengths}
    if model.config.num_units is not None:
        streams["units"], streams["unit_lengths"] = padded([row["units"] for row in rows], size=UNITS, filler=filler)
    return streams


def request(model: AudioLM, prompts: list[int], frames: list[int], **options: Any) -> AcousticRequest:
    """Rows whose content hangs on their lengths, not on their places."""
    units: list[Tensor] | None = None
    if model.config.num_units is not None:
        units = [_random(UNITS, (_units_for(model, count),), seed=count) for count in frames]
    own = {
        "prompt_codes": [_random(CODES, (length, CODEBOOKS), seed=length) for length in prompts],
        "num_frames": frames,
        "seeds": [sum(row) for row in zip(prompts, frames, strict=True)],
        "units": units,
    }
    return AcousticRequest(**{**own, **options})


def _units_for(model: AudioLM, frames: int) -> int:
    return -(-frames // model.config.frames_per_period) * model.config.units_per_period


def _random(size: int, shape: tuple[int, ...], *, seed: int) -> Tensor:
    return torch.randint(size, shape, generator=torch.Generator().manual_seed(seed))
