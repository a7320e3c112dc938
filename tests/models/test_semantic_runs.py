"""RunSemanticLM: units without repeats and their durations, as exact a model of frames as one unit a frame."""

from itertools import product
from math import exp, log

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import UNITS, batch_of, fresh_model, padded, random_row, tiny_model
from torch import Tensor

from valle.decoding.sampling import Sampling
from valle.errors import UserError
from valle.models import AudioLM
from valle.models.semantic_runs import RunSemanticLM
from valle.tokenizers.unit_runs import collapse

MODEL = tiny_model(num_units=UNITS, unit_sequence="runs", longest_run=3).semantic
BINARY = tiny_model(num_units=2, unit_sequence="runs", longest_run=2).semantic
units_lists = st.lists(st.tuples(st.integers(0, UNITS - 1), st.integers(1, 7)), min_size=1, max_size=5).map(
    lambda runs: [unit for unit, count in runs for _ in range(count)]
)


def parts_of(model: RunSemanticLM, rows: list[list[int]], starts: list[bool], ends: list[bool], *, filler: int = 0):  # type: ignore[no-untyped-def]
    units, lengths = padded([torch.tensor(row, dtype=torch.int64) for row in rows], size=2, filler=filler)
    with torch.inference_mode():
        return model.validation_terms(units=units, lengths=lengths, starts=torch.tensor(starts), ends=torch.tensor(ends))


def nats(model: RunSemanticLM, row: list[int], *, starts: bool = True, ends: bool = False) -> float:
    return float(sum(part.sum for part in parts_of(model, [row], [starts], [ends]).values()))


def probability(model: RunSemanticLM, row: list[int], **edges: bool) -> float:
    return exp(-nats(model, row, **edges))


def test_probabilities_of_all_utterances_and_beginnings_add_up_to_one() -> None:
    """Every sequence of frames has one sequence of runs, and a last run that goes on counts all that it may become."""
    longest = 5
    ended = sum(probability(BINARY, list(row), ends=True) for length in range(longest) for row in product(range(2), repeat=length))
    going_on = sum(probability(BINARY, list(row)) for row in product(range(2), repeat=longest))
    assert ended + going_on == pytest.approx(1, rel=1e-5)
    assert 0.05 < ended < 0.95


@given(row=st.lists(st.integers(0, 1), max_size=6))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_a_beginning_is_as_likely_as_all_that_may_come_of_it(row: list[int]) -> None:
    """So a prompt's last run, of which only a lower bound of the duration is known, is conditioned on rightly."""
    becomes = probability(BINARY, row, ends=True) + sum(probability(BINARY, [*row, unit]) for unit in range(2))
    assert becomes == pytest.approx(probability(BINARY, row), rel=1e-4)


def slow_nats(model: RunSemanticLM, row: list[int], *, starts: bool, ends: bool) -> tuple[float, float]:
    """Unit and duration nats, a run at a time, everything before it fed anew."""
    units, durations = (part.tolist() for part in collapse(torch.tensor(row), model.longest))
    first = next((place for place, unit in enumerate(units) if unit != units[0]), len(units)) if not starts else 0
    said, lasted = ([model.bos], [0]) if starts else ([], [])
    shown = list(lasted)
    unit_nats = duration_nats = 0.0
    for place, (unit, duration) in enumerate([*zip(units, durations, strict=True), *([(None, 0)] if ends else [])]):
        token = model.eos if unit is None else unit + model.first_unit
        if place >= first and said:
            with torch.inference_mode():
                hidden = model.transformer(model.inputs(torch.tensor([said]), torch.tensor([shown])), _causal())[0, -1]
                logits = model.head(hidden)
                logits[model.bos] = -torch.inf
                if said[-1] != model.bos and lasted[-1] < model.longest:
                    logits[said[-1]] = -torch.inf
                unit_nats -= float(logits.log_softmax(-1)[token])
                if unit is not None:
                    chances = model.duration_logits(hidden, torch.tensor(token)).softmax(-1)
                    goes_on = place == len(units) - 1 and not ends
                    duration_nats -= log(float(chances[duration - 1 :].sum() if goes_on else chances[duration - 1]))
        said.append(token)
        lasted.append(duration)
        shown.append(duration if place >= first else 0)
    return unit_nats, duration_nats


def _causal():  # type: ignore[no-untyped-def]
    from valle.modules.transformer import Attend

    return Attend.causally()


@given(row=units_lists, starts=st.booleans(), ends=st.booleans())
@settings(max_examples=25, deadline=None, derandomize=True)
def test_the_loss_is_that_of_a_slow_loop_over_runs(row: list[int], starts: bool, ends: bool) -> None:
    parts = parts_of(MODEL, [row], [starts], [ends])
    unit_nats, duration_nats = slow_nats(MODEL, row, starts=starts, ends=ends)
    assert float(parts["semantic_unit"].sum) == pytest.approx(unit_nats, rel=1e-4, abs=1e-5)
    assert float(parts["semantic_duration"].sum) == pytest.approx(duration_nats, rel=1e-4, abs=1e-5)


@given(rows=st.lists(st.tuples(units_lists, st.booleans(), st.booleans()), min_size=1, max_size=4), filler=st.integers(0, 3))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_padding_is_not_counted_so_a_batch_has_the_sums_of_its_clips(rows: list[tuple[list[int], bool, bool]], filler: int) -> None:
    streams, starts, ends = (list(column) for column in zip(*rows, strict=True))
    together = parts_of(MODEL, streams, starts, ends, filler=filler)
    for name, part in together.items():
        alone = [parts_of(MODEL, [row], [start], [end])[name] for row, start, end in rows]
        assert int(part.count) == sum(int(other.count) for other in alone)
        assert int(part.correct) == sum(int(other.correct) for other in alone)
        assert float(part.sum) == pytest.approx(sum(float(other.sum) for other in alone), rel=1e-4, abs=1e-5)


def test_a_duration_is_predicted_from_its_own_unit_and_shown_to_the_next() -> None:
    hidden = torch.randn(1, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    heard = {tuple(MODEL.duration_logits(hidden, torch.tensor([unit + 2]))[0].tolist()) for unit in range(UNITS)}
    assert len(heard) == UNITS
    short, long = parts_of(MODEL, [[1, 2, 4]], [True], [True]), parts_of(MODEL, [[1, 1, 2, 4]], [True], [True])
    assert float(short["semantic_unit"].sum) != float(long["semantic_unit"].sum)  # the same units, the first held longer


def test_a_run_that_the_crop_cuts_off_at_its_begin_is_no_target_and_its_length_no_matter() -> None:
    one, two = (parts_of(MODEL, [[5] * held + [1, 1, 2]], [False], [True]) for held in (1, 2))
    for name in one:
        assert float(one[name].sum) == float(two[name].sum)
    assert int(one["semantic_unit"].count) == 3 and int(one["semantic_duration"].count) == 2
    longer = parts_of(MODEL, [[5] * 8 + [1, 1, 2]], [False], [True])  # several runs of the longest length, all context
    assert int(longer["semantic_unit"].count) == 3 and int(longer["semantic_duration"].count) == 2
    begun = [parts_of(MODEL, [[5] * held + [1, 1, 2]], [True], [True])["semantic_unit"] for held in (1, 2)]
    assert float(begun[0].sum) != float(begun[1].sum)


def test_the_loss_is_units_and_durations_together() -> None:
    batch = {
        "units": torch.tensor([[0, 0, 3, 1]]),
        "lengths": torch.tensor([4]),
        "starts": torch.tensor([True]),
        "ends": torch.tensor([True]),
    }
    whole, parts = MODEL.loss(**batch), MODEL.validation_terms(**batch)
    assert float(whole.sum.detach()) == pytest.approx(float(sum(part.sum.detach() for part in parts.values())))
    assert int(whole.count) == int(parts["semantic_unit"].count) == 4 and int(parts["semantic_duration"].count) == 3
    assert MODEL.frames_predicted(**batch) == 4
    assert MODEL.frames_predicted(**{**batch, "starts": torch.tensor([False])}) == 2
    histograms = MODEL.histograms(**batch)
    assert histograms["semantic_unit"][0].tolist() == [1, 1, 0, 1, 0, 0, 0, 1]
    assert histograms["semantic_duration"][0].tolist() == [2, 1, 0]


def test_the_first_loss_is_the_log_of_both_vocabularies() -> None:
    model = fresh_model(num_units=200, unit_sequence="runs", longest_run=32, d_model=32).eval().semantic
    rows = [torch.randint(200, (40,), generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
    units, lengths = padded(rows, size=200)
    parts = model.validation_terms(units=units, lengths=lengths, starts=torch.ones(3).bool(), ends=torch.ones(3).bool())
    assert float(parts["semantic_unit"].sum.detach() / parts["semantic_unit"].count) == pytest.approx(log(200), abs=0.05)
    assert float(parts["semantic_duration"].sum.detach() / parts["semantic_duration"].count) == pytest.approx(log(32), abs=0.05)


def test_every_parameter_has_a_gradient_whatever_a_batch_holds() -> None:
    """Else processes that train together wait for each other for ever."""
    model = fresh_model(num_units=UNITS, unit_sequence="runs")
    for periods, starts in ((1, False), (4, True)):
        model.zero_grad(set_to_none=True)
        batch = batch_of(model, [{**random_row(model, periods=periods, seed=1), "starts": starts, "ends": False}])
        part = model.loss({"semantic": batch["semantic"]})["semantic"]
        part.sum.backward()
        assert [name for name, parameter in model.semantic.named_parameters() if parameter.grad is None] == []
        assert all(torch.isfinite(parameter.grad).all() for parameter in model.semantic.parameters())


def continued(
    model: RunSemanticLM,
    prompts: list[list[int]],
    *,
    new: list[int],
    seeds: list[int],
    least: int = 0,
    window: int = 1000,
    temperature: float = 1.0,
) -> list[Tensor]:
    return model.generate(
        [torch.tensor(prompt, dtype=torch.int64) for prompt in prompts], max_new=new, min_new=[min(least, most) for most in new],
        sampling=Sampling(temperature=temperature), seeds=seeds, window=window,
    )  # fmt: skip


@pytest.mark.parametrize("prompt", [[0, 1, 1], [1, 0], [0, 0, 0], []])
def test_what_is_drawn_after_a_prompt_is_as_likely_as_the_loss_says(prompt: list[int]) -> None:
    """The prompt's last run may go on: a model that took it for ended would never draw its unit again."""
    draws, width = 500, 2
    rows = continued(BINARY, [prompt] * draws, new=[width] * draws, seeds=list(range(draws)))
    found: dict[tuple[int, ...], int] = {}
    for row in rows:
        found[tuple(row.tolist())] = found.get(tuple(row.tolist()), 0) + 1
    given_prompt = probability(BINARY, prompt)
    outcomes = {(unit, after): probability(BINARY, [*prompt, unit, after]) for unit in range(2) for after in range(2)}
    outcomes |= {(unit,): probability(BINARY, [*prompt, unit], ends=True) for unit in range(2)} | {
        (): probability(BINARY, prompt, ends=True)
    }
    assert set(found) <= set(outcomes)
    for outcome, joint in outcomes.items():
        expected = joint / given_prompt
        spread = 4 * (expected * (1 - expected) / draws) ** 0.5
        assert abs(found.get(outcome, 0) / draws - expected) < spread + 1e-3


def test_continuations_have_as_many_frames_as_asked_for() -> None:
    prompts = [[1, 2, 2, 2, 2, 2], [], [3], [4, 4]]
    rows = continued(MODEL, prompts, new=[9, 4, 0, 25], seeds=[0, 1, 2, 3], least=99)
    assert [len(row) for row in rows] == [9, 4, 0, 25]
    assert all(row.dtype == torch.int64 and (len(row) == 0 or 0 <= int(row.min()) <= int(row.max()) < UNITS) for row in rows)


@pytest.mark.parametrize("window", [1000, 8])
def test_a_row_continues_alone_as_in_a_batch(window: int) -> None:
    prompts, new = [[1, 2, 2], [], [3, 3, 3, 3, 0, 1, 5], [6]], [30, 12, 20, 1]
    together = continued(MODEL, prompts, new=new, seeds=[4, 5, 6, 7], window=window)
    for row, prompt in enumerate(prompts):
        [alone] = continued(MODEL, [prompt], new=[new[row]], seeds=[4 + row], window=window)
        assert torch.equal(alone, together[row])


def test_the_window_counts_frames() -> None:
    """A model trained on crops of 12 s has seen as many runs as these last, not as many as they have frames."""
    model = tiny_model(num_units=UNITS, unit_sequence="runs", longest_run=3, frames_per_token=3.0).semantic
    [unslid], [slid] = (continued(model, [[1]], new=[17], seeds=[2], least=17, window=window) for window in (1000, 18))
    runs = len(collapse(torch.cat([torch.tensor([1]), unslid]), 3)[0])
    assert 6 < runs < 18 and len(slid) == 17 and not torch.equal(unslid, slid)  # 18 frames are six runs here
    [few], [same] = (continued(model, [[1]], new=[5], seeds=[2], least=5, window=window) for window in (1000, 18))
    assert torch.equal(few, same)


def test_greedy_continuations_take_the_likeliest_unit_and_duration() -> None:
    [row] = continued(MODEL, [[1, 2]], new=[12], seeds=[0], least=12, temperature=0.0)
    [again] = continued(MODEL, [[1, 2]], new=[12], seeds=[9], least=12, temperature=0.0)
    assert torch.equal(row, again)


def test_impossible_settings_are_refused() -> None:
    sizes = {"d_model": 16, "nhead": 2, "num_layers": 1, "num_quantizers": 1, "codebook_size": 4}
    for fields, words in (
        ({"unit_sequence": "words", "num_units": 3}, "frames, runs or bpe, found 'words'"),
        ({"unit_sequence": "runs"}, "without units"),
        ({"unit_sequence": "runs", "num_units": 3, "longest_run": 0}, "longest run must be 1"),
        ({"unit_sequence": "runs", "num_units": 3, "frames_per_token": 0.5}, "1 frame or more in a token"),
        ({"unit_sequence": "bpe", "num_units": 3}, "a unit BPE and its hash"),
    ):
        with pytest.raises(UserError, match=words):
            AudioLM(**sizes, **fields)
