"""The acoustic model ``flat``: fine levels chunk by chunk, of which none knows another."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import CODES, UNITS, tiny_model
from torch import Tensor

from valle.decoding.sampling import Sampling
from valle.models.acoustic import flat
from valle.models.acoustic.base import AcousticRequest
from valle.models.acoustic.flat import chunks_to_fill

LEVELS = 4
KINDS: dict[str, dict[str, Any]] = {
    "aligned": {"num_units": UNITS},
    "prefix": {"num_units": UNITS, "coarse_conditioning": "prefix"},
    "codes only": {},
    "one coarse level": {"flat_coarse": 1},
    "coarse levels alone": {"flat_coarse": LEVELS},
    "50 Hz units beside 75 Hz codes": {"num_units": UNITS, "units_per_period": 2, "frames_per_period": 3},
}
MODELS = {kind: tiny_model(acoustic_model="flat", num_quantizers=LEVELS, **fields) for kind, fields in KINDS.items()}
kinds = pytest.mark.parametrize("kind", KINDS)


def random_tokens(*shape: int, size: int, seed: int) -> Tensor:
    return torch.randint(size, shape, generator=torch.Generator().manual_seed(seed))


def request(kind: str, prompts: Sequence[int], frames: Sequence[int], **options: Any) -> AcousticRequest:
    """Rows whose content hangs on their lengths, not on their places."""
    config, units = MODELS[kind].config, None
    if config.num_units is not None:
        units = [random_tokens(-(-count // config.frames_per_period) * config.units_per_period, size=UNITS, seed=count) for count in frames]
    return AcousticRequest(**{
        "prompt_codes": [random_tokens(length, LEVELS, size=CODES, seed=length) for length in prompts],
        "num_frames": frames, "seeds": [sum(row) for row in zip(prompts, frames, strict=True)], "units": units, **options,
    })  # fmt: skip


@kinds
@pytest.mark.parametrize("window", [500, 6])
def test_rows_have_the_frames_asked_for_and_begin_with_their_prompts(kind: str, window: int) -> None:
    ours = request(kind, [5, 0, 8, 0], [25, 7, 8, 0], windows={"coarse": window, "flatfine": window})
    rows = MODELS[kind].acoustic.generate(ours)
    assert [row.shape for row in rows] == [(frames, LEVELS) for frames in ours.num_frames]
    for row, prompt in zip(rows, ours.prompt_codes, strict=True):
        assert row.dtype == torch.int64 and torch.equal(row[: len(prompt)], prompt)
        assert not len(row) or 0 <= int(row.min()) <= int(row.max()) < CODES
    assert all(len(rows[0][5:, level].unique()) > 3 for level in range(LEVELS)), "what is filled is not left empty"


@given(
    kind=st.sampled_from(list(KINDS)),
    rows=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 14)), min_size=2, max_size=4),
    window=st.integers(2, 12),
)
@settings(max_examples=15, deadline=None, derandomize=True)
def test_a_prompt_alone_and_in_a_batch_has_the_same_continuation(kind: str, rows: list[tuple[int, int]], window: int) -> None:
    """Regression: prompt length decided by batch mates."""
    frames, windows = [sum(row) for row in rows], {"coarse": window, "flatfine": window}
    ours = request(kind, [row[0] for row in rows], frames, windows=windows)
    for index, codes in enumerate(MODELS[kind].acoustic.generate(ours)):
        units = None if ours.units is None else [ours.units[index]]
        alone = replace(ours, prompt_codes=[ours.prompt_codes[index]], num_frames=[frames[index]], seeds=[ours.seeds[index]], units=units)
        assert torch.equal(MODELS[kind].acoustic.generate(alone)[0], codes)


def test_every_chunk_is_filled_from_its_own_codes() -> None:
    """Against a slow loop, chunk by chunk; at temperature 0 the seeds decide nothing."""
    model, greedy = MODELS["aligned"], Sampling(temperature=0)
    ours = request("aligned", [7], [26], windows={"flatfine": 5}, sampling={"flatfine": greedy})
    [row] = model.acoustic.generate(ours)
    expected = row.clone()
    expected[7:, 2:] = 0
    for start, stop in [(5, 10), (10, 15), (15, 20), (20, 25), (25, 26)]:
        [expected[start:stop]] = model.flatfine.generate([expected[start:stop]], known=[max(0, 7 - start)], sampling=greedy, seeds=[0])
    assert torch.equal(row, expected)


def test_chunks_have_noise_of_their_own() -> None:
    model = tiny_model(acoustic_model="flat", num_quantizers=LEVELS)
    model.flatfine.lm.head.weight.data.zero_()
    model.flatfine.lm.head.bias.data.zero_()
    [row] = model.acoustic.generate(request("codes only", [0], [40], windows={"flatfine": 10}))
    chunks = row[:, 2:].reshape(4, -1)
    assert all((chunks[one] != chunks[other]).any() for one in range(4) for other in range(one))


def test_how_many_chunks_are_filled_at_once_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = request("aligned", [3, 9], [40, 33], windows={"flatfine": 4})
    rows = MODELS["aligned"].acoustic.generate(ours)
    monkeypatch.setattr(flat, "CHUNKS_AT_ONCE", 3)
    assert all(torch.equal(*pair) for pair in zip(rows, MODELS["aligned"].acoustic.generate(ours), strict=True))


@given(prompt=st.integers(0, 60), new=st.integers(0, 100), length=st.integers(1, 30))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_chunks_do_not_overlap_and_hold_every_new_frame(prompt: int, new: int, length: int) -> None:
    chunks = list(chunks_to_fill(prompt, prompt + new, length=length))
    frames = [frame for start, stop in chunks for frame in range(start, stop)]
    assert len(set(frames)) == len(frames) and set(range(prompt, prompt + new)) <= set(frames)
    assert all(start % length == 0 and start < stop <= start + length and stop > prompt for start, stop in chunks)


def test_a_model_without_units_continues_codes_by_inference() -> None:
    model = MODELS["codes only"]
    new = model.inference(random_tokens(2, 6, LEVELS, size=CODES, seed=1), torch.tensor([6, 4]), 9, window=5)
    assert new.shape == (2, 9, LEVELS) and 0 <= int(new.min()) <= int(new.max()) < CODES
