"""Decoding by drafts: the same tokens as without, or the same distribution, whatever the heads draft."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from math import exp

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from tiny_models import CODES, KINDS, UNITS, tiny_model
from torch import Tensor
from twin_decoding import Heard, coarse_twin, semantic_logits, semantic_twin

from valle.decoding import multi_token
from valle.decoding.engine import DecodingRequest
from valle.decoding.multi_token import DraftingDecoder, accepted, decode_drafting, residual
from valle.decoding.sampling import MOST_DRAFTS, DraftRule, Drafts, Sampling
from valle.errors import UserError
from valle.models.semantic import SemanticLM, _Continuation

MODELS = {
    chained: {
        kind: tiny_model(**fields, coarse_drafts=3, semantic_drafts=4 if "num_units" in fields else 0, chained_drafts=chained)
        for kind, fields in KINDS.items()
    }
    for chained in (False, True)
}
SAMPLINGS = {
    "from all": Sampling(),
    "repetition-aware": Sampling(temperature=0.8, top_k=5, top_p=0.9, repetition_window=4),
    "greedy": Sampling(temperature=0),
}
NEVER = -1e9
how = pytest.mark.parametrize("chained", [False, True], ids=["independent heads", "chained heads"])


def some_units(length: int, *, seed: int = 0) -> Tensor:
    return torch.randint(UNITS, (length,), generator=torch.Generator().manual_seed(seed))


def speaker(*, end: float = 0.0, chained: bool = True) -> SemanticLM:
    """A SemanticLM with ``end`` added to the end's logit, of its own head and of the draft heads."""
    model = tiny_model(num_units=UNITS, semantic_drafts=4, chained_drafts=chained).semantic
    for head in (model.head, *model.drafts.heads):
        head.bias.data[model.eos] += end
    return model


def drafting(model: SemanticLM, *, rule: DraftRule = "exact", tokens: int = 4, lengths: tuple[int, ...] = (3, 0, 7), new: int = 40,
             sampling: Sampling = SAMPLINGS["from all"], window: int = 1000) -> DraftingDecoder:  # fmt: skip
    rows = len(lengths)
    request = DecodingRequest(
        prompts=[some_units(length, seed=length) + model.first_unit for length in lengths], max_new=[new] * rows, seeds=list(range(rows)),
        sampling=replace(sampling, drafts=Drafts(tokens, rule)), window=window,
    )  # fmt: skip
    return DraftingDecoder(_Continuation(model), request)


@how
@pytest.mark.parametrize("window", [1000, 9, 2])
@pytest.mark.parametrize("sampling", SAMPLINGS.values(), ids=SAMPLINGS)
def test_drafted_units_equal_the_slow_twins_token_by_token(chained: bool, window: int, sampling: Sampling) -> None:
    """Ragged prompts, ends not before their time, windows that slide, and rows that keep other numbers of drafts."""
    model, lengths, new, least = MODELS[chained]["aligned"].semantic, [0, 5, 12], [9, 20, 14], [6, 0, 12]
    prompts = [some_units(length, seed=length) for length in lengths]
    twins = [
        semantic_twin(model, prompt, max_new=most, min_new=few, sampling=sampling, seed=row, window=window)
        for row, (prompt, most, few) in enumerate(zip(prompts, new, least, strict=True))
    ]
    for number in (1, 4):
        rows = model.generate(
            prompts, max_new=new, min_new=least, sampling=replace(sampling, drafts=Drafts(number)), seeds=[0, 1, 2], window=window
        )  # fmt: skip
        assert [row.tolist() for row in rows] == twins


@how
@pytest.mark.parametrize("window", [1000, 8])
@pytest.mark.parametrize("kind", KINDS)
def test_drafted_codes_equal_the_slow_twins_token_by_token(chained: bool, kind: str, window: int) -> None:
    model = MODELS[chained][kind].coarse
    frames = [6, 18, 24]
    prompts = [torch.randint(CODES, (length, 3), generator=torch.Generator().manual_seed(length)) for length in (0, 7, 10)]
    units = None
    if model.conditioning is not None:
        units = [some_units(-(-count // model.periods.frames) * model.periods.units, seed=count) for count in frames]
    sampling = Sampling(repetition_window=5)
    drafted = replace(sampling, drafts=Drafts(3))
    rows = model.generate(prompts, num_frames=frames, units=units, sampling=drafted, seeds=[4, 5, 6], window=window)
    for row, prompt in enumerate(prompts):
        row_units = None if units is None else units[row]
        twin = coarse_twin(model, prompt, num_frames=frames[row], units=row_units, sampling=sampling, seed=4 + row, window=window)
        assert rows[row].tolist() == twin


@given(
    lengths=st.lists(st.integers(0, 15), min_size=2, max_size=4), window=st.integers(2, 20), new=st.integers(1, 20),
    rule=st.sampled_from(["exact", "ratio", "unverified"]),
)  # fmt: skip
@settings(max_examples=15, deadline=None, derandomize=True)
def test_a_prompt_alone_and_in_a_batch_has_the_same_continuation(lengths: list[int], window: int, new: int, rule: DraftRule) -> None:
    model = MODELS[True]["aligned"].semantic
    prompts = [some_units(length, seed=seed) for seed, length in enumerate(lengths)]

    def continued(rows: list[int]) -> list[Tensor]:
        return model.generate(
            [prompts[row] for row in rows], max_new=[new] * len(rows), min_new=[0] * len(rows), seeds=rows, window=window,
            sampling=Sampling(drafts=Drafts(4, rule)),
        )  # fmt: skip

    together = continued(list(range(len(prompts))))
    for row in range(len(prompts)):
        assert torch.equal(together[row], continued([row])[0])


@torch.inference_mode()
def test_every_step_scores_its_token_as_training_does() -> None:
    """To the last digits, which draws would hide: what a row did not keep must not be seen, nor shift what comes after it."""
    model = speaker(end=NEVER)
    decoder, prompt = drafting(model, lengths=(5,), new=30), some_units(5, seed=5)
    with Heard(model.head) as heard:
        steps = list(decoder)
    known, sizes = prompt, [len(step.new[0]) for step in steps]
    of_step = [scores[0] for scores in heard if scores.ndim == 2]
    assert len(of_step) == len(steps) and len(set(sizes)) > 2
    for scores, step in zip(of_step, steps, strict=True):
        allowed = [token for token in range(len(scores)) if token not in (model.bos, model.eos)]
        torch.testing.assert_close(scores[allowed], semantic_logits(model, known, starts=True)[allowed], rtol=1e-9, atol=1e-9)
        known = torch.cat([known, step.new[0] - model.first_unit])


class _Oracle(_Continuation):
    """Drafts what a row goes on with, but the draft number ``spoiled``."""

    def __init__(self, model: SemanticLM, plain: list[int], spoiled: int) -> None:
        super().__init__(model)
        self.plain, self.spoiled, self.steps = plain, spoiled, 0
        self.decoder: DraftingDecoder

    def draft_scores(self, head: int, state: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        place = self.decoder.known[0] - self.decoder.prompt_lengths[0] + 1 + head
        token = self.plain[min(place, len(self.plain) - 1)] + (head == self.spoiled)
        logits = torch.full((1, self.model.vocabulary.size), -torch.inf, dtype=state.dtype)
        logits[0, (token - self.model.first_unit) % UNITS + self.model.first_unit] = 0.0
        return state, logits


@pytest.mark.parametrize(("spoiled", "tokens_a_step"), [(0, 1), (2, 3), (4, 5)])
@torch.inference_mode()
def test_a_greedy_step_gives_the_longest_right_beginning_and_one_token(spoiled: int, tokens_a_step: int) -> None:
    """Regression: the token after the longest beginning drawn twice, or a draft after a wrong one kept."""
    model = speaker(end=NEVER)
    request = DecodingRequest(
        prompts=[some_units(4) + model.first_unit], max_new=[30], seeds=[0], sampling=Sampling(temperature=0, drafts=Drafts(4)), window=1000
    )  # fmt: skip
    [plain] = decode_drafting(_Continuation(model), replace(request, sampling=Sampling(temperature=0)))
    oracle = _Oracle(model, plain.tolist(), spoiled)
    oracle.decoder = decoder = DraftingDecoder(oracle, request)
    sizes = [len(step.new[0]) for step in decoder]
    assert decoder.tokens[0, 4:34].tolist() == plain.tolist()
    assert set(sizes[:-1]) == {tokens_a_step} and len(sizes) == 30 // tokens_a_step
    assert decoder.tokens_a_step == pytest.approx(tokens_a_step)


@torch.inference_mode()
def test_the_first_kept_end_ends_its_row_though_drafts_after_it_were_kept_too() -> None:
    """Regression: a row that goes on past an end among its drafts; batch mates go on, from where they stand."""
    model, ended_by_a_draft = speaker(end=1.5), 0
    for first in range(0, 30, 6):
        decoder = drafting(model, lengths=(3, 0, 7, 2, 9, 1))
        decoder.noise = multi_token.Noise(list(range(first, first + 6)), decoder.device)
        parts, before = [[] for _ in range(6)], [False] * 6
        for step in decoder:
            for row in range(6):
                parts[row] += step.new[row].tolist()
                ended_by_a_draft += step.ended[row] and not before[row] and len(step.new[row]) > 0 and len(parts[row]) < 40
            before = list(step.ended)
        for row, length in enumerate((3, 0, 7, 2, 9, 1)):
            prompt = some_units(length, seed=length)
            twin = semantic_twin(model, prompt, max_new=40, sampling=Sampling(), seed=first + row, window=1000)
            assert [token - model.first_unit for token in parts[row]] == twin
    assert ended_by_a_draft > 3


@torch.inference_mode()
def test_no_draft_reaches_past_the_slide_of_a_window_or_a_limit() -> None:
    """Regression: drafts verified by a window that plain decoding would have left."""
    model, window = speaker(end=NEVER), 12
    decoder = drafting(model, lengths=(3, 9), new=37, window=window, rule="unverified")
    known, start, slid = [3, 9], [0, 0], 0
    for step in decoder:
        for row in (0, 1):
            known[row] += len(step.new[row])
            assert known[row] - start[row] <= window
            if known[row] - start[row] == window:
                assert len(step.new[row]) == 1
                start[row], slid = known[row] - window // 2, slid + 1
    assert known == [40, 46] and slid > 8


@pytest.mark.parametrize(("one", "other"), [(4, 1), (4, 2)])
def test_how_many_are_drafted_changes_nothing_but_speed(one: int, other: int) -> None:
    model = speaker(end=NEVER)
    decoders = [drafting(model, tokens=number, sampling=SAMPLINGS["repetition-aware"]) for number in (one, other)]
    with torch.inference_mode():
        rows = [[row.tolist() for row in decoder.run()] for decoder in decoders]
    assert rows[0] == rows[1] and decoders[0].row_steps < decoders[1].row_steps


def test_float32_rows_by_drafts_equal_plain_ones() -> None:
    model = tiny_model(num_units=UNITS, semantic_drafts=4).semantic.float()
    sampling, limits = Sampling(repetition_window=4), {"max_new": [60] * 8, "min_new": [60] * 8, "seeds": list(range(8)), "window": 50}
    prompts = [some_units(length, seed=length) for length in range(8)]
    plain = model.generate(prompts, sampling=sampling, **limits)
    drafted = model.generate(prompts, sampling=replace(sampling, drafts=Drafts(4)), **limits)
    assert [row.tolist() for row in drafted] == [row.tolist() for row in plain]


def test_unverified_drafts_are_had_by_that_name_alone_and_are_other_tokens() -> None:
    """Regression: public code that calls drafts verified and keeps them all."""
    model = speaker(end=NEVER)
    with torch.inference_mode():
        plain, kept_all = drafting(model).run(), (unverified := drafting(model, rule="unverified")).run()
    assert Drafts(3).rule == "exact" and unverified.tokens_a_step == 5.0
    assert [row.tolist() for row in plain] != [row.tolist() for row in kept_all]


@pytest.mark.parametrize(("tokens", "rule", "says"), [(0, "exact", "1 to 16 tokens, found 0"), (MOST_DRAFTS + 1, "exact", "found 17"),
                                                      (2, "threshold", "exact, ratio or unverified, found 'threshold'")])  # fmt: skip
def test_other_numbers_and_rules_are_refused(tokens: int, rule: DraftRule, says: str) -> None:
    with pytest.raises(UserError, match=says):
        Drafts(tokens, rule)


@pytest.mark.parametrize(("fields", "says"), [
    ({"semantic_drafts": 2}, "3 drafts a step need as many heads, and this stage has 2"), ({}, "this stage has no draft heads"),
    ({"unit_sequence": "runs", "longest_run": 3}, "no draft heads"),
])  # fmt: skip
def test_more_drafts_than_heads_are_refused_in_a_line(fields: dict[str, int], says: str) -> None:
    model = tiny_model(num_units=UNITS, **fields).semantic
    with pytest.raises(UserError, match=says) as error:
        model.generate(
            [some_units(3)], max_new=[4], min_new=[0], sampling=Sampling(drafts=Drafts(3)), seeds=[0], window=9
        )  # fmt: skip
    assert "\n" not in str(error.value)


# The rule ``ratio``: a small vocabulary, many rows, and the law of all their sequences.

TOY_UNITS, ROWS, LENGTH = 3, 3000, 3


def toy() -> SemanticLM:
    """Heads that draft something else than the stage would say."""
    return tiny_model(num_units=TOY_UNITS, semantic_drafts=2, chained_drafts=True).semantic


def slow_law(logits: list[float], sampling: Sampling, past: list[int]) -> list[float]:
    """Probabilities of the next token after the tokens ``past``, by the definitions."""
    weights = [exp(logit / sampling.temperature) for logit in logits]
    probability = [weight / sum(weights) for weight in weights]
    likely = sorted(probability, reverse=True)[: sampling.top_k or None]
    kept = [value if value in likely else 0.0 for value in probability]
    kept = [value / sum(kept) for value in kept]
    if not sampling.repetition_window:
        return kept
    recent = past[-sampling.repetition_window :]
    repeated = [recent.count(token) / sampling.repetition_window > sampling.repetition_ratio for token in range(len(logits))]
    again = sum(value for value, is_repeated in zip(kept, repeated, strict=True) if is_repeated)
    return [(0.0 if is_repeated else value) + again * anew for value, anew, is_repeated in zip(kept, probability, repeated, strict=True)]


def law_of_rows(model: SemanticLM, prompt: Tensor, sampling: Sampling) -> dict[tuple[int, ...], float]:
    """The probability of every row of up to ``LENGTH`` units, shorter ones by their end."""
    law: dict[tuple[int, ...], float] = {}

    def go_on(said: tuple[int, ...], probability: float) -> None:
        if len(said) == LENGTH:
            law[said] = probability
            return
        units = torch.cat([prompt, torch.tensor(said, dtype=torch.int64)])
        logits = semantic_logits(model, units, starts=True)
        logits[model.bos] = -torch.inf
        following = slow_law(logits.tolist(), sampling, (units + model.first_unit).tolist())
        law[said] = probability * following[model.eos]
        for unit in range(TOY_UNITS):
            go_on((*said, unit), probability * following[unit + model.first_unit])

    with torch.inference_mode():
        go_on((), 1.0)
    assert sum(law.values()) == pytest.approx(1.0)
    return law


def p_value(sampling: Sampling, *, rows: int = ROWS) -> float:
    """How likely rows as far from the law as those of the rule ``ratio`` are, by a chi-square test."""
    model, prompt = toy(), torch.tensor([0, 2])
    law = law_of_rows(model, prompt, sampling)
    said = model.generate(
        [prompt] * rows, max_new=[LENGTH] * rows, min_new=[0] * rows, seeds=list(range(rows)), window=100,
        sampling=replace(sampling, drafts=Drafts(2, "ratio")),
    )  # fmt: skip
    found = Counter(tuple(row.tolist()) for row in said)
    assert set(found) <= {row for row, probability in law.items() if probability > 0}
    common = [row for row, probability in law.items() if probability * rows >= 5]
    observed, expected = [found[row] for row in common], [law[row] * rows for row in common]
    rest = rows - sum(expected)
    if rest >= 5:
        observed, expected = [*observed, rows - sum(observed)], [*expected, rest]
    scale = sum(observed) / sum(expected)
    return float(chisquare(observed, [value * scale for value in expected]).pvalue)


RATIO_SAMPLINGS = {
    "from all": Sampling(),
    "temperature and top-k": Sampling(temperature=0.6, top_k=3),
    "repetition-aware": Sampling(temperature=0.9, repetition_window=2, repetition_ratio=0.4),
}


@pytest.mark.parametrize("sampling", RATIO_SAMPLINGS.values(), ids=RATIO_SAMPLINGS)
def test_rows_of_the_rule_ratio_have_the_law_of_plain_ones(sampling: Sampling) -> None:
    assert p_value(sampling) > 1e-3


def no_residual(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(multi_token, "residual", lambda true, drawn_from: true)


def a_threshold(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(multi_token, "accepted", lambda true, _law, drafted, _noise: true.gather(2, drafted[..., None])[..., 0] > 0.3)


def q_before_its_temperature(patch: pytest.MonkeyPatch) -> None:
    whole = DraftingDecoder._drafted

    def drafted(self: DraftingDecoder, hidden: Tensor, first: Tensor, number: int) -> tuple[Tensor, list[Tensor]]:
        tokens, laws = whole(self, hidden, first, number)
        flat = [law**self.request.sampling.temperature for law in laws]
        return tokens, [law / law.sum(-1, keepdim=True) for law in flat]

    patch.setattr(DraftingDecoder, "_drafted", drafted)


def repetition_without_the_drafts(patch: pytest.MonkeyPatch) -> None:
    law = DraftingDecoder._law
    patch.setattr(DraftingDecoder, "_law", lambda self, logits, _ahead: law(self, logits, 0))


@pytest.mark.parametrize(("mistake", "sampling"), [
    (no_residual, "from all"), (a_threshold, "from all"), (q_before_its_temperature, "temperature and top-k"),
    (repetition_without_the_drafts, "repetition-aware"),
])  # fmt: skip
def test_the_same_test_finds_known_mistakes(
    mistake: Callable[[pytest.MonkeyPatch], None], sampling: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mistake(monkeypatch)
    assert p_value(RATIO_SAMPLINGS[sampling]) < 1e-9


def test_a_draft_of_no_other_choice_is_kept_as_often_as_it_is_likely() -> None:
    """A deterministic draft has q = 1, so that min(1, p/q) is p."""
    true = torch.tensor([0.7, 0.2, 0.1]).expand(1000, 1, 3)
    certain = torch.tensor([0.0, 1.0, 0.0]).expand(1000, 1, 3)
    uniform = (torch.arange(1000) + 0.5)[:, None] / 1000
    kept = accepted(true, certain, torch.ones(1000, 1, dtype=torch.int64), uniform)
    assert kept.float().mean().item() == pytest.approx(0.2, abs=1e-3)
    torch.testing.assert_close(residual(true[0, 0], certain[0, 0]), torch.tensor([0.7, 0.0, 0.1]))


def test_equal_laws_leave_no_residual_and_reject_nothing() -> None:
    law = torch.tensor([[[0.25, 0.75]]])
    assert accepted(law, law, torch.tensor([[1]]), torch.tensor([[0.999999]])).all()
    assert residual(law[0, 0], law[0, 0]).tolist() == [0.25, 0.75]
