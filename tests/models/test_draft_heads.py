"""Heads that predict tokens after the next one: what they learn, what they see, and that a stage without them is as it was."""

from math import log
from typing import Any

import pytest
import torch
from tiny_models import CODES, KINDS, UNITS, batch_of, fresh_model, random_row, tiny_model
from torch import Tensor

from valle.errors import UserError
from valle.models import AudioLM, AudioLMConfig
from valle.models.draft_heads import is_draft_term

HEADS = {"coarse_drafts": 3}
how = pytest.mark.parametrize("chained", [False, True], ids=["independent", "chained"])
kinds = pytest.mark.parametrize("kind", KINDS)


def with_heads(kind: str, *, chained: bool = True, **fields: Any) -> AudioLM:
    semantic = {"semantic_drafts": 2} if "num_units" in KINDS[kind] else {}
    return tiny_model(**KINDS[kind], **semantic, **HEADS, chained_drafts=chained, **fields)


def terms_of(model: AudioLM, rows: list[dict[str, Any]], *, filler: int = 0) -> dict[str, Any]:
    batch = batch_of(model, rows, filler=filler)
    found: dict[str, Any] = {}
    for name in batch.keys() - {"fine"}:
        found.update(model.stages()[name].validation_terms(**batch[name]))
    return found


@how
@kinds
def test_every_head_scores_the_tokens_that_lie_as_far_ahead(chained: bool, kind: str) -> None:
    """Against a slow count by single positions: head j at i is asked for token i + j, and chained has seen those up to i + j - 1."""
    model = with_heads(kind, chained=chained)
    row = {**random_row(model, periods=4, seed=2), "prompt": 0}
    found, stage = terms_of(model, [row]), model.coarse
    hidden: list[Tensor] = []
    handle = stage.transformer.register_forward_hook(lambda _module, _inputs, output: hidden.append(output))
    with torch.inference_mode():
        terms_of(model, [row])
        handle.remove()
        tokens = stage.flatten(row["codes"])
        before_codes = hidden[0].shape[1] - len(tokens)  # of units and a separator, where they stand in front
        states = hidden[0][0, len(row.get("units", ())) :] if stage.conditioning == "prefix" else hidden[0][0, before_codes:]
        for head in range(3):
            nats = 0.0
            for place in range(len(tokens) - head - 1):
                state = states[place]
                for number in range(head + 1):
                    state, logits = stage.drafts(number, state, stage.embed(tokens[place + number]))
                target = int(tokens[place + head + 1])
                level = target // CODES
                nats -= float(logits[level * CODES : (level + 1) * CODES].log_softmax(-1)[target % CODES])
            term = found[f"coarse_draft{head + 1}"]
            assert int(term.count) == max(0, len(tokens) - head - 1) and float(term.sum) == pytest.approx(nats, rel=1e-6)


def test_only_chained_heads_see_the_token_before_theirs() -> None:
    for chained in (False, True):
        heads = with_heads("aligned", chained=chained).coarse.drafts
        state, (one, other) = torch.randn(1, 16).double(), torch.randn(2, 1, 16).double()
        assert torch.equal(heads(1, state, one)[1], heads(1, state, other)[1]) == (not chained)
        assert torch.equal(heads(1, state, one)[0], state) == (not chained)


@how
@kinds
def test_padding_and_batch_mates_change_no_term_of_a_head(chained: bool, kind: str) -> None:
    model = with_heads(kind, chained=chained)
    rows = [random_row(model, periods=periods, seed=periods) for periods in (1, 5, 2)]
    with torch.inference_mode():
        together, alone = terms_of(model, rows, filler=5), [terms_of(model, [row]) for row in rows]
    assert sum(map(is_draft_term, together)) == (5 if "num_units" in KINDS[kind] else 3)
    for name, term in together.items():
        assert int(term.count) == sum(int(single[name].count) for single in alone)
        torch.testing.assert_close(term.sum, sum((single[name].sum for single in alone), torch.tensor(0.0)), rtol=1e-5, atol=1e-4)


@kinds
def test_the_loss_of_a_stage_stays_that_of_the_next_token_and_its_gradient_is_that_of_all_heads(kind: str) -> None:
    model = with_heads(kind, draft_weight=0.5)
    rows = [random_row(model, periods=4, seed=seed) for seed in range(3)]
    batch, terms = batch_of(model, rows), terms_of(model, rows)
    for name in batch.keys() - {"fine"}:
        stage, weights = model.stages()[name], dict(model.stages()[name].named_parameters())
        loss = stage.loss(**batch[name])
        assert torch.equal(loss.sum, terms[name].sum) and int(loss.count) == int(terms[name].count)
        drafts = [term.sum for key, term in terms.items() if key.startswith(f"{name}_draft")]
        wanted = terms[name].sum + 0.5 * torch.stack(drafts).mean()
        mine, theirs = (torch.autograd.grad(value, list(weights.values()), retain_graph=True) for value in (loss.sum, wanted))
        for parameter, one, other in zip(weights, mine, theirs, strict=True):
            torch.testing.assert_close(one, other, msg=lambda text, parameter=parameter: f"{parameter}: {text}")
        assert all(float(one.abs().max()) > 0 for parameter, one in zip(weights, mine, strict=True) if parameter.startswith("drafts."))


def test_without_weight_the_heads_change_nothing_of_the_rest() -> None:
    model = with_heads("aligned", draft_weight=0.0)
    batch = batch_of(model, [random_row(model, periods=4, seed=1)])
    plain = tiny_model(**KINDS["aligned"])
    plain.load_state_dict({name: value for name, value in model.state_dict().items() if ".drafts." not in name})
    for one in (model, plain):
        one.loss(batch)["coarse"].sum.backward()
    for name, parameter in plain.coarse.named_parameters():
        assert torch.equal(parameter.grad, model.coarse.get_parameter(name).grad)


def test_a_clip_shorter_than_its_heads_reach_still_gives_every_parameter_a_gradient() -> None:
    """Regression: a parameter without a gradient, for which DDP waits for ever."""
    model = tiny_model(**KINDS["codes only"], coarse_drafts=4, chained_drafts=True)
    codes = torch.zeros(1, 2, 3, dtype=torch.int64)
    model.coarse.loss(codes=codes, lengths=torch.tensor([2]), prompt_lengths=torch.tensor([0])).sum.backward()
    assert all(parameter.grad is not None for name, parameter in model.coarse.named_parameters() if name.startswith("drafts."))


@kinds
def test_the_first_loss_of_a_head_is_the_log_of_the_vocabulary(kind: str) -> None:
    model = fresh_model(**KINDS[kind], **HEADS, chained_drafts=True, codebook_size=1024, d_model=32).eval()
    with torch.inference_mode():
        found = terms_of(model, [random_row(model, periods=20, seed=seed) for seed in range(3)])
    for head in (1, 2, 3):
        term = found[f"coarse_draft{head}"]
        assert abs(float(term.sum / term.count) - log(1024)) < 0.05


def test_a_model_without_heads_has_the_weights_that_it_had() -> None:
    assert AudioLMConfig().semantic_drafts == AudioLMConfig().coarse_drafts == 0
    plain, headed = fresh_model(**KINDS["aligned"]), fresh_model(**KINDS["aligned"], semantic_drafts=2)
    assert not any("draft" in name for name in plain.state_dict())
    assert plain.semantic.drafts is None and plain.semantic.num_drafts == 0 and headed.semantic.num_drafts == 2
    assert headed.coarse.num_drafts == headed.fine.num_drafts == 0


@pytest.mark.parametrize(("fields", "says"), [
    ({"coarse_drafts": 17}, "0 to 16 draft heads, found 0 and 17"), ({"coarse_drafts": -1}, "0 to 16"),
    ({"semantic_drafts": 1}, "found a model without units"),
    ({"semantic_drafts": 1, "num_units": UNITS, "unit_sequence": "runs"}, "found the unit sequence runs; leave out --semantic-drafts"),
])  # fmt: skip
def test_heads_that_cannot_be_are_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        fresh_model(**fields)
