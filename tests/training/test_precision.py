"""Number formats: auto is measured once and stored; float16 keeps its scaler."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_training import differences, tiny_loop, tiny_options, train

from valle.device import has_bfloat16_instructions
from valle.models.checkpoint import load_checkpoint
from valle.models.loss import LossTerm
from valle.training.distributed import World
from valle.training.errors import OtherRunError
from valle.training.precision import SMALLEST_SCALE, Precision, resolve_dtype

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def any_processor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tried where a processor says nothing of bfloat16, whatever the one of this machine says."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)


def times_measured(exp_dir: Path) -> int:
    return sum(path.read_text().count("A pass takes") for path in (exp_dir / "log").iterdir())


def test_auto_is_measured_once_and_kept(manifests: Path, tmp_path: Path) -> None:
    first = train(tiny_options(manifests, tmp_path, dtype="auto", num_epochs=1))
    assert first["dtype"] in ("float32", "bfloat16") and times_measured(tmp_path) == 1
    second = train(tiny_options(manifests, tmp_path, dtype="auto", num_epochs=2))
    assert second["dtype"] == first["dtype"] and times_measured(tmp_path) == 1
    tiny_loop(tiny_options(manifests, tmp_path, dtype=first["dtype"], num_epochs=2))  # may be named from now on
    with pytest.raises(OtherRunError, match=f"--dtype was {first['dtype']}, now float16"):
        tiny_loop(tiny_options(manifests, tmp_path, dtype="float16"))


def test_measuring_leaves_no_trace_in_the_model(manifests: Path, tmp_path: Path) -> None:
    loop = tiny_loop(tiny_options(manifests, tmp_path))
    before = {name: tensor.clone() for name, tensor in loop.task.model.state_dict().items()}
    resolve_dtype(loop.task, tiny_options(manifests, tmp_path, dtype="auto"), CPU, World())
    assert differences(before, dict(loop.task.model.state_dict())) == []
    assert all(parameter.grad is None for parameter in loop.task.model.parameters())


@pytest.mark.parametrize("factor", [1.01, 0.8, 1.2, float("nan")])
def test_bfloat16_is_not_chosen_where_it_gives_another_loss(
    factor: float, manifests: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Convolutions that are wrong in bfloat16 alone, on some processors alone, have been seen: training diverged."""
    loop = tiny_loop(tiny_options(manifests, tmp_path))
    right = loop.task.model.forward

    def wrong_in_bfloat16(batch: object) -> dict[str, LossTerm]:
        scale = factor if torch.is_autocast_enabled("cpu") else 1.0
        return {name: part._replace(sum=part.sum * scale) for name, part in right(batch).items()}

    monkeypatch.setattr(loop.task.model, "forward", wrong_in_bfloat16)
    chosen = resolve_dtype(loop.task, tiny_options(manifests, tmp_path, dtype="auto"), CPU, World())
    is_near = factor == 1.01
    assert is_near or chosen == "float32"  # which of two near ones is faster depends on the machine
    assert ("The same batch has a loss of" in caplog.text) == (not is_near)


def test_float16_keeps_its_scaler_through_a_resume(manifests: Path, tmp_path: Path) -> None:
    whole = train(tiny_options(manifests, tmp_path / "whole", dtype="float16", num_epochs=1))
    assert whole["grad_scaler"]["scale"] == 2.0**12 and whole["grad_scaler"]["_growth_tracker"] == whole["counters"]["step"] == 5
    tiny_loop(tiny_options(manifests, tmp_path / "cut", dtype="float16", num_epochs=1, max_steps=3)).run()
    assert load_checkpoint(tmp_path / "cut" / "checkpoint-3.pt")["grad_scaler"]["_growth_tracker"] == 3
    again = train(tiny_options(manifests, tmp_path / "cut", dtype="float16", num_epochs=1))
    for key in ("model", "optimizer", "grad_scaler"):
        assert differences(whole[key], again[key]) == [], key


def test_a_sum_over_many_targets_does_not_overflow_float16(manifests: Path, tmp_path: Path) -> None:
    """Others backpropagated the sum at a scale of 1, and saw "grad_scale too small"."""
    loop = tiny_loop(tiny_options(manifests, tmp_path, dtype="float16", num_epochs=1, max_duration=100.0, accumulate_grad_steps=2))
    loop.run()
    assert loop.precision.scaler.get_scale() == 2.0**12  # never halved


def test_float16_skips_a_step_that_overflows_and_ends_when_all_do() -> None:
    precision = Precision("float16", CPU)
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    before = model.weight.detach().clone()
    steps = 0
    while not precision.is_broken(float("inf")):
        optimizer.zero_grad()
        precision.scale(model(torch.ones(1, 2)).sum() * 1e30 * 1e30).backward()
        precision.step(optimizer, model, 1.0)
        steps += 1
    assert torch.equal(model.weight, before) and 1 < steps < 40 and precision.scaler.get_scale() < SMALLEST_SCALE


def test_clipping_bounds_the_norm_of_all_gradients_together() -> None:
    precision = Precision("float32", CPU)
    for clip, moved in ((1.0, 1.0), (0.0, 5.0), (10.0, 5.0)):
        parameter = torch.nn.Parameter(torch.zeros(2))
        model = torch.nn.ParameterList([parameter])
        parameter.grad = torch.tensor([3.0, 4.0])
        norm = precision.step(torch.optim.SGD([parameter], lr=1.0), model, clip)
        assert norm == pytest.approx(5.0) and float(parameter.detach().norm()) == pytest.approx(moved, rel=1e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_formats_train_and_keep_float32_weights(dtype: str, manifests: Path, tmp_path: Path) -> None:
    loop = tiny_loop(tiny_options(manifests, tmp_path, dtype=dtype, max_steps=2))
    loop.run()
    assert all(parameter.dtype == torch.float32 for parameter in loop.task.model.parameters())
    assert load_checkpoint(tmp_path / "checkpoint-2.pt")["dtype"] == dtype


@pytest.mark.parametrize(("flags", "has"), [
    ({"architecture": "x86_64", "avx512_bf16": True}, True), ({"architecture": "x86_64", "amx_bf16": True, "avx512_bf16": False}, True),
    ({"architecture": "x86_64", "avx512_f": True, "avx512_bf16": False, "amx_bf16": False}, False),
    ({"architecture": "arm64", "bf16": True}, True), ({"architecture": "arm64", "bf16": False}, False), ({"architecture": "arm64"}, None),
])  # fmt: skip
def test_a_processor_without_instructions_for_bfloat16_tries_nothing(
    flags: dict[str, Any], has: bool | None, manifests: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There a pass in it takes ten times as long: 33 s were lost before the first step."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: flags)
    assert has_bfloat16_instructions() is has
    loop, passes = tiny_loop(tiny_options(manifests, tmp_path)), []
    loop.task.model.register_forward_pre_hook(lambda *_: passes.append(1))
    chosen = resolve_dtype(loop.task, tiny_options(manifests, tmp_path, dtype="auto"), CPU, World())
    assert (chosen == "float32" and not passes) if has is False else passes


@pytest.mark.parametrize(
    ("cost", "chosen"),
    [
        (lambda half, before, rows: (0.02 if half else 0.05) * rows, "bfloat16"),
        (lambda half, before, rows: (0.15 if half else 0.05) * rows, "float32"),
        (lambda half, before, rows: 1.0 if half else 0.3, "float32"),  # rows that are long
        (lambda half, before, rows: 0.2 if half and before == 0 else 0.005 if half else 0.01, "bfloat16"),  # the first prepares much
        (lambda half, before, rows: 0.001 * rows, "float32"),
    ],
)
def test_choosing_takes_two_seconds_at_most(
    cost: Callable[[bool, int, int], float], chosen: str, manifests: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, now, tried = tiny_loop(tiny_options(manifests, tmp_path, max_duration=100.0)), [0.0], {True: 0, False: 0}

    def spend(module: torch.nn.Module, inputs: Any) -> None:
        half = torch.is_autocast_enabled("cpu")
        now[0] += cost(half, tried[half], len(inputs[0]["coarse"]["lengths"]))
        tried[half] += 1

    loop.task.model.register_forward_pre_hook(spend)
    monkeypatch.setattr("valle.training.precision.has_bfloat16_instructions", lambda: True)
    monkeypatch.setattr("valle.training.precision.time.perf_counter", lambda: now[0])
    assert resolve_dtype(loop.task, tiny_options(manifests, tmp_path, dtype="auto"), CPU, World()) == chosen
    assert now[0] <= 2.0 and min(tried.values()) >= 1


def test_the_clock_starts_after_the_format_is_chosen(manifests: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("valle.training.loop.resolve_dtype", lambda *_: time.sleep(0.3) or "float32")
    loop = tiny_loop(tiny_options(manifests, tmp_path, dtype="auto"))
    assert loop.clock.seconds() < 0.25


def test_each_stage_is_clipped_by_its_own_norm(manifests: Path, tmp_path: Path) -> None:
    """One stage with large gradients shrank the steps of all others."""
    moved = {}
    for scale in (1.0, 1e4):
        options = tiny_options(manifests, tmp_path / str(scale), optimizer_name="AdamW", clip_grad_norm=0.01, dropout=0.0)
        loop = tiny_loop(options)
        loop.progress.step = 1
        loop.task.model.fine.head_bias.register_hook(lambda grad, scale=scale: grad * scale)
        norms = {}
        step = loop.optimizer.step

        def watch(*_: Any, loop: Any = loop, norms: Any = norms, step: Any = step) -> None:
            for name, parameters in loop.parts.items():
                norms[name] = float(torch.stack([value.grad.norm() for value in parameters if value.grad is not None]).norm())
            step()

        loop.optimizer.step = watch
        loop.train_step([next(loop.task.batches(epoch=1, skip=0, world=World()))])
        assert norms == {name: pytest.approx(0.01, rel=1e-3) for name in ("semantic", "coarse", "fine")}
        moved[scale] = loop.task.model.coarse.head.weight.detach().clone()
    assert torch.equal(moved[1.0], moved[1e4])
