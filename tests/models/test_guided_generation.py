"""Guided coarse and fine codes against slow twins that run the two passes apart."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import CODEBOOKS, CODES, KINDS, UNITS, attentive, tiny_model
from torch import Tensor
from twin_decoding import coarse_twin, guided_coarse_twin

from valle.decoding.sampling import Sampling
from valle.errors import UserError
from valle.models import AudioLM
from valle.models.acoustic.base import AcousticRequest

DROPPED: dict[str, Any] = {"drop_conditions": 0.1, "drop_prompt": 0.05}
MODELS = {
    kind: attentive(tiny_model(**fields, **DROPPED))
    for kind, fields in {
        **KINDS,
        "aligned, pooled voice": {"num_units": UNITS, "pooled_voice": True},
        "prefix, pooled voice": {"num_units": UNITS, "coarse_conditioning": "prefix", "pooled_voice": True},
        "codes only, no prompts in the fine stage": {"prefix_mode": 0},
    }.items()
}
kinds = pytest.mark.parametrize("kind", MODELS)


def codes_of(length: int) -> Tensor:
    return torch.randint(CODES, (length, CODEBOOKS), generator=torch.Generator().manual_seed(length))


def units_for(model: AudioLM, frames: int) -> Tensor | None:
    if model.config.num_units is None:
        return None
    count = -(-frames // model.config.frames_per_period) * model.config.units_per_period
    return torch.randint(UNITS, (count,), generator=torch.Generator().manual_seed(frames))


def request(model: AudioLM, rows: list[tuple[int, int]], *, guidance: float, window: int = 100, **how: Any) -> AcousticRequest:
    """Rows of ``(prompt frames, new frames)``, whose content hangs on these alone."""
    totals = [sum(row) for row in rows]
    units = [units_for(model, total) for total in totals]
    sampling = {"coarse": Sampling(guidance=guidance, **how), "fine": Sampling(guidance=guidance, **how)}
    return AcousticRequest(
        prompt_codes=[codes_of(prompt) for prompt, _ in rows], num_frames=totals, seeds=totals, sampling=sampling,
        units=None if units[0] is None else units, windows={"coarse": window, "fine": window},  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.mark.parametrize("window", [6, 100])
@pytest.mark.parametrize("how", [{}, {"temperature": 0}, {"top_k": 3, "repetition_window": 4}])
@kinds
def test_guided_coarse_codes_are_those_of_two_passes_apart(kind: str, how: dict[str, Any], window: int) -> None:
    """Rows in a batch against one row at a time without a cache, windows that slide included."""
    model, sampling = MODELS[kind], Sampling(guidance=2.5, **how)
    rows = [(3, 10), (0, 6), (8, 4)]
    asked = request(model, rows, guidance=2.5, **how)
    found = model.coarse.generate(
        asked.prompt_codes, num_frames=asked.num_frames, units=asked.units, sampling=sampling, seeds=asked.seeds, window=window,
        voices=asked.prompt_codes,
    )  # fmt: skip
    assert len(found) == len(rows)
    for index, codes in enumerate(found):
        expected = guided_coarse_twin(
            model.coarse, asked.prompt_codes[index], num_frames=asked.num_frames[index], sampling=sampling, seed=asked.seeds[index],
            units=None if asked.units is None else asked.units[index], window=model.config.periods.window(window),
        )  # fmt: skip
        assert codes.tolist() == expected


@kinds
def test_guided_fine_codes_are_those_of_two_passes_apart(kind: str) -> None:
    model, weight = MODELS[kind], 3.0
    prompt, frames = 4, 11
    codes, units = codes_of(frames)[None], units_for(model, frames)
    voices = [codes_of(5)]
    fine, target = model.fine, codes[:, prompt:]
    streams = {"units": None, "unit_lengths": None}
    bare = dict(streams)
    if units is not None:
        streams = {"units": units[None], "unit_lengths": torch.tensor([len(units)])}
        bare = {"units": units[None], "unit_lengths": torch.tensor([0])}
    pooled = fine.pooled_voice
    found = fine.generate(
        codes, lengths=torch.tensor([frames]), prompt_lengths=torch.tensor([prompt]), seeds=[0], voices=voices, **streams,
        sampling=Sampling(temperature=0, guidance=weight),
    )  # fmt: skip
    expected = codes.clone()
    with torch.inference_mode():
        for level in range(model.config.num_coarse, CODEBOOKS):
            levels = torch.tensor([level])
            told = fine(
                expected, torch.tensor([frames]), torch.tensor([prompt]), levels, **streams, voices=pooled and pooled.of_rows(voices)
            )[0, prompt:]
            alone = fine(
                target, torch.tensor([frames - prompt]), torch.tensor([0]), levels, **bare, voices=pooled and pooled.of_rows([codes_of(0)])
            )[0]
            expected[0, prompt:, level] = (alone + weight * (told - alone)).argmax(-1)
            target = expected[:, prompt:]
    assert torch.equal(found, expected)


@kinds
def test_guidance_1_is_none_token_for_token(kind: str) -> None:
    model, rows = MODELS[kind], [(3, 9), (0, 5)]
    plain = request(model, rows, guidance=1.0, window=7)
    none = model.acoustic.generate(replace(plain, sampling={"coarse": Sampling(), "fine": Sampling()}))
    one = model.acoustic.generate(plain)
    assert all(torch.equal(left, right) for left, right in zip(none, one, strict=True))
    units = None if plain.units is None else plain.units[0]
    if model.coarse.pooled_voice is None:
        twin = coarse_twin(
            model.coarse, plain.prompt_codes[0], num_frames=12, units=units, sampling=Sampling(), seed=12,
            window=model.config.periods.window(7),
        )  # fmt: skip
        assert one[0][:, : model.config.num_coarse].tolist() == twin


@kinds
def test_another_weight_gives_other_codes(kind: str) -> None:
    """Regression: a two-step guidance that ignores its coefficient."""
    model = MODELS[kind]
    found = [model.acoustic.generate(request(model, [(6, 40)], guidance=weight))[0] for weight in (0.0, 1.0, 4.0, 8.0)]
    assert len({tuple(codes.flatten().tolist()) for codes in found}) == 4


@given(
    kind=st.sampled_from(list(MODELS)),
    rows=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 12)), min_size=2, max_size=4),
    window=st.integers(2, 20),
)
@settings(max_examples=15, deadline=None, derandomize=True)
def test_a_guided_row_alone_and_in_a_batch_is_the_same(kind: str, rows: list[tuple[int, int]], window: int) -> None:
    model = MODELS[kind]
    together = model.acoustic.generate(request(model, rows, guidance=2.0, window=window))
    for row, codes in zip(rows, together, strict=True):
        assert torch.equal(model.acoustic.generate(request(model, [row], guidance=2.0, window=window))[0], codes)


def test_without_units_and_prompt_nothing_of_them_is_heard() -> None:
    """Weight 0 draws from the unconditional logits alone."""
    model = MODELS["aligned, pooled voice"]
    one = request(model, [(6, 14)], guidance=0.0)
    assert one.units is not None
    other = replace(one, prompt_codes=[(one.prompt_codes[0] + 1) % CODES], units=[(one.units[0] + 1) % UNITS])
    assert torch.equal(model.acoustic.generate(one)[0][6:], model.acoustic.generate(other)[0][6:])


def test_a_model_that_never_went_without_conditions_refuses_guidance_and_says_what_to_train_with() -> None:
    model = tiny_model(num_units=UNITS)
    with pytest.raises(UserError, match=r"guidance 2 needs .* train with --drop-conditions 0.1 --drop-prompt 0.05, or use --guidance 1"):
        model.acoustic.generate(request(model, [(2, 4)], guidance=2.0))
    model.acoustic.generate(request(model, [(2, 4)], guidance=1.0))
    with pytest.raises(UserError, match="guidance 3 needs"):
        tiny_model().inference(codes_of(4)[None], torch.tensor([4]), 2, guidance=3)


def test_inference_takes_guidance() -> None:
    model, prompt = MODELS["codes only"], codes_of(6)[None]
    plain, strong = (model.inference(prompt, torch.tensor([6]), 20, guidance=weight) for weight in (1, 4))
    assert plain.shape == strong.shape == (1, 20, CODEBOOKS) and not torch.equal(plain, strong)
