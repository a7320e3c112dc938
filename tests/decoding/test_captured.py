"""Steps and runs of steps as one graph: the same tokens as torch's own, without a break of the graph (``fullgraph=True`` raises at one)."""

from typing import Any

import pytest
import torch
from tiny_models import CODES, UNITS, tiny_model

from valle.decoding import captured
from valle.decoding.captured import SMALLEST, CapturedSteps, bucket
from valle.decoding.engine import Decoder, DecodingRequest
from valle.decoding.sampling import Sampling
from valle.decoding.steps import choose_steps, verify_steps
from valle.errors import UserError
from valle.models import AudioLM
from valle.models.semantic import _Continuation
from valle.modules.transformer import Transformer

RUN = 3  # tokens of a run; tracing takes as many times as long


@pytest.fixture(autouse=True)
def traced_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The graph is made as for a GPU and run by torch: what a compiler adds is not ours, and takes a minute."""
    monkeypatch.setattr(captured, "BACKEND", "eager")
    monkeypatch.setattr(captured, "RUN", RUN)
    torch._dynamo.reset()


def by_graph(model: AudioLM) -> AudioLM:
    for part in model.modules():
        if isinstance(part, Transformer):
            part.stepping.engine = "captured"
    return model


CASES: dict[str, tuple[dict[str, Any], Sampling]] = {
    "two levels, units around a frame, top-k, repetitions drawn again": (
        {"num_units": UNITS, "num_coarse": 2}, Sampling(top_k=5, repetition_window=4),
    ),
    "greedy": ({}, Sampling(temperature=0)),
}


@pytest.mark.parametrize("case", CASES)
def test_codes_equal_those_of_torchs_steps(case: str) -> None:
    fields, sampling = CASES[case]
    units = [torch.randint(UNITS, (40,), generator=torch.Generator().manual_seed(seed)) for seed in (0, 1, 2)]
    prompts, rows = [torch.randint(CODES, (size, 3), generator=torch.Generator().manual_seed(size)) for size in (3, 0, 6)], []
    for model in (tiny_model(**fields), by_graph(tiny_model(**fields))):
        rows.append(model.coarse.generate(
            prompts, num_frames=[40, 33, 28], units=units if fields else None, sampling=sampling, seeds=[1, 2, 3], window=25, at_once=2
        ))  # fmt: skip
    assert model.coarse.transformer.stepping.ran == "captured (compiled, cpu)"
    assert [row.tolist() for row in rows[0]] == [row.tolist() for row in rows[1]]


@torch.inference_mode()
def steps_of(model: AudioLM) -> tuple[list[list[int]], list[int]]:
    """Units of two rows, and the tokens of each step of the first."""
    semantic = model.semantic
    semantic.head.bias.data[semantic.eos] += 1.0
    request = DecodingRequest(
        prompts=[torch.tensor([3, 4]), torch.tensor([5])], max_new=[40, 40], min_new=[12, 20], seeds=[0, 1], sampling=Sampling(), window=200
    )
    steps = list(Decoder(_Continuation(semantic), request))
    return [torch.cat([step.new[row] for step in steps]).tolist() for row in (0, 1)], [len(step.new[0]) for step in steps]


def test_rows_end_by_themselves_and_the_host_looks_once_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    expected, ones = steps_of(tiny_model(num_units=UNITS))
    compiled: list[int] = []
    monkeypatch.setattr(captured, "BACKEND", lambda graph, inputs: compiled.append(len(compiled)) or graph.forward)
    found, runs = steps_of(by_graph(tiny_model(num_units=UNITS)))
    assert found == expected and len({len(row) for row in found}) == 2
    assert max(ones) == 1 and max(runs) == RUN
    assert len(compiled) == 2, "one graph of a step and one of a run, at all positions of a bucket"


def test_buckets_double() -> None:
    assert [bucket(length) for length in (1, SMALLEST, SMALLEST + 1, 4 * SMALLEST)] == [SMALLEST, SMALLEST, 2 * SMALLEST, 4 * SMALLEST]


def test_it_is_taken_when_it_is_asked_for_and_reads_no_int8() -> None:
    transformer = tiny_model(num_units=UNITS).semantic.transformer
    assert not isinstance(choose_steps(transformer, 1, 10**6), CapturedSteps)
    transformer.stepping.engine = "captured"
    assert isinstance(choose_steps(transformer, 1, 1), CapturedSteps)
    transformer.stepping.weights = "int8"
    with pytest.raises(UserError, match="the engine captured was asked for"):
        verify_steps(transformer)
