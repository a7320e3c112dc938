"""Muon moves the matrices inside the layers, AdamW the rest, each as torch does."""

from pathlib import Path

import pytest
import torch
from tiny_training import differences, progress_of, tiny_loop, tiny_options, train
from torch import nn

from valle.errors import UserError
from valle.modules.transformer import Transformer, TransformerConfig
from valle.training.muon import hidden_matrices
from valle.training.optim import build_optimizer
from valle.training.options import LoopOptions


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 8)
        self.transformer = Transformer(TransformerConfig(d_model=8, nhead=2, num_layers=2, dim_feedforward=16))
        self.head = nn.Linear(8, 5)


MUON = LoopOptions(optimizer_name="Muon", base_lr=0.01, weight_decay=0.1)


def give_gradients(model: nn.Module, seed: int) -> None:
    torch.manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)


def test_hidden_matrices_are_those_of_the_layers() -> None:
    model = Small()
    found = {name for name, parameter in model.named_parameters() if parameter in hidden_matrices(model)}
    layers = ("qkv", "out", "expand", "project")
    assert found == {f"transformer.blocks.{block}.{layer}.weight" for block in (0, 1) for layer in layers}


def test_each_parameter_moves_as_torchs_own_optimizers_move_it() -> None:
    torch.manual_seed(1)
    ours, theirs = Small(), Small()
    theirs.load_state_dict(ours.state_dict())
    hidden = hidden_matrices(theirs)
    decayed = [parameter for parameter in theirs.parameters() if parameter.ndim > 1 and parameter not in hidden]
    plain = [parameter for parameter in theirs.parameters() if parameter.ndim < 2]
    muon = torch.optim.Muon(list(hidden), lr=0.01, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}]
    adamw = torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.98))
    together = build_optimizer(ours, MUON)
    for step in range(3):
        for model in (ours, theirs):
            give_gradients(model, step)
        for optimizer in (together, muon, adamw):
            optimizer.step()
    for name, weight in ours.state_dict().items():
        torch.testing.assert_close(weight, theirs.state_dict()[name], msg=name)


def test_a_run_with_muon_resumes_to_the_same_weights(manifests: Path, tmp_path: Path) -> None:
    changes = {"optimizer_name": "Muon", "base_lr": 0.01, "fine_lr": 0.005}
    whole = train(tiny_options(manifests, tmp_path / "whole", **changes))
    tiny_loop(tiny_options(manifests, tmp_path / "cut", max_steps=4, **changes)).run()
    again = train(tiny_options(manifests, tmp_path / "cut", **changes))
    assert differences(progress_of(whole)["model"], progress_of(again)["model"]) == []


def test_a_torch_without_muon_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.optim, "Muon")
    with pytest.raises(UserError, match=r"needs torch 2\.9 or newer, found"):
        build_optimizer(Small(), MUON)


def test_muon_is_refused_where_matrices_are_spread_out(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="whole matrices"):
        tiny_options(tmp_path, tmp_path, optimizer_name="Muon", fsdp=True)
