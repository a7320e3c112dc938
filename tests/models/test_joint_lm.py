"""joint-lm: tags and chains, a loss on outputs alone, growth that keeps old logits, outputs of the right kind, alone as in a batch."""

from __future__ import annotations

from dataclasses import replace
from math import log
from typing import Any

import pytest
import torch

from valle.decoding.sampling import Sampling
from valle.errors import UserError
from valle.models.joint_config import JointLMConfig
from valle.models.joint_decoding import Question, answer
from valle.models.joint_lm import JointLM
from valle.models.joint_tasks import STEPS, JointTask, Sequences, Side
from valle.tokenizers.text_pieces import TextTokenizer

CONFIG = JointLMConfig(d_model=16, nhead=2, num_layers=2, dim_feedforward=32, num_pieces=256, num_units=12)


class Bytes(TextTokenizer):
    """A piece a byte."""

    type = file_name = "bytes"
    num_pieces = 256

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def decode(self, pieces: Any) -> str:
        return bytes(pieces).decode()


SEQUENCES = Sequences(CONFIG, Bytes(name="bytes", content=b""))
SOURCE = Side("English", pieces=[1, 2], units=[3, 4, 5])
TARGET = Side("Spanish", pieces=[6], units=[7, 8])


def random_model(config: JointLMConfig = CONFIG) -> JointLM:
    torch.manual_seed(0)
    model = JointLM(config).eval()
    for parameter in model.parameters():
        parameter.data.normal_(std=0.4)
    return model


def batch(rows: list[tuple[list[int], int]], weights: list[float] | None = None) -> dict[str, torch.Tensor]:
    longest = max(len(tokens) for tokens, _ in rows)
    return {
        "tokens": torch.tensor([tokens + [0] * (longest - len(tokens)) for tokens, _ in rows]),
        "lengths": torch.tensor([len(tokens) for tokens, _ in rows]), "starts": torch.tensor([start for _, start in rows]),
        "weights": torch.tensor(weights or [1.0] * len(rows)), "tasks": torch.zeros(len(rows), dtype=torch.int64),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("task", "tag"),
    [("ASR", "[ASR English]"), ("TTS", "[TTS English]"), ("AST", "[AST English Spanish]"), ("S2ST", "[S2ST English Spanish]"),
     ("MT", "[MT English Spanish]"), ("asr+ast+s2st", "[ASR AST S2ST English Spanish]")],
)  # fmt: skip
def test_a_tag_is_plain_text(task: str, tag: str) -> None:
    assert JointTask.parse(task).tag("English", "Spanish") == tag
    start = SEQUENCES.prompt(JointTask.parse(task), SOURCE, "Spanish")[1 : 1 + len(tag)]
    assert bytes(start).decode() == tag


def test_a_chain_is_one_sequence_whose_outputs_follow_one_another() -> None:
    first, then, eos = SEQUENCES.first_unit, SEQUENCES.then, SEQUENCES.eos
    tokens, start = SEQUENCES.example(JointTask.parse("ASR+AST+S2ST"), SOURCE, TARGET)
    assert tokens[start:] == [1, 2, then, 6, then, first + 7, first + 8, eos]
    assert tokens[start - 4 : start] == [first + 3, first + 4, first + 5, then] and tokens[0] == SEQUENCES.bos
    tokens, start = SEQUENCES.example(JointTask.parse("LM"), SOURCE)
    assert (tokens, start) == ([SEQUENCES.bos, 1, 2, eos], 1)


@pytest.mark.parametrize("task", ["", "XX", "ASR+MT", "ASR+ASR"])
def test_tasks_that_are_none_are_refused(task: str) -> None:
    with pytest.raises(UserError, match="found"):
        JointTask.parse(task)


def test_a_translation_without_a_language_is_refused() -> None:
    with pytest.raises(UserError, match="a language to translate to"):
        JointTask.parse("AST").tag("English")


@pytest.mark.parametrize("tied", [True, False])
def test_the_first_loss_is_that_of_a_guess(tied: bool) -> None:
    torch.manual_seed(0)
    model = JointLM(replace(CONFIG, tied=tied))
    term = model.loss(**batch([SEQUENCES.example(JointTask.parse("ASR"), SOURCE)]))
    assert float((term.sum / term.count).detach()) == pytest.approx(log(model.vocabulary.size), rel=0.05)


@pytest.mark.parametrize("task", [*STEPS, "ASR+AST+S2ST"])
def test_the_loss_counts_outputs_alone(task: str) -> None:
    model, (tokens, start) = random_model(), SEQUENCES.example(JointTask.parse(task), SOURCE, TARGET)
    term = model.loss(**batch([(tokens, start)]))
    log_probability = model.logits(torch.tensor([tokens]))[0].log_softmax(-1)
    nats = sum(-log_probability[place - 1, tokens[place]] for place in range(start, len(tokens)))
    assert int(term.count) == len(tokens) - start
    torch.testing.assert_close(term.sum, nats)


def test_padding_changes_no_loss_and_weights_weigh_a_row() -> None:
    model = random_model()
    rows = [SEQUENCES.example(JointTask.parse(task), SOURCE, TARGET) for task in ("ASR", "ASR+AST+S2ST")]
    alone = [model.loss(**batch([row])).sum for row in rows]
    torch.testing.assert_close(model.loss(**batch(rows)).sum, alone[0] + alone[1])
    torch.testing.assert_close(model.loss(**batch(rows, [0.5, 0.0])).sum, 0.5 * alone[0])


@pytest.mark.parametrize("new_rows", ["zero", "random"])
@pytest.mark.parametrize("tied", [True, False])
def test_growing_leaves_the_logits_of_old_rows_as_they_were(tied: bool, new_rows: Any) -> None:
    text = random_model(replace(CONFIG, num_units=0, tied=tied))
    grown = JointLM(replace(CONFIG, tied=tied)).eval()
    grown.take_text_model(text.state_dict(), new_rows=new_rows)
    tokens = torch.randint(text.vocabulary.size, (2, 9))
    torch.testing.assert_close(grown.logits(tokens)[..., : text.vocabulary.size], text.logits(tokens))
    assert bool((grown.embed.weight[text.vocabulary.size :] == 0).all()) == (new_rows == "zero")


def test_a_text_model_of_other_sizes_is_refused() -> None:
    for other in (replace(CONFIG, d_model=20), replace(CONFIG, num_pieces=300), replace(CONFIG, tied=False)):
        with pytest.raises(UserError, match="expected a text LM of this model's sizes"):
            JointLM(CONFIG).take_text_model(JointLM(replace(other, num_units=0)).state_dict(), new_rows="zero")


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_question_is_answered_alone_as_in_a_ragged_batch(temperature: float) -> None:
    model, sampling = random_model(), {"text": Sampling(temperature=temperature), "units": Sampling(temperature=temperature)}
    with torch.no_grad():
        model.embed.weight[model.then] *= 4  # so that outputs end
    tasks = [JointTask.parse(task) for task in ("ASR", "ASR+AST+S2ST", "TTS", "MT", "ASR+AST+S2ST")]
    questions = [
        Question(SEQUENCES.prompt(task, SOURCE, "Spanish"), task.gives, max_new=6 + 5 * number, seed=number)
        for number, task in enumerate(tasks)
    ]
    together = answer(model, questions, sampling)
    assert together == [row for question in questions for row in answer(model, [question], sampling)]
    assert [len(row) for row in together] == [1, 3, 1, 1, 3]
    assert temperature == 0 or any(together[1][1] + together[4][1]), "a chain whose first output ends"


def test_text_and_units_are_drawn_each_in_their_own_way() -> None:
    model, task = random_model(), JointTask.parse("ASR+AST+S2ST")
    with torch.no_grad():
        model.embed.weight[model.then] *= 3
    prompt = SEQUENCES.prompt(task, SOURCE, "Spanish")
    cold = {"text": Sampling(temperature=0), "units": Sampling(temperature=3.0)}
    rows = [answer(model, [Question(prompt, task.gives, max_new=60, seed=seed)], cold)[0] for seed in range(4)]
    assert all(row[:2] == rows[0][:2] for row in rows), "greedy text depends on no seed"


def test_each_output_of_a_chain_holds_its_own_kind_alone() -> None:
    model = random_model(replace(CONFIG, num_units=400))  # more than pieces, so that each would show among the others
    with torch.no_grad():
        model.embed.weight[model.then] *= 4  # so that outputs end
    task, found = JointTask.parse("ASR+AST+S2ST"), list[int]()
    for seed in range(8):
        question = Question(SEQUENCES.prompt(task, SOURCE, "Spanish"), task.gives, max_new=40, seed=seed)
        [[first, second, units]] = answer(model, [question], {"text": Sampling(temperature=2.0), "units": Sampling()})
        assert all(0 <= piece < 256 for piece in first + second) and all(0 <= unit < 400 for unit in units)
        found += units
    assert max(found) >= 256, "units beyond the pieces are drawn"
