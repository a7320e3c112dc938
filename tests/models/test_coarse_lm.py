"""CoarseLM: the first levels one after another, after units or along them."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import CODES, KINDS, UNITS, random_row, tiny_model
from torch import Tensor
from twin_decoding import Heard, coarse_logits

from valle.decoding.sampling import Sampling
from valle.models import AudioLM
from valle.models.unit_window import UnitWindow
from valle.timeline import Grid, Periods, Timeline

MODELS = {kind: tiny_model(**fields) for kind, fields in KINDS.items()}
kinds = pytest.mark.parametrize("kind", KINDS)


def arguments(model: AudioLM, *, periods: int = 3, seed: int = 1, prompt: int = 0) -> dict[str, Any]:
    """What ``CoarseLM.loss`` takes for one clip."""
    row = random_row(model, periods=periods, seed=seed)
    streams = {"codes": row["codes"][None], "lengths": torch.tensor([len(row["codes"])])}
    if "units" in row:
        return {**streams, "units": row["units"][None], "unit_lengths": torch.tensor([len(row["units"])])}
    return {**streams, "prompt_lengths": torch.tensor([prompt])}


@kinds
def test_the_loss_sums_each_codes_nll_given_all_before_it(kind: str) -> None:
    """Regressions: first token never a target without BOS; HF causal-LM loss shifted twice."""
    model = MODELS[kind].coarse
    prompt = 0 if model.conditioning else 2
    clip = arguments(MODELS[kind], prompt=prompt)
    tokens, levels = model.flatten(clip["codes"][0]), model.num_coarse
    units = clip["units"][0] if model.conditioning else None
    frames, nats = clip["codes"].shape[1], 0.0
    with torch.inference_mode():
        for place in range(prompt * levels, len(tokens)):
            told = {"units": units, "num_frames": frames, "prompt": prompt * levels, "window": 1000}
            logits = coarse_logits(model, tokens[:place], 0, **told)
            own = logits.view(levels, CODES)[place % levels]  # a place's distribution is over its own level's codes
            nats -= float(own.log_softmax(-1)[int(tokens[place]) % CODES])
        part = model.loss(**clip)
    assert int(part.count) == len(tokens) - prompt * levels
    assert float(part.sum) == pytest.approx(nats, rel=1e-5)


@kinds
def test_no_code_is_predicted_from_itself_or_from_the_future(kind: str) -> None:
    model = MODELS[kind].coarse
    clip = arguments(MODELS[kind])
    place = 3
    other = {**clip, "codes": clip["codes"].clone()}
    other["codes"][0, place] = (other["codes"][0, place] + 1) % CODES
    with Heard(model.head) as heard, torch.inference_mode():
        model.loss(**clip)
        model.loss(**other)
    same = [torch.allclose(heard[0][0, index], heard[1][0, index]) for index in range(heard[0].shape[1])]
    first = place * model.num_coarse
    assert all(same[: first + 1]) and not any(same[first + 1 :])


@kinds
def test_levels_above_the_coarse_ones_decide_nothing(kind: str) -> None:
    model = MODELS[kind].coarse
    clip = arguments(MODELS[kind])
    other = {**clip, "codes": clip["codes"].clone()}
    other["codes"][..., model.num_coarse :] = 0
    assert torch.equal(model.loss(**clip).sum, model.loss(**other).sum)


@pytest.mark.parametrize("kind", [kind for kind, fields in KINDS.items() if "num_units" in fields])
def test_units_decide(kind: str) -> None:
    model = MODELS[kind].coarse
    clip = arguments(MODELS[kind])
    other = {**clip, "units": (clip["units"] + 1) % UNITS}
    assert not torch.allclose(model.loss(**clip).sum, model.loss(**other).sum)


def test_a_prompt_is_no_target_but_shown() -> None:
    model = MODELS["codes only"]
    counts = [int(model.coarse.loss(**arguments(model, prompt=prompt)).count) for prompt in (0, 1, 4, 6)]
    assert counts == [6, 5, 2, 0]
    clip = arguments(model, prompt=4)
    other = {**clip, "codes": clip["codes"].clone()}
    other["codes"][0, 0] = (other["codes"][0, 0] + 1) % CODES
    assert not torch.allclose(model.coarse.loss(**clip).sum, model.coarse.loss(**other).sum)


def test_each_level_and_the_start_have_rows_of_their_own() -> None:
    """Regression: EOS sharing a row with the next level's token 0."""
    model = MODELS["prefix, two coarse levels"].coarse
    corners = torch.tensor([[0, 0, 0], [CODES - 1, CODES - 1, 0]])
    assert model.flatten(corners).tolist() == [0, CODES, CODES - 1, 2 * CODES - 1]
    assert (model.start, model.first_unit) == (2 * CODES, 2 * CODES + 1)
    assert model.embed.num_embeddings == 2 * CODES + 1 + UNITS


@given(frames=st.integers(0, 8))
@settings(max_examples=9, deadline=None, derandomize=True)
def test_flattening_goes_row_by_row(frames: int) -> None:
    model = MODELS["aligned, two coarse levels"].coarse
    codes = torch.randint(CODES, (frames, 3), generator=torch.Generator().manual_seed(frames))
    tokens = model.flatten(codes)
    assert tokens.shape == (2 * frames,)
    assert torch.equal((tokens % CODES).view(frames, 2), codes[:, :2])


@kinds
def test_continuations_are_codes_that_begin_with_their_prompts(kind: str) -> None:
    """Regression: continuation that drops its first prompt-length frames."""
    model = MODELS[kind].coarse
    prompts = [torch.full((4, 3), 2), torch.zeros(0, 3).long()]
    units = [torch.arange(12) % UNITS] * 2 if model.conditioning else None
    rows = model.generate(prompts, num_frames=[10, 7], units=units, sampling=Sampling(), seeds=[0, 1], window=100)
    assert [row.shape for row in rows] == [(10, model.num_coarse), (7, model.num_coarse)]
    assert torch.equal(rows[0][:4], prompts[0][:, : model.num_coarse])
    assert all(row.dtype == torch.int64 and 0 <= int(row.min()) <= int(row.max()) < CODES for row in rows)


@kinds
def test_a_shorter_continuation_is_the_beginning_of_a_longer(kind: str) -> None:
    """Regressions: ``max_new_tokens + 1`` tokens; continuation that drops its first frames."""
    model = MODELS[kind].coarse
    units = [torch.arange(12) % UNITS] if model.conditioning else None
    rows = [
        model.generate([torch.ones(4, 3).long()], num_frames=[frames], units=units, sampling=Sampling(), seeds=[3], window=100)[0]
        for frames in (4, 5, 12)
    ]
    assert torch.equal(rows[2][:5], rows[1]) and torch.equal(rows[2][:4], rows[0])


@pytest.mark.parametrize(("unit_hop", "code_hop"), [(640, 320), (320, 320), (480, 320), (320, 640)])
def test_the_window_lies_around_the_unit_in_which_a_frame_starts(unit_hop: int, code_hop: int) -> None:
    """Regression: 75 Hz hard-coded for 50."""
    timeline = Timeline(units=Grid(16000, unit_hop), codes=Grid(16000, code_hop))
    window = UnitWindow(
        num_units=100, d_model=8, reach=2, periods=timeline.periods
    )  # fmt: skip
    units = torch.arange(40)[None]
    near = window.near(units, torch.tensor([40]), torch.arange(timeline.frames_for_units(40)))
    for frame in range(near.shape[1]):
        own = timeline.unit_of_frame(frame)
        expected = [unit if 0 <= unit < 40 else 100 for unit in range(own - 2, own + 3)]
        assert near[0, frame].tolist() == expected


def test_past_the_ends_of_a_row_the_window_is_padding_whatever_stands_there() -> None:
    window = UnitWindow(num_units=UNITS, d_model=8, reach=1, periods=Periods(units=1, frames=1))
    units = torch.tensor([[1, 2, 3], [4, 5, 6]])
    near = window.near(units, torch.tensor([3, 1]), torch.arange(3))
    assert near[0].tolist() == [[UNITS, 1, 2], [1, 2, 3], [2, 3, UNITS]]
    assert near[1].tolist() == [[UNITS, 4, UNITS], [4, UNITS, UNITS], [UNITS] * 3]
    assert window(units, torch.tensor([3, 1]), 3).shape == (2, 3, 8)
    assert window(units[:, :0], torch.tensor([0, 0]), 3).shape == (2, 3, 8)


def test_codes_of_16_bits_are_codes() -> None:
    """As manifests hold them."""
    model = MODELS["codes only"].coarse
    prompt = torch.ones(4, 3).long()
    one, other = (
        model.generate([row], num_frames=[9], units=None, sampling=Sampling(), seeds=[3], window=100)[0] for row in (prompt, prompt.short())
    )
    assert torch.equal(one, other)


def test_logits_have_a_place_a_code() -> None:
    model = MODELS["aligned, two coarse levels"].coarse
    hidden = torch.randn(2, 6, 16, dtype=torch.float64)
    logits: Tensor = model.level_logits(hidden)
    assert logits.shape == (2, 6, CODES)
    whole = model.head(hidden)
    assert torch.equal(logits[:, 0::2], whole[:, 0::2, :CODES]) and torch.equal(logits[:, 1::2], whole[:, 1::2, CODES:])
