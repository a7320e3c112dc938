"""Steps by weights that were laid out for them are the steps of the layers themselves."""

import pytest
import torch

from valle.modules.transformer import Attend, Step, StepLinear, Transformer, TransformerConfig


def decode(dtype: torch.dtype, *, batch: int, ready: bool, autocast: bool = False) -> torch.Tensor:
    """Hidden ``(B, 6, D)`` of six cached steps after a prompt of three."""
    torch.manual_seed(0)
    model = Transformer(TransformerConfig(d_model=32, nhead=4, num_layers=2, dim_feedforward=48)).to(dtype).eval()
    for parameter in model.parameters():  # biases and norms too, which begin as nothing
        parameter.data += 0.1 * torch.randn_like(parameter)
    x = torch.randn(batch, 9, 32, dtype=dtype)
    caches = model.new_caches(batch, 9)
    layers = model.ready_for_steps(batch) if ready else None
    outputs = []
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        model(x[:, :3], Attend.causally(), caches=caches)
        for place in range(3, 9):
            cos, sin = model.rotary(torch.tensor(place), dtype)
            step = Step(cos=cos, sin=sin, extent=place + 1, slot=place)
            outputs.append(model.step(x[:, place : place + 1], step, caches, layers))
    return torch.cat(outputs, 1)


@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize(("dtype", "autocast"), [(torch.float32, False), (torch.float64, False), (torch.float32, True)])
def test_steps_made_ready_equal_plain_steps(batch: int, dtype: torch.dtype, autocast: bool) -> None:
    ready, plain = (decode(dtype, batch=batch, ready=value, autocast=autocast) for value in (True, False))
    assert ready.dtype == plain.dtype
    tolerance = 2e-6 if dtype == torch.float32 and not autocast else 0.0  # elsewhere they are the same layers
    torch.testing.assert_close(ready, plain, rtol=tolerance, atol=tolerance)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")
@pytest.mark.parametrize(("dtype", "packed"), [(torch.float32, True), (torch.float64, False), (torch.bfloat16, False)])
def test_weights_are_laid_out_anew_in_float32_alone(dtype: torch.dtype, packed: bool) -> None:
    assert (StepLinear(torch.nn.Linear(8, 8).to(dtype), 4).packed is not None) == packed


def test_without_onednn_a_step_is_the_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    layer, x = torch.nn.Linear(8, 5), torch.randn(4, 1, 8)
    step = StepLinear(layer, 4)
    assert step.packed is None and torch.equal(step(x), layer(x))
