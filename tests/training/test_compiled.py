"""``--compile true``: the same losses and gradients, the same names of weights."""

from pathlib import Path

import pytest
import torch
from test_exact_sums import gradients_of
from tiny_training import tiny_loop, tiny_options

from valle.errors import UserError
from valle.training import compiled
from valle.training.compiled import has_compiler


@pytest.mark.slow
@pytest.mark.skipif(not has_compiler(), reason="torch.compile needs g++ or clang++ on a CPU, and neither is here")
def test_a_compiled_forward_has_the_gradients_of_a_plain_one(manifests: Path, tmp_path: Path) -> None:
    plain, compiled_too = (
        tiny_loop(tiny_options(manifests, tmp_path / str(flag), dropout=0.0, train_stage="coarse", compile=flag)) for flag in (False, True)
    )
    expected, sums = gradients_of(plain, [[0, 1, 2], [3, 4]])  # of other lengths and sizes
    found, same = gradients_of(compiled_too, [[0, 1, 2], [3, 4]])
    assert compiled_too.model._compiled_call_impl is not None and plain.model._compiled_call_impl is None
    assert found.keys() == expected.keys() and list(plain.task.model.state_dict()) == list(compiled_too.task.model.state_dict())
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=1e-8)  # rotary positions are of float32
    assert same["coarse"] == pytest.approx(sums["coarse"], rel=1e-9)


def test_a_cpu_without_a_compiler_gets_one_line(manifests: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "has_compiler", lambda: False)
    with pytest.raises(UserError, match=r"--compile true needs a C\+\+ compiler on a CPU, found none; install"):
        tiny_loop(tiny_options(manifests, tmp_path, compile=True))
