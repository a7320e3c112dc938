"""Stages and acoustic models that stream: token by token what they generate of the whole row at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny_bpe import tiny_bpe
from tiny_models import CODEBOOKS, CODES, UNITS, tiny_model
from torch import Tensor

import valle.decoding.engine
from valle.decoding.sampling import Drafts, Sampling
from valle.models import AudioLM
from valle.models.acoustic.base import AcousticModel, AcousticRequest, LiveRequest
from valle.models.unit_feed import UnitFeed

RQ: dict[str, Any] = {"acoustic_model": "rq", "depth_num_layers": 1, "depth_dim": 8, "depth_nhead": 2}
RATES = {"units_per_period": 2, "frames_per_period": 3}
BPE = tiny_bpe(UNITS)
SPEAKERS: dict[str, dict[str, Any]] = {
    "frames": {},
    "frames, drafted": {"semantic_drafts": 3},
    "runs": {"unit_sequence": "runs", "longest_run": 5},
    "byte pairs": {"unit_sequence": "bpe", "unit_bpe_model": BPE.text, "unit_bpe_sha256": BPE.sha256, "frames_per_token": 2.0},
}
ACOUSTIC: dict[str, dict[str, Any]] = {
    "ar-nar": {"num_units": UNITS},
    "ar-nar, units before codes": {"num_units": UNITS, "coarse_conditioning": "prefix", "fine_units": False},
    "ar-nar, codes only": {},
    "ar-nar, two coarse levels, pooled voice": {"num_units": UNITS, "num_coarse": 2, "pooled_voice": True, **RATES},
    "ar-nar, drafted": {"num_units": UNITS, "num_coarse": 2, "coarse_drafts": 3, **RATES},
    "ar-nar, guided": {"num_units": UNITS, "drop_conditions": 0.1},
    "ar-nar, units before codes, guided": {"num_units": UNITS, "drop_conditions": 0.1, "coarse_conditioning": "prefix"},
    "soundstorm": {"num_units": UNITS, "acoustic_model": "soundstorm", **RATES},
    "soundstorm, codes only": {"acoustic_model": "soundstorm"},
    "flat": {"num_units": UNITS, "acoustic_model": "flat"},
    "flat, no fine level": {"num_units": UNITS, "acoustic_model": "flat", "flat_coarse": 3},
    **{f"delay, {name}": {"num_units": UNITS, "acoustic_model": "delay", "delay_pattern": name, **RATES}
       for name in ("parallel", "delay", "partial-delay", "partial-flatten", "flatten")},
    "delay, guided": {"num_units": UNITS, "acoustic_model": "delay", "drop_conditions": 0.1, **RATES},
    "rq": {"num_units": UNITS, **RQ},
    "rq, delayed, guided": {"num_units": UNITS, "acoustic_delay": 2, "drop_conditions": 0.1, **RATES, **RQ},
    "rq, codes only, guided": {"drop_conditions": 0.1, **RQ},
    "rq, delayed": {"num_units": UNITS, "acoustic_delay": 2, "rq_first_level": "depth", **RATES, **RQ},
    "rq, delayed, codes only": {"acoustic_delay": 1, **RQ},
}  # fmt: skip


def forget_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows of a few frames then leave nothing behind them."""
    monkeypatch.setattr(valle.decoding.engine, "TOKENS_AT_ONCE", 4)
    monkeypatch.setattr(valle.decoding.engine, "MOST_TOKENS_A_FRAME", CODEBOOKS)
    monkeypatch.setattr("valle.models.unit_feed.FORGOTTEN_AT_ONCE", 1)


def tokens(size: int, *shape: int, seed: int = 0) -> Tensor:
    return torch.randint(size, shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("end", [-1e9, 0.0, 1e9])
@pytest.mark.parametrize("prompt", [0, 1, 13])
@pytest.mark.parametrize("kind", SPEAKERS)
def test_units_come_one_by_one_as_they_would_all_at_once(kind: str, prompt: int, end: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows that slide and tokens that are forgotten included."""
    forget_soon(monkeypatch)
    stage = tiny_model(num_units=UNITS, **SPEAKERS[kind]).semantic
    stage.head.bias.data[stage.eos] += end
    sampling = Sampling(repetition_window=3, drafts=Drafts(3) if "drafted" in kind else None)
    given = tokens(UNITS, prompt, seed=prompt)
    [whole] = stage.generate([given], max_new=[60], min_new=[5], sampling=sampling, seeds=[3], window=9)
    pieces = list(stage.stream(given, max_new=60, min_new=5, sampling=sampling, seed=3, window=9))
    assert torch.equal(torch.cat([given[:0], *pieces]), whole)
    assert len(whole) == 60 or end >= 0
    assert len(pieces) >= len(whole) / 8
    assert not any(map(len, stage.stream(given, max_new=0, min_new=0, sampling=sampling, seed=3, window=9)))


def sampling_of(kind: str) -> Sampling:
    if "guided" in kind:
        return Sampling(guidance=2.0, repetition_window=4)
    return Sampling(repetition_window=4, drafts=Drafts(3) if "drafted" in kind else None)


def asked(model: AudioLM, kind: str, prompt: int, frames: int, block: int | None) -> tuple[AcousticRequest, LiveRequest]:
    """The same of a whole row and of one whose units come one by one, up to ``frames`` frames."""
    config = model.config
    codes = tokens(CODES, prompt, CODEBOOKS, seed=prompt)
    units = None if config.num_units is None else tokens(UNITS, frames // config.frames_per_period * config.units_per_period, seed=frames)
    stages = model.acoustic_stages()
    how: dict[str, Any] = {
        "sampling": {name: sampling_of(kind) if name in ("coarse", "rq", "delay") else Sampling() for name in stages},
        "windows": dict.fromkeys(stages, 12), "block": block,
    }  # fmt: skip
    whole = AcousticRequest(prompt_codes=[codes], num_frames=[frames], seeds=[5], units=None if units is None else [units], **how)
    feed = None
    if units is not None:
        known = prompt // config.frames_per_period * config.units_per_period
        feed = UnitFeed(units[:known], (unit[None] for unit in units[known:]), config.periods)
    most = frames + 30 if units is not None else frames  # the units' end is the row's
    return whole, LiveRequest(prompt_codes=codes, num_frames=most, seed=5, units=feed, **how)


@pytest.mark.parametrize(("prompt", "frames"), [(6, 48), (0, 36), (18, 24), (12, 12)])
@pytest.mark.parametrize("kind", ACOUSTIC)
def test_codes_come_as_they_are_drawn_as_they_would_all_at_once(
    kind: str, prompt: int, frames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget_soon(monkeypatch)
    model = tiny_model(**ACOUSTIC[kind])
    for block in (None, 3):
        whole, live = asked(model, kind, prompt, frames, block)
        [codes] = model.acoustic.generate(whole)
        pieces = list(model.acoustic.stream(live))
        assert torch.equal(torch.cat([live.prompt_codes, *pieces]), codes)
        if frames > prompt and (block or model.acoustic.name != "soundstorm"):
            assert len(pieces) >= (frames - prompt) / 12


@pytest.mark.parametrize("new", [1, 2, 3, 4])
@pytest.mark.parametrize("delay", [1, 2])
def test_a_row_that_ends_within_its_prompts_delay_is_the_same(new: int, delay: int) -> None:
    model = tiny_model(**{**ACOUSTIC["rq"], "acoustic_delay": delay, "units_per_period": 1, "frames_per_period": 1})
    for seed in range(15):
        whole, live = asked(model, "rq", 5, 5 + new, None)
        [codes] = model.acoustic.generate(replace(whole, seeds=[seed]))
        assert torch.equal(torch.cat([live.prompt_codes, *model.acoustic.stream(replace(live, seed=seed))]), codes)


def test_a_frame_is_there_before_units_that_it_does_not_see_are_made() -> None:
    """The lookahead: a frame's own unit and ``unit_window`` after it."""
    for kind in ("rq", "ar-nar, drafted", "delay, parallel"):
        model = tiny_model(**{**ACOUSTIC[kind], "units_per_period": 1, "frames_per_period": 1, "coarse_drafts": 0, "num_coarse": 1})
        made: list[int] = []

        def units(made: list[int] = made) -> Iterator[Tensor]:
            for number in range(100):
                made.append(number)
                yield torch.tensor([number % UNITS])

        feed = UnitFeed(torch.zeros(0, dtype=torch.int64), units(), model.config.periods)
        request = LiveRequest(prompt_codes=torch.zeros(0, CODEBOOKS, dtype=torch.int64), num_frames=100, seed=0, units=feed, block=1)
        for frame, codes in enumerate(model.acoustic.stream(request)):
            assert len(codes) == 1 and len(made) <= frame + 1 + model.config.unit_window
            if frame == 20:
                break


def test_a_model_that_does_not_say_how_streams_all_at_once() -> None:
    model = tiny_model(**ACOUSTIC["rq"])
    whole, live = asked(model, "rq", 6, 24, None)
    [codes] = model.acoustic.generate(whole)
    [new] = AcousticModel.stream(model.acoustic, live)
    assert torch.equal(new, codes[6:])
