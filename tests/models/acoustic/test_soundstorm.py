"""The acoustic model ``soundstorm``: exactly the frames asked for, after exactly the prompt given, which stays in sight."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import CODEBOOKS, CODES, UNITS, tiny_soundstorm
from torch import Tensor

from valle.decoding.sampling import Sampling
from valle.models import AudioLM
from valle.models.acoustic.base import AcousticRequest
from valle.models.acoustic.dialogue import VoicePrompt, dialogue
from valle.models.acoustic.windows import prompted_windows
from valle.timeline import Periods

KINDS: dict[str, dict[str, Any]] = {
    "units": {"num_units": UNITS},
    "codes only": {},
    "50 Hz units beside 75 Hz codes": {"num_units": UNITS, "units_per_period": 2, "frames_per_period": 3},
}
MODELS = {kind: tiny_soundstorm(**fields) for kind, fields in KINDS.items()}
kinds = pytest.mark.parametrize("kind", MODELS)
HOT = {"soundstorm": Sampling(temperature=3.0, passes=(5, 2, 1))}


def prompt_of(length: int, *, seed: int = 0) -> Tensor:
    return torch.randint(CODES, (length, CODEBOOKS), generator=torch.Generator().manual_seed(seed))


def units_for(model: AudioLM, frames: int, *, seed: int = 0) -> Tensor:
    count = -(-frames // model.config.frames_per_period) * model.config.units_per_period
    return torch.randint(UNITS, (count,), generator=torch.Generator().manual_seed(seed))


def request(model: AudioLM, rows: list[tuple[int, int]], **options: Any) -> AcousticRequest:
    """Rows of so many frames of prompt and of new ones, whose content hangs on their lengths, not on their places."""
    totals = [sum(row) for row in rows]
    return AcousticRequest(**{
        "prompt_codes": [prompt_of(prompt, seed=prompt) for prompt, _ in rows], "num_frames": totals, "seeds": totals,
        "units": None if model.config.num_units is None else [units_for(model, total, seed=total) for total in totals],
        "sampling": HOT, **options,
    })  # fmt: skip


@kinds
def test_rows_have_the_frames_asked_for_and_begin_with_their_prompts(kind: str) -> None:
    ours = request(MODELS[kind], [(5, 7), (0, 7), (8, 0), (0, 0)])
    rows = MODELS[kind].acoustic.generate(ours)
    assert [row.shape for row in rows] == [(12, CODEBOOKS), (7, CODEBOOKS), (8, CODEBOOKS), (0, CODEBOOKS)]
    for row, prompt in zip(rows, ours.prompt_codes, strict=True):
        assert row.dtype == torch.int64 and torch.equal(row[: len(prompt)], prompt)
        assert not len(row) or 0 <= int(row.min()) <= int(row.max()) < CODES


@given(
    kind=st.sampled_from(list(MODELS)),
    rows=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 14)), min_size=2, max_size=4),
    window=st.integers(2, 20),
)
@settings(max_examples=12, deadline=None, derandomize=True)
def test_a_prompt_alone_and_in_a_batch_has_the_same_continuation(kind: str, rows: list[tuple[int, int]], window: int) -> None:
    """Ragged prompts; windows are each row's own."""
    model = MODELS[kind]
    ours = request(model, rows, windows={"soundstorm": window})
    for index, result in enumerate(model.acoustic.generate(ours)):
        one = replace(
            ours, prompt_codes=[ours.prompt_codes[index]], num_frames=[ours.num_frames[index]], seeds=[ours.seeds[index]],
            units=None if ours.units is None else [ours.units[index]],
        )  # fmt: skip
        assert torch.equal(model.acoustic.generate(one)[0], result)


@kinds
def test_requests_far_past_the_trained_length_are_filled_to_their_end(kind: str) -> None:
    rows = MODELS[kind].acoustic.generate(request(MODELS[kind], [(9, 61), (3, 38)], windows={"soundstorm": 16}))
    assert [len(row) for row in rows] == [70, 41]
    assert all(len(row[-12:, 0].unique()) > 2 for row in rows)


@pytest.mark.parametrize("kind", ["units", "codes only"])
def test_the_prompt_is_in_sight_however_long_the_row(kind: str) -> None:
    """The first code of the prompt changes what the last window predicts from."""
    model, seen = tiny_soundstorm(**KINDS[kind]), []
    model.soundstorm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    ours = request(model, [(8, 72)], windows={"soundstorm": 16})
    model.acoustic.generate(ours)
    assert all(torch.equal(tokens[0, :4], ours.prompt_codes[0][:4]) for tokens in seen) and len(seen) > 5 * 8
    assert max(tokens.shape[1] for tokens in seen) == 16


@given(prompt=st.integers(0, 60), new=st.integers(0, 200), window=st.integers(1, 50), period=st.integers(1, 6))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_windows_fill_every_frame_once_and_begin_with_the_prompt(prompt: int, new: int, window: int, period: int) -> None:
    periods, held = Periods(units=1, frames=period), max(window, 2 * period)
    windows = list(prompted_windows(prompt, prompt + new, window=window, periods=periods))
    assert [frame for one in windows for frame in range(one.first, one.stop)] == list(range(prompt, prompt + new))
    place = torch.arange(prompt + new)
    kept = min(prompt, held // 4) // period * period
    for one in windows:
        frames = one.of(place).tolist()
        assert len(frames) <= held and frames == sorted(set(frames)), "no frame twice, in the order of time"
        assert one.start % period == 0 and one.prompt % period == 0 and frames[one.known] == one.first
        assert frames[:kept] == list(range(kept)) or prompt + new <= held
        assert len(one.units_of(place, periods)) == sum(-(-part // period) for part in (one.prompt, one.stop - one.start))
    if new and prompt + new <= held:
        assert [one.of(place).tolist() for one in windows] == [place.tolist()]


def test_every_window_has_the_units_of_its_own_time() -> None:
    """Against a slow loop over windows; at temperature 0 the seeds decide nothing."""
    model, cold = MODELS["50 Hz units beside 75 Hz codes"], {"soundstorm": Sampling(temperature=0)}
    ours = request(model, [(9, 51)], windows={"soundstorm": 18}, sampling=cold)
    assert ours.units is not None
    [row] = model.acoustic.generate(ours)
    codes, units = torch.cat([ours.prompt_codes[0], torch.zeros(51, CODEBOOKS).long()]), ours.units[0]
    for one in prompted_windows(9, 60, window=18, periods=model.config.periods):
        frames = [*range(one.prompt), *range(one.start, one.stop)]
        beside = [unit for unit in range(len(units)) if unit // 2 in {frame // 3 for frame in frames}]
        codes[one.first : one.stop] = model.soundstorm.generate(
            codes[None, frames], lengths=torch.tensor([len(frames)]), known=(torch.arange(len(frames)) < one.known)[None],
            sampling=cold["soundstorm"], seeds=[0], units=units[None, beside], unit_lengths=torch.tensor([len(beside)]),
        )[0, one.known :]  # fmt: skip
    assert torch.equal(row, codes)


def test_units_and_seeds_decide_the_codes() -> None:
    model = MODELS["units"]
    ours = request(model, [(4, 20)])
    assert ours.units is not None
    first, again, others, seeds = (
        model.acoustic.generate(one)[0]
        for one in (ours, ours, replace(ours, units=[(ours.units[0] + 1) % UNITS]), replace(ours, seeds=[99]))
    )
    assert torch.equal(first, again) and not torch.equal(first, others) and not torch.equal(first, seeds)


def test_a_unit_is_needed_under_every_frame() -> None:
    with pytest.raises(ValueError, match="8 frames need 4 units, found 3"):
        MODELS["units"].acoustic.generate(request(MODELS["units"], [(0, 8)], units=[torch.ones(3).long()]))


def test_codes_alone_are_continued_by_the_model_itself() -> None:
    """Music: no units, a prompt."""
    x, lengths = torch.randint(CODES, (2, 9, CODEBOOKS), generator=torch.Generator().manual_seed(0)), torch.tensor([9, 4])
    new = MODELS["codes only"].inference(x, lengths, 6)
    assert new.shape == (2, 6, CODEBOOKS)
    assert torch.equal(new[1:], MODELS["codes only"].inference(x[1:, :4], lengths[1:], 6, seed=1))


def voice(periods: int, *, seed: int) -> VoicePrompt:
    model = MODELS["50 Hz units beside 75 Hz codes"]
    return VoicePrompt(units=units_for(model, 3 * periods, seed=seed), codes=prompt_of(3 * periods, seed=seed))


def test_a_dialogue_is_one_pass_over_all_prompts_and_turns() -> None:
    model = MODELS["50 Hz units beside 75 Hz codes"]
    voices, turns = [voice(4, seed=1), voice(2, seed=2)], [units_for(model, frames, seed=frames) for frames in (12, 6, 9)]
    row = dialogue(voices, turns, model.config.periods)
    assert (row.num_frames, row.turn_frames) == (18 + 27, (12, 6, 9))

    def spoken(row: Any) -> Tensor:
        one = AcousticRequest(prompt_codes=[row.prompt_codes], num_frames=[row.num_frames], seeds=[0], units=[row.units], sampling=HOT)
        return model.acoustic.generate(one)[0]

    codes = spoken(row)
    assert torch.equal(codes[:18], torch.cat([one.codes for one in voices]))
    assert [turn.shape for turn in row.turns_of(codes)] == [(12, CODEBOOKS), (6, CODEBOOKS), (9, CODEBOOKS)]
    assert torch.equal(torch.cat(row.turns_of(codes)), codes[18:])
    other = spoken(dialogue([voices[0], replace(voices[1], codes=(voices[1].codes + 1) % CODES)], turns, model.config.periods))
    assert not torch.equal(other[18:], codes[18:])


def test_a_dialogue_of_broken_periods_is_refused() -> None:
    periods = Periods(units=2, frames=3)
    with pytest.raises(ValueError, match="whole periods of 2 units, found 3"):
        dialogue([voice(1, seed=0)], [torch.zeros(3).long()], periods)
    with pytest.raises(ValueError, match="same time in a prompt, found 2 and 4"):
        dialogue([VoicePrompt(units=torch.zeros(2).long(), codes=prompt_of(4))], [], periods)
