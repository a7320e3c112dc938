"""A voice pooled from codes: from where, into what, and what becomes of rows without one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import CODEBOOKS, CODES, UNITS, attentive, fresh_model, tiny_model
from torch import Tensor
from twin_decoding import CoarseSide, draw

from valle.crops import CroppedTokens, Span
from valle.decoding.sampling import RowNoise, Sampling
from valle.models.acoustic.base import AcousticRequest
from valle.models.coarse import CoarseLM
from valle.models.config import AudioLMConfig
from valle.models.fine import FineLM
from valle.models.stage import ExampleSettings
from valle.models.voice import PooledVoice, give_up_beginning, voice_of

EACH = {"units_per_period": 1, "frames_per_period": 2}
MODELS = {
    "aligned": attentive(tiny_model(num_units=UNITS, pooled_voice=True)),
    "prefix": attentive(tiny_model(num_units=UNITS, coarse_conditioning="prefix", pooled_voice=True)),
    "codes only": attentive(tiny_model(pooled_voice=True)),
}
kinds = pytest.mark.parametrize("kind", MODELS)


def config_of(**fields: Any) -> AudioLMConfig:
    sizes = {"d_model": 16, "nhead": 2, "num_layers": 1, "num_quantizers": CODEBOOKS, "codebook_size": 1000, "num_units": 1000}
    return AudioLMConfig(**{**sizes, **EACH, "pooled_voice": True, "drop_voice": 0.0, **fields})


def crop_of(*, total: int, start: int, stop: int, name: str = "cut", epoch: int = 1) -> CroppedTokens:
    """Periods ``start`` to ``stop`` of ``total``, whose tokens are the numbers of their places."""
    whole = Span(np.arange(total), np.repeat(np.arange(2 * total)[:, None], CODEBOOKS, 1))
    return CroppedTokens(
        cut_id=name, units=whole.units[start:stop], codes=whole.codes[2 * start : 2 * stop], starts=start == 0, ends=stop == total,
        seed=1, epoch=epoch, whole=whole, first_frame=2 * start,
    )  # fmt: skip


@st.composite
def crops(draw_from: st.DrawFn) -> CroppedTokens:
    total = draw_from(st.integers(1, 14))
    start = draw_from(st.integers(0, total - 1))
    return crop_of(total=total, start=start, stop=draw_from(st.integers(start + 1, total)), name=f"cut-{draw_from(st.integers(0, 10**6))}")


@given(crop=crops(), mode=st.sampled_from([0, 1, 2]))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_no_target_lies_in_what_the_voice_is_pooled_from(crop: CroppedTokens, mode: int) -> None:
    """Else a stage would read its answers there."""
    for stage, fields in ((CoarseLM, {}), (CoarseLM, {"num_units": None, "units_per_period": 0}), (FineLM, {"prefix_mode": mode})):
        batch = stage.collate([crop], ExampleSettings(config_of(**fields)))
        first = int(batch.get("prompt_lengths", torch.tensor([0])))
        targets = batch["codes"][0, first : int(batch["lengths"]), 0].tolist()
        voice = batch["voice"][0, : int(batch["voice_lengths"]), 0].tolist()
        assert not set(targets) & set(voice) and len(targets) > 0
        assert voice == list(range(voice[0], voice[0] + len(voice))) if voice else True
        if stage is CoarseLM:
            assert voice or len(crop.codes) == 2, "only a crop of one period that is all of its utterance has nothing to give"


def test_a_crop_that_is_all_of_its_utterance_gives_up_its_beginning_in_whole_periods() -> None:
    config, lengths = config_of(), set()
    for number in range(100):
        crop = crop_of(total=10, start=0, stop=10, name=f"cut-{number}")
        shorter = give_up_beginning(crop, config)
        assert np.array_equal(shorter.codes[:, 0], np.arange(shorter.first_frame, 20)) and not shorter.starts
        assert np.array_equal(shorter.units, np.arange(shorter.first_frame // 2, 10)) and len(shorter.codes) >= 10
        lengths.add(len(shorter.codes))
        other = crop_of(total=20, start=3, stop=10, name=f"cut-{number}")
        assert give_up_beginning(other, config) is other
    assert len(lengths) > 3
    assert give_up_beginning(crop, config_of(drop_voice=1.0)) is crop


def test_segments_lie_anywhere_outside_and_last_up_to_half_of_the_crop() -> None:
    segments = [voice_of(crop_of(total=12, start=4, stop=8, name=f"cut-{n}"), config_of(), first_target=0)[:, 0] for n in range(300)]
    assert {len(segment) for segment in segments} == {1, 2, 3, 4}
    assert {int(frame) for segment in segments for frame in segment} == {*range(8), *range(16, 24)}


@pytest.mark.parametrize(("fields", "share"), [({"drop_voice": 0.1}, 0.1), ({"drop_conditions": 0.1, "drop_prompt": 0.05}, 0.15)])
def test_voices_are_dropped_in_10_to_15_percent(fields: dict[str, float], share: float) -> None:
    rows = [crop_of(total=12, start=4, stop=8, name=f"cut-{number}") for number in range(2000)]
    batch = CoarseLM.collate(rows, ExampleSettings(config_of(**fields)))
    assert float((batch["voice_lengths"] == 0).float().mean()) == pytest.approx(share, abs=0.025)


def test_without_the_option_there_is_no_tensor_and_no_weight_more() -> None:
    for stage in (CoarseLM, FineLM):
        batch = stage.collate([crop_of(total=4, start=0, stop=4)], ExampleSettings(config_of(pooled_voice=False)))
        assert not {"voice", "voice_lengths"} & batch.keys()
    plain, voiced = fresh_model(num_units=UNITS), fresh_model(num_units=UNITS, pooled_voice=True)
    assert {name.split(".")[1] for name in voiced.state_dict().keys() - plain.state_dict().keys()} == {"pooled_voice"}
    assert plain.state_dict().keys() < voiced.state_dict().keys()


def test_a_voice_is_a_mean_over_frames_in_any_order_and_padding_is_none_of_it() -> None:
    pooled: PooledVoice = MODELS["aligned"].coarse.pooled_voice
    codes = torch.randint(CODES, (1, 6, CODEBOOKS), generator=torch.Generator().manual_seed(0))
    [alone] = pooled(codes, torch.tensor([6]))
    torch.testing.assert_close(pooled(codes.flip(1), torch.tensor([6]))[0], alone)
    torch.testing.assert_close(pooled(codes.repeat(1, 2, 1), torch.tensor([12]))[0], alone)
    padded = torch.cat([codes, torch.full_like(codes, 10**6)], 1)
    both = pooled(torch.cat([padded, padded]), torch.tensor([6, 0]))
    torch.testing.assert_close(both[0], alone)
    assert torch.equal(both[1], pooled.nobody) and torch.equal(pooled(codes[:, :0], torch.tensor([0]))[0], pooled.nobody)
    torch.testing.assert_close(pooled.of_rows([codes[0], codes[0, :0]]), both)
    changed = codes.clone()
    changed[0, 2, -1] = (changed[0, 2, -1] + 1) % CODES
    assert not torch.allclose(pooled(changed, torch.tensor([6]))[0], alone)


def test_every_parameter_has_a_gradient_whoever_has_a_voice() -> None:
    """Or DDP waits for ever."""
    model = fresh_model(num_units=UNITS, pooled_voice=True)
    crop = crop_of(total=5, start=0, stop=2)
    whole = Span(np.arange(5) % UNITS, crop.codes[:1].repeat(10, 0) % CODES)
    small = replace(crop, units=crop.units % UNITS, codes=crop.codes % CODES, whole=whole)
    for config in (replace(model.config, drop_voice=0.0), replace(model.config, drop_voice=1.0)):
        model.zero_grad(set_to_none=True)
        for stage in (model.coarse, model.fine):
            stage.loss(**stage.collate([small], ExampleSettings(config))).sum.backward()
            assert all(parameter.grad is not None for parameter in stage.parameters())


def prompt_of(length: int, *, seed: int = 0) -> Tensor:
    return torch.randint(CODES, (length, CODEBOOKS), generator=torch.Generator().manual_seed(seed))


@kinds
@pytest.mark.parametrize("window", [6, 100])
def test_coarse_codes_are_those_of_passes_without_a_cache_windows_that_slide_too(kind: str, window: int) -> None:
    model, prompt, frames = MODELS[kind].coarse, prompt_of(4), 14
    units = torch.arange(frames // 2) % UNITS if model.conditioning else None
    [found] = model.generate(
        [prompt], num_frames=[frames], units=None if units is None else [units], sampling=Sampling(), seeds=[5], window=window,
        voices=[prompt],
    )  # fmt: skip
    side = CoarseSide(model, prompt, units, prompt, num_frames=frames, window=model.periods.window(window))
    noise = RowNoise([5], model.head.out_features, torch.device("cpu"))
    with torch.inference_mode():
        while len(side.tokens) < frames:
            side.add(draw(side.logits(), Sampling(), noise, side.tokens))
    assert found[:, 0].tolist() == side.tokens.tolist()


@kinds
def test_another_voice_changes_the_loss_of_both_stages_whatever_the_prompt(kind: str) -> None:
    model, frames = MODELS[kind], 10
    streams = {"codes": prompt_of(frames, seed=9)[None], "lengths": torch.tensor([frames])}
    if model.config.num_units is not None:
        streams.update(units=torch.arange(frames // 2)[None] % UNITS, unit_lengths=torch.tensor([frames // 2]))
    prompts = {"prompt_lengths": torch.tensor([4])}
    found = []
    for seed in (1, 2):
        voice = {"voice": prompt_of(5, seed=seed)[None], "voice_lengths": torch.tensor([5])}
        coarse = model.coarse.loss(**streams, **voice, **({} if model.coarse.conditioning else prompts))
        fine = model.fine.loss(**streams, **voice, **prompts, levels=torch.tensor([2]))
        found.append((float(coarse.sum.detach()), float(fine.sum.detach())))
    assert abs(found[0][0] - found[1][0]) > 1e-3 and abs(found[0][1] - found[1][1]) > 1e-3


def test_the_acoustic_model_takes_the_voice_from_the_prompt() -> None:
    """Of all levels, the fine ones too: of two prompts that differ there alone, the coarse codes differ."""
    model = MODELS["aligned"]
    prompt, frames = prompt_of(8), 48
    other = prompt.clone()
    other[:, 1:] = (other[:, 1:] + 1) % CODES
    request = AcousticRequest(
        prompt_codes=[prompt, other], num_frames=[frames, frames], seeds=[3, 3], units=[torch.arange(frames // 2) % UNITS] * 2
    )
    one, two = model.acoustic.generate(request)
    assert not torch.equal(one[8:, 0], two[8:, 0])
