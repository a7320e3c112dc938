"""What every stage's loss counts, whatever it is conditioned on."""

from math import log
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import KINDS, UNITS, batch_of, fresh_model, random_row, tiny_model
from torch import Tensor, nn

from valle.models import AudioLM, LossTerm
from valle.models.loss import cut_term, loss_term, masked_term
from valle.models.vocabulary import Vocabulary

kinds = pytest.mark.parametrize("kind", KINDS)
MODELS = {kind: tiny_model(**fields) for kind, fields in KINDS.items()}


@given(
    kind=st.sampled_from(list(KINDS)),
    periods=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    missing=st.integers(0, 2),
    filler=st.integers(0, 9),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_padding_is_not_counted_so_a_batch_has_the_sums_of_its_clips(kind: str, periods: list[int], missing: int, filler: int) -> None:
    """Regression: padding counted in the AR loss, the same clips 1.37 to 1.72 times the loss in a batch."""
    model = MODELS[kind]
    rows = [random_row(model, periods=count, seed=index, missing=missing) for index, count in enumerate(periods)]
    with torch.inference_mode():
        together = model.loss(batch_of(model, rows, filler=filler))
        alone = [model.loss(batch_of(model, [row])) for row in rows]
    for stage, part in together.items():
        assert int(part.count) == sum(int(single[stage].count) for single in alone)
        assert int(part.correct) == sum(int(single[stage].correct) for single in alone)
        torch.testing.assert_close(part.sum, sum((single[stage].sum for single in alone), torch.tensor(0.0)), rtol=1e-5, atol=1e-4)


@kinds
def test_gradients_of_a_padded_batch_are_the_sum_of_its_clips_gradients(kind: str) -> None:
    """Regression: padding trained on."""
    model = tiny_model(**KINDS[kind])
    rows = [random_row(model, periods=periods, seed=periods) for periods in (1, 4, 2)]

    def gradients(batches: list[dict[str, dict[str, Tensor]]]) -> list[Tensor]:
        model.zero_grad()
        for batch in batches:
            torch.stack([part.sum for part in model.loss(batch).values()]).sum().backward()
        return [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]

    together, alone = gradients([batch_of(model, rows, filler=3)]), gradients([batch_of(model, [row]) for row in rows])
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@kinds
def test_every_token_is_a_target_once_from_the_first_on(kind: str) -> None:
    """Regression: first token never a target without BOS."""
    model = MODELS[kind]
    row = {**random_row(model, periods=3, seed=1), "starts": True, "ends": False, "prompt": 0}
    parts = model.loss(batch_of(model, [row]))
    frames = len(row["codes"])
    assert int(parts["coarse"].count) == frames * model.config.num_coarse
    assert int(parts["fine"].count) == frames
    if "semantic" in parts:
        assert int(parts["semantic"].count) == len(row["units"])


@pytest.mark.parametrize(("kind", "codes"), [(kind, codes) for kind in ("aligned", "prefix", "codes only") for codes in (1024, 2048)])
def test_the_first_loss_is_the_log_of_the_vocabulary(kind: str, codes: int) -> None:
    """Regression: codebook size a module global, 1024 where EnCodec 32 kHz has 2048."""
    model = fresh_model(**KINDS[kind], codebook_size=codes, d_model=32).eval()
    parts = model.loss(batch_of(model, [random_row(model, periods=20, seed=seed) for seed in range(3)]))
    expected = {"coarse": log(codes), "fine": log(codes), "semantic": log(UNITS + 2)}
    for stage, part in parts.items():
        assert abs(float(part.sum.detach() / part.count) - expected[stage]) < 0.03


@pytest.mark.parametrize("codes", [1024, 2048])
def test_the_last_code_of_any_codebook_is_a_code_like_others(codes: int) -> None:
    """Regression: codebook size a module global, 1024 where EnCodec 32 kHz has 2048."""
    model = fresh_model(codebook_size=codes, num_coarse=2)
    row = {**random_row(model, periods=2, seed=0), "codes": torch.full((4, 3), codes - 1)}
    for part in model.loss(batch_of(model, [row])).values():
        assert torch.isfinite(part.sum)
    assert model.coarse.head.out_features == 2 * codes and model.fine.head.shape[:2] == (1, codes)


@kinds
def test_clips_of_one_frame_train_like_others(kind: str) -> None:
    """Regression: crash when the shortest clip has under 4 frames."""
    model = fresh_model(**KINDS[kind])
    shortest = {**random_row(model, periods=1, seed=0, missing=99), "prompt": 0}
    assert len(shortest["codes"]) == 1
    for rows in ([shortest], [shortest, random_row(model, periods=5, seed=1)]):
        parts = model.loss(batch_of(model, rows))
        assert all(torch.isfinite(part.sum) for part in parts.values()) and int(parts["coarse"].count) >= 1
        torch.stack([part.sum for part in parts.values()]).sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters() if parameter.grad is not None)


@kinds
def test_every_parameter_has_a_gradient_whatever_levels_a_batch_draws(kind: str) -> None:
    """Regression: a random level per example with a ``ModuleList`` of heads breaks DDP."""
    model = fresh_model(**KINDS[kind])
    for level in range(model.config.num_coarse, model.config.num_quantizers):
        for periods in (1, 4):
            model.zero_grad(set_to_none=True)
            row = {**random_row(model, periods=periods, seed=level), "level": level, "starts": False, "ends": False}
            parts = model.loss(batch_of(model, [row]))
            torch.stack([part.sum for part in parts.values()]).sum().backward()
            assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize("kind", ["aligned", "prefix", "codes only"])
def test_data_parallel_takes_batches_of_any_level_without_looking_for_unused_parameters(kind: str, tmp_path: Any) -> None:
    """Regression: ``find_unused_parameters`` always."""
    import torch.distributed as dist

    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        model = fresh_model(**KINDS[kind])
        parallel = nn.parallel.DistributedDataParallel(model)
        alone = fresh_model(**KINDS[kind])
        for level in (1, 2, 1):  # the second pass raises if the first left a parameter without a gradient
            batch = batch_of(model, [{**random_row(model, periods=2, seed=level), "level": level}])
            for module in (parallel, alone):
                torch.stack([part.sum for part in module(batch).values()]).sum().backward()
        for ours, theirs in zip(parallel.parameters(), alone.parameters(), strict=True):
            torch.testing.assert_close(ours.grad, theirs.grad)
    finally:
        dist.destroy_process_group()


@kinds
def test_parts_own_disjoint_parameters_that_are_all_of_the_models(kind: str) -> None:
    parts = MODELS[kind].stages()
    owned = [parameter for part in parts.values() for parameter in part.parameters()]
    assert len({id(parameter) for parameter in owned}) == len(owned) == len(list(MODELS[kind].parameters()))
    assert list(parts) == (["semantic", "coarse", "fine"] if "num_units" in KINDS[kind] else ["coarse", "fine"])


def test_a_part_of_a_batch_trains_its_stage_alone() -> None:
    model = fresh_model(**KINDS["aligned"])
    batch = batch_of(model, [random_row(model, periods=3, seed=1)])
    parts = model.loss({"coarse": batch["coarse"]})
    parts["coarse"].sum.backward()
    assert list(parts) == ["coarse"]
    assert all((parameter.grad is None) == (not name.startswith("coarse.")) for name, parameter in model.named_parameters())


def test_sum_count_and_correct_are_those_of_a_slow_loop() -> None:
    torch.manual_seed(1)
    logits, targets, valid = torch.randn(2, 4, 5), torch.randint(5, (2, 4)), torch.rand(2, 4) < 0.6
    part = loss_term(logits, targets, valid)
    places = [(row, place) for row in range(2) for place in range(4) if valid[row, place]]
    nats = -sum(float(logits[place].log_softmax(-1)[targets[place]]) for place in places)
    assert isinstance(part, LossTerm) and abs(float(part.sum) - nats) < 1e-4
    assert int(part.count) == len(places)
    assert int(part.correct) == sum(int(logits[place].argmax() == targets[place]) for place in places)


def test_a_batch_without_targets_counts_nothing_and_is_finite() -> None:
    model = fresh_model(**KINDS["aligned"])
    crop = {**random_row(model, periods=1, seed=1), "starts": False, "ends": False}
    part = model.loss(batch_of(model, [crop]))["semantic"]  # one unit in the midst of speech: nothing is predicted
    assert int(part.count) == 0 and float(part.sum.detach()) == 0


@given(counts=st.lists(st.integers(0, 5), min_size=1, max_size=5))
@settings(max_examples=30, deadline=None, derandomize=True)
def test_ranges_of_a_vocabulary_share_no_row(counts: list[int]) -> None:
    """Regression: EOS sharing a row with the next level's token 0."""
    vocabulary = Vocabulary(tuple((f"range {index}", count) for index, count in enumerate(counts)))
    rows = [vocabulary.first(name) + token for name, count in vocabulary.ranges for token in range(count)]
    assert rows == list(range(vocabulary.size))


def test_a_range_that_no_vocabulary_has_is_an_error() -> None:
    with pytest.raises(KeyError, match="text"):
        Vocabulary((("bos", 1),)).first("text")


def test_loss_of_the_whole_model_takes_dropout_in_training_only() -> None:
    model: AudioLM = fresh_model(**KINDS["prefix"], dropout=0.5)
    batch = batch_of(model, [random_row(model, periods=4, seed=1)])
    sums = {mode: [float(model.train(mode).loss(batch)["coarse"].sum.detach()) for _ in range(2)] for mode in (True, False)}
    assert sums[True][0] != sums[True][1] and sums[False][0] == sums[False][1]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_padding_left_out_or_masked_gives_one_loss_and_one_gradient(dtype: torch.dtype) -> None:
    """Leaving it out makes a GPU's process wait; what stands in padding, even NaN, must not matter."""
    torch.manual_seed(0)
    valid, targets = torch.rand(3, 9) < 0.6, torch.randint(0, 20, (3, 9))
    logits = torch.randn(3, 9, 20).to(dtype)
    logits[~valid] = torch.nan
    found = []
    for term_of in (cut_term, masked_term):
        these = logits.clone().requires_grad_()
        term = term_of(these, targets, valid)
        term.sum.backward()
        found.append((term, these.grad))
    (cut, expected), (masked, gradient) = found
    torch.testing.assert_close(masked.sum, cut.sum, rtol=1e-6, atol=0)
    assert (int(masked.count), int(masked.correct)) == (int(cut.count), int(cut.correct)) == (int(valid.sum()), int(cut.correct))
    torch.testing.assert_close(gradient, expected)
    assert not gradient[~valid].any()
