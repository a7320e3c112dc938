"""The loop itself: it learns, validates, keeps what was best, and stops for every rank at once."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_training import Run, differences, in_processes, run_to_end, tiny_loop, tiny_manifests, tiny_options
from torch import nn

from valle.errors import UserError
from valle.models.checkpoint import load_checkpoint, save_checkpoint
from valle.training.audio_lm_task import AudioLMTask
from valle.training.distributed import World
from valle.training.logs import means
from valle.training.loop import Loop
from valle.training.memory_check import try_largest
from valle.training.options import AudioLMOptions
from valle.training.train import train_audio_lm


def test_one_batch_over_and_over_drives_the_loss_down(manifests: Path, tmp_path: Path) -> None:
    options = tiny_options(
        manifests, tmp_path, overfit_one_batch=True, decoder_dim=32, num_epochs=1, max_duration=4.0, dropout=0.0, max_steps=100,
        save_every_n=0, valid_interval=1000, log_interval=1, optimizer_name="AdamW", base_lr=0.01,
    )  # fmt: skip
    tiny_loop(options).run()
    rows = [json.loads(line) for line in (tmp_path / "curves.jsonl").read_text().splitlines()]
    losses = {
        part: [row["nll"] for row in rows if row["part"] == part and row["kind"] == "train"] for part in ("semantic", "coarse", "fine")
    }
    for values in losses.values():
        assert len(values) == 100 and values[0] > 2.4 and values[-1] < 0.2


def test_a_fresh_model_loses_the_logarithm_of_its_vocabulary(manifests: Path, tmp_path: Path) -> None:
    found = means(tiny_loop(tiny_options(manifests, tmp_path)).evaluate())
    assert found["semantic"] == pytest.approx(torch.tensor(14.0).log().item(), abs=0.05)
    for part in ("coarse", "fine_1", "fine_2"):
        assert found[part] == pytest.approx(torch.tensor(16.0).log().item(), abs=0.05)


def test_validation_is_deterministic_and_of_every_level(manifests: Path, tmp_path: Path) -> None:
    """Others validate on one random level: the same weights score 923 to 932."""
    loop = tiny_loop(tiny_options(manifests, tmp_path))
    first = loop.evaluate()
    torch.rand(7)
    loop.task.model.train()
    assert loop.evaluate() == first and set(first) == {"semantic", "coarse", "fine_1", "fine_2"}
    cuts = list(loop.task.manifests.cuts("dev"))  # type: ignore[attr-defined]
    frames = [int(cut.custom["codes"].shape[0]) for cut in cuts]
    assert first["coarse"][1] == sum(min(count, 100) for count in frames)  # every frame of crops of 2 s
    assert first["fine_1"][1] == first["fine_2"][1] > 0
    assert first["fine_1"][0] != first["fine_2"][0]  # of other targets, not of one draw under two names


def test_validation_does_not_depend_on_the_size_of_batches(manifests: Path, tmp_path: Path) -> None:
    one, other = (tiny_loop(tiny_options(manifests, tmp_path, max_duration=size)).evaluate() for size in (3.0, 100.0))
    for part, (nats, count, hits) in one.items():
        assert other[part] == (pytest.approx(nats, rel=1e-5), count, hits)


def test_validation_changes_nothing_that_is_trained(manifests: Path, tmp_path: Path) -> None:
    seldom, often = (
        tiny_loop(tiny_options(manifests, tmp_path / str(interval), valid_interval=interval, num_epochs=1)) for interval in (1000, 1)
    )
    seldom.run()
    often.run()
    assert differences(dict(seldom.task.model.state_dict()), dict(often.task.model.state_dict())) == []


def test_the_best_file_holds_the_weights_of_each_stage_that_scored_best(manifests: Path, tmp_path: Path) -> None:
    """Others copied the file of the epoch's end.  Here the coarse stage gets worse after the third step, and the loss of all with it."""
    options = tiny_options(manifests, tmp_path, valid_interval=1, num_epochs=1, optimizer_name="AdamW", base_lr=0.02, warmup_steps=0)
    loop = tiny_loop(options)
    scores: dict[str, list[float]] = {"semantic": [], "coarse": [], "fine": []}
    weights: dict[int, dict[str, torch.Tensor]] = {}
    batches = loop.task.batches(epoch=1, skip=0, world=World())
    for batch in batches:
        loop.progress.step += 1
        if loop.progress.step == 4:
            with torch.no_grad():
                loop.task.model.coarse.head.weight.normal_(std=3.0)
        loop.train_step([batch])
        found = means(loop.validate())
        for stage, values in scores.items():
            values.append(sum(score for name, score in found.items() if name.partition("_")[0] == stage))
        weights[loop.progress.step] = {name: tensor.clone() for name, tensor in loop.task.model.state_dict().items()}
    best = {stage: values.index(min(values)) + 1 for stage, values in scores.items()}
    assert best["coarse"] <= 3 < best["semantic"], best
    kept = load_checkpoint(tmp_path / "best-valid-loss.pt")
    assert differences(kept["model"], {name: weights[best[name.partition(".")[0]]][name] for name in kept["model"]}) == []
    assert kept["counters"]["best_of_parts"] == {stage: min(values) for stage, values in scores.items()}
    assert kept["counters"]["best_valid"] == min(map(sum, zip(*scores.values(), strict=True))) and "optimizer" not in kept


def test_a_best_file_of_an_older_version_is_not_lost(manifests: Path, tmp_path: Path) -> None:
    """Which was chosen by the sum of all losses: its own dev losses say how good each stage in it is."""
    tiny_loop(tiny_options(manifests, tmp_path, max_steps=5)).run()
    for path in (tmp_path / "checkpoint-5.pt", tmp_path / "best-valid-loss.pt"):
        state = load_checkpoint(path)
        for key in ("best_of_parts", "seen", "bad_in_a_row"):
            del state["counters"][key]
        save_checkpoint(path, state)
    loop = tiny_loop(tiny_options(manifests, tmp_path))
    assert set(loop.progress.best_of_parts) == {"semantic", "coarse", "fine"}
    before = load_checkpoint(tmp_path / "best-valid-loss.pt")["model"]
    with torch.no_grad():
        loop.task.model.coarse.head.weight.normal_(std=9.0)
    loop.progress.validated_at = -1
    loop.validate()
    after = load_checkpoint(tmp_path / "best-valid-loss.pt")["model"]
    assert torch.equal(before["coarse.head.weight"], after["coarse.head.weight"])


def ranks_run(world: World, options: AudioLMOptions) -> None:
    """A run whose validation every rank keeps."""
    loop = Loop(AudioLMTask(options), options, world)
    loop.run()
    batches = len(list(loop.task.batches(epoch=1, skip=0, world=world)))
    found = {"valid": loop.evaluate(), "batches": batches, "steps": loop.progress.step}
    (options.exp_dir / f"rank-{world.rank}.json").write_text(json.dumps(found))


@pytest.mark.parametrize(("drop_last", "num_train"), [(False, 3), (True, 9)])
def test_no_rank_hangs_where_batches_do_not_divide(drop_last: bool, num_train: int, tmp_path: Path) -> None:
    manifests = tiny_manifests(tmp_path / "data", num_train=num_train, num_dev=3, shortest=2.0, longest=2.5)
    exp_dir = tmp_path / "exp"
    options = tiny_options(manifests, exp_dir, drop_last=drop_last, max_duration=2.5 if not drop_last else 5.0, num_buckets=1)
    alone = list(AudioLMTask(options).batches(epoch=1, skip=0, world=World()))
    assert len(alone) % 2 == (1 if not drop_last else 0)
    assert in_processes(ranks_run, options, size=2) == [0, 0]
    one, other = (json.loads((exp_dir / f"rank-{rank}.json").read_text()) for rank in range(2))
    assert one["batches"] == other["batches"] > 0 and one["steps"] == other["steps"] == 2 * one["batches"]
    assert one["valid"] == other["valid"]  # three dev batches on two ranks, each counted once


def test_two_ranks_validate_to_the_sums_of_one(manifests: Path, tmp_path: Path) -> None:
    options = tiny_options(manifests, tmp_path, max_duration=3.0, max_steps=1, num_epochs=1)
    assert in_processes(ranks_run, options, size=2) == [0, 0]
    found = json.loads((tmp_path / "rank-0.json").read_text())["valid"]
    for part, (nats, count, hits) in tiny_loop_of(tmp_path, options).evaluate().items():
        assert found[part] == [pytest.approx(nats, rel=1e-6), count, hits]


def tiny_loop_of(exp_dir: Path, options: AudioLMOptions) -> Loop:
    """One process with the weights that two have trained."""
    task = AudioLMTask(options)
    task.model.load_state_dict(load_checkpoint(exp_dir / "checkpoint-1.pt")["model"])
    (exp_dir / "alone").mkdir()
    return Loop(task, AudioLMOptions(**{**vars(options), "exp_dir": exp_dir / "alone"}), World())


def test_drop_last_leaves_out_what_fills_no_batch(tmp_path: Path) -> None:
    manifests = tiny_manifests(tmp_path / "data", num_train=5, shortest=2.0, longest=2.0)
    kept, dropped = (
        list(AudioLMTask(tiny_options(manifests, tmp_path, drop_last=drop, max_duration=4.0)).batches(epoch=1, skip=0, world=World()))
        for drop in (False, True)
    )
    sizes = [[len(batch["coarse"]["lengths"]) for batch in batches] for batches in (kept, dropped)]
    assert sorted(sizes[0]) == [1, 2, 2] and sizes[1] == [2, 2]


def test_an_epoch_without_a_batch_is_refused(tmp_path: Path) -> None:
    manifests = tiny_manifests(tmp_path / "data", num_train=3, shortest=1.0, longest=1.0)
    with pytest.raises(UserError, match="expected at least one batch in epoch 1, found none; lower --max-duration"):
        tiny_loop(tiny_options(manifests, tmp_path / "exp", drop_last=True, max_duration=100.0)).run()


def test_a_limit_of_steps_ends_a_run_in_the_middle_of_an_epoch(manifests: Path, tmp_path: Path) -> None:
    loop = tiny_loop(tiny_options(manifests, tmp_path, max_steps=2))
    loop.run()
    assert loop.progress.step == 2 and not (tmp_path / "epoch-1.pt").exists() and (tmp_path / "checkpoint-2.pt").exists()


def test_where_epochs_are_short_only_the_last_leaves_a_file(manifests: Path, tmp_path: Path) -> None:
    train_audio_lm(tiny_options(manifests, tmp_path, epoch_ends=False, num_epochs=3, save_every_n=0, valid_interval=1000))
    assert sorted(path.name for path in tmp_path.glob("*.pt")) == ["best-train-loss.pt", "best-valid-loss.pt", "epoch-3.pt"]


def test_a_limit_of_time_ends_every_rank_at_the_same_step(manifests: Path, tmp_path: Path) -> None:
    options = tiny_options(manifests, tmp_path, max_minutes=1e-6)
    assert in_processes(ranks_run, options, size=2) == [0, 0]
    one, other = (json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in range(2))
    assert one["steps"] == other["steps"] == 0


def test_a_run_ends_with_a_summary(manifests: Path, tmp_path: Path) -> None:
    train_audio_lm(tiny_options(manifests, tmp_path, num_epochs=1))
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["steps"] == 5 and summary["dtype"] == "float32" and summary["seconds"] > 0
    for part in ("semantic", "coarse"):
        row: dict[str, Any] = summary[part]
        assert 0 < row["train_nll"] < 3 and 0 < row["valid_nll"] < 3 and row["valid_tokens"] > 0 and 0 <= row["accuracy"] <= 1
        assert row["unigram_nll"] == pytest.approx(torch.tensor(13.0).log().item(), abs=0.15)  # nearly all as likely as each other
    fine = summary["fine"]
    assert fine["levels"] == [1, 2]
    assert all(len(fine[key]) == 2 for key in fine)
    assert not list(tmp_path.glob("*.tmp"))


def test_the_unigram_is_that_of_the_counts(manifests: Path, tmp_path: Path) -> None:
    """The slow way: count level 1 of the codes of fixed crops, by hand."""
    task = AudioLMTask(tiny_options(manifests, tmp_path))
    counts = {True: [1.0] * 16, False: [0.0] * 16}
    for of_train in (True, False):
        for batch in task.validation_batches(World(), of_train=of_train):
            part = batch["fine"]
            for row, length, prompt in zip(part["codes"].tolist(), part["lengths"].tolist(), part["prompt_lengths"].tolist(), strict=True):
                for frame in range(prompt, length):
                    counts[of_train][row[frame][1]] += 1
    probabilities = torch.tensor(counts[True]) / sum(counts[True])
    valid = torch.tensor(counts[False])
    assert task.unigram_nll()["fine_1"] == pytest.approx(float(-(valid * probabilities.log()).sum() / valid.sum()), rel=1e-5)


def test_the_memory_check_leaves_weights_and_gradients_alone(manifests: Path, unbroken: Run, tmp_path: Path) -> None:
    loop = tiny_loop(tiny_options(manifests, tmp_path, oom_check=True))
    before = {name: tensor.clone() for name, tensor in loop.task.model.state_dict().items()}
    try_largest(loop.task, loop.optimizer, loop.precision, loop.device, loop.world)
    assert differences(before, dict(loop.task.model.state_dict())) == []
    assert all(parameter.grad is None for parameter in loop.task.model.parameters()) and not loop.optimizer.state


def test_the_memory_check_counts_the_optimizers_state_and_the_longest_cuts(tmp_path: Path) -> None:
    """One cut in thirty is long: the first batches of an epoch need not hold it."""
    manifests = tiny_manifests(tmp_path / "data", num_train=30, shortest=0.6, longest=4.0)
    loop = tiny_loop(tiny_options(manifests, tmp_path / "exp", max_duration=4.0, semantic_seconds=30.0))
    longest, states = [], []

    def watch(module: nn.Module, inputs: Any) -> None:
        longest.append(int(inputs[0]["semantic"]["lengths"].max()))
        states.append(len(loop.optimizer.state))

    loop.task.model.register_forward_pre_hook(watch)
    assert try_largest(loop.task, loop.optimizer, loop.precision, loop.device, loop.world) == len(longest) >= 2
    durations = [cut.duration for cut in loop.task.manifests.cuts("train")]  # type: ignore[attr-defined]
    assert max(longest) == round(max(durations) * 25)
    assert set(states) == {len(list(loop.task.model.parameters()))}


def test_a_run_without_units_trains_and_resumes(tmp_path: Path) -> None:
    manifests = tiny_manifests(tmp_path / "data", units=False)
    changes: dict[str, Any] = {"prompt_share_to": 0.6}
    run_to_end(World(), tiny_options(manifests, tmp_path / "whole", **changes))
    tiny_loop(tiny_options(manifests, tmp_path / "cut", max_steps=3, **changes)).run()
    run_to_end(World(), tiny_options(manifests, tmp_path / "cut", **changes))
    whole, again = (load_checkpoint(tmp_path / name / "epoch-2.pt") for name in ("whole", "cut"))
    assert differences(whole["model"], again["model"]) == [] and whole["identities"]["semantic"] is None


def test_a_run_is_bounded_by_the_clock_that_it_is_given(manifests: Path, tmp_path: Path) -> None:
    ticks = iter(range(10**6))
    options = tiny_options(manifests, tmp_path, max_minutes=1.0, num_epochs=1000, valid_interval=10**6, epoch_ends=False, save_every_n=0)
    loop = Loop(AudioLMTask(options), options, World(), now=lambda: float(next(ticks)))
    loop.run()
    assert 10 < loop.progress.step < 60, "a minute of a clock that moves on by a second whenever it is looked at"
