"""Bits a second of units under a small semantic stage, trained on one set of utterances and measured on another."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from valle.models.config import AudioLMConfig
from valle.models.semantic import SemanticLM

Units = Sequence[NDArray[np.int64]]  # (T_u,) an utterance

CROP_SECONDS, BATCH_SIZE, STEPS, PEAK_LR, WARMUP = 8.0, 8, 400, 3e-3, 40


def small_lm_bits(train: Units, test: Units, *, num_units: int, rate_hz: float, steps: int = STEPS, seed: int = 0) -> float:
    """Three layers of width 128 after ``steps`` steps of 64 s: the same audio for every tokenizer, whatever its rate."""
    with torch.enable_grad():
        model = _trained(train, num_units=num_units, crop=round(CROP_SECONDS * rate_hz), steps=steps, seed=seed)
    nats, units = 0.0, 0
    with torch.no_grad():
        for utterance in test:
            part = model.loss(**_batch([utterance], whole=[True]))
            nats, units = nats + part.sum.item(), units + len(utterance)
    return nats / math.log(2) / (units / rate_hz)


def _trained(train: Units, *, num_units: int, crop: int, steps: int, seed: int) -> SemanticLM:
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = SemanticLM(AudioLMConfig(d_model=128, nhead=4, num_layers=3, dim_feedforward=416, dropout=0.0, num_units=num_units))
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_LR, weight_decay=0.01)
    lengths = np.array([len(utterance) for utterance in train])
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = PEAK_LR * min(1.0, (step + 1) / WARMUP) * 0.5 * (1 + math.cos(math.pi * step / steps))
        rows, whole = [], []
        for index in rng.choice(len(train), BATCH_SIZE, p=lengths / lengths.sum()):
            start = int(rng.integers(max(1, len(train[index]) - crop + 1)))
            rows.append(train[index][start : start + crop])
            whole.append(len(rows[-1]) == len(train[index]))
        part = model.loss(**_batch(rows, whole=whole))
        optimizer.zero_grad()
        (part.sum / part.count).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model.eval()


def _batch(rows: Units, *, whole: Sequence[bool]) -> dict[str, Tensor]:
    """Padded ``units (B, T)`` as the semantic stage takes them; utterances that are whole have their start and end."""
    lengths = torch.tensor([len(row) for row in rows])
    units = torch.zeros(len(rows), int(lengths.max()), dtype=torch.int64)
    for place, row in zip(units, rows, strict=True):
        place[: len(row)] = torch.from_numpy(np.ascontiguousarray(row))
    edges = torch.tensor(whole)
    return {"units": units, "lengths": lengths, "starts": edges, "ends": edges}
