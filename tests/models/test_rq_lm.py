"""RqLM: frames by a temporal transformer, levels by a depth transformer; what the loss counts, and what it does not."""

from __future__ import annotations

from itertools import product
from math import log
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import CODEBOOKS, CODES, UNITS
from tiny_rq import KINDS, clips, fresh_rq, tiny_rq
from torch import Tensor
from twin_decoding import Heard

from valle.crops import CroppedTokens
from valle.errors import UserError
from valle.models import AudioLM
from valle.models.config import AudioLMConfig
from valle.models.rq import NO_FRAME, RqLM, level_weights
from valle.models.stage import ExampleSettings

MODELS = {kind: tiny_rq(**fields) for kind, fields in KINDS.items()}
kinds = pytest.mark.parametrize("kind", KINDS)


def crop_of(frames: int, *, cut_id: str = "cut", epoch: int = 1, number: int = 0) -> CroppedTokens:
    codes = np.arange(frames * CODEBOOKS).reshape(frames, CODEBOOKS) % CODES
    return CroppedTokens(
        cut_id, units=np.arange(frames // 2) % UNITS, codes=codes, starts=True, ends=True, seed=3, epoch=epoch, number=number
    )


def collated(crops: list[CroppedTokens], **fields: Any) -> dict[str, Tensor]:
    config = AudioLMConfig(**{"num_quantizers": CODEBOOKS, "codebook_size": CODES, "num_units": UNITS, "acoustic_model": "rq", **fields})
    return RqLM.collate(crops, ExampleSettings(config))


def logits_of(model: AudioLM, clip: dict[str, Any]) -> Tensor:
    """Logits ``(S, Q, V)`` of every step and level of one clip, as training computes them."""
    stage = model.rq
    with Heard(stage.depth.head) as depth, torch.inference_mode():
        if stage.head is None:
            stage.loss(**clip)
            return depth[0].transpose(0, 1)
        with Heard(stage.head) as first:
            stage.loss(**clip)
    return torch.cat([first[0].transpose(0, 1), depth[0].transpose(0, 1)], 1)


@kinds
def test_the_terms_are_the_nats_of_each_code_given_those_before_it_and_no_other(kind: str) -> None:
    """Every code once, in the order step, level; with all that comes later garbled, the same nats."""
    model, delay = MODELS[kind], MODELS[kind].config.acoustic_delay
    clip = clips(model, [2])
    codes = clip["codes"][0]
    step_of = {place: place[0] + (delay if place[1] else 0) for place in product(range(len(codes)), range(CODEBOOKS))}
    order = sorted(step_of, key=lambda place: (step_of[place], place[1]))
    nats = [0.0] * CODEBOOKS
    for number, (frame, level) in enumerate(order):
        garbled = codes.clone()
        for later in order[number:]:
            garbled[later] = (garbled[later] + 3) % CODES
        own = logits_of(model, {**clip, "codes": garbled[None]})[step_of[frame, level], level]
        nats[level] -= float(own.log_softmax(-1)[codes[frame, level]])
    terms = model.rq.validation_terms(**clip)
    assert list(terms) == ["rq_0", "rq_1", "rq_2"] and {int(term.count) for term in terms.values()} == {len(codes)}
    assert [float(term.sum.detach()) for term in terms.values()] == pytest.approx(nats)


@kinds
def test_every_earlier_code_of_a_level_and_step_is_seen(kind: str) -> None:
    model, delay = MODELS[kind], MODELS[kind].config.acoustic_delay
    clip = clips(model, [2])
    before = logits_of(model, clip)
    for frame, level in product(range(2), range(CODEBOOKS)):
        other = clip["codes"].clone()
        other[0, frame, level] = (other[0, frame, level] + 1) % CODES
        after = logits_of(model, {**clip, "codes": other})
        moved = [not torch.allclose(*pair) for pair in zip(before.flatten(0, 1), after.flatten(0, 1), strict=True)]
        place = (frame + (delay if level else 0)) * CODEBOOKS + level
        assert moved == [later > place for later in range(len(moved))]


@kinds
def test_clips_in_a_batch_have_the_terms_that_they_have_alone(kind: str) -> None:
    """Regressions: padding counted in the loss; padding trained as a class."""
    model = MODELS[kind]
    alone = [model.rq.level_terms(**clips(model, [periods])) for periods in (3, 1, 2)]
    for filler in (0, 1):
        together = model.rq.level_terms(**clips(model, [3, 1, 2], filler=filler))
        for level, term in enumerate(together):
            torch.testing.assert_close(term.sum, sum(terms[level].sum for terms in alone))
            assert int(term.count) == sum(int(terms[level].count) for terms in alone)
            assert int(term.correct) == sum(int(terms[level].correct) for terms in alone)


@kinds
def test_the_first_loss_is_that_of_a_guess_and_every_parameter_has_a_gradient(kind: str) -> None:
    model = fresh_rq(**KINDS[kind])
    part = model.rq.loss(**clips(model, [4, 2]))
    assert float(part.sum.detach() / part.count) == pytest.approx(log(CODES), abs=0.02)
    part.sum.backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.rq.parameters())


@kinds
def test_validation_draws_nothing(kind: str) -> None:
    """Regression: NAR validation on one random level."""
    clip = clips(MODELS[kind], [4, 2])
    some = torch.tensor([[0, 3], [1, NO_FRAME]])
    plain, told = (MODELS[kind].rq.validation_terms(**clip, **more) for more in ({}, {"depth_frames": some}))
    assert all(torch.equal(plain[name].sum, told[name].sum) and torch.equal(plain[name].count, told[name].count) for name in plain)


@kinds
def test_histograms_count_what_validation_counts(kind: str) -> None:
    clip = clips(MODELS[kind], [4, 2])
    counts, terms = MODELS[kind].rq.histograms(**clip), MODELS[kind].rq.validation_terms(**clip)
    assert {name: int(levels[0].sum()) for name, levels in counts.items()} == {name: int(term.count) for name, term in terms.items()}


def test_codes_that_a_delay_leaves_missing_have_no_loss_and_add_nothing() -> None:
    """Step 0 knows no upper levels; the last step has no level 0: neither is counted, nor is it code 0."""
    model = tiny_rq(acoustic_delay=1)
    stage, clip = model.rq, clips(model, [2])
    with Heard(stage.embed) as embedded, Heard(stage.depth.embed) as below:
        terms = stage.level_terms(**clip)
    frames = clip["codes"].shape[1]
    assert [int(term.count) for term in terms] == [frames] * CODEBOOKS
    assert not embedded[0][0, 0, 1:].any() and embedded[0][0, 0, 0].any()
    assert not below[0][frames, 0].any() and below[0][frames, 1].any()


def test_the_loss_is_the_weighted_mean_over_levels() -> None:
    """Regression: a weight of 100 on the first of 8 levels that leaves 7/107 to the others all together, and said to be a sum."""
    assert level_weights(AudioLMConfig(num_quantizers=8)) == [1.0] * 8
    first, *others = level_weights(AudioLMConfig(num_quantizers=8, level_weights=[100, 1]))
    assert first / 8 == pytest.approx(100 / 107) and sum(others) / 8 == pytest.approx(7 / 107)
    model = tiny_rq(level_weights=[100.0, 1.0])
    clip = clips(model, [4, 2])
    part, terms = model.rq.loss(**clip), model.rq.level_terms(**clip)
    means = [float(term.sum.detach() / term.count) for term in terms]
    assert float(part.sum.detach() / part.count) == pytest.approx((100 * means[0] + means[1] + means[2]) / 102)
    assert int(part.count) == sum(int(term.count) for term in terms)
    assert int(part.correct) == sum(int(term.correct) for term in terms)
    unweighted = tiny_rq().rq
    torch.testing.assert_close(unweighted.loss(**clip).sum, sum(term.sum for term in unweighted.level_terms(**clip)))


@pytest.mark.parametrize("delay", [0, 2])
def test_of_an_amortised_depth_the_first_level_learns_on_every_frame_and_the_others_on_the_drawn_alone(delay: int) -> None:
    """Regression: a share that is a default of the paper only, so that the depth is trained on every frame."""
    model = tiny_rq(num_units=UNITS, acoustic_delay=delay)
    clip, drawn = clips(model, [4, 2]), torch.tensor([[1, 6], [2, NO_FRAME]])
    whole, some = model.rq.level_terms(**clip), model.rq.level_terms(**clip, depth_frames=drawn)
    torch.testing.assert_close(some[0].sum, whole[0].sum)
    assert [int(term.count) for term in some] == [int(term.count) for term in whole]
    with Heard(model.rq.depth) as heard:
        model.rq.loss(**clip, depth_frames=drawn)
    assert heard[0].shape[1] == drawn.numel(), "the depth transformer must not run over all frames"
    other = {**clip, "codes": clip["codes"].clone()}  # the upper levels of the last frames, which none of the drawn sees
    other["codes"][0, 7, 1:] = (other["codes"][0, 7, 1:] + 1) % CODES
    moved = model.rq.level_terms(**other, depth_frames=drawn)
    assert all(torch.equal(ours.sum, theirs.sum) for ours, theirs in zip(some[1:], moved[1:], strict=True))
    assert not torch.equal(whole[1].sum, model.rq.level_terms(**other)[1].sum)


@pytest.mark.parametrize("delay", [0, 1])
def test_a_share_of_frames_has_the_loss_of_all_on_average(delay: int) -> None:
    model = tiny_rq(acoustic_delay=delay)
    clip = clips(model, [2, 1])  # 4 and 2 frames
    whole = model.rq.loss(**clip)
    draws = [model.rq.loss(**clip, depth_frames=torch.tensor([[one], [other]])).sum for one in range(4) for other in range(2)]
    torch.testing.assert_close(torch.stack(draws).mean(), whole.sum)
    assert torch.stack(draws).std() > 0


def test_a_drawn_share_is_the_examples_own_and_no_batch_mates() -> None:
    crops = [crop_of(32, cut_id="a"), crop_of(48, cut_id="b"), crop_of(2, cut_id="c")]
    together = collated(crops, depth_share=1 / 16)["depth_frames"]
    assert [int((row != NO_FRAME).sum()) for row in together] == [2, 3, 1], "a short example keeps one frame"
    for crop, row in zip(crops, together, strict=True):
        alone = collated([crop], depth_share=1 / 16)["depth_frames"][0]
        assert row[: len(alone)].tolist() == alone.tolist() and set(row[len(alone) :].tolist()) <= {NO_FRAME}
        assert len(set(alone.tolist())) == len(alone) and 0 <= int(alone.min()) <= int(alone.max()) < len(crop.codes)
    others = [crop_of(32, cut_id="a", epoch=2), crop_of(32, cut_id="z"), crop_of(32, cut_id="a", number=1)]
    assert all(collated([crop], depth_share=0.25)["depth_frames"].tolist() != [first] for crop in others
               for first in [collated([crops[0]], depth_share=0.25)["depth_frames"][0].tolist()])  # fmt: skip
    seen = {frame for epoch in range(40) for frame in collated([crop_of(16, epoch=epoch)], depth_share=0.25)["depth_frames"][0].tolist()}
    assert seen == set(range(16)), "each frame has its turn"
    assert "depth_frames" not in collated(crops)


@pytest.mark.parametrize("kind", [kind for kind, fields in KINDS.items() if "num_units" in fields])
def test_units_decide(kind: str) -> None:
    clip = clips(MODELS[kind], [3])
    other = {**clip, "units": (clip["units"] + 1) % UNITS}
    for ours, theirs in zip(MODELS[kind].rq.level_terms(**clip), MODELS[kind].rq.level_terms(**other), strict=True):
        assert not torch.allclose(ours.sum, theirs.sum)


@kinds
def test_tables_start_from_the_codecs_vectors(kind: str) -> None:
    model = fresh_rq(**KINDS[kind])
    codebooks = torch.randn(CODEBOOKS, CODES, 4)
    codebooks[:, 1] = codebooks[:, 0] + 1e-4  # two codes that sound alike
    before = model.rq.embed.weight.clone()
    model.start_from_codebooks(codebooks)
    assert not torch.equal(before, model.rq.embed.weight)
    for table in (model.rq.embed.weight, model.rq.depth.embed.weight, model.rq.depth.head.weight):
        assert bool(((table[:, 1] - table[:, 0]).norm(dim=-1) < 0.01 * (table[:, 2] - table[:, 0]).norm(dim=-1)).all())
    part = model.rq.loss(**clips(model, [4, 2]))
    assert float(part.sum.detach() / part.count) == pytest.approx(log(CODES), abs=0.3)


def test_weights_of_another_delay_mean_another_thing() -> None:
    ours = AudioLMConfig(acoustic_delay=1)
    assert RqLM.means_the_same(ours, {"acoustic_delay": 1}) and not RqLM.means_the_same(ours, {"acoustic_delay": 2})
    assert not RqLM.means_the_same(ours, {}) and RqLM.means_the_same(AudioLMConfig(), {})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"acoustic_delay": 3}, "must be 0, 1 or 2 frames, found 3"),
        ({"depth_share": 0.0}, "above 0 and be at most 1 .*, found 0.0"),
        ({"depth_share": 0.5, "rq_first_level": "depth"}, "found --rq-first-level depth; use temporal"),
        ({"level_weights": [1.0] * 4}, "at most 3 level weights of 0 or more, some above 0"),
        ({"level_weights": [0.0]}, "some above 0, found"),
        ({"level_weights": [-1.0, 2.0]}, "of 0 or more"),
        ({"level_weights": ["1"]}, "expected level_weights of numbers in a list"),
        ({"level_weights": 1.0}, "expected level_weights of numbers in a list"),
        ({"rq_first_level": "text"}, "must be temporal or depth, found 'text'"),
        ({"depth_weights": "both"}, "must be per-level or shared, found 'both'"),
        ({"num_quantizers": 1}, "expected 2 codebooks or more, found 1"),
        ({"depth_nhead": 3}, "must be a multiple of its heads"),
    ],
)
def test_impossible_settings_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        fresh_rq(**fields)


def test_older_models_are_as_they_were() -> None:
    config = AudioLMConfig()
    assert (config.acoustic_delay, config.depth_share, config.level_weights, config.acoustic_model) == (0, 1.0, [], "ar-nar")
