"""The acoustic model ``delay``: the engine's steps against the slow twin, ragged prompts, delayed tails, windows that slide."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import CODEBOOKS, CODES, UNITS, tiny_model
from torch import Tensor
from twin_decoding import Heard
from twin_delay import delay_twin, twin_logits

from valle.decoding.sampling import Sampling
from valle.models import AudioLM
from valle.models.acoustic.base import AcousticRequest
from valle.models.delay import DelayLM
from valle.modules.code_pattern import PATTERNS

KINDS: dict[str, dict[str, Any]] = {
    **{pattern: {"num_units": UNITS, "delay_pattern": pattern} for pattern in PATTERNS},
    "codes only": {},
    "50 Hz units beside 75 Hz codes": {"num_units": UNITS, "units_per_period": 2, "frames_per_period": 3},
}
MODELS = {kind: tiny_model(acoustic_model="delay", **fields) for kind, fields in KINDS.items()}
kinds = pytest.mark.parametrize("kind", KINDS)


def random_tokens(*shape: int, size: int, seed: int) -> Tensor:
    return torch.randint(size, shape, generator=torch.Generator().manual_seed(seed))


def request(model: AudioLM, prompts: Sequence[int], frames: Sequence[int], **options: Any) -> AcousticRequest:
    """Rows whose content hangs on their lengths, not on their places."""
    config, units = model.config, None
    if config.num_units is not None:
        units = [random_tokens(-(-count // config.frames_per_period) * config.units_per_period, size=UNITS, seed=count) for count in frames]
    return AcousticRequest(**{
        "prompt_codes": [random_tokens(length, CODEBOOKS, size=CODES, seed=length) for length in prompts],
        "num_frames": frames, "seeds": [sum(row) for row in zip(prompts, frames, strict=True)], "units": units, **options,
    })  # fmt: skip


def row_of(ours: AcousticRequest, row: int) -> AcousticRequest:
    units = None if ours.units is None else [ours.units[row]]
    return replace(ours, prompt_codes=[ours.prompt_codes[row]], num_frames=[ours.num_frames[row]], seeds=[ours.seeds[row]], units=units)


def held(model: DelayLM, window: int) -> int:
    """Steps of a window of so many frames."""
    return model._steps_in(window)


@kinds
@pytest.mark.parametrize("window", [1000, 6])
def test_cached_steps_equal_uncached_ones_code_by_code(kind: str, window: int) -> None:
    """Regressions: ragged prompts reading logits at pad positions; a delayed tail of the prompt that is drawn again."""
    model = MODELS[kind]
    sampling = Sampling(temperature=0.9, top_k=8, repetition_window=4)
    ours = request(model, [0, 7, 10], [6, 18, 27], sampling={"delay": sampling}, windows={"delay": window})
    for row, codes in enumerate(model.acoustic.generate(ours)):
        twin = delay_twin(
            model.delay, ours.prompt_codes[row], num_frames=ours.num_frames[row], units=ours.units[row] if ours.units else None,
            sampling=sampling, seed=ours.seeds[row], window=held(model.delay, window),
        )  # fmt: skip
        assert codes.tolist() == twin


@kinds
def test_decoding_scores_each_step_as_training_does(kind: str) -> None:
    """To the last digits, which draws would hide."""
    model = MODELS[kind].delay
    ours = request(MODELS[kind], [5], [8])
    units = ours.units[0] if ours.units else None
    with Heard(model.transformer.final_norm) as heard:
        [codes] = MODELS[kind].acoustic.generate(ours)
    steps = range(5 * model.pattern.steps_per_frame, 8 * model.pattern.steps_per_frame)
    with torch.inference_mode():
        for step, hidden in zip(steps, heard, strict=False):
            hidden = hidden[:, -1]
            torch.testing.assert_close(model.logits(hidden)[0], twin_logits(model, codes, step, units=units), rtol=1e-9, atol=1e-9)


@kinds
def test_a_prompts_delayed_tail_survives(kind: str) -> None:
    """A continuation writes only where nothing is known: what it hears of the prompt's last frames are the prompt's own codes."""
    model, pattern = MODELS[kind], MODELS[kind].delay.pattern
    ours = request(model, [9], [20])
    with Heard(model.delay.embed) as heard:
        [codes] = model.acoustic.generate(ours)
    assert torch.equal(codes[:9], ours.prompt_codes[0])
    for step, embedded in enumerate(heard[1:], start=9 * pattern.steps_per_frame):  # after the prompt's window, an input a step
        for level, offset in enumerate(pattern.offsets):
            frame, rest = divmod(step - offset, pattern.steps_per_frame)
            code = int(codes[frame, level]) if rest == 0 and frame < 20 else None if rest == 0 else CODES
            if code is not None:
                assert torch.equal(embedded[0, level], model.delay.embed.weight[level * (CODES + 1) + code])


@kinds
def test_a_shorter_continuation_is_the_beginning_of_a_longer(kind: str) -> None:
    """The steps of the tail hold frames past the last one as if the row went on."""
    model = MODELS[kind]
    long = request(model, [4], [24])
    [longest] = model.acoustic.generate(long)
    for frames in (4, 5, 11):
        [row] = model.acoustic.generate(replace(long, num_frames=[frames]))
        assert torch.equal(row, longest[:frames])


@kinds
def test_rows_have_the_frames_asked_for_and_begin_with_their_prompts(kind: str) -> None:
    """Regressions: ``max_new_tokens + 1`` tokens; special ids among the codes."""
    ours = request(MODELS[kind], [5, 0, 8, 0], [12, 7, 8, 0])
    rows = MODELS[kind].acoustic.generate(ours)
    assert [row.shape for row in rows] == [(frames, CODEBOOKS) for frames in ours.num_frames]
    for row, prompt in zip(rows, ours.prompt_codes, strict=True):
        assert row.dtype == torch.int64 and torch.equal(row[: len(prompt)], prompt)
        assert not len(row) or 0 <= int(row.min()) <= int(row.max()) < CODES
    nothing = request(MODELS[kind], [6, 0], [6, 0])
    assert [len(row) for row in MODELS[kind].acoustic.generate(nothing)] == [6, 0]


@given(
    kind=st.sampled_from(list(KINDS)),
    rows=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 14)), min_size=2, max_size=4),
    window=st.integers(2, 12),
)
@settings(max_examples=25, deadline=None, derandomize=True)
def test_a_prompt_alone_and_in_a_batch_has_the_same_continuation(kind: str, rows: list[tuple[int, int]], window: int) -> None:
    """Regression: prompt length decided by batch mates."""
    model = MODELS[kind]
    ours = request(model, [row[0] for row in rows], [sum(row) for row in rows], windows={"delay": window})
    for row, codes in enumerate(model.acoustic.generate(ours)):
        assert torch.equal(model.acoustic.generate(row_of(ours, row))[0], codes)


def test_levels_of_one_step_have_noise_of_their_own() -> None:
    model = tiny_model(acoustic_model="delay", delay_pattern="parallel")
    model.delay.head.data.zero_()
    model.delay.head_bias.data.zero_()
    [row] = model.acoustic.generate(request(model, [0], [40]))
    assert all((row[:, level] != row[:, other]).any() for level in range(CODEBOOKS) for other in range(level))


def test_units_decide_the_codes_and_codebooks_that_are_not_modelled_do_not() -> None:
    model = MODELS["delay"]
    ours = request(model, [4], [20])
    [codes] = model.acoustic.generate(ours)
    assert ours.units is not None
    [other] = model.acoustic.generate(replace(ours, units=[(ours.units[0] + 1) % UNITS]))
    [wide] = model.acoustic.generate(replace(ours, prompt_codes=[torch.cat([ours.prompt_codes[0], torch.full((4, 2), 10**6)], 1)]))
    assert not torch.equal(codes, other) and torch.equal(codes, wide)


def test_a_model_without_units_continues_codes_by_inference() -> None:
    prompts = random_tokens(2, 6, CODEBOOKS, size=CODES, seed=1)
    new = MODELS["codes only"].inference(prompts, torch.tensor([6, 4]), 9, window=5)
    assert new.shape == (2, 9, CODEBOOKS) and 0 <= int(new.min()) <= int(new.max()) < CODES
