"""The native step against torch's, and when which of them runs."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import CODES, KINDS, UNITS, shaken, tiny_model
from torch import Tensor

from valle.decoding.engine import Decoder, DecodingRequest
from valle.decoding.sampling import Sampling
from valle.decoding.steps import COMPILING, LOADING, TorchSteps, choose_steps, reason_against, verify_steps
from valle.errors import UserError
from valle.models import AudioLM
from valle.models.semantic import _Continuation
from valle.modules.transformer import Attend, Engine, Transformer, TransformerConfig

pytest.importorskip("numba")
from valle.decoding import native, native_cache, native_kernels
from valle.decoding.native import NativeSteps, PackedWeights

DIM = 24


def stack(*, norm_first: bool = True, num_levels: int = 0, kind: str = "float32") -> Transformer:
    """Three heads of 8 and an odd inner width, so that no block of the kernels comes out even."""
    sizes = TransformerConfig(d_model=DIM, nhead=3, num_layers=2, dim_feedforward=37, norm_first=norm_first, num_levels=num_levels)
    transformer: Transformer = shaken(Transformer(sizes)).eval()
    transformer.stepping.weights = "int8" if kind == "int8" else "own"
    return transformer.bfloat16() if kind == "bfloat16" else transformer


def rounded(transformer: Transformer, kind: str) -> Transformer:
    """The same stack in float32 with the weights that ``kind`` stores."""
    if kind == "int8":
        for block in transformer.blocks:
            for layer in (block.qkv, block.out, block.expand, block.project):
                scale = layer.weight.data.abs().amax(1, keepdim=True) / 127
                layer.weight.data = (layer.weight.data / scale).round() * scale
    return transformer.float()


def hidden(engine: Any, transformer: Transformer, filled: list[int], steps: list[int]) -> Tensor:
    """Hidden of some steps of that many positions each, after prompts of ``filled``."""
    generator = torch.Generator().manual_seed(3)
    prompt = torch.randn(len(filled), max(filled), DIM, generator=generator)
    caches = transformer.new_caches(len(filled), max(filled))
    outputs = []
    with torch.inference_mode():
        transformer(prompt.to(caches[0].keys.dtype), Attend.causally(), caches=caches)
        engine.reserve(max(filled))
        engine.write(range(len(filled)), caches)
        for number in steps:
            inputs = torch.randn(len(filled), number, DIM, generator=generator)
            engine.reserve(max(filled) + number)
            outputs.append(engine.step(inputs, filled, torch.tensor(filled)))
            filled = [count + number for count in filled]
    return torch.cat(outputs, 1)


CASES = {
    "one row": ([5], [1] * 4),
    "ragged": ([3, 9, 4], [1] * 4),
    "several a step": ([2, 7], [3, 1, 4]),
    "past a block": ([60, 63], [1] * 8),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("norm_first", [True, False])
def test_hidden_equals_torchs(case: str, norm_first: bool) -> None:
    transformer = stack(norm_first=norm_first)
    filled, steps = CASES[case]
    expected = hidden(TorchSteps(transformer, len(filled)), transformer, filled, steps)
    found = hidden(NativeSteps(transformer, len(filled)), transformer, filled, steps)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["bfloat16", "int8"])
def test_small_weights_are_those_of_float32_rounded_and_beside_them_the_cache_alone(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    filled, steps = CASES["ragged"]
    exact, small = stack(), stack(kind=kind)
    reference = rounded(stack(kind=kind), kind)
    prompts = reference if kind == "bfloat16" else exact  # int8 is of steps alone
    expected = hidden(TorchSteps(reference, 3), prompts, filled, steps)
    rounded_cache = hidden(NativeSteps(small, 3), prompts, filled, steps)
    monkeypatch.setitem(native.CACHE_DTYPES, kind, np.float32)
    found = hidden(NativeSteps(small, 3), prompts, filled, steps)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert 0 < (rounded_cache - found).norm() / found.norm() < 2**-8, "keys and values err by at most 2^-9 of themselves"
    assert (found - hidden(NativeSteps(exact, 3), exact, filled, steps)).abs().max() > 1e-3, "the weights were not rounded"


def test_int8_errs_by_half_of_a_255th_of_a_rows_range() -> None:
    layer = torch.nn.Linear(50, 7)
    with torch.no_grad():
        packed, scales, biases = native._pack([layer], "int8")
        stored = (packed[0] * scales[0].reshape(-1, 1, 16)).transpose(0, 2, 1).reshape(-1, 50)
        error = (torch.from_numpy(stored[:7]) - layer.weight).abs().amax(1)
        assert (error <= layer.weight.abs().amax(1) / 254 * 1.0001).all() and abs(packed).max() == 127
        assert torch.equal(torch.from_numpy(biases[0, :7]), layer.bias) and not stored[7:].any() and not biases[0, 7:].any()


@pytest.mark.parametrize("case", CASES)
def test_a_row_of_a_batch_has_the_very_numbers_of_the_row_alone(case: str) -> None:
    """One row, and one to nine beside it: every way in which the kernel puts rows together."""
    transformer = stack()
    lengths, steps = CASES[case]
    together = hidden_of_rows(transformer, (lengths * 9)[:9], steps)
    for number in range(1, 9):
        part = hidden_of_rows(transformer, (lengths * 9)[:number], steps)
        assert torch.equal(part, together[:number])


def hidden_of_rows(transformer: Transformer, filled: list[int], steps: list[int]) -> Tensor:
    """Hidden of steps whose inputs and cache depend on the row alone."""
    engine, outputs = NativeSteps(transformer, len(filled)), []
    generators = [torch.Generator().manual_seed(row) for row in range(len(filled))]

    def drawn(*shape: int) -> Tensor:
        return torch.stack([torch.randn(*shape, generator=one) for one in generators])

    caches = transformer.new_caches(len(filled), 70)
    for cache in caches:
        cache.keys, cache.values = drawn(*cache.keys.shape[1:]), drawn(*cache.values.shape[1:])
    with torch.inference_mode():
        engine.reserve(70)
        engine.write(range(len(filled)), caches)
        for number in steps:
            engine.reserve(max(filled) + number)
            outputs.append(engine.step(drawn(number, DIM), filled, torch.tensor(filled)))
            filled = [count + number for count in filled]
    return torch.cat(outputs, 1)


@pytest.fixture
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(native, "WEIGHTS_A_THREAD", 1)
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


@pytest.mark.parametrize("case", ["one row", "several a step"])
def test_two_threads_give_what_one_gives(case: str, two_threads: None) -> None:
    transformer = stack()
    filled, steps = CASES[case]
    shared = NativeSteps(transformer, len(filled))
    found = hidden(shared, transformer, filled, steps)
    torch.set_num_threads(1)
    alone = NativeSteps(transformer, len(filled))
    assert (shared.threads, alone.threads) == (2, 1)
    torch.testing.assert_close(found, hidden(alone, transformer, filled, steps), rtol=1e-5, atol=1e-5)


def test_a_small_model_is_not_worth_a_second_thread() -> None:
    torch.set_num_threads(2)
    threads = NativeSteps(stack(), 1).threads
    torch.set_num_threads(1)
    assert threads == 1


@pytest.mark.parametrize("function", ["exponential", "gelu"])
def test_functions_are_exact_to_float32(function: str) -> None:
    exact = {"exponential": math.exp, "gelu": lambda x: x * 0.5 * math.erfc(-x / math.sqrt(2))}[function]
    for x in torch.linspace(-12, 12, 481).tolist():
        found = float(getattr(native_kernels, function)(torch.tensor(x).numpy()[()]))
        assert found == pytest.approx(exact(x), rel=4e-7, abs=1e-6)


def stepped_by(engine: Engine, **fields: Any) -> AudioLM:
    """A tiny model; not by ``auto``, which takes the native step for the reference too once some test has loaded it."""
    model = tiny_model(**fields).float()
    for part in model.modules():
        if isinstance(part, Transformer):
            part.stepping.engine = engine
    return model


@pytest.mark.parametrize("window", [1000, 9])
@pytest.mark.parametrize("kind", KINDS)
def test_tokens_equal_torchs(kind: str, window: int) -> None:
    """Of the coarse stage; windows slide at different steps of the rows."""
    frames, rows = [6, 18, 24], []
    prompts = [torch.randint(CODES, (length, 3), generator=torch.Generator().manual_seed(length)) for length in (0, 7, 10)]
    for model in (stepped_by("torch", **KINDS[kind]), stepped_by("native", **KINDS[kind])):
        coarse, units = model.coarse, None
        if coarse.conditioning is not None:
            counts = [-(-count // coarse.periods.frames) * coarse.periods.units for count in frames]
            units = [torch.randint(UNITS, (count,), generator=torch.Generator().manual_seed(count)) for count in counts]
        sampling = Sampling(repetition_window=5)
        rows.append(coarse.generate(prompts, num_frames=frames, units=units, sampling=sampling, seeds=[4, 5, 6], window=window))
        ran = coarse.transformer.stepping.ran
    assert ran == "native (float32, 1 thread)"
    assert [row.tolist() for row in rows[0]] == [row.tolist() for row in rows[1]]


@pytest.mark.parametrize("batch", [1, 5])
def test_units_equal_torchs_where_rows_end_by_themselves(batch: int) -> None:
    prompts = [torch.randint(UNITS, (length,), generator=torch.Generator().manual_seed(length)) for length in range(batch)]
    rows = []
    for model in (stepped_by("torch", num_units=UNITS), stepped_by("native", num_units=UNITS)):
        limits = {"max_new": [40] * batch, "min_new": [2] * batch, "seeds": list(range(batch))}
        rows.append(model.semantic.generate(prompts, sampling=Sampling(temperature=0.9), window=30, **limits))
    assert [row.tolist() for row in rows[0]] == [row.tolist() for row in rows[1]]
    assert batch == 1 or len({len(row) for row in rows[0]}) > 1


@torch.inference_mode()
def steps_of(sampling: Sampling, *, forgets: bool = False) -> list[int]:
    """Tokens of each step of the first row of two."""
    model = stepped_by("native", num_units=UNITS).semantic
    model.head.bias.data[model.eos] = -1e9
    request = DecodingRequest(
        prompts=[torch.tensor([3, 4]), torch.tensor([5])], max_new=[90, 70], seeds=[0, 1], sampling=sampling, window=200, forgets=forgets
    )
    return [len(step.new[0]) for step in Decoder(_Continuation(model), request)]


def test_the_kernel_draws_many_tokens_a_call_up_to_a_rows_end_or_its_block_of_noise() -> None:
    assert steps_of(Sampling()) == [64, 6, 20] and steps_of(Sampling(temperature=0)) == [70, 20]
    assert steps_of(Sampling(repetition_window=3)) == [32, 32, 6, 20]


def test_what_the_kernel_cannot_draw_and_what_is_wanted_at_once_comes_a_token_at_a_step() -> None:
    for options in ({"top_k": 3}, {"top_p": 0.9}):
        assert steps_of(Sampling(**options)) == [1] * 90
    assert steps_of(Sampling(), forgets=True) == [1] * 90


WAYS = [
    Sampling(temperature=0.7), Sampling(temperature=0), Sampling(repetition_window=4),
    Sampling(guidance=2), Sampling(temperature=0, guidance=0), Sampling(guidance=1.5, repetition_window=4),
]  # fmt: skip


@pytest.mark.parametrize("sampling", WAYS)
@pytest.mark.parametrize("fields", [{}, {"num_coarse": 2}, {"pooled_voice": True}, {"num_coarse": 2, "coarse_conditioning": "prefix"}])
def test_tokens_that_the_kernel_draws_are_those_of_torch_and_its_inputs_too(fields: dict[str, Any], sampling: Sampling) -> None:
    """Levels, units around a frame, a voice; ends of blocks of noise."""
    units = [torch.randint(UNITS, (90,), generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)]
    voices, rows = [torch.randint(CODES, (4, 3), generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)], []
    for model in (stepped_by("torch", num_units=UNITS, **fields), stepped_by("native", num_units=UNITS, **fields)):
        prompts = [voice[:size, : model.coarse.num_coarse] for voice, size in zip(voices, (4, 1), strict=True)]
        rows.append(model.coarse.generate(
            prompts, num_frames=[90, 80], units=units, sampling=sampling, seeds=[1, 2], window=200, voices=voices
        ))  # fmt: skip
    assert [row.tolist() for row in rows[0]] == [row.tolist() for row in rows[1]]


def test_weights_are_packed_once_and_anew_when_they_have_changed() -> None:
    transformer = stack()
    packed = PackedWeights.of(transformer)
    assert PackedWeights.of(transformer) is packed
    with torch.no_grad():
        transformer.blocks[1].project.weight += 1
    changed = PackedWeights.of(transformer)
    project = torch.from_numpy(changed.weights[3][1]).transpose(1, 2).flatten(0, 1)  # of panels of sixteen outputs
    assert changed is not packed and torch.equal(project[:DIM, :37], transformer.blocks[1].project.weight)
    transformer.load_state_dict(stack().state_dict())
    assert PackedWeights.of(transformer) is not changed
    transformer.stepping.weights = "int8"
    assert PackedWeights.of(transformer).kind == "int8"


def test_auto_waits_for_a_request_that_earns_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_cache, "is_loaded", lambda kind: False)
    for compiled, least in ((True, LOADING // 2), (False, COMPILING // 2)):  # of two layers
        monkeypatch.setattr(native_cache, "is_compiled", lambda kind, compiled=compiled: compiled)
        for steps, kind in ((least - 1, TorchSteps), (least, NativeSteps)):
            assert type(choose_steps(stack(), 1, steps)) is kind


def test_auto_starts_the_native_step_once_short_requests_have_added_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_cache, "is_loaded", lambda kind: False)
    monkeypatch.setattr(native_cache, "is_compiled", lambda kind: True)
    transformer, ran = stack(), []
    for _ in range(4):
        choose_steps(transformer, 1, LOADING // 6)
        ran.append(transformer.stepping.ran)
    assert ran == ["torch (too short to load the native step for)"] * 2 + ["native (float32, 1 thread)"] * 2


def test_what_is_loaded_takes_the_shortest_request() -> None:
    native.compile_kernels()
    assert all(native_cache.is_loaded(kind) and native_cache.is_compiled(kind) for kind in native_cache.KINDS)
    assert type(choose_steps(stack(), 1, 1)) is NativeSteps


@pytest.mark.parametrize(
    ("rows", "width", "has", "kind"),
    [(32, 512, True, TorchSteps), (31, 512, True, NativeSteps), (32, 256, True, NativeSteps), (32, 512, False, NativeSteps)],
)
def test_auto_takes_torch_where_bfloat16_of_many_rows_is_faster(
    rows: int, width: int, has: bool, kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("valle.decoding.steps.has_bfloat16_instructions", lambda: has)
    transformer = Transformer(TransformerConfig(d_model=width, nhead=4, num_layers=1, dim_feedforward=8)).eval().to(torch.bfloat16)
    assert type(choose_steps(transformer, rows, 10**6)) is kind
    assert "rows of 512" in str(transformer.stepping.ran) or kind is NativeSteps
    transformer.stepping.engine = "native"
    assert type(choose_steps(transformer, rows, 10**6)) is NativeSteps


@pytest.mark.parametrize(
    ("transformer", "reason"),
    [(stack().double(), "weights are float64"), (stack().half(), "weights are float16"), (stack(num_levels=3), "norms depend on a level")],
)
def test_what_it_cannot_do_goes_to_torch_and_is_said(transformer: Transformer, reason: str) -> None:
    assert type(choose_steps(transformer, 1, 10**6)) is TorchSteps
    assert transformer.stepping.ran is not None and reason in transformer.stepping.ran
    transformer.stepping.engine = "native"
    with pytest.raises(UserError, match=f"--engine native was asked for, but .*{reason}"):
        choose_steps(transformer, 1, 10**6)


def test_without_numba_all_goes_on_by_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    transformer = stack()
    monkeypatch.setattr("valle.decoding.steps.find_spec", lambda name: None)
    assert type(choose_steps(transformer, 1, 10**6)) is TorchSteps
    assert transformer.stepping.ran == "torch (numba is not installed (pip install 'valle[native]'))"
    transformer.stepping.weights = "int8"
    with pytest.raises(UserError, match=r"--dtype int8 was asked for, but numba is not installed"):
        verify_steps(transformer)


def test_autocast_is_torchs() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert reason_against(stack()) == "autocast is on"


def test_torch_reads_no_int8() -> None:
    transformer = stack(kind="int8")
    transformer.stepping.engine = "torch"
    with pytest.raises(UserError, match="int8 weights are read by the native step alone"):
        choose_steps(transformer, 1, 1)


@pytest.mark.parametrize(("home", "cached"), [("home", True), ("nowhere", False)])
def test_a_read_only_installation_keeps_kernels_in_the_users_cache_or_not_at_all(tmp_path: Path, home: str, cached: bool) -> None:
    """A file where a folder would have to be stops root as well."""
    installed = tmp_path / "installed"
    installed.mkdir()
    shutil.copy(str(native_kernels.__file__), installed / "kernels.py")
    (installed / "__pycache__").write_text("")
    (tmp_path / "nowhere").write_text("")
    environment = {key: value for key, value in os.environ.items() if key not in ("XDG_CACHE_HOME", "NUMBA_CACHE_DIR")}
    done = subprocess.run(
        [sys.executable, "-B", "-c", "import kernels; print(kernels.step.stats.cache_path)"],
        cwd=installed, env={**environment, "HOME": str(tmp_path / home)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.startswith(str(tmp_path / "home") if cached else "None")
