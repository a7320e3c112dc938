"""Cached decoding of ragged batches against the slow twin, and when it ends."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import CODES, KINDS, UNITS, tiny_model
from torch import Tensor
from torch.overrides import TorchFunctionMode
from twin_decoding import Heard, coarse_logits, coarse_twin, semantic_twin

from valle.decoding.drawing import Drawn, Known
from valle.decoding.engine import Decoder, DecodingRequest, decode, evaluating
from valle.decoding.sampling import Noise, Sampling
from valle.decoding.steps import CACHE_BLOCK
from valle.models.semantic import SemanticLM, _Continuation

MODELS = {kind: tiny_model(**fields) for kind, fields in KINDS.items()}
SEMANTIC = MODELS["aligned"].semantic
NEVER, ALWAYS = -1e9, 1e9


def speaker(*, end: float = 0.0) -> SemanticLM:
    """A SemanticLM with ``end`` added to the end's logit."""
    model = tiny_model(num_units=UNITS).semantic
    model.head.bias.data[model.eos] += end
    return model


def some_units(length: int, *, seed: int = 0) -> Tensor:
    return torch.randint(UNITS, (length,), generator=torch.Generator().manual_seed(seed))


def continued(model: SemanticLM, prompts: list[Tensor], *, new: int = 20, **options: Any) -> list[Tensor]:
    rows = len(prompts)
    settled = {
        "max_new": [new] * rows,
        "min_new": [0] * rows,
        "sampling": Sampling(),
        "seeds": list(range(rows)),
        "window": 1000,
        **options,
    }
    return model.generate(prompts, **settled)


@pytest.mark.parametrize("window", [1000, 9, 2])
@pytest.mark.parametrize("lengths", [[0, 5, 12], [4, 4, 4], [3]])
@pytest.mark.parametrize(
    "sampling", [Sampling(), Sampling(temperature=0.8, top_k=5, top_p=0.9, repetition_window=4), Sampling(temperature=0)]
)
def test_cached_units_equal_uncached_ones_token_by_token(window: int, lengths: list[int], sampling: Sampling) -> None:
    """Regressions: ``is_causal`` with a cached key and one query sees only key 0; a cache whose attention output was
    never used; ragged prompts reading logits at pad positions; stop when the *argmax* is EOS."""
    prompts = [some_units(length, seed=length) for length in lengths]
    new = [14, 30, 22][: len(lengths)]
    rows = continued(SEMANTIC, prompts, max_new=new, min_new=[8, 0, 20][: len(lengths)], sampling=sampling, window=window)
    for row, prompt in enumerate(prompts):
        limits = {"max_new": new[row], "min_new": [8, 0, 20][row]}
        twin = semantic_twin(SEMANTIC, prompt, sampling=sampling, seed=row, window=window, **limits)
        assert rows[row].tolist() == twin


@pytest.mark.parametrize("window", [1000, 8])
@pytest.mark.parametrize("kind", KINDS)
def test_cached_codes_equal_uncached_ones_token_by_token(kind: str, window: int) -> None:
    """Regressions: positions restart at the prompt's end; ragged prompts reading logits at pad positions; a cache whose
    attention output was never used."""
    model = MODELS[kind].coarse
    frames = [6, 18, 24]
    prompts = [torch.randint(CODES, (length, 3), generator=torch.Generator().manual_seed(length)) for length in (0, 7, 10)]
    units = None
    if model.conditioning is not None:
        units = [some_units(-(-count // model.periods.frames) * model.periods.units, seed=count) for count in frames]
    sampling = Sampling(repetition_window=5)
    rows = model.generate(prompts, num_frames=frames, units=units, sampling=sampling, seeds=[4, 5, 6], window=window)
    for row, prompt in enumerate(prompts):
        row_units = None if units is None else units[row]
        twin = coarse_twin(model, prompt, num_frames=frames[row], units=row_units, sampling=sampling, seed=4 + row, window=window)
        assert rows[row].tolist() == twin


@pytest.mark.parametrize("kind", KINDS)
def test_decoding_scores_each_code_as_training_does(kind: str) -> None:
    """Regression: a cache whose attention output was never used.  To the last digits, which draws would hide."""
    model = MODELS[kind].coarse
    prompt, units = torch.randint(CODES, (5, 3), generator=torch.Generator().manual_seed(1)), None
    if model.conditioning is not None:
        units = some_units(6 // model.periods.frames * model.periods.units + model.periods.units)
    with Heard(model.head) as heard:
        rows = None if units is None else [units]
        [codes] = model.generate([prompt], num_frames=[8], units=rows, sampling=Sampling(), seeds=[2], window=1000)
    tokens, known = model.flatten(codes), 5 * model.num_coarse
    assert len(heard) == len(tokens) - known
    for step, scores in enumerate(heard):
        expected = coarse_logits(model, tokens[: known + step], 0, units=units, num_frames=8, prompt=known, window=1000)
        torch.testing.assert_close(scores[0], expected, rtol=1e-9, atol=1e-9)


@given(lengths=st.lists(st.integers(0, 15), min_size=2, max_size=4), window=st.integers(2, 20), new=st.integers(1, 20))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_a_prompt_alone_and_in_a_batch_has_the_same_continuation(lengths: list[int], window: int, new: int) -> None:
    """Regression: prompt length decided by batch mates."""
    prompts = [some_units(length, seed=seed) for seed, length in enumerate(lengths)]
    together = continued(SEMANTIC, prompts, new=new, window=window)
    for row, prompt in enumerate(prompts):
        [alone] = continued(SEMANTIC, [prompt], new=new, window=window, seeds=[row])
        assert torch.equal(together[row], alone)


def test_the_end_is_decided_by_what_was_drawn_not_by_the_likeliest() -> None:
    """Regression: stop when the *argmax* is EOS although something else was sampled."""
    model = speaker(end=4.0)
    passed_by = 0
    for seed in range(20):
        with Heard(model.head) as logits:
            [row] = continued(model, [some_units(3)], seeds=[seed], new=50)
        passed_by += sum(int(scores[0].argmax()) == model.eos for scores in logits[: len(row)])
    assert passed_by > 0, "no row went on past a step whose likeliest token was the end"


def test_a_row_that_never_draws_its_end_has_exactly_as_many_tokens_as_asked_for() -> None:
    """Regression: ``max_new_tokens + 1`` tokens."""
    model = speaker(end=NEVER)
    counts = [1, 7, 0, 13]
    rows = continued(model, [some_units(length) for length in (3, 0, 5, 8)], max_new=counts)
    assert [len(row) for row in rows] == counts
    assert all(0 <= int(row.min()) <= int(row.max()) < UNITS for row in rows if len(row))


def test_an_end_drawn_at_once_gives_an_empty_row_and_raises_nothing() -> None:
    """Regression: empty output raises SyntaxError."""
    rows = continued(speaker(end=ALWAYS), [some_units(3), some_units(0)])
    assert [row.shape for row in rows] == [(0,), (0,)] and rows[0].dtype == torch.int64


def test_nothing_asked_for_gives_nothing() -> None:
    assert continued(SEMANTIC, []) == []
    assert [len(row) for row in continued(SEMANTIC, [some_units(3)] * 2, max_new=[0, 0])] == [0, 0]


def test_the_loop_ends_with_the_last_row_that_ends() -> None:
    """Regression: loop that ignores EOS and always runs to the cap."""
    model = speaker(end=ALWAYS)
    with Heard(model.head) as steps:
        rows = continued(model, [some_units(3), some_units(6)], max_new=[500, 500], min_new=[2, 5])
    assert [len(row) for row in rows] == [2, 5]
    assert len(steps) == 6  # five units and the end of the longer row


def test_no_end_is_drawn_before_its_least() -> None:
    for row, least in zip(continued(speaker(end=ALWAYS), [some_units(2)] * 3, min_new=[0, 4, 19]), (0, 4, 19), strict=True):
        assert len(row) == least


def test_bos_is_never_drawn() -> None:
    model = speaker(end=NEVER)
    model.head.bias.data[model.bos] += ALWAYS
    [row] = continued(model, [some_units(2)])
    assert len(row) == 20 and int(row.min()) >= 0


def test_an_end_that_was_drawn_is_not_drawn_upon() -> None:
    """What a row draws after its end is cut off, whatever its batch mates still do."""
    model = speaker(end=1.0)
    prompts = [some_units(4, seed=seed) for seed in range(6)]
    rows = continued(model, prompts, new=40)
    assert len({len(row) for row in rows}) > 1
    for seed, (prompt, row) in enumerate(zip(prompts, rows, strict=True)):
        assert row.tolist() == semantic_twin(model, prompt, max_new=40, sampling=Sampling(), seed=seed, window=1000)


class SeenMasks(TorchFunctionMode):
    """The masks that attention is given."""

    def __init__(self) -> None:
        super().__init__()
        self.queries_and_masks: list[tuple[int, Tensor | None]] = []

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.nn.functional.scaled_dot_product_attention:
            self.queries_and_masks.append((args[0].shape[2], (kwargs or {}).get("attn_mask")))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("lengths", [[5, 5], [3, 9]])
def test_a_step_has_one_query_and_no_square_mask(lengths: list[int]) -> None:
    """Regression: a cache that rebuilds an n x n bias a token."""
    with SeenMasks() as seen:
        continued(speaker(end=NEVER), [some_units(length) for length in lengths], new=10)
    steps = [mask for queries, mask in seen.queries_and_masks if queries == 1]
    assert len(steps) == 9 * 2  # two layers; the first token comes of the prompt's pass
    if lengths[0] == lengths[1]:
        assert all(mask is None for mask in steps)
    else:
        assert all(mask is not None and mask.shape[:3] == (2, 1, 1) for mask in steps)


def test_memory_stays_flat_however_far_a_row_goes_on() -> None:
    """Regression: latency that ramps is a growing cache."""
    model, window = speaker(end=NEVER), 30
    request = DecodingRequest(
        prompts=[some_units(length) + model.first_unit for length in (3, 40)], max_new=[300, 280], seeds=[0, 1],
        sampling=Sampling(), window=window,
    )  # fmt: skip
    with torch.inference_mode():
        decoder = Decoder(_Continuation(model), request)
        rows = decoder.run()
    assert [len(row) for row in rows] == [300, 280]
    assert decoder.steps.capacity <= 2 * CACHE_BLOCK and decoder.steps.caches[0].keys.shape[2] == decoder.steps.capacity


def test_decoding_leaves_no_dropout_on_and_no_mode_changed() -> None:
    model = speaker(end=NEVER)
    for block in model.transformer.blocks:
        block.dropout = 0.9
    calm = continued(model.eval(), [some_units(4)])
    model.train()
    model.transformer.blocks[1].eval()
    modes = [part.training for part in model.modules()]
    torch.testing.assert_close(continued(model, [some_units(4)]), calm)
    assert [part.training for part in model.modules()] == modes
    with evaluating(model):
        assert not any(part.training for part in model.modules())


def test_ragged_rows_decode_under_autocast() -> None:
    """As when a trainer that runs in bf16 listens to its model."""
    model = speaker(end=NEVER).float()
    with torch.autocast("cpu", torch.bfloat16):
        rows = continued(model, [some_units(3), some_units(9)], new=12, window=10)
    assert [len(row) for row in rows] == [12, 12]


def test_decoding_leaves_no_graph_behind() -> None:
    [row] = continued(speaker(end=NEVER), [some_units(3)])
    [codes] = MODELS["aligned"].coarse.generate(
        [torch.zeros(2, 3).long()], num_frames=[4], units=[some_units(2)], sampling=Sampling(), seeds=[0], window=8
    )
    assert not row.requires_grad and not codes.requires_grad


@pytest.mark.parametrize("wrong", [{"seeds": [1]}, {"max_new": [1, 2, 3]}, {"min_new": [1]}])
def test_a_request_names_limits_for_every_prompt(wrong: dict[str, list[int]]) -> None:
    with pytest.raises(ValueError, match="for 2 prompts"):
        continued(SEMANTIC, [some_units(2)] * 2, **wrong)


def test_a_window_too_short_to_slide_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 tokens, found 1"):
        continued(SEMANTIC, [some_units(2)], window=1)


def test_decode_takes_what_a_model_offers_and_nothing_else() -> None:
    request = DecodingRequest(prompts=[some_units(3) + SEMANTIC.first_unit], max_new=[4], seeds=[0], sampling=Sampling(), window=50)
    [tokens] = decode(_Continuation(SEMANTIC), request)
    assert int(tokens.min()) >= SEMANTIC.first_unit


class _Drafting(_Continuation):
    """Draws one token and drafts more, of which a row keeps those that ``plain`` rows go on with: some drafts are wrong."""

    def __init__(self, model: SemanticLM, plain: list[Tensor], drafts: int) -> None:
        super().__init__(model)
        self.plain, self.drafts = plain, drafts

    def draw(self, hidden: Tensor, known: Known, sampling: Sampling, noise: Noise) -> Drawn:
        first = super().draw(hidden, known, sampling, noise).tokens
        tokens = first.repeat(1, 1 + self.drafts)
        counts = []
        for row, place in enumerate(known.counts):
            after = self.plain[row][place - known.prompt_lengths[row] + 1 :][: self.drafts]
            tokens[row, 1 : 1 + len(after)] = after
            wrong = (place + row) % (self.drafts + 1)  # the draft that is spoiled; none of them at 0
            if 1 <= wrong <= len(after):
                tokens[row, wrong] = (tokens[row, wrong] + 1) % UNITS + self.model.first_unit
            right = (tokens[row, 1 : 1 + len(after)] == after).long().cumprod(0).sum()
            counts.append(1 + int(right))
        return Drawn(tokens, counts)


def drafted(model: SemanticLM, *, window: int) -> tuple[list[Tensor], list[Tensor], int]:
    """Rows by steps of one token, by steps of up to four, and how many of those it took."""
    prompts = [some_units(length, seed=length) + model.first_unit for length in (3, 0, 7)]
    request = DecodingRequest(prompts=prompts, max_new=[20, 14, 31], seeds=[0, 1, 2], sampling=Sampling(temperature=0), window=window)
    plain = decode(_Continuation(model), request)
    with torch.inference_mode():
        steps = list(Decoder(_Drafting(model, plain, drafts=3), request))
    return plain, [torch.cat([step.new[row] for step in steps]) for row in range(3)], len(steps)


def test_steps_of_several_tokens_of_which_rows_keep_some_equal_steps_of_one() -> None:
    """Rows keep other numbers of tokens a step, so their caches roll back to other places."""
    plain, rows, steps = drafted(speaker(end=NEVER), window=1000)
    assert [row.tolist() for row in rows] == [row.tolist() for row in plain] and steps < 31


def test_windows_slide_between_steps_of_several_tokens() -> None:
    _, rows, _ = drafted(speaker(end=NEVER), window=12)
    assert [len(row) for row in rows] == [20, 14, 31]


def test_the_steps_of_a_decoder_add_up_to_its_rows() -> None:
    model = speaker(end=1.0)
    prompts = [some_units(length, seed=length) + model.first_unit for length in (2, 6)]
    request = DecodingRequest(prompts=prompts, max_new=[25, 18], seeds=[5, 6], sampling=Sampling(), window=10)
    whole = decode(_Continuation(model), request)
    with torch.inference_mode():
        steps = list(Decoder(_Continuation(model), request))
    assert [torch.cat([step.new[row] for step in steps]).tolist() for row in (0, 1)] == [row.tolist() for row in whole]
    assert steps[-1].ended == [True, True]
