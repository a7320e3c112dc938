"""Checkpoints in icefall's layout, of plain values, that never run anything."""

import os
import pickle
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_training import Run, tiny_loop, tiny_options

from valle.memory import resident_bytes
from valle.models import AudioLMConfig
from valle.models import checkpoint as checkpoint_module
from valle.models.checkpoint import (
    CheckpointError,
    choose_checkpoint,
    load_checkpoint,
    model_from_checkpoint,
    newest_checkpoint,
    plain,
    remove_old,
    save_checkpoint,
)
from valle.training.options import AudioLMOptions
from valle.training.resume import NEEDED

ICEFALL = {"model": dict, "optimizer": dict, "scheduler": dict, "grad_scaler": dict, "sampler": dict, "model_avg": dict}
OURS = {"trained_seconds": dict, "tokenizers": dict, "identities": dict, "timeline": dict, "dtype": str, "counters": dict}
PLAIN = (str, int, float, bool, type(None))


def test_a_checkpoint_has_the_names_keys_and_types_of_icefall(unbroken: Run) -> None:
    names = {path.name for path in unbroken.exp_dir.glob("*.pt")}
    assert {"epoch-1.pt", "epoch-2.pt", "checkpoint-3.pt", "checkpoint-6.pt", "best-valid-loss.pt", "best-train-loss.pt"} <= names
    for name in ("epoch-1.pt", "checkpoint-3.pt"):
        state = load_checkpoint(unbroken.exp_dir / name)
        for key, kind in (ICEFALL | OURS).items():
            assert type(state[key]) is kind, key
    assert set(unbroken.state["optimizer"]) == {"state", "param_groups"}
    assert unbroken.state["sampler"] == {"epoch": 3, "batches_done": [0]}
    assert unbroken.state["scheduler"]["name"] == "Eden" and unbroken.state["scheduler"]["step"] == 10


def test_a_checkpoint_holds_every_hyper_parameter_flat(unbroken: Run, manifests: Path) -> None:
    options = tiny_options(manifests, unbroken.exp_dir, keep_last_k=99)
    for name, value in asdict(options).items():
        assert name in unbroken.state, name
        if name != "dtype":
            assert unbroken.state[name] == plain(value), name
    for name in AudioLMConfig.__dataclass_fields__:
        assert name in unbroken.state, name


def test_all_keys_of_a_checkpoint_are_known(unbroken: Run) -> None:
    settings = {entry.name for entry in fields(AudioLMOptions)} | set(AudioLMConfig.__dataclass_fields__)
    assert set(unbroken.state) == set(ICEFALL) | set(OURS) | settings
    assert set(NEEDED) < set(unbroken.state)


def test_a_checkpoint_holds_plain_types_only_and_no_path(unbroken: Run) -> None:
    """Others stored a PosixPath, which weights_only=True refuses."""

    def look(value: Any, where: str) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                assert type(key) in (str, int), where
                look(item, f"{where}/{key}")
        elif isinstance(value, list):
            for item in value:
                look(item, where)
        else:
            assert type(value) in PLAIN or type(value) is torch.Tensor, f"{where}: {type(value)}"

    for name in ("epoch-2.pt", "checkpoint-3.pt", "best-valid-loss.pt"):
        look(torch.load(unbroken.exp_dir / name, weights_only=True, map_location="cpu"), name)


def test_the_averaged_model_stays_float64_in_the_file_and_in_the_run(manifests: Path, tmp_path: Path) -> None:
    """Others cast it down in place on saving."""
    loop = tiny_loop(tiny_options(manifests, tmp_path, num_epochs=1))
    loop.run()
    stored, running = load_checkpoint(tmp_path / "epoch-1.pt")["model_avg"], loop.state.average
    assert running is not None
    for name, tensor in running.items():
        assert tensor.dtype == stored[name].dtype == torch.float64 and torch.equal(tensor, stored[name])
    assert any(not torch.equal(tensor, tensor.float().double()) for tensor in stored.values())


def test_the_averaged_model_is_the_mean_over_the_periods_of_a_run(manifests: Path, tmp_path: Path) -> None:
    loop = tiny_loop(tiny_options(manifests, tmp_path, average_period=1))
    batches = loop.task.batches(epoch=1, skip=0, world=loop.world)
    seen = []
    for _ in range(3):
        loop.progress.step += 1
        loop.train_step([next(batches)])
        seen.append({name: tensor.double() for name, tensor in loop.task.model.state_dict().items()})
    assert loop.state.average is not None
    for name, tensor in loop.state.average.items():
        torch.testing.assert_close(tensor, torch.stack([weights[name] for weights in seen]).mean(0), rtol=1e-12, atol=1e-14)


def test_inference_builds_the_model_from_the_checkpoint_alone(unbroken: Run) -> None:
    model, timeline, acoustic, semantic = model_from_checkpoint(load_checkpoint(unbroken.exp_dir / "epoch-2.pt"))
    assert model.config.d_model == 16 and not model.training
    assert timeline.frames_per_period == 2 and timeline.units_per_period == 1
    assert acoustic.identity.to_dict() == unbroken.state["identities"]["acoustic"]
    assert semantic is not None and semantic.identity.to_dict() == unbroken.state["identities"]["semantic"]
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, unbroken.state["model"][name])


def test_weights_that_lack_a_name_are_refused(unbroken: Run) -> None:
    """Others loaded with strict=False and went on with what was drawn at random."""
    state = load_checkpoint(unbroken.exp_dir / "epoch-2.pt")
    del state["model"]["coarse.head.weight"]
    with pytest.raises(CheckpointError, match="weights do not fit"):
        model_from_checkpoint(state)


class Bomb:
    """Pickled code, which leaves a trace where it is run."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("name", ["epoch-1.pt", "checkpoint-3.pt", "best-valid-loss.pt", "batch-7.pt"])
@pytest.mark.parametrize("place", ["top", "model", "batches"])
def test_a_file_that_carries_code_is_refused_and_not_executed(name: str, place: str, tmp_path: Path) -> None:
    bomb = Bomb(tmp_path / "executed")
    state: dict[str, Any] = {"model": {"w": torch.zeros(2)}, "batches": [{"codes": torch.zeros(1)}], "counters": {}}
    if place == "top":
        state["extra"] = bomb
    elif place == "model":
        state["model"]["w"] = bomb
    else:
        state["batches"].append(bomb)
    path = tmp_path / name
    torch.save(state, path)
    with pytest.raises(CheckpointError, match="could run code when opened, and is refused"):
        load_checkpoint(path)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("old_format", [True, False])
def test_a_bare_pickle_is_refused_and_not_executed(old_format: bool, tmp_path: Path) -> None:
    path = tmp_path / "epoch-1.pt"
    if old_format:
        torch.save({"model": Bomb(tmp_path / "executed")}, path, _use_new_zipfile_serialization=False)
    else:
        path.write_bytes(pickle.dumps({"model": Bomb(tmp_path / "executed")}))
    with pytest.raises(CheckpointError, match="damaged or not a checkpoint"):
        load_checkpoint(path)
    assert not (tmp_path / "executed").exists()


def test_a_run_does_not_go_on_from_a_file_that_carries_code(manifests: Path, tmp_path: Path) -> None:
    torch.save({"model": {}, "counters": Bomb(tmp_path / "executed")}, tmp_path / "checkpoint-3.pt")
    with pytest.raises(CheckpointError, match="is refused"):
        tiny_loop(tiny_options(manifests, tmp_path))
    assert not (tmp_path / "executed").exists()


def test_damaged_and_missing_checkpoints_are_one_sentence(tmp_path: Path, unbroken: Run) -> None:
    with pytest.raises(CheckpointError, match="found no file"):
        load_checkpoint(tmp_path / "epoch-1.pt")
    with pytest.raises(CheckpointError, match=r"beside it are .*checkpoint-3\.pt"):
        load_checkpoint(unbroken.exp_dir / "epoch-9.pt")
    whole = (unbroken.exp_dir / "epoch-1.pt").read_bytes()
    for number, content in enumerate((b"", b"not a checkpoint", whole[: len(whole) // 2])):
        path = tmp_path / f"broken-{number}.pt"
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="damaged or not a checkpoint"):
            load_checkpoint(path)
    save_checkpoint(tmp_path / "other.pt", {"weights": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="with the key 'model'"):
        load_checkpoint(tmp_path / "other.pt")


def test_a_checkpoint_of_another_trainer_is_refused_by_what_it_lacks(manifests: Path, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "epoch-1.pt", {"model": {}, "optimizer": {}})
    with pytest.raises(CheckpointError, match="found one without grad_scaler, sampler, model_avg, dtype, counters"):
        tiny_loop(tiny_options(manifests, tmp_path))


def test_the_last_k_checkpoints_are_kept_and_every_epoch(manifests: Path, tmp_path: Path) -> None:
    tiny_loop(tiny_options(manifests, tmp_path, save_every_n=2, keep_last_k=2)).run()
    numbered = sorted(path.name for path in tmp_path.glob("*-*.pt") if not path.name.startswith("best"))
    assert numbered == ["checkpoint-10.pt", "checkpoint-8.pt", "epoch-1.pt", "epoch-2.pt"]


def test_removing_old_checkpoints_counts_by_number_and_leaves_one(tmp_path: Path) -> None:
    for number in (9, 10, 100):
        (tmp_path / f"checkpoint-{number}.pt").touch()
    (tmp_path / "epoch-1.pt").touch()
    remove_old(tmp_path, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-10.pt", "checkpoint-100.pt", "epoch-1.pt"]
    remove_old(tmp_path, 0)
    assert newest_checkpoint(tmp_path / "none") is None
    assert sorted(path.name for path in tmp_path.glob("checkpoint*")) == ["checkpoint-100.pt"]


def state_at(step: int, mean: float, *, weights: float = 0.0) -> dict[str, Any]:
    return {
        "model": {"w": torch.tensor([weights])}, "model_avg": {"w": torch.tensor([mean], dtype=torch.float64)},
        "counters": {"step": step}, "average_period": 10,
    }  # fmt: skip


def test_weights_are_averaged_between_two_epochs_over_their_steps(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "epoch-1.pt", state_at(20, 1.0))
    save_checkpoint(tmp_path / "epoch-2.pt", state_at(40, 2.0))
    chosen = choose_checkpoint(tmp_path, epoch=2, avg=1, use_averaged_model=True)
    torch.testing.assert_close(chosen["model"]["w"], torch.tensor([3.0]))  # (2 * 40 - 1 * 20) / 20
    whole = choose_checkpoint(tmp_path, epoch=2, avg=2, use_averaged_model=True)
    torch.testing.assert_close(whole["model"]["w"], torch.tensor([2.0]))


def test_a_mean_counts_the_steps_it_was_taken_over(tmp_path: Path) -> None:
    """At step 25 the mean is that of steps 1 to 20, with 20's weight."""
    save_checkpoint(tmp_path / "epoch-1.pt", state_at(25, 1.0))
    save_checkpoint(tmp_path / "epoch-2.pt", state_at(47, 2.0))
    chosen = choose_checkpoint(tmp_path, epoch=2, avg=1, use_averaged_model=True)
    torch.testing.assert_close(chosen["model"]["w"], torch.tensor([3.0]))
    save_checkpoint(tmp_path / "epoch-1.pt", state_at(7, 0.123))  # still what was drawn at random
    with pytest.raises(CheckpointError, match="leave out --use-averaged-model, or train with a smaller --average-period"):
        choose_checkpoint(tmp_path, epoch=1, use_averaged_model=True)


def test_epochs_are_averaged_weight_by_weight(tmp_path: Path) -> None:
    for epoch, weights in ((1, 1.0), (2, 2.0), (3, 6.0)):
        save_checkpoint(tmp_path / f"epoch-{epoch}.pt", state_at(10 * epoch, 0.0, weights=weights))
    assert float(choose_checkpoint(tmp_path, epoch=3, avg=2)["model"]["w"]) == 4.0
    assert float(choose_checkpoint(tmp_path, epoch=3, avg=99)["model"]["w"]) == 3.0
    assert float(choose_checkpoint(tmp_path, epoch=2)["model"]["w"]) == 2.0


def test_the_best_weights_are_chosen_where_no_epoch_is_named(unbroken: Run) -> None:
    best = load_checkpoint(unbroken.exp_dir / "best-valid-loss.pt")["counters"]
    assert choose_checkpoint(unbroken.exp_dir)["counters"] == best


def test_the_newest_checkpoint_is_found_without_opening_any(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint of billions of weights takes minutes to check; how far it went is in a small file beside it."""
    for name, step, epoch in (("epoch-1.pt", 5, 2), ("checkpoint-7.pt", 7, 2), ("epoch-2.pt", 9, 3)):
        save_checkpoint(tmp_path / name, {"model": {}, "counters": {"step": step, "epoch": epoch}})
    save_checkpoint(tmp_path / "best-valid-loss.pt", {"model": {}, "counters": {"step": 5, "epoch": 1}})
    assert sorted(path.name for path in tmp_path.glob("*.json")) == ["checkpoint-7.json", "epoch-1.json", "epoch-2.json"]
    opened: list[Path] = []
    monkeypatch.setattr(checkpoint_module, "load_checkpoint", lambda path: opened.append(path) or load_checkpoint(path))
    assert newest_checkpoint(tmp_path) == tmp_path / "epoch-2.pt" and opened == []
    (tmp_path / "epoch-2.json").unlink()  # of an older version, or lost in copying
    assert newest_checkpoint(tmp_path) == tmp_path / "epoch-2.pt" and opened == [tmp_path / "epoch-2.pt"]
    (tmp_path / "epoch-2.json").write_text('{"bytes": 1, "step": 1, "epoch": 1}')  # of another file of that name
    assert newest_checkpoint(tmp_path) == tmp_path / "epoch-2.pt"
    remove_old(tmp_path, keep=1)
    save_checkpoint(tmp_path / "checkpoint-8.pt", {"model": {}, "counters": {"step": 8, "epoch": 2}})
    remove_old(tmp_path, keep=1)
    assert sorted(path.name for path in tmp_path.glob("checkpoint*")) == ["checkpoint-8.json", "checkpoint-8.pt"]


@pytest.mark.skipif(os.name == "nt" or not Path("/proc/self/statm").exists(), reason="says nothing of its memory")
def test_weights_are_mapped_and_not_read(tmp_path: Path) -> None:
    """Every process of a machine would otherwise hold a copy of the weights and of the optimizer's state."""
    save_checkpoint(tmp_path / "checkpoint-1.pt", {"model": {"weight": torch.ones(25_000_000)}, "counters": {}})  # 100 MB
    before = resident_bytes()
    state = load_checkpoint(tmp_path / "checkpoint-1.pt")
    assert resident_bytes() - before < 30e6
    state["model"]["weight"][:4] += 1  # a change stays in this process
    assert load_checkpoint(tmp_path / "checkpoint-1.pt")["model"]["weight"][:5].tolist() == [1.0] * 5
    assert state["model"]["weight"][:5].tolist() == [2.0, 2.0, 2.0, 2.0, 1.0]
