"""SemanticLM: where speech begins and ends, and what is predicted from what."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import UNITS, fresh_model, padded, tiny_model
from torch import Tensor
from twin_decoding import Heard, semantic_logits

from valle.decoding.sampling import Sampling

MODEL = tiny_model(num_units=UNITS).semantic


def loss_of(units: Tensor, *, starts: bool = False, ends: bool = False):  # type: ignore[no-untyped-def]
    with torch.inference_mode():
        return MODEL.loss(units=units[None], lengths=torch.tensor([len(units)]), starts=torch.tensor([starts]), ends=torch.tensor([ends]))


@given(rows=st.lists(st.tuples(st.integers(1, 6), st.booleans(), st.booleans()), min_size=1, max_size=4))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_bos_and_eos_stand_only_where_speech_begins_and_ends(rows: list[tuple[int, bool, bool]]) -> None:
    """Regression: EOS appended to random crops, the model learns to stop at the crop's length."""
    streams = [torch.arange(length) % UNITS for length, _, _ in rows]
    units, lengths = padded(streams, size=UNITS)
    tokens, token_lengths = MODEL.tokens(units, lengths, torch.tensor([row[1] for row in rows]), torch.tensor([row[2] for row in rows]))
    for row, (stream, (_, starts, ends)) in enumerate(zip(streams, rows, strict=True)):
        expected = [MODEL.bos] * starts + (stream + MODEL.first_unit).tolist() + [MODEL.eos] * ends
        assert tokens[row, : int(token_lengths[row])].tolist() == expected


def test_no_end_is_learned_where_a_crop_ends() -> None:
    """Regression: EOS appended to random crops, the model learns to stop at the crop's length."""
    model = fresh_model(num_units=UNITS).semantic.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    generator = torch.Generator().manual_seed(0)
    for _ in range(60):
        crops = torch.randint(UNITS, (8, 4), generator=generator)
        part = model.loss(units=crops, lengths=torch.full((8,), 4), starts=torch.ones(8).bool(), ends=torch.zeros(8).bool())
        optimizer.zero_grad()
        (part.sum / part.count).backward()
        optimizer.step()
    logits = semantic_logits(model.eval(), torch.tensor([1, 2, 3, 4]), starts=True)
    assert logits.softmax(-1)[model.eos] < 0.02  # a unit has 1/7


@pytest.mark.parametrize(("starts", "ends"), [(False, False), (True, False), (False, True), (True, True)])
def test_the_loss_sums_each_tokens_nll_given_all_before_it(starts: bool, ends: bool) -> None:
    """Regressions: first token never a target without BOS; HF causal-LM loss shifted twice."""
    units = torch.tensor([3, 0, 6, 1])
    nats, first = 0.0, 0 if starts else 1
    with torch.inference_mode():
        for place in range(first, 4 + ends):
            target = MODEL.eos if place == 4 else MODEL.first_unit + int(units[place])
            nats -= float(semantic_logits(MODEL, units[:place], starts=starts).log_softmax(-1)[target])
    part = loss_of(units, starts=starts, ends=ends)
    assert int(part.count) == 4 + ends - first
    assert float(part.sum) == pytest.approx(nats, rel=1e-5)


def test_bos_makes_the_first_unit_a_target() -> None:
    """Regression: first token never a target without BOS."""
    alone = [loss_of(torch.tensor([unit]), starts=True) for unit in range(UNITS)]
    assert all(int(part.count) == 1 for part in alone)
    assert len({round(float(part.sum), 6) for part in alone}) == UNITS


def test_the_end_has_a_row_of_its_own() -> None:
    """Regression: EOS sharing a row with the next level's token 0."""
    rows = {MODEL.bos, MODEL.eos, *range(MODEL.first_unit, MODEL.first_unit + UNITS)}
    assert len(rows) == UNITS + 2 == MODEL.head.out_features == MODEL.embed.num_embeddings


def test_logits_have_a_place_a_token() -> None:
    with Heard(MODEL.head) as heard:
        MODEL.loss(units=torch.zeros(2, 5).long(), lengths=torch.tensor([5, 2]), starts=torch.ones(2).bool(), ends=torch.ones(2).bool())
    assert heard[0].shape == (2, 6, UNITS + 2)


def test_continuations_are_units() -> None:
    prompts = [torch.tensor([1, 2, 3]), torch.zeros(0, dtype=torch.int64)]
    rows = MODEL.generate(prompts, max_new=[9, 4], min_new=[9, 4], sampling=Sampling(), seeds=[0, 1], window=100)
    assert [row.shape for row in rows] == [(9,), (4,)]
    assert all(row.dtype == torch.int64 and 0 <= int(row.min()) <= int(row.max()) < UNITS for row in rows)
