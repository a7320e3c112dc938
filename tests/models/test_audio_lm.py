"""AudioLM as its users build and call it."""

import math
from typing import Any

import pytest
import torch
from tiny_models import CODEBOOKS, CODES, KINDS, fresh_model, tiny_model
from torch import Tensor

from valle.decoding.sampling import Sampling
from valle.errors import UserError
from valle.models import AudioLM, AudioLMConfig
from valle.models.acoustic.base import AcousticRequest
from valle.models.audio_lm import count_parameters, stage_state

MODEL = tiny_model()


def some_codes(batch: int, frames: int, *, seed: int = 0, books: int = CODEBOOKS) -> Tensor:
    return torch.randint(CODES, (batch, frames, books), generator=torch.Generator().manual_seed(seed))


def test_the_lines_of_the_readme_continue_a_prompt_without_units() -> None:
    model = AudioLM(d_model=32, nhead=4, num_layers=2, num_quantizers=4)
    prompt_tokens, prompt_lens = torch.randint(1024, (1, 15, 4)), torch.tensor([15])
    codes = model.inference(x=prompt_tokens, x_lens=prompt_lens, max_new_tokens=5, temperature=1.0)
    assert codes.shape == (1, 5, 4) and codes.dtype == torch.int64
    assert 0 <= int(codes.min()) <= int(codes.max()) < 1024


def test_the_size_of_the_papers_can_be_built() -> None:
    with torch.device("meta"):
        model = AudioLM(d_model=1024, nhead=16, num_layers=12, num_quantizers=4)
    blocks = 12 * (12 * 1024**2 + 13 * 1024 + 4 * 1024)  # attention, feed-forward and their norms
    assert 2 * blocks < count_parameters(model) < 2.2 * blocks
    assert (model.config.codebook_size, model.config.dim_feedforward, model.unit_stage) == (1024, None, None)


@pytest.mark.parametrize("new", [0, 1, 6])
def test_exactly_as_many_frames_as_asked_for_follow_each_prompt(new: int) -> None:
    """Regressions: ``max_new_tokens + 1`` tokens; empty output raises SyntaxError."""
    codes = MODEL.inference(x=some_codes(3, 9), x_lens=torch.tensor([9, 1, 0]), max_new_tokens=new)
    assert codes.shape == (3, new, CODEBOOKS) and codes.dtype == torch.int64
    assert not codes.is_inference()


def test_new_codes_are_those_that_follow_the_prompt_in_the_whole() -> None:
    """Regression: continuation that drops its first prompt-length frames."""
    x = some_codes(1, 8)
    sampling = {"coarse": Sampling(), "fine": Sampling()}
    request = AcousticRequest(prompt_codes=[x[0]], num_frames=[13], seeds=[4], units=None, sampling=sampling)
    [whole] = MODEL.acoustic.generate(request)
    assert torch.equal(whole[:8], x[0])
    assert torch.equal(MODEL.inference(x=x, x_lens=torch.tensor([8]), max_new_tokens=5, seed=4)[0], whole[8:])


@pytest.mark.parametrize("window", [None, 12])
@pytest.mark.parametrize("mate", [2, 40, 90])
def test_a_prompt_alone_and_in_a_batch_has_the_same_continuation(mate: int, window: int | None) -> None:
    """Regression: prompt length decided by batch mates."""
    x = some_codes(2, 90)
    together = MODEL.inference(x=x, x_lens=torch.tensor([40, mate]), max_new_tokens=7, seed=3, window=window)
    alone = MODEL.inference(x=x[:1, :40], x_lens=torch.tensor([40]), max_new_tokens=7, seed=3, window=window)
    other = MODEL.inference(x=x[1:, :mate], x_lens=torch.tensor([mate]), max_new_tokens=7, seed=4, window=window)
    assert torch.equal(together[0], alone[0]) and torch.equal(together[1], other[0])


def test_padding_of_any_number_is_no_part_of_a_prompt() -> None:
    x, lengths = some_codes(2, 6), torch.tensor([6, 3])
    rows = [
        MODEL.inference(x=torch.where(torch.arange(6)[:, None] < lengths[:, None, None], x, fill), x_lens=lengths, max_new_tokens=4)
        for fill in (0, -1, CODES)
    ]
    assert torch.equal(rows[0], rows[1]) and torch.equal(rows[0], rows[2])


def test_the_seed_decides_and_nothing_else() -> None:
    """Regression: default ``top_k=-100``, no seed."""
    call: dict[str, Any] = {"x": some_codes(1, 5), "x_lens": torch.tensor([5]), "max_new_tokens": 12}
    torch.manual_seed(1)
    first = MODEL.inference(**call)
    torch.manual_seed(2)
    assert torch.equal(MODEL.inference(**call), first) and torch.equal(MODEL.inference(**call, seed=0), first)
    assert not torch.equal(MODEL.inference(**call, seed=1), first)


def test_equal_prompts_in_a_batch_go_on_differently() -> None:
    rows = MODEL.inference(x=some_codes(1, 5).expand(2, -1, -1), x_lens=torch.tensor([5, 5]), max_new_tokens=12)
    assert not torch.equal(rows[0], rows[1])


def test_at_temperature_0_all_rows_and_seeds_agree() -> None:
    x, lengths = some_codes(1, 5).expand(2, -1, -1), torch.tensor([5, 5])
    rows = MODEL.inference(x=x, x_lens=lengths, max_new_tokens=8, temperature=0, seed=3)
    cold = MODEL.inference(x=x, x_lens=lengths, max_new_tokens=8, temperature=1e-9, seed=9)
    assert torch.equal(rows[0], rows[1]) and torch.equal(rows, cold)
    assert torch.equal(MODEL.inference(x=x, x_lens=lengths, max_new_tokens=8, top_k=1), rows)
    assert torch.equal(MODEL.inference(x=x, x_lens=lengths, max_new_tokens=8, top_p=1e-6), rows)


@pytest.mark.parametrize("codes", [1024, 2048])
def test_codes_up_to_the_codebooks_size_are_taken_and_given(codes: int) -> None:
    """Regression: codebook size a module global, 1024 where EnCodec 32 kHz has 2048."""
    model = fresh_model(codebook_size=codes)
    x = torch.full((1, 3, CODEBOOKS), codes - 1)
    new = model.inference(x=x, x_lens=torch.tensor([3]), max_new_tokens=60)
    assert 0.8 * codes < int(new.max()) < codes
    with pytest.raises(UserError, match=f"0 to {codes - 1}, found {codes} to {codes}; is codebook_size the codec's"):
        model.inference(x=x + 1, x_lens=torch.tensor([3]), max_new_tokens=1)


def test_a_batch_of_no_rows_has_no_rows() -> None:
    assert MODEL.inference(x=some_codes(0, 5), x_lens=torch.zeros(0).long(), max_new_tokens=4).shape == (0, 4, CODEBOOKS)


def test_more_codebooks_than_the_models_are_left_out() -> None:
    x = torch.cat([some_codes(1, 5), torch.full((1, 5, 1), 999)], 2)
    call: dict[str, Any] = {"x_lens": torch.tensor([5]), "max_new_tokens": 4}
    assert torch.equal(MODEL.inference(x=x, **call), MODEL.inference(x=x[..., :CODEBOOKS].short(), **call))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"x": some_codes(2, 5)[..., 0]}, r"expected codes of shape .* found \(2, 5\)"),
        ({"x": some_codes(2, 5, books=2)}, r"Q at least 3, found \(2, 5, 2\)"),
        ({"x_lens": torch.tensor([5])}, "expected 2 lengths"),
        ({"x_lens": torch.tensor([5, 6])}, r"0 to 5 frames, found \[5, 6\]"),
        ({"x_lens": torch.tensor([5, -1])}, r"found \[5, -1\]"),
        ({"x": some_codes(2, 5) - 1}, "expected codes of 0 to 10, found -1"),
        ({"max_new_tokens": -1}, "max_new_tokens must be 0 or more, found -1"),
        ({"temperature": -1.0}, "temperature must be .* found -1"),
        ({"top_k": -100}, "top-k must be .* found -100"),
    ],
)
def test_calls_that_make_no_sense_are_refused_in_a_sentence(wrong: dict[str, Any], message: str) -> None:
    call: dict[str, Any] = {"x": some_codes(2, 5), "x_lens": torch.tensor([5, 3]), "max_new_tokens": 2}
    with pytest.raises(UserError, match=message):
        MODEL.inference(**{**call, **wrong})


def test_a_model_that_needs_units_says_how_to_go_on() -> None:
    with pytest.raises(UserError, match=r"conditioned on units: continue audio by valle\.Pipeline"):
        tiny_model(**KINDS["aligned"]).inference(x=some_codes(1, 5), x_lens=torch.tensor([5]), max_new_tokens=2)


def test_a_part_that_the_model_does_not_have_is_refused() -> None:
    with pytest.raises(UserError, match="expected tensors for coarse, fine, found 'semantic'"):
        MODEL.loss({"semantic": {}})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"nhead": 3}, "width 16 and 3 heads; try 2 heads"),
        ({"nhead": 0}, "nhead must be 1 or more, found 0"),
        ({"num_layers": 0}, "num_layers must be 1 or more, found 0"),
        ({"fine_num_layers": 0}, "num_layers must be 1 or more, found 0"),
        ({"dim_feedforward": 0}, "dim_feedforward must be 1 or more, found 0"),
        ({"dropout": 1.5}, "dropout must be .* found 1.5"),
        ({"num_coarse": 0}, "1 to all 3, found 0"),
        ({"num_coarse": 4}, "1 to all 3, found 4"),
        ({"coarse_conditioning": "both"}, "aligned or prefix, found 'both'"),
        ({"prefix_mode": 3}, "0 .* or 4 .* found 3"),
        ({"codebook_size": 0}, "found 0 codes"),
        ({"num_units": 0}, "and 0 units"),
        ({"num_units": 5, "unit_window": -1}, "found -1, 1 and 2"),
        ({"num_units": 5, "units_per_period": 0}, "found 2, 0 and 2"),
        ({"prompt_share": 1.0}, "between 0 and 1, found 1.0"),
        ({"d_modle": 64}, "found 'd_modle'; did you mean d_model"),
        ({"zzz": 1}, "found 'zzz'; the fields are d_model, nhead"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused_in_a_sentence(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        fresh_model(**fields)


def test_fields_are_named_not_placed() -> None:
    with pytest.raises(TypeError):
        AudioLM(1024)  # type: ignore[call-arg]


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_is_its_fields(kind: str) -> None:
    model = fresh_model(**KINDS[kind], semantic_num_layers=1, coarse_num_layers=3, fine_num_layers=2)
    again = AudioLM.from_config(AudioLMConfig(**vars(model.config)))
    again.load_state_dict(model.state_dict())
    depths = {name: len(part.transformer.blocks) for name, part in again.stages().items()}
    assert depths == {name: {"semantic": 1, "coarse": 3, "fine": 2}[name] for name in again.stages()}


def test_the_states_of_the_stages_are_the_models_state() -> None:
    model = fresh_model(**KINDS["aligned"])
    states = [stage_state(model, stage) for stage in model.stages()]
    assert sum(len(state) for state in states) == len(model.state_dict())
    assert count_parameters(model) == sum(tensor.numel() for state in states for tensor in state.values())


def test_without_fine_levels_there_is_no_fine_stage() -> None:
    model = tiny_model(num_coarse=CODEBOOKS)
    assert list(model.stages()) == ["coarse"]
    assert model.inference(x=some_codes(2, 4), x_lens=torch.tensor([4, 2]), max_new_tokens=3).shape == (2, 3, CODEBOOKS)


def test_residual_branches_begin_small_in_deep_models() -> None:
    """So that the first loss is ln V at any depth."""
    for layers in (1, 8):
        model = fresh_model(num_layers=layers, d_model=32, codebook_size=64).eval()
        codes = torch.randint(64, (2, 20, CODEBOOKS), generator=torch.Generator().manual_seed(0))
        part = model.loss({"coarse": {"codes": codes, "lengths": torch.tensor([20, 9])}})["coarse"]
        assert abs(float(part.sum.detach() / part.count) - math.log(64)) < 0.03
