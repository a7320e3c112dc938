"""The one transformer: who sees whom, where positions are, what a cached step sees."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import KINDS, batch_of, fresh_model, random_row, shaken
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from valle.errors import UserError
from valle.modules.attention import attention
from valle.modules.transformer import Attend, Block, LevelNorm, Step, Transformer, TransformerConfig, rotate

DIM = 16


def stack(**fields: Any) -> Transformer:
    """Large random weights, so that every input shows."""
    sizes = {"d_model": DIM, "nhead": 2, "num_layers": 2, "dim_feedforward": 24}
    return shaken(Transformer(TransformerConfig(**{**sizes, **fields}))).double().eval()


def some_inputs(batch: int, length: int, *, seed: int = 0) -> Tensor:
    return torch.randn(batch, length, DIM, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def who_sees_whom(model: Transformer, length: int, attend: Attend) -> Tensor:
    """``(S, S)`` bool of a row: does output i change with input j?"""
    x = some_inputs(1, length)
    before = model(x, attend)
    changed = []
    for place in range(length):
        other = x.clone()
        other[:, place, 0] += 1  # one dimension: a norm would hide a change of all
        changed.append(((model(other, attend) - before).abs() > 1e-9).any(-1)[0])
    return torch.stack(changed, 1)


@pytest.mark.parametrize("norm_first", [True, False])
def test_a_stack_keeps_the_shape(norm_first: bool) -> None:
    assert stack(norm_first=norm_first)(some_inputs(3, 5), Attend.causally()).shape == (3, 5, DIM)


def test_causal_positions_see_themselves_and_the_past() -> None:
    assert torch.equal(who_sees_whom(stack(), 6, Attend.causally()), torch.ones(6, 6).tril().bool())


def test_free_positions_see_every_valid_one_and_no_padding() -> None:
    seen = who_sees_whom(stack(), 6, Attend.freely(torch.tensor([4]), 6))
    assert seen[:4, :4].all() and not seen[:4, 4:].any()


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("num_levels", [0, 3])
def test_of_the_last_positions_alone_what_is_made_is_the_same(norm_first: bool, num_levels: int) -> None:
    model, x = stack(norm_first=norm_first, num_levels=num_levels, num_layers=3), some_inputs(2, 7)
    levels = torch.tensor([2, 0]) if num_levels else None
    attend = Attend.freely(torch.tensor([7, 5]), 7)
    whole = model(x, attend, levels=levels)
    for first in (1, 3, 6):
        assert torch.allclose(model(x, attend, levels=levels, first=first), whole[:, first:], atol=1e-9)


def test_a_prompt_sees_itself_freely_and_what_follows_sees_all_before_it() -> None:
    seen = who_sees_whom(stack(), 6, Attend.after_prompt(torch.tensor([3]), 6))
    expected = torch.ones(6, 6).tril().bool()
    expected[:3, :3] = True
    assert torch.equal(seen, expected)


@pytest.mark.parametrize("prompt", [0, 1])
def test_positions_go_on_past_the_prompt(prompt: int) -> None:
    """Regression: positions restart at the prompt's end.  A prompt of one position frees nothing, so all is as if causal."""
    model, x = stack(), some_inputs(1, 6)
    torch.testing.assert_close(model(x, Attend.after_prompt(torch.tensor([prompt]), 6)), model(x, Attend.causally()))


@given(shift=st.integers(0, 500), apart=st.integers(0, 100))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_rotary_scores_depend_on_the_distance_alone(shift: int, apart: int) -> None:
    model = stack()
    q, k = some_inputs(2, 1)[..., :8].view(2, 8)

    def score(at: int) -> Tensor:
        (cos, sin), (cos_k, sin_k) = (model.rotary(torch.tensor(place), torch.float64) for place in (at + apart, at))
        return (rotate(q, cos, sin) * rotate(k, cos_k, sin_k)).sum()

    torch.testing.assert_close(score(shift), score(0), rtol=0, atol=1e-3)
    cos, sin = model.rotary(torch.tensor(shift), torch.float64)
    torch.testing.assert_close(rotate(q, cos, sin).norm(), q.norm(), rtol=1e-5, atol=0)


def test_order_matters() -> None:
    model, x = stack(), some_inputs(1, 4)
    swapped = x[:, [1, 0, 2, 3]]
    assert not torch.allclose(model(x, Attend.causally())[:, 3], model(swapped, Attend.causally())[:, 3])


def test_queries_keys_and_values_are_all_made_after_the_norm() -> None:
    """Regression: keys and values projected before the norm, queries after.  A norm hides scale and shift from all three."""
    block: Block = stack().blocks[0]
    block.project.weight.data.zero_()
    block.project.bias.data.zero_()
    rotary = stack().rotary(torch.arange(5), torch.float64)
    x = some_inputs(1, 5)
    for place in range(5):
        other = x.clone()
        other[:, place] = 3 * x[:, place] + 7
        ours, theirs = (block(row, rotary, Attend.causally(), None, None) - row for row in (x, other))
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_a_block_is_the_formula_of_its_paper() -> None:
    """Against a slow twin with a softmax written out."""
    model = stack()
    block: Block = model.blocks[0]
    x, (cos, sin) = some_inputs(1, 5), model.rotary(torch.arange(5), torch.float64)
    q, k, v = block.qkv(block.attention_norm(x, None))[0].view(5, 3, 2, 8).unbind(1)  # (S, H, D / H)
    mixed = torch.zeros(5, 2, 8, dtype=torch.float64)
    for head in range(2):
        for place in range(5):
            query = rotate(q[place, head], cos[place], sin[place])
            scores = torch.stack([query @ rotate(k[other, head], cos[other], sin[other]) for other in range(place + 1)]) / 8**0.5
            mixed[place, head] = scores.softmax(0) @ v[: place + 1, head]
    after = x + block.out(mixed.view(1, 5, DIM))
    expected = after + block.project(F.gelu(block.expand(block.feedforward_norm(after, None))))
    torch.testing.assert_close(block(x, (cos, sin), Attend.causally(), None, None), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("norm_first", [True, False])
def test_cached_steps_equal_the_whole_pass(norm_first: bool) -> None:
    """Regression: a cache whose attention output was never used."""
    model, x = stack(norm_first=norm_first), some_inputs(2, 9)
    whole = model(x, Attend.causally())
    caches = model.new_caches(2, 12)
    torch.testing.assert_close(model(x[:, :3], Attend.causally(), caches=caches), whole[:, :3])
    for place in range(3, 9):
        cos, sin = model.rotary(torch.tensor(place), x.dtype)
        step = Step(cos=cos, sin=sin, extent=place + 1, slot=place)
        torch.testing.assert_close(model.step(x[:, place : place + 1], step, caches), whole[:, place : place + 1])


def test_a_cached_step_sees_every_key() -> None:
    """Regression: ``is_causal`` with a cached key and one query sees only key 0."""
    model, x = stack(), some_inputs(1, 5)
    cos, sin = model.rotary(torch.tensor(4), x.dtype)

    def last(inputs: Tensor) -> Tensor:
        caches = model.new_caches(1, 5)
        model(inputs[:, :4], Attend.causally(), caches=caches)
        return model.step(inputs[:, 4:], Step(cos=cos, sin=sin, extent=5, slot=4), caches)

    before = last(x)
    for place in range(5):
        other = x.clone()
        other[:, place, 0] += 1
        assert not torch.allclose(last(other), before)


def test_ragged_steps_equal_each_rows_own_pass() -> None:
    model, x = stack(), some_inputs(2, 8)
    lengths = [2, 5]
    caches = model.new_caches(2, 8)
    model(x[:, :5], Attend.causally(), caches=caches)  # row 0's last three are padding
    slots = torch.tensor(lengths)
    new = torch.stack([x[row, length] for row, length in enumerate(lengths)])[:, None]
    cos, sin = (table[:, None, None] for table in model.rotary(slots, x.dtype))
    bias = torch.zeros(2, 6, dtype=x.dtype).masked_fill(torch.arange(6) > slots[:, None], -torch.inf)[:, None, None]
    rows = torch.arange(2)[:, None]
    hidden = model.step(new, Step(cos=cos, sin=sin, extent=6, slot=None, rows=rows, slots=slots[:, None], bias=bias), caches)
    for row, length in enumerate(lengths):
        torch.testing.assert_close(hidden[row], model(x[row : row + 1, : length + 1], Attend.causally())[0, -1:])


class SeenMasks(TorchFunctionMode):
    """What attention is told of who sees whom."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Tensor | None, bool]] = []

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is F.scaled_dot_product_attention:
            self.calls.append((kwargs["attn_mask"], kwargs["is_causal"]))
        return function(*args, **(kwargs or {}))


def test_masks_are_bool_without_heads_and_plain_causal_has_none() -> None:
    """Regression: (B x heads, S, S) float masks."""
    for kind, causal in (("aligned", True), ("prefix", True), ("codes only", False)):
        model = fresh_model(**KINDS[kind])
        batch = batch_of(model, [random_row(model, periods=periods, seed=periods) for periods in (2, 5)])
        with SeenMasks() as seen:
            model.loss({stage: batch[stage] for stage in batch if stage != "fine"})
        assert seen.calls and all(is_causal == causal for _, is_causal in seen.calls)
        for mask, _ in seen.calls:
            assert (mask is None) if causal else (mask is not None and mask.dtype == torch.bool and mask.shape[1] == 1)
        with SeenMasks() as seen:
            model.loss({"fine": batch["fine"]})
        assert all(mask is not None and mask.dtype == torch.bool and mask.shape[1:3] == (1, 1) for mask, _ in seen.calls)


def test_a_level_norm_scales_and_shifts_by_its_rows_level() -> None:
    norm: LevelNorm = shaken(LevelNorm(DIM, 3)).double()
    x, levels = some_inputs(4, 5), torch.tensor([2, 0, 1, 2])
    for row, level in enumerate(levels.tolist()):
        scale, shift = norm.modulation.weight[level].chunk(2)
        expected = norm.norm(x[row]) * (1 + scale) + shift
        torch.testing.assert_close(norm(x, levels)[row], expected)
    assert not torch.allclose(norm(x[:1], levels[:1]), norm(x[:1], levels[1:2]))


def test_level_norms_begin_alike_at_every_level() -> None:
    model = Transformer(TransformerConfig(d_model=DIM, nhead=2, num_layers=1, dim_feedforward=8, num_levels=3)).double().eval()
    x = some_inputs(1, 4)
    outputs = [model(x, Attend.causally(), levels=torch.tensor([level])) for level in range(3)]
    assert torch.equal(outputs[0], outputs[1]) and torch.equal(outputs[0], outputs[2])


def test_dropout_is_of_training_only() -> None:
    model = stack(dropout=0.5)
    x = some_inputs(1, 4)
    assert torch.equal(model(x, Attend.causally()), model(x, Attend.causally()))
    model.train()
    assert not torch.equal(model(x, Attend.causally()), model(x, Attend.causally()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_caches_have_the_weights_dtype(dtype: torch.dtype) -> None:
    model = stack().to(dtype)
    [cache, _] = model.new_caches(2, 7)
    assert cache.keys.shape == cache.values.shape == (2, 2, 7, DIM // 2) and cache.keys.dtype == dtype
    assert model(some_inputs(2, 3).to(dtype), Attend.causally(), caches=model.new_caches(2, 7)).dtype == dtype


@given(width=st.integers(1, 96), heads=st.integers(1, 40))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_heads_that_do_not_divide_the_width_are_refused_with_advice_that_works(width: int, heads: int) -> None:
    try:
        config = TransformerConfig(d_model=width, nhead=heads, num_layers=1, dim_feedforward=4)
    except UserError as error:
        advice = str(error).rpartition("; ")[2]
        if advice == "choose an even width":
            assert width % 2 == 1
        else:
            assert TransformerConfig(d_model=width, nhead=int(advice.split()[1]), num_layers=1, dim_feedforward=4).d_model == width
    else:
        assert config.d_model % (2 * config.nhead) == 0


@pytest.mark.parametrize(
    ("field", "value"), [("nhead", 0), ("d_model", 0), ("num_layers", 0), ("dim_feedforward", -1), ("dropout", 1.0), ("dropout", -0.1)]
)
def test_sizes_that_make_no_transformer_are_refused(field: str, value: float) -> None:
    with pytest.raises(UserError, match=rf"{field} must be .*found {value}"):
        stack(**{field: value})


def test_queries_and_keys_are_rotated_in_the_type_of_the_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """Float32 cosines would make float32 of them again, twice the memory traffic of every layer."""
    seen: list[torch.dtype] = []

    def watched(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
        seen.extend((q.dtype, k.dtype, v.dtype))
        return attention(q, k, v, **options)

    monkeypatch.setattr("valle.modules.transformer.attention", watched)
    torch.manual_seed(0)
    stack, x = Transformer(TransformerConfig(d_model=32, nhead=2, num_layers=2, dim_feedforward=64)).eval(), torch.randn(2, 40, 32)
    exact = stack(x, Attend.causally())
    assert set(seen) == {torch.float32}
    seen.clear()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        lower = stack(x, Attend.causally())
    assert set(seen) == {torch.bfloat16} and float((lower - exact).detach().abs().max()) < 0.05
