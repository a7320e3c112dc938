"""SoundStormLM: what is masked, what is learned from it, and how levels are filled; the mistakes of public code, each by its name."""

from __future__ import annotations

from dataclasses import replace
from math import cos, log, pi
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import CODEBOOKS, CODES, UNITS, fresh_model, padded, tiny_soundstorm
from torch import Tensor

from valle.crops import CroppedTokens
from valle.decoding.masked import masked_after
from valle.decoding.sampling import Sampling
from valle.errors import UserError
from valle.models.config import AudioLMConfig
from valle.models.soundstorm import SoundStormLM, drawn_level
from valle.models.stage import ExampleSettings

LEVELS = range(CODEBOOKS)


def stage(**fields: Any) -> SoundStormLM:
    return tiny_soundstorm(**{"num_units": UNITS, **fields}).soundstorm


MODEL, UNITLESS = stage(), stage(num_units=None)
CONFIG = AudioLMConfig(num_quantizers=CODEBOOKS, codebook_size=CODES, num_units=UNITS, acoustic_model="soundstorm")


def crop(frames: int, *, name: str = "cut", epoch: int = 1) -> CroppedTokens:
    rng = np.random.default_rng(frames)
    return CroppedTokens(
        cut_id=name, units=rng.integers(UNITS, size=-(-frames // 2)), codes=rng.integers(CODES, size=(frames, CODEBOOKS)),
        starts=True, ends=True, seed=7, epoch=epoch,
    )  # fmt: skip


def collated(crops: list[CroppedTokens], **fields: Any) -> dict[str, Tensor]:
    return SoundStormLM.collate(crops, ExampleSettings(replace(CONFIG, **fields)))


MANY = collated([crop(60, name=f"cut-{number}") for number in range(600)])


def some_codes(batch: int, frames: int, *, seed: int = 0) -> Tensor:
    return torch.randint(CODES, (batch, frames, CODEBOOKS), generator=torch.Generator().manual_seed(seed))


def logits_of(model: SoundStormLM, tokens: Tensor, *, level: int = 0, units: Tensor | None = None) -> Tensor:
    lengths = torch.full((len(tokens),), tokens.shape[1])
    unit_lengths = None if units is None else torch.full((len(units),), units.shape[1])
    with torch.inference_mode():
        return model(tokens, lengths, torch.full_like(lengths, level), units, unit_lengths)


# What is drawn for an example


def test_each_example_has_a_prompt_a_level_and_masks_of_its_own() -> None:
    """Regression: one t and q for the batch."""
    crops = [crop(40, name="a"), crop(25, name="b"), crop(12, name="c")]
    together = collated(crops)
    for row, one in enumerate(crops):
        alone, frames = collated([one]), len(one.codes)
        for name in ("prompt_lengths", "levels"):
            assert together[name][row] == alone[name][0]
        assert torch.equal(together["masked"][row, :frames], alone["masked"][0]) and not together["masked"][row, frames:].any()
    assert len(MANY["prompt_lengths"].unique()) > 50 and len(MANY["masked"].sum(1).unique()) > 30


def test_prompt_ends_are_uniform_over_the_frames_and_levels_over_the_levels() -> None:
    counts = MANY["prompt_lengths"].bincount(minlength=60).view(6, 10).sum(1)
    assert (counts - 100).abs().max() < 4 * 100**0.5 and int(MANY["prompt_lengths"].max()) <= 59
    assert (MANY["levels"].bincount(minlength=CODEBOOKS) - 200).abs().max() < 4 * 200**0.5


def test_masks_are_bernoulli_draws_of_a_cosine_from_the_prompt_on() -> None:
    """Regression: a fixed number of masks instead of Bernoulli draws."""
    numbers = [crop(60, name=f"cut-{number}") for number in range(600)]
    place = torch.arange(60)
    assert not (MANY["masked"] & (place < MANY["prompt_lengths"][:, None])).any()
    surplus, spread = [], []
    for row, one in enumerate(numbers):
        share, count = cos(one.chance("mask share") * pi / 2), 60 - int(MANY["prompt_lengths"][row])
        surplus.append(int(MANY["masked"][row].sum()) - share * count)
        spread.append(count * share * (1 - share))
    assert abs(np.sum(surplus)) < 4 * np.sum(spread) ** 0.5  # of u's own cosine: no bias
    assert 0.8 < np.sum(np.square(surplus)) / np.sum(spread) < 1.3  # and the variance of Bernoulli draws, where a fixed number has 0
    shares = MANY["masked"].sum(1) / (60 - MANY["prompt_lengths"])
    assert abs(float(shares.mean()) - 2 / pi) < 0.06  # of cos u for u uniform on 0..pi/2


def test_at_least_one_position_is_masked() -> None:
    short = collated([crop(2, name=f"cut-{number}") for number in range(300)])
    assert (short["masked"].sum(1) >= 1).all() and (short["masked"].sum(1) == 1).any()
    assert (collated([crop(1)])["masked"] == torch.tensor([[True]])).all()


def test_what_is_drawn_repeats_and_changes_with_the_epoch() -> None:
    again = collated([crop(60, name=f"cut-{number}") for number in range(3)])
    assert all(torch.equal(again[name], MANY[name][:3]) for name in ("masked", "levels", "prompt_lengths"))
    other = collated([crop(60, name=f"cut-{number}", epoch=2) for number in range(3)])
    assert not torch.equal(other["masked"], again["masked"])


def test_linear_levels_are_drawn_in_proportion_to_the_levels_that_are_left() -> None:
    """MaskGCT's weights, Q - q."""
    config = replace(CONFIG, num_quantizers=4, soundstorm_levels="linear")
    draws = torch.tensor([drawn_level(place / 1000, config) for place in range(1000)])
    assert draws.bincount().tolist() == [400, 300, 200, 100]
    assert drawn_level(1 - 2**-53, config) == 3 and drawn_level(0.0, config) == 0
    with pytest.raises(UserError, match="uniform or linear, found 'cubic'"):
        replace(CONFIG, soundstorm_levels="cubic")


# What is shown, and what is learned


@pytest.mark.parametrize("level", LEVELS)
def test_levels_above_are_masked_after_the_prompt_and_levels_below_and_prompts_never(level: int) -> None:
    """Regression: upper levels not masked."""
    codes, after = some_codes(1, 6), torch.arange(6)[None] >= 2
    masked = torch.tensor([[False, False, True, False, True, False]])
    tokens = MODEL.hide(codes, masked=masked, after=after, levels=torch.tensor([level]))
    hidden = torch.zeros(1, 6, CODEBOOKS).bool()
    hidden[..., level], hidden[..., level + 1 :] = masked, after[..., None]
    assert torch.equal(tokens == MODEL.mask, hidden) and torch.equal(tokens[~hidden], codes[~hidden])


def batch(rows: list[int], *, filler: int = 0, **fields: Tensor) -> dict[str, Tensor]:
    """What the stage's loss takes, of clips of so many frames."""
    drawn = collated([crop(frames, name=f"clip-{frames}") for frames in rows])
    codes, _ = padded([drawn["codes"][row, :length] for row, length in enumerate(rows)], size=CODES, filler=filler)
    lengths = drawn["unit_lengths"].tolist()
    units, _ = padded([drawn["units"][row, :length] for row, length in enumerate(lengths)], size=UNITS, filler=filler)
    return {**drawn, "codes": codes, "units": units, **fields}


def test_the_loss_is_that_of_masked_positions_of_the_rows_own_level() -> None:
    """Regressions: loss on unmasked tokens or on other levels (gives noise); padding trained as a class."""
    tensors = batch([9, 5, 1])
    nats, count = 0.0, 0
    for row, frames in enumerate((9, 5, 1)):
        level, prompt = int(tensors["levels"][row]), int(tensors["prompt_lengths"][row])
        codes, masked = tensors["codes"][row : row + 1, :frames], tensors["masked"][row, :frames]
        tokens = codes.clone()
        tokens[0, prompt:, level + 1 :] = MODEL.mask
        tokens[0, masked, level] = MODEL.mask
        scores = logits_of(MODEL, tokens, level=level, units=tensors["units"][row : row + 1, : int(tensors["unit_lengths"][row])])
        for frame in masked.nonzero()[:, 0].tolist():
            nats, count = nats - float(scores[0, frame].log_softmax(-1)[codes[0, frame, level]]), count + 1
    part = MODEL.loss(**tensors)
    assert int(part.count) == count
    assert float(part.sum.detach()) == pytest.approx(nats, rel=1e-6)


@pytest.mark.parametrize("filler", [0, 5])
def test_padding_changes_no_loss_and_no_gradient(filler: int) -> None:
    """Regression: padding trained as a class."""
    model = stage()
    together = model.loss(**batch([12, 3, 7], filler=filler))
    together.sum.backward()
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    alone = [model.loss(**batch([frames])) for frames in (12, 3, 7)]
    sum(part.sum for part in alone).backward()
    torch.testing.assert_close(together.sum, sum(part.sum for part in alone), rtol=1e-9, atol=1e-9)
    assert int(together.count) == sum(int(part.count) for part in alone)
    for one, parameter in zip(gradients, model.parameters(), strict=True):
        torch.testing.assert_close(one, parameter.grad, rtol=1e-7, atol=1e-9)


def test_no_head_knows_the_mask() -> None:
    assert MODEL.mask == CODES and logits_of(UNITLESS, some_codes(1, 4)).shape == (1, 4, CODES)
    assert MODEL.embed.num_embeddings == CODEBOOKS * (CODES + 1)


def test_the_first_loss_is_the_log_of_the_codebook() -> None:
    model = fresh_model(num_units=UNITS, acoustic_model="soundstorm", d_model=32).soundstorm.eval()
    for part in model.validation_terms(**batch([30, 20])).values():
        assert abs(float(part.sum.detach() / part.count) - log(CODES)) < 0.03


def test_every_level_is_validated_to_the_same_number_each_time() -> None:
    """Regression: NAR validation on one random level."""
    tensors = batch([20, 8])
    first, again = ({name: float(part.sum.detach()) for name, part in MODEL.validation_terms(**tensors).items()} for _ in range(2))
    assert first == again and list(first) == [f"soundstorm_{level}" for level in LEVELS] and len(set(first.values())) == CODEBOOKS
    counts = MODEL.histograms(**tensors)
    assert list(counts) == list(first)
    for level in LEVELS:
        [found] = counts[f"soundstorm_{level}"]
        assert torch.equal(found, tensors["codes"][..., level][tensors["masked"]].bincount(minlength=CODES).double())


@pytest.mark.parametrize("units", [UNITS, None])
def test_every_parameter_has_a_gradient_whatever_levels_a_batch_draws(units: int | None) -> None:
    """Regression: a random level per example with a ``ModuleList`` of heads breaks DDP."""
    model = stage(num_units=units)
    for level in LEVELS:
        model.zero_grad(set_to_none=True)
        tensors = batch([8], levels=torch.tensor([level]))
        model.loss(**{name: value for name, value in tensors.items() if units or "unit" not in name}).sum.backward()
        assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_codes_start_where_the_codecs_vectors_lie() -> None:
    model = fresh_model(num_units=UNITS, acoustic_model="soundstorm").soundstorm
    mask = model.embed.weight.view(CODEBOOKS, CODES + 1, -1)[:, CODES].clone()
    model.start_from_codebooks(torch.zeros(CODEBOOKS, CODES, 4))
    table = model.embed.weight.view(CODEBOOKS, CODES + 1, -1)
    assert torch.equal(table[:, CODES], mask) and not table[:, :CODES].any() and not model.head.any()


# Units


def test_units_lie_under_their_frames_and_runs_are_kept() -> None:
    """Regression: deduplicated units.  Two sequences of the same runs, of other lengths, say other things."""
    one, other = (torch.tensor([units]) for units in ([3, 3, 3, 5], [3, 5, 5, 5]))
    tokens = some_codes(1, 8)
    assert not torch.equal(logits_of(MODEL, tokens, units=one), logits_of(MODEL, tokens, units=other))
    example = crop(40)
    example.units[:] = [1] * 10 + [2] * 10
    assert torch.equal(collated([example], unit_sequence="runs")["units"][0], torch.from_numpy(example.units))


def test_a_unit_is_repeated_onto_its_frames() -> None:
    """Regression: interpolated conditioning.  Within a unit's frames the conditioning is one and the same vector."""
    model = stage(unit_window=0)
    said = model.unit_window(torch.tensor([[3, 5, 2]]), torch.tensor([3]), 6)[0]
    assert torch.equal(said[0::2], said[1::2]) and len({tuple(row) for row in said.tolist()}) == 3
    between = model.unit_window(torch.tensor([[3, 5, 0]]), torch.tensor([3]), 6)[0]
    assert torch.equal(said[:4], between[:4])  # the next unit does not show


# Decoding


def watch(model: SoundStormLM) -> list[tuple[int, Tensor]]:
    """Grows by the level and the tokens ``(B, T, Q)`` of every pass that the stage makes from now on."""
    calls: list[tuple[int, Tensor]] = []
    model.register_forward_pre_hook(lambda _, inputs: calls.append((int(inputs[2][0]), inputs[0].clone())))
    return calls


def generated(model: SoundStormLM, codes: Tensor, known: Tensor, lengths: Tensor, **sampling: Any) -> Tensor:
    seeds = list(range(len(codes)))
    units = torch.arange(codes.shape[1]).expand(len(codes), -1) % UNITS
    streams = {} if model.unit_window is None else {"units": units, "unit_lengths": (lengths + 1) // 2}
    return model.generate(codes, lengths=lengths, known=known, sampling=Sampling(**sampling), seeds=seeds, **streams)


@pytest.mark.parametrize("passes", [(16, 1), (5, 3, 2), (1,)])
def test_passes_keep_what_the_schedule_says_level_by_level(passes: tuple[int, ...]) -> None:
    """Regression: confidences of all levels ranked together against one level's budget, 0 to 48 of 472 tokens masked again.

    At every pass the level's masks are the schedule's number, levels above are masked wherever the prompt is not, levels below
    and the prompt are not.
    """
    model = stage()
    watched = watch(model)
    lengths, prompts = torch.tensor([40, 33]), torch.tensor([7, 0])
    codes, place = some_codes(2, 40), torch.arange(40)
    known, unknown = place < prompts[:, None], (place >= prompts[:, None]) & (place < lengths[:, None])
    filled = generated(model, codes, known, lengths, passes=passes)
    calls = iter(watched)
    for level in LEVELS:
        count = passes[min(level, len(passes) - 1)]
        for number in range(count):
            at, tokens = next(calls)
            hidden = tokens == MODEL.mask
            assert at == level
            assert torch.equal(hidden[..., level + 1 :], unknown[..., None].expand(-1, -1, CODEBOOKS - level - 1))
            assert not hidden[..., :level].any() and not (hidden[..., level] & ~unknown).any()
            expected = [[total, *masked_after(total, count)][number] for total in unknown.sum(1).tolist()]
            assert hidden[..., level].sum(1).tolist() == expected
            shown = ~hidden & unknown[..., None]
            assert torch.equal(tokens[shown], filled[shown]), "what a pass keeps is never changed"
            assert torch.equal(tokens[known], codes[known])
    assert next(calls, None) is None
    assert torch.equal(filled[known], codes[known]) and int(filled.max()) < CODES


def test_known_frames_may_lie_anywhere() -> None:
    """Several prompts: frames of each are left alone and seen by all."""
    codes, known = some_codes(1, 24), (torch.arange(24) % 12 < 5)[None]
    before = codes.clone()
    filled = generated(UNITLESS, codes, known, torch.tensor([24]))
    assert torch.equal(codes, before) and torch.equal(filled[known], codes[known])
    other = codes.clone()
    other[0, 12] = (other[0, 12] + 1) % CODES  # the second prompt's first frame

    def first_pass(codes: Tensor) -> Tensor:
        return logits_of(UNITLESS, UNITLESS.hide(codes, masked=~known, after=~known, levels=torch.tensor([0])))

    assert (first_pass(codes) != first_pass(other)).any(-1)[~known].all()


def test_levels_of_one_pass_are_greedy_and_the_first_is_drawn() -> None:
    """Regression: "one-pass" levels are sampled hot."""
    codes, known, lengths = some_codes(1, 30), torch.zeros(1, 30).bool(), torch.tensor([30])
    filled = generated(UNITLESS, codes, known, lengths, passes=(8, 1), temperature=2.0)
    for level in range(1, CODEBOOKS):
        tokens = UNITLESS.hide(filled, masked=~known, after=~known, levels=torch.tensor([level]))
        assert torch.equal(filled[..., level], logits_of(UNITLESS, tokens, level=level).argmax(-1))
    cold = generated(UNITLESS, codes, known, lengths, passes=(8, 1), temperature=0.0)
    assert not torch.equal(cold[..., 0], filled[..., 0])
    one = generated(UNITLESS, codes, known, lengths, passes=(1,), temperature=2.0)
    assert torch.equal(one, generated(UNITLESS, codes, known, lengths, passes=(1,), temperature=0.0))


def test_generating_leaves_the_model_in_its_mode() -> None:
    model = fresh_model(acoustic_model="soundstorm", dropout=0.5).soundstorm.train()
    codes, known = some_codes(1, 6), torch.zeros(1, 6).bool()
    assert torch.equal(*(generated(model, codes, known, torch.tensor([6])) for _ in range(2))) and model.training


def test_a_batch_is_learned_by_heart() -> None:
    model = fresh_model(num_units=UNITS, acoustic_model="soundstorm").soundstorm
    optimizer, tensors = torch.optim.AdamW(model.parameters(), lr=0.01), batch([16, 11])
    for _ in range(60):
        optimizer.zero_grad()
        part = model.loss(**tensors)
        (part.sum / part.count).backward()
        optimizer.step()
    assert float(part.sum.detach() / part.count) < 0.1
