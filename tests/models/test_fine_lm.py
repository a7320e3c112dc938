"""FineLM: a level of every frame from the levels below it, beside a prompt of which all levels are known."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import CODEBOOKS, CODES, UNITS, padded, tiny_model
from torch import Tensor

from valle.decoding.sampling import Sampling
from valle.models.fine import FineLM

LEVELS = range(1, CODEBOOKS)


def fine_stage(**fields: Any) -> FineLM:
    return tiny_model(**fields).fine


MODEL = fine_stage()


def some_codes(batch: int, frames: int, *, seed: int = 0) -> Tensor:
    return torch.randint(CODES, (batch, frames, CODEBOOKS), generator=torch.Generator().manual_seed(seed))


def logits_of(model: FineLM, codes: Tensor, *, level: int, prompt: int = 0, **units: Tensor) -> Tensor:
    batch, frames = codes.shape[:2]
    streams = {"units": None, "unit_lengths": None, **units}
    with torch.inference_mode():
        return model(codes, *(torch.full((batch,), value) for value in (frames, prompt, level)), **streams)


def seen_by(model: FineLM, *, level: int, prompt: int, frames: int = 5) -> Tensor:
    """``(frames, Q)`` bool: which codes change any logit."""
    codes = some_codes(1, frames)
    before = logits_of(model, codes, level=level, prompt=prompt)
    seen = torch.zeros(frames, CODEBOOKS).bool()
    for frame in range(frames):
        for book in range(CODEBOOKS):
            other = codes.clone()
            other[0, frame, book] = (other[0, frame, book] + 1) % CODES
            seen[frame, book] = not torch.equal(logits_of(model, other, level=level, prompt=prompt), before)
    return seen


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("prompt", [0, 2])
def test_target_frames_show_what_lies_below_the_level_and_prompts_show_all(level: int, prompt: int) -> None:
    expected = (torch.arange(CODEBOOKS) < level).expand(5, -1).clone()
    expected[:prompt] = True
    assert torch.equal(seen_by(MODEL, level=level, prompt=prompt), expected)


def test_a_model_that_learned_without_prompts_is_not_shown_one() -> None:
    model = fine_stage(prefix_mode=0)
    assert torch.equal(seen_by(model, level=1, prompt=3), seen_by(model, level=1, prompt=0))


def test_every_frame_sees_both_ways_in_time() -> None:
    codes = some_codes(1, 5)
    before = logits_of(MODEL, codes, level=1)
    for frame in (0, 4):
        other = codes.clone()
        other[0, frame, 0] = (other[0, frame, 0] + 1) % CODES
        assert (logits_of(MODEL, other, level=1) != before).any(-1).all()


def test_positions_go_on_past_the_prompt() -> None:
    """Regression: positions restart at the prompt's end.  With roles and upper levels silenced, a prompt makes no difference."""
    model = fine_stage()
    model.role_embed.weight.data.zero_()
    model.embed.weight.data[CODES:] = 0
    codes = some_codes(1, 6)
    for prompt in (1, 3, 5):
        assert torch.equal(logits_of(model, codes, level=1, prompt=prompt), logits_of(model, codes, level=1))


@given(lengths=st.lists(st.integers(1, 6), min_size=1, max_size=3), share=st.floats(0, 1), level=st.sampled_from(list(LEVELS)))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_the_loss_counts_the_frames_after_each_rows_prompt(lengths: list[int], share: float, level: int) -> None:
    """Regression: prompt length decided by batch mates."""
    codes, frames = padded([some_codes(1, length, seed=length)[0] for length in lengths], size=CODES)
    prompts = (frames * share).long()
    levels = torch.full_like(frames, level)
    with torch.inference_mode():
        part = MODEL.loss(codes=codes, lengths=frames, prompt_lengths=prompts, levels=levels)
    nats = 0.0
    for row, (length, prompt) in enumerate(zip(lengths, prompts.tolist(), strict=True)):
        scores = logits_of(MODEL, codes[row : row + 1, :length], level=level, prompt=prompt)[0].log_softmax(-1)
        nats -= sum(float(scores[frame, codes[row, frame, level]]) for frame in range(prompt, length))
    assert int(part.count) == int((frames - prompts).sum())
    assert float(part.sum) == pytest.approx(nats, rel=1e-5, abs=1e-5)


def test_levels_of_a_batch_are_each_rows_own() -> None:
    codes, lengths = some_codes(4, 5), torch.full((4,), 5)
    levels = torch.tensor([2, 1, 1, 2])
    streams = {"codes": codes, "lengths": lengths, "prompt_lengths": torch.zeros(4).long()}
    mixed = MODEL.loss(**streams, levels=levels)
    alone = [
        MODEL.loss(**{name: tensor[row : row + 1] for name, tensor in streams.items()}, levels=levels[row : row + 1]) for row in range(4)
    ]
    torch.testing.assert_close(mixed.sum, sum(part.sum for part in alone), rtol=1e-5, atol=1e-4)
    assert MODEL(**streams, levels=levels, units=None, unit_lengths=None).shape == (4, 5, CODES)


def test_every_level_validates_to_the_same_number_each_time() -> None:
    """Regression: NAR validation on one random level, the same weights score 923 to 932."""
    codes, lengths, prompts = some_codes(3, 6), torch.tensor([6, 4, 1]), torch.tensor([2, 0, 0])

    def scores() -> list[float]:
        torch.rand(5)  # the global stream decides nothing
        each = [MODEL.loss(codes=codes, lengths=lengths, prompt_lengths=prompts, levels=torch.full((3,), level)) for level in LEVELS]
        assert all(int(part.count) == 9 for part in each)
        return [float(part.sum.detach()) for part in each]

    first = scores()
    assert first == scores() and len(set(first)) == len(LEVELS)


def test_units_are_summed_in_only_where_the_config_says_so() -> None:
    codes, lengths = some_codes(1, 4), torch.tensor([2])
    for fine_units in (True, False):
        model = fine_stage(num_units=UNITS, fine_units=fine_units)
        one, other = (logits_of(model, codes, level=1, units=torch.tensor([row]), unit_lengths=lengths) for row in ([1, 2], [1, 3]))
        assert torch.equal(one, other) != fine_units


def generated(codes: Tensor, lengths: Tensor, prompts: Tensor, *, seeds: list[int], temperature: float = 1.0) -> Tensor:
    sampling = Sampling(temperature=temperature)
    return MODEL.generate(codes, lengths=lengths, prompt_lengths=prompts, sampling=sampling, seeds=seeds)


def test_generating_keeps_prompts_and_coarse_levels_and_fills_the_rest() -> None:
    codes, lengths, prompts = some_codes(2, 7), torch.tensor([7, 5]), torch.tensor([2, 4])
    codes[..., 1:] = torch.where((torch.arange(7) < prompts[:, None])[..., None], codes[..., 1:], 0)
    before = codes.clone()
    filled = generated(codes, lengths, prompts, seeds=[0, 1])
    assert torch.equal(codes, before)  # what was given is not written to
    assert filled.shape == codes.shape and torch.equal(filled[..., 0], codes[..., 0])
    for row, (length, prompt) in enumerate(zip(lengths.tolist(), prompts.tolist(), strict=True)):
        assert torch.equal(filled[row, :prompt], codes[row, :prompt])
        assert 0 <= int(filled[row, :length].min()) <= int(filled[row, :length].max()) < CODES
    assert len(filled[0, 2:, 1:].unique()) > 2


def test_each_level_is_drawn_from_the_levels_drawn_before_it() -> None:
    """Against a slow loop of arg-maxima."""
    codes = some_codes(1, 6)
    filled = generated(codes, torch.tensor([6]), torch.tensor([1]), seeds=[0], temperature=0)
    expected = codes.clone()
    for level in LEVELS:
        expected[0, 1:, level] = logits_of(MODEL, expected, level=level, prompt=1).argmax(-1)[0, 1:]
    assert torch.equal(filled, expected)


@pytest.mark.parametrize("fields", [{}, {"num_units": UNITS}, {"prefix_mode": 0}])
def test_what_is_made_once_of_the_prompts_is_what_every_level_makes_of_them(fields: dict[str, Any]) -> None:
    """The slow twin makes the inputs of all frames, and all logits, in every pass."""
    model, codes, prompts = fine_stage(**fields), some_codes(2, 9), torch.tensor([4, 6])
    lengths, units = torch.tensor([9, 9]), None
    if "num_units" in fields:
        units = torch.randint(UNITS, (2, 9), generator=torch.Generator().manual_seed(1))
    filled = model.generate(
        codes, lengths=lengths, prompt_lengths=prompts, sampling=Sampling(temperature=0), seeds=[0, 1], units=units,
        unit_lengths=None if units is None else lengths,
    )  # fmt: skip
    for level in LEVELS:
        logits = model(filled, lengths, prompts, torch.full((2,), level), units, None if units is None else lengths)
        for row, prompt in enumerate(prompts.tolist()):
            assert torch.equal(filled[row, prompt:, level], logits[row, prompt:].argmax(-1))
            assert torch.equal(filled[row, :prompt], codes[row, :prompt])


@given(lengths=st.lists(st.integers(1, 8), min_size=2, max_size=4))
@settings(max_examples=15, deadline=None, derandomize=True)
def test_a_row_alone_and_in_a_batch_is_filled_alike(lengths: list[int]) -> None:
    rows = [some_codes(1, length, seed=index)[0] for index, length in enumerate(lengths)]
    codes, frames = padded(rows, size=CODES)
    together = generated(codes, frames, frames // 2, seeds=list(range(len(rows))))
    for index, (row, length) in enumerate(zip(rows, lengths, strict=True)):
        alone = generated(row[None], frames[index : index + 1], frames[index : index + 1] // 2, seeds=[index])
        assert torch.equal(together[index, :length], alone[0])


def test_levels_and_rows_draw_from_streams_of_their_own() -> None:
    codes = torch.zeros(3, 8, CODEBOOKS).long()
    lengths, prompts = torch.full((3,), 8), torch.zeros(3).long()
    filled = generated(codes, lengths, prompts, seeds=[5, 6, 5], temperature=50.0)
    assert torch.equal(filled[0], filled[2]) and not torch.equal(filled[0], filled[1])
    assert not torch.equal(filled[0, :, 1], filled[0, :, 2])
