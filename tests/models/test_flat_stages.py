"""The stages of ``flat``: coarse levels flattened, fine levels flattened after the coarse codes of their chunk."""

from math import log
from typing import Any

import pytest
import torch
from tiny_models import CODES, UNITS, fresh_model, padded, tiny_model
from torch import Tensor
from twin_decoding import Heard, coarse_logits

from valle.errors import UserError
from valle.models import AudioLM

LEVELS = 4
KINDS: dict[str, dict[str, Any]] = {
    "half the levels": {"num_units": UNITS},
    "units before all codes": {"num_units": UNITS, "coarse_conditioning": "prefix"},
    "one of four coarse": {"flat_coarse": 1},
    "three of four coarse": {"flat_coarse": 3},
}
MODELS = {kind: tiny_model(acoustic_model="flat", num_quantizers=LEVELS, **fields) for kind, fields in KINDS.items()}
kinds = pytest.mark.parametrize("kind", KINDS)


def chunk_of(frames: int, *, seed: int = 0) -> Tensor:
    return torch.randint(CODES, (frames, LEVELS), generator=torch.Generator().manual_seed(seed))


def batch_of(*chunks: Tensor, filler: int = 0) -> dict[str, Tensor]:
    codes, lengths = padded(chunks, size=CODES, filler=filler)
    return {"codes": codes, "lengths": lengths}


@kinds
@torch.inference_mode()
def test_the_loss_sums_each_fine_codes_nll_given_all_coarse_codes_and_the_fine_ones_before_it(kind: str) -> None:
    model, chunk = MODELS[kind].flatfine, chunk_of(5)
    given, fine = model.num_given, model.num_fine
    coarse = (chunk[:, :given] + CODES * torch.arange(given)).flatten()
    tokens, nats = model.lm.flatten(chunk[:, given:]), [0.0] * fine
    for place, token in enumerate(tokens):
        logits = coarse_logits(model.lm, tokens[:place], 0, units=coarse, num_frames=5, prompt=0, window=1000)
        nats[place % fine] -= float(logits.view(fine, CODES)[place % fine].log_softmax(-1)[int(token) % CODES])
    whole, terms = model.loss(**batch_of(chunk)), model.validation_terms(**batch_of(chunk))
    assert int(whole.count) == 5 * fine and float(whole.sum) == pytest.approx(sum(nats), rel=1e-6)
    assert list(terms) == [f"flatfine_{level}" for level in range(given, LEVELS)]
    for term, expected in zip(terms.values(), nats, strict=True):
        assert int(term.count) == 5 and float(term.sum) == pytest.approx(expected, rel=1e-6)


@kinds
@torch.inference_mode()
def test_a_batchs_loss_is_the_sum_of_its_chunks_losses(kind: str) -> None:
    """Regression: padding counted in the loss."""
    model, chunks = MODELS[kind].flatfine, [chunk_of(3, seed=1), chunk_of(7, seed=2), chunk_of(1, seed=3)]
    alone = sum(float(model.loss(**batch_of(chunk)).sum) for chunk in chunks)
    for filler in (0, 1):
        assert float(model.loss(**batch_of(*chunks, filler=filler)).sum) == pytest.approx(alone, rel=1e-9)


@torch.inference_mode()
def test_fine_codes_see_all_coarse_codes_of_the_chunk_and_no_later_fine_ones() -> None:
    model, chunk = MODELS["half the levels"].flatfine, chunk_of(6)
    outputs = []
    for frame, level in [(None, None), (5, 0), (2, 3)]:
        codes = chunk.clone()
        if frame is not None:
            codes[frame, level] = (codes[frame, level] + 1) % CODES
        with Heard(model.lm.head) as heard:
            model.loss(**batch_of(codes))
        outputs.append(heard[0][0])
    differs = [[not torch.allclose(row, before) for row, before in zip(other, outputs[0], strict=True)] for other in outputs[1:]]
    assert all(differs[0]), "the last frame's coarse code decides the first frame's fine ones"
    assert differs[1] == [place > 2 * 2 + 1 for place in range(12)]


@kinds
def test_the_stages_share_the_levels(kind: str) -> None:
    model, coarse = MODELS[kind], KINDS[kind].get("flat_coarse", 2)
    assert list(model.acoustic_stages()) == ["coarse", "flatfine"]
    assert (model.coarse.num_coarse, model.flatfine.num_given, model.flatfine.num_fine) == (coarse, coarse, LEVELS - coarse)


def test_all_levels_coarse_leave_no_fine_stage() -> None:
    model = fresh_model(acoustic_model="flat", flat_coarse=3)
    assert list(model.acoustic_stages()) == ["coarse"] and model.coarse.num_coarse == 3


@pytest.mark.parametrize(
    ("fields", "says"), [({"num_coarse": 2}, "use --flat-coarse 2"), ({"flat_coarse": 4}, r"0 \(half\) to all 3, found 4")]
)
def test_levels_that_cannot_be_are_refused(fields: dict[str, int], says: str) -> None:
    with pytest.raises(UserError, match=says):
        AudioLM(d_model=16, nhead=2, num_layers=1, num_quantizers=3, acoustic_model="flat", **fields)


def test_the_first_loss_is_the_log_of_the_codebook_and_every_parameter_has_a_gradient() -> None:
    model = fresh_model(acoustic_model="flat", num_quantizers=LEVELS, d_model=32, num_units=UNITS, codebook_size=1024).flatfine
    codes = torch.randint(1024, (2, 30, LEVELS), generator=torch.Generator().manual_seed(0))
    term = model.loss(codes=codes, lengths=torch.tensor([30, 1]))
    term.sum.backward()
    assert abs(float(term.sum.detach() / term.count) - log(1024)) < 0.03
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_codes_start_where_the_codecs_vectors_lie() -> None:
    """Of the fine levels and of the coarse ones before them."""
    model = fresh_model(acoustic_model="flat", num_quantizers=LEVELS, d_model=64, num_units=UNITS)
    books = torch.randn(LEVELS, CODES, 8, generator=torch.Generator().manual_seed(0))
    books[:, 1] = books[:, 0] + 1e-3
    model.start_from_codebooks(books)
    lm = model.flatfine.lm
    codes, given = lm.embed.weight.detach()[: 2 * CODES], lm.embed.weight.detach()[lm.first_unit :]
    for table in (codes, given, lm.head.weight.detach()):
        levels = table.view(2, CODES, 64)
        assert ((levels[:, 0] - levels[:, 1]).norm(dim=-1) < 0.1 * (levels[:, 0] - levels[:, 2]).norm(dim=-1)).all()


def test_a_chunk_can_be_learned_by_heart() -> None:
    model = fresh_model(acoustic_model="flat", d_model=32, num_quantizers=LEVELS).flatfine
    clip, optimizer = batch_of(chunk_of(10)), torch.optim.AdamW(model.parameters(), lr=0.01)
    for _ in range(60):
        term = model.loss(**clip)
        optimizer.zero_grad()
        (term.sum / term.count).backward()
        optimizer.step()
    assert float(term.sum.detach() / term.count) < 0.1
