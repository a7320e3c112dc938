"""What the fine stage trains on with each prefix mode: the prompt's content, its place, and what is left to predict."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import tiny_model

from valle.crops import CroppedTokens, Span, place_elsewhere
from valle.errors import UserError
from valle.models.config import AudioLMConfig
from valle.models.fine import FineLM
from valle.models.fine_prompts import prompted
from valle.models.stage import ExampleSettings

QUANTIZERS, UNITS_EACH, FRAMES_EACH, MANY = 3, 2, 3, 1000
SIZES: dict[str, Any] = {
    "d_model": 16, "nhead": 2, "num_layers": 1, "num_quantizers": QUANTIZERS, "codebook_size": MANY, "num_units": MANY,
    "units_per_period": UNITS_EACH, "frames_per_period": FRAMES_EACH,
}  # fmt: skip
MODES = (0, 1, 2, 4)


def config_of(mode: int, **fields: Any) -> AudioLMConfig:
    return AudioLMConfig(**{**SIZES, "prefix_mode": mode, **fields})


def span_of(periods: int, *, first: int = 0) -> Span:
    """Tokens that tell where they stand: unit u and code f are the numbers of their places, from ``first`` on."""
    frames = np.arange(periods * FRAMES_EACH) + first
    return Span(np.arange(periods * UNITS_EACH) + first, np.repeat(frames[:, None], QUANTIZERS, 1))


def crop_of(*, total: int, start: int, stop: int, name: str = "cut", neighbour: int | None = None, epoch: int = 1) -> CroppedTokens:
    """Periods ``start`` to ``stop`` of ``total``; a neighbour's tokens begin at 500."""
    whole = span_of(total)
    return CroppedTokens(
        cut_id=name, units=whole.units[start * UNITS_EACH : stop * UNITS_EACH], codes=whole.codes[start * FRAMES_EACH : stop * FRAMES_EACH],
        starts=start == 0, ends=stop == total, seed=1, epoch=epoch, whole=whole, first_frame=start * FRAMES_EACH,
        neighbour=None if neighbour is None else span_of(neighbour, first=500),
    )  # fmt: skip


@st.composite
def crops(draw: st.DrawFn) -> CroppedTokens:
    total = draw(st.integers(1, 14))
    start = draw(st.integers(0, total - 1))
    stop = draw(st.integers(start + 1, total))
    neighbour = draw(st.one_of(st.none(), st.integers(1, 12)))
    return crop_of(total=total, start=start, stop=stop, name=f"cut-{draw(st.integers(0, 10**6))}", neighbour=neighbour)


@pytest.mark.parametrize("mode", MODES)
@given(crop=crops())
@settings(max_examples=120, deadline=None, derandomize=True)
def test_every_mode_keeps_the_crops_length_and_leaves_targets_that_the_prompt_does_not_show(mode: int, crop: CroppedTokens) -> None:
    """Regressions: crash when the shortest clip has few frames; the segment of mode 2 shows the answers of its own targets."""
    example, prompt = prompted(crop, config_of(mode))
    length = len(crop.codes)
    assert len(example.codes) == length and len(example.units) == len(crop.units)
    assert 0 <= prompt <= max(2 * length / 3, 0) < length
    assert np.array_equal(example.codes[prompt:], crop.codes[prompt:])  # targets are the crop's own, at their own places
    assert np.array_equal(np.unique(example.codes[:prompt]), np.unique(example.codes[:prompt, 0]))
    assert not set(example.codes[:prompt, 0]) & set(example.codes[prompt:, 0])
    assert not np.any(np.diff(example.codes[:prompt, 0]) != 1)  # one segment


@pytest.mark.parametrize("mode", [2, 4])
@given(crop=crops())
@settings(max_examples=120, deadline=None, derandomize=True)
def test_units_of_a_segment_are_of_its_own_time(mode: int, crop: CroppedTokens) -> None:
    example, prompt = prompted(crop, config_of(mode))
    assert prompt % FRAMES_EACH == 0
    each = prompt // FRAMES_EACH * UNITS_EACH
    assert np.array_equal(example.units[each:], crop.units[each:])
    if prompt:
        first = 500 if mode == 4 else 0
        assert (example.codes[0, 0] - first) * UNITS_EACH == (example.units[0] - first) * FRAMES_EACH


def many(mode: int, **where: Any) -> Iterator[tuple[CroppedTokens, int]]:
    for number in range(300):
        yield prompted(crop_of(name=f"cut-{number}", **where), config_of(mode))


def test_mode_0_has_no_prompt() -> None:
    assert {prompt for _, prompt in many(0, total=9, start=2, stop=7)} == {0}


def test_mode_1_is_the_crops_own_beginning() -> None:
    examples = list(many(1, total=9, start=2, stop=7))
    assert {prompt for _, prompt in examples} == set(range(10))  # up to two thirds of 15 frames
    assert all(np.array_equal(example.codes[:, 0], np.arange(6, 21)) for example, _ in examples)


def test_mode_2_takes_every_place_of_the_utterance_outside_the_target() -> None:
    """The target is periods 4 to 7 where the prompt has two of them: whatever lies before, and the two behind."""
    starts = {int(example.codes[0, 0]) // FRAMES_EACH for example, prompt in many(2, total=9, start=2, stop=7) if prompt == 2 * FRAMES_EACH}
    assert starts == {0, 1, 2, 7}


def test_mode_2_without_anything_else_is_mode_1_in_whole_periods() -> None:
    for example, _ in many(2, total=5, start=0, stop=5):
        assert np.array_equal(example.codes[:, 0], np.arange(15))


def test_mode_4_takes_every_place_of_the_neighbour_and_no_more_than_it_has() -> None:
    examples = [(example, prompt) for example, prompt in many(4, total=9, start=0, stop=9, neighbour=3) if prompt]
    assert {prompt for _, prompt in examples} == {3, 6, 9}
    assert {int(example.codes[0, 0]) for example, prompt in examples if prompt == 3} == {500, 503, 506}
    assert all(500 <= example.codes[:prompt].min() <= example.codes[:prompt].max() < 509 for example, prompt in examples)


def test_mode_4_trains_without_a_prompt_where_the_voice_has_no_other_utterance() -> None:
    assert {prompt for _, prompt in many(4, total=9, start=0, stop=9)} == {0}


@pytest.mark.parametrize("mode", MODES)
def test_dropped_prompts_are_none_and_the_crop_is_whole(mode: int) -> None:
    crop = crop_of(total=9, start=1, stop=8, neighbour=5)
    example, prompt = prompted(crop, config_of(mode, drop_prompt=1.0))
    assert prompt == 0 and np.array_equal(example.codes, crop.codes) and np.array_equal(example.units, crop.units)


@pytest.mark.parametrize("mode", MODES)
def test_the_prompt_of_an_example_is_its_own_in_any_batch(mode: int) -> None:
    """Regression: prompt length decided by batch mates."""
    rows = [crop_of(total=4 + number, start=1, stop=3 + number, name=f"cut-{number}", neighbour=4) for number in range(8)]
    together = FineLM.collate(rows, ExampleSettings(config_of(mode)))
    assert set(together) == {"codes", "lengths", "units", "unit_lengths", "levels", "prompt_lengths"}
    for index, crop in enumerate(rows):
        alone = FineLM.collate([crop], ExampleSettings(config_of(mode)))
        length = int(alone["lengths"])
        assert torch.equal(together["codes"][index, :length], alone["codes"][0])
        assert int(together["prompt_lengths"][index]) == int(alone["prompt_lengths"])


@pytest.mark.parametrize("mode", [2, 4])
def test_the_loss_of_a_segment_counts_the_target_and_hears_the_prompt(mode: int) -> None:
    model = tiny_model(**{**SIZES, "prefix_mode": mode, "dropout": 0.0})
    crop = next(
        crop for crop in (crop_of(total=9, start=1, stop=8, name=f"cut-{number}", neighbour=6) for number in range(50))
        if prompted(crop, model.config)[1] >= 6
    )  # fmt: skip
    batch = FineLM.collate([crop], ExampleSettings(model.config))
    prompt = int(batch["prompt_lengths"])
    term = model.fine.loss(**batch)
    assert int(term.count) == 21 - prompt
    other = {**batch, "codes": batch["codes"].clone()}
    other["codes"][0, 0, -1] = (other["codes"][0, 0, -1] + 1) % MANY
    assert float(model.fine.loss(**other).sum) != float(term.sum)


def test_modes_2_and_4_show_a_prompt_as_mode_1_does() -> None:
    one, two, four = (tiny_model(**{**SIZES, "prefix_mode": mode}).fine for mode in (1, 2, 4))
    batch = FineLM.collate([crop_of(total=9, start=0, stop=9, name="cut-3")], ExampleSettings(config_of(1)))
    assert int(batch["prompt_lengths"]) > 0
    assert float(one.loss(**batch).sum) == float(two.loss(**batch).sum) == float(four.loss(**batch).sum)
    assert float(tiny_model(**{**SIZES, "prefix_mode": 0}).fine.loss(**batch).sum) != float(one.loss(**batch).sum)


@pytest.mark.parametrize("mode", [-1, 3, 5])
def test_numbers_that_the_family_does_not_have_are_refused(mode: int) -> None:
    with pytest.raises(UserError, match=rf"0 .*, 1 .*, 2 .* or 4 .*, found {mode}"):
        config_of(mode)


@given(
    total=st.integers(1, 20), first=st.integers(0, 19), size=st.integers(0, 20), length=st.integers(0, 20), chance=st.floats(0, 0.999999)
)
@settings(max_examples=300, deadline=None, derandomize=True)
def test_a_place_elsewhere_touches_nothing_that_is_left_out(total: int, first: int, size: int, length: int, chance: float) -> None:
    first, stop = min(first, total), min(first + size, total)
    if max(first, total - stop) < length:
        with pytest.raises(ValueError, match="expected room"):
            place_elsewhere(total, first=first, stop=stop, length=length, chance=chance)
        return
    start = place_elsewhere(total, first=first, stop=stop, length=length, chance=chance)
    assert 0 <= start <= start + length <= total
    assert start + length <= first or start >= stop


def test_validation_is_the_same_each_time() -> None:
    crop = crop_of(total=9, start=1, stop=8, neighbour=5, epoch=0)
    for mode in MODES:
        first, again = (FineLM.collate([replace(crop)], ExampleSettings(config_of(mode, drop_conditions=1.0))) for _ in range(2))
        assert all(torch.equal(first[name], again[name]) for name in first) and int(first["unit_lengths"]) == len(crop.units)
