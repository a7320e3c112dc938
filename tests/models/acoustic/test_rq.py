"""The acoustic model ``rq``: what the engine draws is what a slow loop over training's own code draws."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import CODEBOOKS, CODES, UNITS
from tiny_rq import KINDS, clips, fresh_rq, request, tiny_rq
from torch import Tensor
from twin_rq import rq_twin

from valle.decoding.sampling import Sampling
from valle.models import AudioLM
from valle.models.acoustic.base import AcousticRequest

MODELS = {kind: tiny_rq(**fields) for kind, fields in KINDS.items()}
kinds = pytest.mark.parametrize("kind", KINDS)


def twin(model: AudioLM, ours: AcousticRequest, row: int) -> Tensor:
    """One row without a cache."""
    return rq_twin(
        model.rq, ours.prompt_codes[row], num_frames=ours.num_frames[row], units=None if ours.units is None else ours.units[row],
        sampling=ours.sampling_of(model.rq), seed=ours.seeds[row], window=ours.window_of(model.rq),
    )  # fmt: skip


@given(
    kind=st.sampled_from(list(MODELS)),
    prompt=st.integers(0, 9),
    new=st.integers(0, 12),
    window=st.sampled_from([2, 5, 8, 100]),
    sampling=st.sampled_from([Sampling(), Sampling(temperature=0), Sampling(top_k=3), Sampling(repetition_window=4, repetition_ratio=0.3)]),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_a_row_is_what_a_slow_loop_draws(kind: str, prompt: int, new: int, window: int, sampling: Sampling) -> None:
    """Prompts of no frame, of one, and longer than the window; windows that slide; the cached step against the whole pass."""
    model = MODELS[kind]
    ours = request(model, [prompt], [prompt + new], windows={"rq": window}, sampling={"rq": sampling})
    assert torch.equal(model.acoustic.generate(ours)[0], twin(model, ours, 0))


@given(
    kind=st.sampled_from(list(MODELS)),
    rows=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 14)), min_size=2, max_size=4),
    window=st.integers(2, 20),
)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_a_prompt_alone_and_in_a_batch_has_the_same_continuation(kind: str, rows: list[tuple[int, int]], window: int) -> None:
    """Regression: prompt length decided by batch mates."""
    model = MODELS[kind]
    ours = request(model, [row[0] for row in rows], [sum(row) for row in rows], windows={"rq": window})
    for index, result in enumerate(model.acoustic.generate(ours)):
        units = None if ours.units is None else [ours.units[index]]
        one = replace(
            ours, prompt_codes=[ours.prompt_codes[index]], num_frames=[ours.num_frames[index]], seeds=[ours.seeds[index]], units=units
        )
        assert torch.equal(model.acoustic.generate(one)[0], result)


@kinds
def test_rows_have_the_frames_asked_for_and_begin_with_their_prompts(kind: str) -> None:
    """Regressions: a prompt's delayed tail that is drawn again; ``max_new_tokens + 1`` tokens; the first frames dropped."""
    ours = request(MODELS[kind], [5, 0, 8, 1], [12, 7, 8, 2])
    rows = MODELS[kind].acoustic.generate(ours)
    assert [row.shape for row in rows] == [(12, CODEBOOKS), (7, CODEBOOKS), (8, CODEBOOKS), (2, CODEBOOKS)]
    for row, prompt in zip(rows, ours.prompt_codes, strict=True):
        assert row.dtype == torch.int64 and torch.equal(row[: len(prompt)], prompt)
        assert 0 <= int(row.min()) <= int(row.max()) < CODES, "a missing code is never among them"


@pytest.mark.parametrize("kind", [kind for kind, fields in KINDS.items() if "acoustic_delay" in fields])
def test_a_prompts_delayed_tail_is_heard(kind: str) -> None:
    """Upper levels of the prompt's last frame stand in steps after its end; other ones there make another continuation."""
    model, rows = MODELS[kind], 8
    ours = request(model, [5] * rows, [20] * rows, seeds=list(range(rows)))
    changed = [prompt.clone() for prompt in ours.prompt_codes]
    for prompt in changed:
        prompt[-1, 1:] = (prompt[-1, 1:] + 1) % CODES
    one, two = (
        torch.stack([row[5:] for row in model.acoustic.generate(replace(ours, prompt_codes=prompts))])
        for prompts in (ours.prompt_codes, changed)
    )
    assert not torch.equal(one, two)
    assert torch.equal(one[:, 0, 0], two[:, 0, 0]), "level 0 of the first new frame is drawn before they are"


@kinds
def test_a_shorter_continuation_is_the_beginning_of_a_longer(kind: str) -> None:
    """Up to the delay: the last frames' upper levels are drawn in steps that hold no level 0."""
    model, delay = MODELS[kind], MODELS[kind].config.acoustic_delay
    units = None if model.config.num_units is None else [torch.arange(24) % UNITS]
    longer, shorter = (model.acoustic.generate(request(model, [4], [frames], units=units, seeds=[3]))[0] for frames in (14, 9))
    assert torch.equal(longer[: 9 - delay], shorter[: 9 - delay])


@kinds
def test_seeds_decide_and_nothing_is_kept_between_requests(kind: str) -> None:
    ours = request(MODELS[kind], [4, 0], [20, 20])
    first, again, other = (MODELS[kind].acoustic.generate(replace(ours, seeds=seeds)) for seeds in ([1, 2], [1, 2], [3, 4]))
    assert all(torch.equal(*pair) for pair in zip(first, again, strict=True))
    assert not any(torch.equal(*pair) for pair in zip(first, other, strict=True))


@kinds
def test_levels_of_a_step_are_drawn_with_noise_of_their_own(kind: str) -> None:
    """Where all logits are equal, one noise for all levels would draw the same code on each."""
    model = tiny_rq(**KINDS[kind])
    for head in (model.rq.head, model.rq.depth.head):
        if head is not None:
            for parameter in head.parameters():
                parameter.data.zero_()
    [row] = model.acoustic.generate(request(model, [0], [40]))
    assert float((row[:, 0] == row[:, 1]).double().mean()) < 0.5 and float((row[:, 1] == row[:, 2]).double().mean()) < 0.5


@kinds
def test_requests_far_past_the_trained_length_are_filled_to_their_end(kind: str) -> None:
    ours = request(MODELS[kind], [9, 3], [70, 41], windows={"rq": 10}, sampling={"rq": Sampling(temperature=30.0)})
    rows = MODELS[kind].acoustic.generate(ours)
    assert [len(row) for row in rows] == [70, 41]
    assert all(len(row[-12:, level].unique()) > 2 for row in rows for level in range(CODEBOOKS))


@pytest.mark.parametrize("kind", [kind for kind, fields in KINDS.items() if "num_units" in fields])
def test_units_decide_the_codes_and_too_few_are_refused(kind: str) -> None:
    model = MODELS[kind]
    ours = request(model, [4] * 8, [20] * 8, seeds=list(range(8)))
    assert ours.units is not None
    other = replace(ours, units=[(units + 1) % UNITS for units in ours.units])
    assert not torch.equal(*(torch.stack(model.acoustic.generate(one)) for one in (ours, other)))
    with pytest.raises(ValueError, match="20 frames need"):
        model.acoustic.generate(replace(ours, units=[units[:3] for units in ours.units]))


def test_codes_of_16_bits_and_codebooks_that_the_model_does_not_know_are_taken() -> None:
    model = MODELS["codes only, delay 2, shared"]
    ours = request(model, [5], [9])
    prompt = ours.prompt_codes[0]
    for written in (prompt.short(), torch.cat([prompt, torch.full((5, 2), 10**6)], 1)):
        for frames in (5, 9):
            ours = replace(ours, num_frames=[frames])
            expected, found = (model.acoustic.generate(replace(ours, prompt_codes=[one]))[0] for one in (prompt, written))
            assert torch.equal(expected, found) and found.dtype == torch.int64


def test_the_model_without_units_continues_a_batch() -> None:
    model = MODELS["codes only"]
    x = torch.randint(CODES, (2, 6, CODEBOOKS), generator=torch.Generator().manual_seed(0))
    assert model.inference(x, torch.tensor([6, 2]), max_new_tokens=5).shape == (2, 5, CODEBOOKS)


@pytest.mark.parametrize("choices", [{}, {"acoustic_delay": 1, "rq_first_level": "depth"}])
def test_one_batch_is_learned_by_heart_and_said(choices: dict[str, Any]) -> None:
    model = fresh_rq(num_units=UNITS, d_model=32, depth_dim=16, **choices)
    clip = clips(model, [6, 4])
    optimizer = torch.optim.AdamW(model.rq.parameters(), lr=0.01)
    for _ in range(80):
        part = model.rq.loss(**clip)
        optimizer.zero_grad()
        (part.sum / part.count).backward()
        optimizer.step()
    assert float(part.sum.detach() / part.count) < 0.1
    lengths, unit_lengths = clip["lengths"].tolist(), clip["unit_lengths"].tolist()
    ours = AcousticRequest(
        prompt_codes=[clip["codes"][0, :0], clip["codes"][1, :2]], num_frames=lengths, seeds=[0, 1],
        units=[row[:length] for row, length in zip(clip["units"], unit_lengths, strict=True)],
        sampling={"rq": Sampling(temperature=0)},
    )  # fmt: skip
    rows = model.acoustic.generate(ours)
    assert all(torch.equal(row, codes[: len(row)]) for row, codes in zip(rows, clip["codes"], strict=True))
