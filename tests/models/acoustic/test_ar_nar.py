"""The acoustic model ``ar-nar``: exactly the frames asked for, after exactly the prompt given."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import CODEBOOKS, CODES, KINDS, UNITS, tiny_model
from torch import Tensor

from valle.decoding.sampling import Sampling
from valle.models import AudioLM
from valle.models.acoustic.base import AcousticRequest, pad_codes
from valle.models.acoustic.windows import fine_windows
from valle.timeline import Periods

MODELS = {**{kind: tiny_model(**fields) for kind, fields in KINDS.items()}, "coarse levels alone": tiny_model(num_coarse=CODEBOOKS)}
kinds = pytest.mark.parametrize("kind", MODELS)


def prompt_of(length: int, *, seed: int = 0) -> Tensor:
    return torch.randint(CODES, (length, CODEBOOKS), generator=torch.Generator().manual_seed(seed))


def units_for(model: AudioLM, frames: int, *, seed: int = 0) -> Tensor:
    count = -(-frames // model.config.frames_per_period) * model.config.units_per_period
    return torch.randint(UNITS, (count,), generator=torch.Generator().manual_seed(seed))


def request(model: AudioLM, prompts: list[int], frames: list[int], **options: Any) -> AcousticRequest:
    """Rows whose content hangs on their lengths, not on their places."""
    units = None
    if model.config.num_units is not None:
        units = [units_for(model, count, seed=count) for count in frames]
    contents = [prompt_of(length, seed=length) for length in prompts]
    return AcousticRequest(
        **{
            "prompt_codes": contents,
            "num_frames": frames,
            "seeds": [sum(row) for row in zip(prompts, frames, strict=True)],
            "units": units,
            **options,
        }
    )


@kinds
def test_rows_have_the_frames_asked_for_and_begin_with_their_prompts(kind: str) -> None:
    """Regressions: ``max_new_tokens + 1`` tokens; continuation that drops its first prompt-length frames."""
    ours = request(MODELS[kind], [5, 0, 8], [12, 7, 8])
    rows = MODELS[kind].acoustic.generate(ours)
    assert [row.shape for row in rows] == [(12, CODEBOOKS), (7, CODEBOOKS), (8, CODEBOOKS)]
    for row, prompt in zip(rows, ours.prompt_codes, strict=True):
        assert row.dtype == torch.int64 and torch.equal(row[: len(prompt)], prompt)
        assert 0 <= int(row.min()) <= int(row.max()) < CODES


@kinds
def test_what_is_filled_is_not_left_empty(kind: str) -> None:
    [row] = MODELS[kind].acoustic.generate(request(MODELS[kind], [0], [30], sampling={"fine": Sampling(temperature=30.0)}))
    assert all(len(row[:, level].unique()) > 3 for level in range(CODEBOOKS))


@given(
    kind=st.sampled_from(list(MODELS)),
    rows=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 14)), min_size=2, max_size=4),
    window=st.integers(2, 20),
)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_a_prompt_alone_and_in_a_batch_has_the_same_continuation(kind: str, rows: list[tuple[int, int]], window: int) -> None:
    """Regression: prompt length decided by batch mates."""
    model = MODELS[kind]
    ours = request(model, [row[0] for row in rows], [sum(row) for row in rows], windows={"coarse": window, "fine": window})
    together = model.acoustic.generate(ours)
    for index, result in enumerate(together):
        units = None if ours.units is None else [ours.units[index]]
        one = replace(
            ours, prompt_codes=[ours.prompt_codes[index]], num_frames=[ours.num_frames[index]], seeds=[ours.seeds[index]], units=units
        )
        assert torch.equal(model.acoustic.generate(one)[0], result)


@kinds
def test_requests_far_past_the_trained_length_are_filled_to_their_end(kind: str) -> None:
    ours = request(MODELS[kind], [9, 3], [70, 41], windows={"coarse": 10, "fine": 7}, sampling={"fine": Sampling(temperature=30.0)})
    rows = MODELS[kind].acoustic.generate(ours)
    assert [len(row) for row in rows] == [70, 41]
    assert all(len(row[-12:, level].unique()) > 2 for row in rows for level in range(CODEBOOKS))


@given(prompt=st.integers(0, 60), new=st.integers(0, 200), window=st.integers(1, 50), period=st.integers(1, 6))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_fine_windows_fill_every_frame_once_and_no_more_than_half_of_one_is_context(
    prompt: int, new: int, window: int, period: int
) -> None:
    windows = list(fine_windows(prompt, prompt + new, window=window, periods=Periods(units=1, frames=period)))
    held = max(window, 2 * period)
    filled = [frame for _, first, stop in windows for frame in range(first, stop)]
    assert filled == list(range(prompt, prompt + new))
    for start, first, stop in windows:
        assert start % period == 0 and 0 <= start <= first < stop
        assert stop - start <= held and first - start <= held // 2


@pytest.mark.parametrize("kind", ["aligned", "prefix", "codes only", "aligned, 50 Hz units beside 75 Hz codes"])
def test_every_fine_window_has_the_units_of_its_own_time(kind: str) -> None:
    """Against a slow loop over windows; at temperature 0 the seeds decide nothing."""
    model = MODELS[kind]
    frames_per_period, units_per_period = model.config.frames_per_period, model.config.units_per_period
    ours = request(model, [3], [40], windows={"fine": 8}, sampling={"fine": Sampling(temperature=0)})
    [row] = model.acoustic.generate(ours)
    codes = row.clone()
    codes[3:, 1:] = 0
    for start, first, stop in fine_windows(3, 40, window=8, periods=model.config.periods):
        streams = {}
        if ours.units is not None:
            unit = start // frames_per_period * units_per_period
            within = ours.units[0][unit : unit + -(-(stop - start) // frames_per_period) * units_per_period]
            streams = {"units": within[None], "unit_lengths": torch.tensor([len(within)])}
        codes[start:stop] = model.fine.generate(
            codes[None, start:stop], lengths=torch.tensor([stop - start]), prompt_lengths=torch.tensor([first - start]),
            sampling=ours.sampling["fine"], seeds=[0], **streams,
        )[0]  # fmt: skip
    assert torch.equal(row, codes)


def test_a_row_whose_time_fits_one_window_is_filled_in_one_pass_with_all_its_prompt() -> None:
    assert list(fine_windows(40, 100, window=150, periods=Periods(units=1, frames=2))) == [(0, 40, 100)]


@kinds
def test_nothing_new_is_the_prompt_as_it_was(kind: str) -> None:
    """Regression: empty output raises SyntaxError."""
    ours = request(MODELS[kind], [6, 0], [6, 0])
    rows = MODELS[kind].acoustic.generate(ours)
    assert torch.equal(rows[0], ours.prompt_codes[0]) and rows[1].shape == (0, CODEBOOKS)


def test_codebooks_that_the_model_does_not_know_are_left_out() -> None:
    model = MODELS["codes only"]
    wide = torch.cat([prompt_of(5), torch.full((5, 2), 10**6)], 1)
    narrow, cut = (model.acoustic.generate(request(model, [5], [9], prompt_codes=[codes]))[0] for codes in (prompt_of(5), wide))
    assert torch.equal(narrow, cut)


def test_units_decide_the_codes() -> None:
    model = MODELS["aligned"]
    ours = request(model, [4], [20])
    other = replace(ours, units=[(ours.units[0] + 1) % UNITS])
    assert not torch.equal(model.acoustic.generate(ours)[0], model.acoustic.generate(other)[0])


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        ({"num_frames": [9]}, "1 lengths"),
        ({"seeds": [1, 2, 3]}, "3 seeds"),
        ({"units": [torch.zeros(9).long()]}, "units of 1 rows"),
    ],
)
def test_a_request_has_a_length_a_seed_and_units_for_every_prompt(wrong: dict[str, Any], found: str) -> None:
    with pytest.raises(ValueError, match=f"each of 2 prompts, found .*{found}"):
        request(MODELS["aligned"], [2, 3], [8, 9], **wrong)


def test_a_request_counts_the_prompt_in_its_frames() -> None:
    with pytest.raises(ValueError, match="at least its 5 frames, found 4"):
        request(MODELS["codes only"], [5], [4])


@pytest.mark.parametrize(("frames", "needed"), [(1, 1), (2, 1), (3, 2), (8, 4)])
@pytest.mark.parametrize("kind", ["aligned", "prefix"])
def test_a_unit_is_needed_under_every_frame(kind: str, frames: int, needed: int) -> None:
    model = MODELS[kind]
    [row] = model.acoustic.generate(request(model, [0], [frames], units=[torch.ones(needed).long()]))
    assert len(row) == frames
    with pytest.raises(ValueError, match=f"{frames} frames need {needed} units, found {needed - 1}"):
        model.acoustic.generate(request(model, [0], [frames], units=[torch.ones(needed - 1).long()]))


def test_padding_codes_gives_their_lengths() -> None:
    codes, lengths = pad_codes([prompt_of(3), prompt_of(5)])
    assert codes.shape == (2, 5, CODEBOOKS) and lengths.tolist() == [3, 5]
