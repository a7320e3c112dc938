"""Continuous batching: rows that end make room for waiting ones, and no row's tokens depend on who shares the batch, or when it came."""

from typing import Any

import pytest
import torch
from tiny_models import CODEBOOKS, CODES, UNITS, tiny_model
from torch import Tensor

from valle.decoding.engine import Decoder, DecodingRequest
from valle.decoding.sampling import Drafts, Sampling
from valle.decoding.seats import Seating
from valle.decoding.steps import CACHE_BLOCK
from valle.models import AudioLM
from valle.models.acoustic.base import AcousticRequest, in_groups
from valle.models.semantic import SemanticLM, _Continuation
from valle.modules.transformer import Transformer

CPU = torch.device("cpu")
PROMPTS, FRAMES = [6, 0, 9, 3, 14, 2, 7], [16, 9, 30, 24, 14, 11, 40]  # the fifth has nothing to draw
RQ = {"acoustic_model": "rq", "depth_num_layers": 2, "depth_dim": 8, "depth_nhead": 2}
ACOUSTIC: dict[str, dict[str, Any]] = {
    "ar-nar": {"num_units": UNITS},
    "ar-nar, units before codes": {"num_units": UNITS, "coarse_conditioning": "prefix", "num_coarse": 2},
    "ar-nar, codes only, a pooled voice": {"pooled_voice": True},
    "flat": {"num_units": UNITS, "acoustic_model": "flat", "flat_coarse": 2},
    "delay": {"num_units": UNITS, "acoustic_model": "delay"},
    "rq": {"num_units": UNITS, "acoustic_delay": 1, **RQ},
    "soundstorm": {"num_units": UNITS, "acoustic_model": "soundstorm"},
}
SEMANTIC: dict[str, dict[str, Any]] = {
    "frames": {},
    "runs": {"unit_sequence": "runs", "frames_per_token": 1.5},
    "drafts": {"semantic_drafts": 3},
}


def numbers(size: int, *shape: int, seed: int) -> Tensor:
    return torch.randint(size, shape, generator=torch.Generator().manual_seed(seed))


def speaking(model: AudioLM, engine: str) -> AudioLM:
    """``native`` steps are float32."""
    model = model.float() if engine == "native" else model
    for part in model.modules():
        if isinstance(part, Transformer) and part.config.num_levels == 0:
            part.stepping.engine = engine
    return model


def some_end(model: SemanticLM) -> SemanticLM:
    """Rows end at different times, by themselves."""
    model.head.bias.data[model.eos] += 1.0
    return model


def units_of(stage: SemanticLM, rows: list[int], *, at_once: int | None, window: int, **sampling: Any) -> list[list[int]]:
    given = stage.generate(
        [numbers(UNITS, 2 + 3 * row, seed=row) for row in rows], max_new=[25 if row != 2 else 0 for row in rows], min_new=[1] * len(rows),
        sampling=Sampling(repetition_window=4, **sampling), seeds=rows, window=window, at_once=at_once,
    )  # fmt: skip
    return [row.tolist() for row in given]


@pytest.mark.parametrize("engine", ["torch", "native"])
@pytest.mark.parametrize("kind", SEMANTIC)
def test_units_equal_those_of_each_row_alone(kind: str, engine: str) -> None:
    """Windows slide at different steps of the rows, too."""
    if engine == "native":
        pytest.importorskip("numba")
    stage = some_end(speaking(tiny_model(num_units=UNITS, **SEMANTIC[kind]), engine).semantic)
    drafts, window = {"drafts": Drafts(3)} if kind == "drafts" else {}, 11
    alone = [units_of(stage, [row], at_once=None, window=window, **drafts)[0] for row in range(7)]
    assert len({len(row) for row in alone}) > 2, "rows end at different times"
    assert units_of(stage, list(range(7)), at_once=3, window=window, **drafts) == alone


def codes_of(model: AudioLM, rows: list[int], *, at_once: int | None, window: int, guidance: float = 1.0) -> list[list[list[int]]]:
    units = [numbers(UNITS, FRAMES[row], seed=row) for row in rows] if model.config.num_units else None
    request = AcousticRequest(
        prompt_codes=[numbers(CODES, PROMPTS[row], CODEBOOKS, seed=row) for row in rows], num_frames=[FRAMES[row] for row in rows],
        seeds=rows, units=units, at_once=at_once, windows=dict.fromkeys(model.acoustic_stages(), window),
        sampling={name: Sampling(guidance=guidance if stage.takes_guidance else 1.0) for name, stage in model.acoustic_stages().items()},
    )  # fmt: skip
    return [row.tolist() for row in model.acoustic.generate(request)]


@pytest.mark.parametrize("engine", ["torch", "native"])
@pytest.mark.parametrize("kind", ACOUSTIC)
def test_codes_equal_those_of_each_row_alone(kind: str, engine: str) -> None:
    if engine == "native":
        pytest.importorskip("numba")
    model = speaking(tiny_model(**ACOUSTIC[kind]), engine)
    alone = [codes_of(model, [row], at_once=None, window=12)[0] for row in range(7)]
    assert codes_of(model, list(range(7)), at_once=3, window=12) == alone


@pytest.mark.parametrize("kind", ["ar-nar", "delay", "rq"])
def test_guided_rows_take_and_leave_their_places_beside_themselves_without_conditions(kind: str) -> None:
    model = tiny_model(**ACOUSTIC[kind], drop_conditions=0.1)
    alone = [codes_of(model, [row], at_once=None, window=100, guidance=2.0)[0] for row in range(5)]
    assert codes_of(model, list(range(5)), at_once=2, window=100, guidance=2.0) == alone
    assert codes_of(model, list(range(5)), at_once=2, window=100) != alone


def decoder(at_once: int, rows: int) -> Decoder:
    model = some_end(tiny_model(num_units=UNITS).semantic)
    request = DecodingRequest(
        prompts=[numbers(UNITS, 2 + row % 5, seed=row) + model.first_unit for row in range(rows)], max_new=[30] * rows,
        seeds=list(range(rows)), sampling=Sampling(), window=1000, at_once=at_once,
    )  # fmt: skip
    return Decoder(_Continuation(model), request)


@torch.inference_mode()
def test_the_batch_stays_full_as_long_as_rows_wait() -> None:
    states, busy, steps = decoder(4, 40), 0, 0
    for step in states:
        waited = bool(states.seating.waiting)
        assert len(step.rows) == 4 and len(set(step.rows)) == 4
        steps += waited
        busy += waited and not any(len(new) == 0 and ended for new, ended in zip(step.new, step.ended, strict=True) if not ended)
    assert steps > 20 and busy == steps


@torch.inference_mode()
def test_steps_are_as_many_as_full_batches_need_and_fewer_than_static_ones() -> None:
    rows = [len(row) + 1 for row in decoder(40, 40).run()]  # the end is drawn, too
    continuous = sum(1 for _ in decoder(4, 40))
    static = sum(max(rows[first : first + 4]) for first in range(0, 40, 4))
    assert sum(rows) / 4 <= continuous <= sum(rows) / 4 + max(rows) < static


@torch.inference_mode()
def test_memory_is_that_of_the_places_however_many_rows_wait() -> None:
    few, many = decoder(3, 6), decoder(3, 60)
    for states in (few, many):
        states.run()
        assert states.tokens.shape[0] == 3 and states.steps.caches[0].keys.shape[0] == 3
        assert states.steps.capacity <= CACHE_BLOCK and all(len(stream.rows) == 3 for stream in states.noise._streams.values())
    assert few.tokens.shape == many.tokens.shape


@torch.inference_mode()
def test_a_step_names_the_rows_of_the_request_that_it_went_on_with() -> None:
    parts: dict[int, list[int]] = {row: [] for row in range(9)}
    for step in decoder(2, 9):
        for row, new in zip(step.rows, step.new, strict=True):
            parts[row] += new.tolist()
    assert [parts[row] for row in range(9)] == [row.tolist() for row in decoder(9, 9).run()]


def test_rows_with_most_to_draw_come_first_and_those_with_nothing_never() -> None:
    seating = Seating([3, 9, 0, 5], at_once=2, together=1, device=CPU)
    assert seating.seats.rows == (1, 3)
    assert seating.take([False, True]) == [1] and seating.seats.rows == (1, 0) and not seating.waiting
    assert seating.take([True, True]) == [] and seating.seats.index.tolist() == [1, 0]


def test_rows_that_belong_together_wait_for_each_other() -> None:
    seating = Seating([3, 3, 3] * 2, at_once=1, together=2, device=CPU)
    assert seating.seats.rows == (0, 3)
    assert seating.take([True, False]) == [] and seating.take([True, True]) == [0, 1] and seating.seats.rows == (1, 4)


def test_groups_are_of_one_length() -> None:
    def groups(at_once: int | None) -> list[list[int]]:
        return [list(group) for group in in_groups([5, 1, 4, 2], at_once, length=int)]

    assert groups(2) == [[1, 2], [4, 5]] and groups(None) == groups(4) == [[5, 1, 4, 2]]


def test_no_place_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 row must be decoded at once, found 0"):
        decoder(0, 3)
