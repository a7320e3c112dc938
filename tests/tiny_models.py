"""AudioLMs of random weights that run in a moment, and batches of random tokens for each of their stages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from valle.models import AudioLM

CODEBOOKS, CODES, UNITS = 3, 11, 7
KINDS: dict[str, dict[str, Any]] = {
    "aligned": {"num_units": UNITS},
    "prefix": {"num_units": UNITS, "coarse_conditioning": "prefix"},
    "codes only": {},
    "aligned, two coarse levels": {"num_units": UNITS, "num_coarse": 2},
    "prefix, two coarse levels": {"num_units": UNITS, "num_coarse": 2, "coarse_conditioning": "prefix"},
    "codes only, two coarse levels": {"num_coarse": 2},
    "aligned, 50 Hz units beside 75 Hz codes": {"num_units": UNITS, "units_per_period": 2, "frames_per_period": 3},
    "prefix, no units in the fine stage": {"num_units": UNITS, "coarse_conditioning": "prefix", "fine_units": False},
}
Row = dict[str, Any]


def fresh_model(**fields: Any) -> AudioLM:
    """As a trainer starts it, without dropout unless asked for."""
    torch.manual_seed(0)
    sizes = {"d_model": 16, "nhead": 2, "num_layers": 2, "num_quantizers": CODEBOOKS, "codebook_size": CODES, "dropout": 0.0}
    return AudioLM(**{**sizes, "unit_window": 2, **fields})


def tiny_model(**fields: Any) -> AudioLM:
    """In evaluation mode and double precision, with weights so large that every input shows in the output."""
    return shaken(fresh_model(**fields)).double().eval()


def tiny_soundstorm(**fields: Any) -> AudioLM:
    """A tiny model of ``soundstorm`` whose inputs outweigh its biases, so that they show in the codes that are drawn, too."""
    model = tiny_model(acoustic_model="soundstorm", **fields)
    for name, parameter in model.soundstorm.named_parameters():
        parameter.data *= 0.1 if "bias" in name else 5.0 if name.startswith(("embed", "unit_window")) else 1.0
        parameter.data += 1.0 if "norm.weight" in name else 0.0
    model.soundstorm.head.data *= 3
    return model


def shaken(model: nn.Module) -> Any:
    """The same module with random weights in every parameter, biases and modulations too."""
    generator = torch.Generator().manual_seed(2)
    for parameter in model.parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model


def attentive(model: nn.Module) -> Any:
    """The same module with attention and a pooled voice so strong that another prompt changes most of what is drawn."""
    for name, parameter in model.named_parameters():
        if ".qkv." in name or ".out." in name or "pooled_voice" in name:
            parameter.data *= 5
    return model


def random_row(model: AudioLM, *, periods: int, seed: int, missing: int = 0) -> Row:
    """One example of every stage: ``periods`` of the timeline, less ``missing`` frames and units at its end (at least one of each)."""
    config, generator = model.config, torch.Generator().manual_seed(seed)
    frames = max(1, periods * config.frames_per_period - missing)
    row: Row = {"codes": torch.randint(config.codebook_size, (frames, config.num_quantizers), generator=generator)}
    if config.num_units is not None:
        units = max(1, periods * config.units_per_period - missing)
        row["units"] = torch.randint(config.num_units, (units,), generator=generator)
    row["starts"], row["ends"] = seed % 2 == 0, seed % 3 == 0
    row["prompt"] = int(torch.randint(frames, (), generator=generator))
    row["level"] = config.num_coarse + seed % max(1, config.num_quantizers - config.num_coarse)
    return row


def padded(rows: Sequence[Tensor], *, size: int, filler: int = 0) -> tuple[Tensor, Tensor]:
    """Rows ``(T_b, ...)`` -> ``(B, T, ...)`` with legal but meaningless tokens behind, and lengths ``(B,)``."""
    lengths = torch.tensor([len(row) for row in rows])
    generator = torch.Generator().manual_seed(filler)
    batch = torch.randint(size, (len(rows), int(lengths.max()), *rows[0].shape[1:]), generator=generator)
    for out, row in zip(batch, rows, strict=True):
        out[: len(row)] = row
    return batch, lengths


def batch_of(model: AudioLM, rows: Sequence[Row], *, filler: int = 0) -> dict[str, dict[str, Tensor]]:
    """What ``AudioLM.loss`` takes, of :func:`random_row`'s examples."""
    config = model.config
    codes, lengths = padded([row["codes"] for row in rows], size=config.codebook_size, filler=filler)
    streams = {"codes": codes, "lengths": lengths}
    prompts = torch.tensor([row["prompt"] for row in rows])
    batch: dict[str, dict[str, Tensor]] = {}
    if config.num_units is not None:
        units, unit_lengths = padded([row["units"] for row in rows], size=config.num_units, filler=filler)
        flags = {name: torch.tensor([row[name] for row in rows]) for name in ("starts", "ends")}
        batch["semantic"] = {"units": units, "lengths": unit_lengths, **flags}
        streams.update(units=units, unit_lengths=unit_lengths)
        batch["coarse"] = dict(streams)
    else:
        batch["coarse"] = {**streams, "prompt_lengths": prompts}
    if config.has_fine:
        batch["fine"] = {**streams, "prompt_lengths": prompts, "levels": torch.tensor([row["level"] for row in rows])}
    return batch
