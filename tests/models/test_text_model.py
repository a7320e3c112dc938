"""Released text models as joint-lm: the logits of transformers' own Llama and Qwen2, and growth that leaves them alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_text_models import KINDS, SIZES, write_text_model
from torch import Tensor

from valle.decoding.sampling import Sampling
from valle.models.joint_config import LLAMA_7B
from valle.models.joint_decoding import Question, answer
from valle.models.joint_lm import JointLM
from valle.models.text_model import TextModelError, load_text_model


@pytest.fixture(params=KINDS)
def released(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Tensor, Tensor]:
    """A folder, tokens, and the logits that transformers gives."""
    model = write_text_model(request.param, tmp_path)
    tokens = torch.randint(SIZES["vocab_size"], (2, 9), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return tmp_path, tokens, model(tokens).logits


@pytest.mark.parametrize("new_rows", ["zero", "random"])
def test_a_grown_text_model_scores_its_own_tokens_as_before(released: tuple[Path, Tensor, Tensor], new_rows: Any) -> None:
    folder, tokens, logits = released
    text = load_text_model(folder)
    model = JointLM(replace(text.config, num_units=7)).eval()
    model.take_text_model(text.weights, new_rows=new_rows)
    ours = model.logits(tokens).detach()
    assert ours.shape[-1] == SIZES["vocab_size"] + 3 + 7
    torch.testing.assert_close(ours[..., : SIZES["vocab_size"]], logits, atol=2e-4, rtol=1e-4)
    new = model.embed.weight[SIZES["vocab_size"] :]
    assert bool((new == 0).all()) == (new_rows == "zero")


def test_cached_steps_choose_what_the_whole_sequence_does(released: tuple[Path, Tensor, Tensor]) -> None:
    text = load_text_model(released[0])
    model = JointLM(replace(text.config, num_units=7)).eval()
    model.take_text_model(text.weights, new_rows="random")
    prompts = [[model.bos, *range(piece, piece + 3 + piece % 3), model.then] for piece in range(6)]
    greedy = {"text": Sampling(), "units": Sampling(temperature=0)}
    rows = answer(model, [Question(prompt, ("units",), max_new=8) for prompt in prompts], greedy)
    for prompt, [units] in zip(prompts, rows, strict=True):
        tokens = list(prompt)
        for unit in units:
            logits = model.logits(torch.tensor([tokens]))[0, -1]
            allowed = [model.eos, *range(model.first_unit, model.first_unit + 7)]
            assert allowed[int(logits[allowed].argmax())] == unit + model.first_unit
            tokens.append(unit + model.first_unit)
    assert sum(len(units) for [units] in rows) > 3


def test_other_architectures_and_pickles_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TextModelError, match="found none that can be read"):
        load_text_model(tmp_path)
    for values, said in (
        ({"model_type": "opt"}, "found 'opt'"),
        ({"model_type": "llama", "rope_scaling": {"rope_type": "llama3"}}, "rotary positions that are scaled"),
        ({"model_type": "llama", "hidden_act": "gelu"}, "the activation 'gelu'"),
        ({"model_type": "llama", "hidden_size": 16}, "num_attention_heads"),
        ({"model_type": "llama", **SIZES}, "pickled weights are not read"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(values))
        (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
        with pytest.raises(TextModelError, match=said):
            load_text_model(tmp_path)


def test_the_papers_size_has_the_parameters_of_llama_7b_beside_the_new_rows_and_steps_on_the_meta_device() -> None:
    with torch.device("meta"):
        model = JointLM(LLAMA_7B)
        new_rows = 2 * LLAMA_7B.d_model * (LLAMA_7B.num_units + 3)  # in both tables
        assert sum(parameter.numel() for parameter in model.parameters()) - new_rows == 6_738_415_616
        rows = torch.zeros(2, dtype=torch.int64)
        term = model.loss(tokens=torch.zeros(2, 64, dtype=torch.int64), lengths=rows, starts=rows, weights=torch.ones(2), tasks=rows)
        term.sum.backward()
    assert model.embed.weight.grad is not None and model.embed.weight.grad.shape == (33027, 4096)
