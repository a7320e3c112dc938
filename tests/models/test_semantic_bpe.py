"""BpeSemanticLM: byte pairs inside, frames outside, and a prompt's edge that is said as it was."""

from math import log

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_bpe import tiny_bpe, utterances
from tiny_models import UNITS, batch_of, fresh_model, padded, random_row, tiny_model
from torch import Tensor

from valle.decoding.sampling import Sampling
from valle.errors import UserError
from valle.models.semantic_bpe import BpeSemanticLM
from valle.modules.transformer import Attend

BPE = tiny_bpe(UNITS)
FIELDS = {"num_units": UNITS, "unit_sequence": "bpe", "unit_bpe_model": BPE.text, "unit_bpe_sha256": BPE.sha256, "frames_per_token": 2.0}
MODEL: BpeSemanticLM = tiny_model(**FIELDS).semantic
SPOKEN = utterances(num_units=UNITS)
some_rows = st.lists(st.tuples(st.sampled_from(SPOKEN), st.integers(1, 40), st.booleans(), st.booleans()), min_size=1, max_size=3)


def loss_of(rows: list[tuple[list[int], int, bool, bool]], *, filler: int = 0):  # type: ignore[no-untyped-def]
    with torch.inference_mode():
        return MODEL.loss(**arguments(rows, filler=filler))


def arguments(rows: list[tuple[list[int], int, bool, bool]], *, filler: int = 0) -> dict[str, Tensor]:
    units, lengths = padded([torch.tensor(row[:length]) for row, length, _, _ in rows], size=UNITS, filler=filler)
    starts, ends = (torch.tensor([row[place] for row in rows]) for place in (2, 3))
    return {"units": units, "lengths": lengths, "starts": starts, "ends": ends}


@given(rows=some_rows, filler=st.integers(0, 3))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_padding_is_not_counted_so_a_batch_has_the_sums_of_its_clips(rows: list[tuple[list[int], int, bool, bool]], filler: int) -> None:
    together, alone = loss_of(rows, filler=filler), [loss_of([row]) for row in rows]
    assert int(together.count) == sum(int(part.count) for part in alone)
    assert float(together.sum) == pytest.approx(sum(float(part.sum) for part in alone), rel=1e-4, abs=1e-5)


def test_the_loss_sums_each_tokens_nll_given_all_before_it() -> None:
    units = SPOKEN[0]
    tokens = torch.tensor(BPE.encode(units))
    assert len(tokens) < len(units)
    with torch.inference_mode():
        targets = [*(tokens + MODEL.first_unit).tolist(), MODEL.eos]
        inputs = torch.tensor([[MODEL.bos, *targets[:-1]]])
        logits = [
            MODEL.head(MODEL.transformer(MODEL.embed(inputs[:, : place + 1]), Attend.causally())[0, -1]) for place in range(len(targets))
        ]
    part = loss_of([(units, len(units), True, True)])
    assert int(part.count) == len(tokens) + 1
    assert float(part.sum) == pytest.approx(
        -sum(float(row.log_softmax(-1)[target]) for row, target in zip(logits, targets, strict=True)), rel=1e-5
    )


def test_tokens_at_the_edge_of_a_crop_are_no_targets() -> None:
    """They are not what they are in the whole utterance, and a model that learns them takes every crop's end for a word's."""
    units = SPOKEN[1]
    for length in range(BPE.longest, len(units)):
        part = loss_of([(units, length, True, False)])
        assert int(part.count) == len(BPE.encode_settled(units[:length])[0])
        assert BPE.encode(units)[: int(part.count)] == BPE.encode(units[:length])[: int(part.count)]


def test_the_first_loss_is_the_log_of_the_vocabulary() -> None:
    model = fresh_model(**FIELDS, d_model=32).eval().semantic
    units, lengths = padded([torch.tensor(row) for row in SPOKEN[:4]], size=UNITS)
    part = model.loss(units=units, lengths=lengths, starts=torch.ones(4).bool(), ends=torch.ones(4).bool())
    assert float(part.sum.detach() / part.count) == pytest.approx(log(BPE.num_tokens + 2), abs=0.03)


def test_what_is_counted_is_what_is_predicted() -> None:
    batch = arguments([(SPOKEN[2], len(SPOKEN[2]), True, True)])
    assert MODEL.frames_predicted(**batch) == len(SPOKEN[2])
    histogram = MODEL.histograms(**batch)["semantic"][0]
    assert int(histogram.sum()) == int(loss_of([(SPOKEN[2], len(SPOKEN[2]), True, True)]).count) and int(histogram[-1]) == 1
    midst = {**batch, "starts": torch.tensor([False])}
    assert MODEL.frames_predicted(**midst) == len(SPOKEN[2]) - len(BPE.pieces[BPE.encode(SPOKEN[2])[0]])


def test_every_parameter_has_a_gradient_whatever_a_batch_holds() -> None:
    model = fresh_model(**FIELDS)
    for periods, starts in ((1, False), (1, True), (30, True)):
        model.zero_grad(set_to_none=True)
        batch = batch_of(model, [{**random_row(model, periods=periods, seed=1), "starts": starts, "ends": False}])
        model.loss({"semantic": batch["semantic"]})["semantic"].sum.backward()
        assert [name for name, parameter in model.semantic.named_parameters() if parameter.grad is None] == []


def continued(prompts: list[list[int]], *, new: list[int], seeds: list[int], least: int = 0, window: int = 1000) -> list[Tensor]:
    return MODEL.generate(
        [torch.tensor(prompt, dtype=torch.int64) for prompt in prompts], max_new=new, min_new=[min(least, most) for most in new],
        sampling=Sampling(), seeds=seeds, window=window,
    )  # fmt: skip


class Drawn:
    """What a model's head is asked to go on from: the tokens that were embedded, in order."""

    def __init__(self) -> None:
        self.tokens: list[int] = []

    def __enter__(self) -> "Drawn":
        self.hook = MODEL.embed.register_forward_hook(lambda module, given, out: self.tokens.extend(given[0].flatten().tolist()))
        return self

    def __exit__(self, *details: object) -> None:
        self.hook.remove()


@pytest.mark.parametrize("end", [1, 5, 12, 17, 18, 19, 20])
def test_a_prompt_is_said_as_it_was_and_goes_on_across_its_edge(end: int) -> None:
    prompt = SPOKEN[3][:end]
    crossing = 0
    for seed in range(25):
        with Drawn() as drawn:
            [new] = continued([prompt], new=[10], seeds=[seed], least=10)
        assert len(new) == 10
        pieces = [BPE.pieces[token - MODEL.first_unit] for token in drawn.tokens if token >= MODEL.first_unit]
        said = [unit for piece in pieces for unit in piece]
        assert said[:end] == prompt  # the tokens that the model saw spell the prompt, whatever they are
        assert new[: len(said) - end].tolist() == said[end : end + 10]
        ends = {sum(map(len, pieces[:count])) for count in range(len(pieces) + 1)}
        crossing += end not in ends
    assert crossing > 0  # some token began in the prompt and ended after it


def test_continuations_have_as_many_frames_as_asked_for() -> None:
    rows = continued([SPOKEN[0][:20], [], [3], [4, 4]], new=[9, 4, 0, 25], seeds=[0, 1, 2, 3], least=99)
    assert [len(row) for row in rows] == [9, 4, 0, 25]
    assert all(row.dtype == torch.int64 and (len(row) == 0 or 0 <= int(row.min()) <= int(row.max()) < UNITS) for row in rows)


def test_speech_ends_by_itself_but_neither_within_the_prompt_nor_too_early() -> None:
    before = MODEL.head.bias.data.clone()
    MODEL.head.bias.data[MODEL.eos] += 4
    try:
        lengths = [len(row) for row in continued([SPOKEN[4][:11]] * 30, new=[40] * 30, seeds=list(range(30)), least=5)]
    finally:
        MODEL.head.bias.data.copy_(before)
    assert 5 <= min(lengths) <= 8 and len(set(lengths)) > 3


@pytest.mark.parametrize("window", [1000, 8])
def test_a_row_continues_alone_as_in_a_batch(window: int) -> None:
    prompts, new = [SPOKEN[0][:9], [], SPOKEN[5][:23], [6]], [30, 12, 20, 1]
    together = continued(prompts, new=new, seeds=[4, 5, 6, 7], window=window)
    for row, prompt in enumerate(prompts):
        [alone] = continued([prompt], new=[new[row]], seeds=[4 + row], window=window)
        assert torch.equal(alone, together[row])


def test_a_bpe_of_other_units_or_another_hash_is_refused() -> None:
    other = tiny_bpe(UNITS, 30)
    for changes, words in (
        ({"unit_bpe_sha256": other.sha256}, f"expected the unit BPE {other.sha256[:12]}"),
        ({"num_units": UNITS + 1}, "of 8 units, found one of 7"),
        ({"unit_bpe_sha256": None}, "a unit BPE and its hash"),
        ({"unit_sequence": "runs"}, "none with another"),
        ({"unit_bpe_model": "?"}, "damaged"),
    ):
        with pytest.raises(UserError, match=words):
            fresh_model(**{**FIELDS, **changes})
