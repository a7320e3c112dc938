"""Guided codes of ``soundstorm``, ``delay`` and ``rq`` against slow twins that run the two passes apart; what holds for every model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import CODEBOOKS, CODES, UNITS, attentive, tiny_model, tiny_soundstorm
from tiny_rq import tiny_rq
from torch import Tensor
from twin_delay import delay_twin, twin_logits
from twin_rq import rq_twin

from valle.decoding.masked import fill_masked
from valle.decoding.sampling import Sampling
from valle.errors import UserError
from valle.models import AudioLM
from valle.models.acoustic.base import AcousticRequest
from valle.models.soundstorm import SoundStormLM
from valle.models.stage import Stage

DROPPED: dict[str, Any] = {"drop_conditions": 0.1, "drop_prompt": 0.05}
ODD: dict[str, Any] = {"num_units": UNITS, "units_per_period": 2, "frames_per_period": 3}
MAKERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "delay": (tiny_model, {"acoustic_model": "delay", "num_units": UNITS}),
    "delay, codes only": (tiny_model, {"acoustic_model": "delay"}),
    "delay, flattened": (tiny_model, {"acoustic_model": "delay", "num_units": UNITS, "delay_pattern": "flatten"}),
    "delay, 50 Hz units beside 75 Hz codes": (tiny_model, {"acoustic_model": "delay", "delay_pattern": "partial-flatten", **ODD}),
    "rq": (tiny_rq, {"num_units": UNITS}),
    "rq, codes only, delay 2": (tiny_rq, {"acoustic_delay": 2}),
    "rq, level 0 by the depth, delay 1": (tiny_rq, {"num_units": UNITS, "acoustic_delay": 1, "rq_first_level": "depth"}),
    "rq, 50 Hz units beside 75 Hz codes, delay 2": (tiny_rq, {"acoustic_delay": 2, **ODD}),
    "soundstorm": (tiny_soundstorm, {"num_units": UNITS}),
    "soundstorm, codes only": (tiny_soundstorm, {}),
    "soundstorm, 50 Hz units beside 75 Hz codes": (tiny_soundstorm, ODD),
}


def heard(model: AudioLM) -> AudioLM:
    """The same model with what it is told so strong that it shows in the codes of every level: biases decide little."""
    for name, parameter in attentive(model).named_parameters():
        parameter.data *= 0.1 if "bias" in name or name.endswith("start") else 1.0
        parameter.data += 1.0 if name.endswith("norm.weight") else 0.0
    return model


MODELS: dict[str, AudioLM] = {kind: heard(make(**fields, **DROPPED)) for kind, (make, fields) in MAKERS.items()}
kinds = pytest.mark.parametrize("kind", MODELS)


def stage_of(model: AudioLM) -> Stage:
    [stage] = model.acoustic_stages().values()
    return stage


def random_tokens(*shape: int, size: int, seed: int) -> Tensor:
    return torch.randint(size, shape, generator=torch.Generator().manual_seed(seed))


def request(model: AudioLM, rows: list[tuple[int, int]], *, window: int = 100, **how: Any) -> AcousticRequest:
    """Rows of ``(prompt frames, new frames)``, whose content hangs on these alone."""
    config, totals, units = model.config, [sum(row) for row in rows], None
    if config.num_units is not None:
        units = [random_tokens(-(-count // config.frames_per_period) * config.units_per_period, size=UNITS, seed=count) for count in totals]
    name = stage_of(model).name
    return AcousticRequest(
        prompt_codes=[random_tokens(prompt, CODEBOOKS, size=CODES, seed=prompt) for prompt, _ in rows], num_frames=totals, seeds=totals,
        units=units, sampling={name: Sampling(**{"passes": (4, 2, 1), **how})}, windows={name: window},
    )  # fmt: skip


@pytest.mark.parametrize("window", [6, 100])
@pytest.mark.parametrize("how", [{}, {"temperature": 0}, {"top_k": 3, "repetition_window": 4}])
@pytest.mark.parametrize("kind", [kind for kind in MODELS if not kind.startswith("soundstorm")])
def test_guided_codes_are_those_of_two_passes_apart(kind: str, how: dict[str, Any], window: int) -> None:
    """Rows in a batch against one row at a time without a cache: delayed tails of prompts and windows that slide included."""
    model = MODELS[kind]
    ours = request(model, [(3, 9), (0, 5), (8, 4)], window=window, guidance=2.5, **how)
    for row, codes in enumerate(model.acoustic.generate(ours)):
        stage = stage_of(model)
        twin = {
            "num_frames": ours.num_frames[row], "units": None if ours.units is None else ours.units[row],
            "sampling": ours.sampling_of(stage), "seed": ours.seeds[row],
        }  # fmt: skip
        if kind.startswith("rq"):
            expected = rq_twin(model.rq, ours.prompt_codes[row], window=window, **twin).tolist()
        else:
            expected = delay_twin(model.delay, ours.prompt_codes[row], window=model.delay._steps_in(window), **twin)
        assert codes.tolist() == expected


def soundstorm_twin(stage: SoundStormLM, codes: Tensor, known: Tensor, units: Tensor | None, *, sampling: Sampling, seed: int) -> Tensor:
    """One row ``codes (T, Q)``: at every pass one pass over all frames with units, and one over the unknown frames alone."""
    codes = codes.clone()

    def logits_of(tokens: Tensor, level: int, units: Tensor | None) -> Tensor:
        said = (None, None) if units is None else (units[None], torch.tensor([len(units)]))
        return stage(tokens[None], torch.tensor([len(tokens)]), torch.tensor([level]), *said)[0]

    for level in range(CODEBOOKS):

        def guided_logits(column: Tensor, masked: Tensor, level: int = level) -> Tensor:
            tokens = codes.clone()
            tokens[:, level] = torch.where(masked[0], stage.mask, column[0])
            tokens[~known, level + 1 :] = stage.mask
            told, alone = logits_of(tokens, level, units), logits_of(tokens[~known], level, None if units is None else units[:0])
            logits = torch.zeros_like(told)
            logits[~known] = alone + sampling.guidance * (told[~known] - alone)
            return logits[None]

        codes[:, level] = fill_masked(
            guided_logits, codes[None, :, level], ~known[None], sampling, passes=sampling.passes_on(level), seeds=[seed * CODEBOOKS + level]
        )[0]
    return codes


@pytest.mark.parametrize("how", [{}, {"temperature": 0, "passes": (3, 1)}, {"top_k": 3}])
@pytest.mark.parametrize("kind", [kind for kind in MODELS if kind.startswith("soundstorm")])
@torch.inference_mode()
def test_guided_passes_of_soundstorm_are_two_passes_apart(kind: str, how: dict[str, Any]) -> None:
    """Ragged rows with a prompt in front, none, and two prompts with a turn between them."""
    stage, sampling = MODELS[kind].soundstorm, Sampling(**{"guidance": 3.0, "passes": (4, 2, 1), **how})
    lengths, period = [12, 6, 15], MODELS[kind].config.frames_per_period
    codes, place = random_tokens(3, 15, CODEBOOKS, size=CODES, seed=5), torch.arange(15)
    known = torch.stack([place < 4, place < 0, (place < 3) | ((place >= 6) & (place < 9))])
    counts = [-(-length // period) * MODELS[kind].config.units_per_period for length in lengths]
    units = random_tokens(3, max(counts), size=UNITS, seed=6) if MODELS[kind].config.num_units else None
    found = stage.generate(
        codes, lengths=torch.tensor(lengths), known=known, sampling=sampling, seeds=[7, 8, 9], units=units,
        unit_lengths=None if units is None else torch.tensor(counts),
    )  # fmt: skip
    for row, length in enumerate(lengths):
        own = None if units is None else units[row, : counts[row]]
        expected = soundstorm_twin(stage, codes[row, :length], known[row, :length], own, sampling=sampling, seed=7 + row)
        assert torch.equal(found[row, :length], expected)


@kinds
def test_guidance_1_is_none_code_for_code(kind: str) -> None:
    """In one pass over as many rows as were asked for."""
    model, rows, batches = MODELS[kind], [(4, 9), (0, 5)], []
    stage = stage_of(model)
    inner = stage.conformer if isinstance(stage, SoundStormLM) else stage.transformer
    handle = inner.register_forward_pre_hook(lambda _, inputs: batches.append(len(inputs[0])))
    none, one = (model.acoustic.generate(request(model, rows, window=7, **how)) for how in ({}, {"guidance": 1.0}))
    handle.remove()
    assert all(torch.equal(left, right) for left, right in zip(none, one, strict=True)) and max(batches) == 2


@kinds
def test_another_weight_gives_other_codes(kind: str) -> None:
    """Regression: a two-step guidance that ignores its coefficient, as in public code of MusicGen."""
    model = MODELS[kind]
    found = [model.acoustic.generate(request(model, [(6, 40)], guidance=weight))[0] for weight in (0.0, 1.0, 4.0, 8.0)]
    for level in range(CODEBOOKS):
        assert len({tuple(codes[:, level].tolist()) for codes in found}) == 4


@torch.inference_mode()
def test_the_likeliest_code_of_delay_lies_as_far_from_the_unconditional_as_the_weight_says() -> None:
    """Regression: a two-step guidance that ignores its coefficient, which gives one code whatever the weight."""
    model, weights, most = MODELS["delay, codes only"], (0.0, 1.0, 2.0, 5.0), 0
    for prompt in range(2, 9):
        plain = request(model, [(prompt, 2)], temperature=0)
        told = twin_logits(model.delay, plain.prompt_codes[0], prompt, units=None)[0]
        bare = twin_logits(model.delay, plain.prompt_codes[0][:0], 0, units=None)[0]
        expected = [int((bare + weight * (told - bare)).argmax()) for weight in weights]
        rows = [model.acoustic.generate(request(model, [(prompt, 2)], temperature=0, guidance=weight))[0] for weight in weights]
        assert [int(codes[prompt, 0]) for codes in rows] == expected
        most = max(most, len(set(expected)))
    assert most >= 3


@given(
    kind=st.sampled_from(list(MODELS)),
    rows=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 12)), min_size=2, max_size=4),
    window=st.integers(2, 20),
)
@settings(max_examples=20, deadline=None, derandomize=True)
def test_a_guided_row_alone_and_in_a_batch_is_the_same(kind: str, rows: list[tuple[int, int]], window: int) -> None:
    model = MODELS[kind]
    together = model.acoustic.generate(request(model, rows, window=window, guidance=2.0))
    for row, codes in zip(rows, together, strict=True):
        assert torch.equal(model.acoustic.generate(request(model, [row], window=window, guidance=2.0))[0], codes)


@kinds
def test_weight_0_hears_neither_units_nor_prompt(kind: str) -> None:
    """It draws from the unconditional logits alone; the prompt is kept."""
    model = MODELS[kind]
    one = request(model, [(6, 14)], guidance=0.0)
    prompt, units = (one.prompt_codes[0] + 1) % CODES, None if one.units is None else [(one.units[0] + 1) % UNITS]
    first, other = (model.acoustic.generate(row)[0] for row in (one, replace(one, prompt_codes=[prompt], units=units)))
    assert torch.equal(first[:6], one.prompt_codes[0]) and torch.equal(other[:6], prompt)
    assert torch.equal(first[6:], other[6:])


@pytest.mark.parametrize("kind", [kind for kind, model in MODELS.items() if model.config.num_units is not None])
def test_a_model_that_never_went_without_units_refuses_guidance(kind: str) -> None:
    make, fields = MAKERS[kind]
    model = make(**fields)
    with pytest.raises(UserError, match=r"guidance 2 needs .* train with --drop-conditions 0.1 --drop-prompt 0.05, or use --guidance 1"):
        model.acoustic.generate(request(model, [(2, 4)], guidance=2.0))
    model.acoustic.generate(request(model, [(2, 4)], guidance=1.0))


def test_without_units_only_a_model_whose_crops_have_prompts_must_have_gone_without_them() -> None:
    """Crops of delay and rq begin without a prompt; those of soundstorm have one."""
    for kind in ("delay, codes only", "rq, codes only, delay 2"):
        make, fields = MAKERS[kind]
        attentive(model := make(**fields))
        prompt = random_tokens(1, 6, CODEBOOKS, size=CODES, seed=0)
        plain, strong = (model.inference(prompt, torch.tensor([6]), 20, guidance=weight) for weight in (1, 4))
        assert plain.shape == strong.shape == (1, 20, CODEBOOKS) and not torch.equal(plain, strong)
    with pytest.raises(UserError, match="guidance 2 needs a model that has learned without"):
        tiny_soundstorm().inference(random_tokens(1, 4, CODEBOOKS, size=CODES, seed=0), torch.tensor([4]), 2, guidance=2)


def test_of_flat_the_coarse_stage_alone_is_guided() -> None:
    """Fine chunks know neither units nor, as a rule, the prompt."""
    model = attentive(tiny_model(acoustic_model="flat", num_quantizers=4, **DROPPED))
    prompt = random_tokens(1, 6, 4, size=CODES, seed=0)
    plain, strong = (model.inference(prompt, torch.tensor([6]), 20, guidance=weight) for weight in (1, 4))
    assert not torch.equal(plain[..., :2], strong[..., :2])
    ours = AcousticRequest(prompt_codes=[prompt[0]], num_frames=[9], seeds=[0], units=None, sampling={"flatfine": Sampling(guidance=2)})
    with pytest.raises(UserError, match="expected guidance 1 for the flatfine stage"):
        model.acoustic.generate(ours)
