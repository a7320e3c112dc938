"""Whose run an experiment folder holds, which stages are trained, and where weights come from."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_training import Run, in_processes, tiny_loop, tiny_manifests, tiny_options

from valle.errors import UserError
from valle.inference.trained_model import released_from_checkpoint
from valle.models.checkpoint import load_checkpoint
from valle.models.released import save_released
from valle.tokenizing.token_manifests import ManifestError
from valle.training.audio_lm_task import AudioLMTask, take_stages
from valle.training.distributed import World
from valle.training.errors import OtherRunError
from valle.training.options import AudioLMOptions


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"max_duration": 8.0}, ["--max-duration was 9.0, now 8.0"]),  # others overrode it silently by the sampler's state
        ({"decoder_dim": 32, "seed": 1}, ["--decoder-dim was 16, now 32", "--seed was 42, now 1"]),
        ({"optimizer_name": "AdamW"}, ["--optimizer-name was ScaledAdam, now AdamW"]),
        ({"dtype": "bfloat16"}, ["--dtype was float32, now bfloat16"]),
        ({"train_stage": "coarse"}, ["--train-stage was all, now coarse"]),
        ({"accumulate_grad_steps": 2}, ["--accumulate-grad-steps was 1, now 2"]),
    ],
)
def test_another_configuration_in_the_same_folder_is_refused_naming_the_flags(
    changes: dict[str, Any], named: list[str], manifests: Path, unbroken: Run
) -> None:
    with pytest.raises(OtherRunError) as caught:
        tiny_loop(tiny_options(manifests, unbroken.exp_dir, **{"keep_last_k": 99, **changes}))
    for words in named:
        assert words in str(caught.value)
    assert str(caught.value).count(" was ") == len(named) and str(unbroken.exp_dir) in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [{"num_epochs": 9}, {"valid_interval": 7}, {"num_workers": 2}, {"save_every_n": 1}, {"inf_check": True}, {"train_stage": "0"}],
)
def test_what_says_how_long_and_where_may_change(changes: dict[str, Any], manifests: Path, unbroken: Run) -> None:
    assert tiny_loop(tiny_options(manifests, unbroken.exp_dir, **{"keep_last_k": 99, **changes})).progress.step == 10


def test_tokens_of_another_tokenizer_are_refused(manifests: Path, unbroken: Run, tmp_path: Path) -> None:
    without = tiny_manifests(tmp_path / "without", units=False)
    with pytest.raises(OtherRunError, match="--identities was"):
        tiny_loop(tiny_options(without, unbroken.exp_dir, keep_last_k=99))


def go_on(world: World, options: AudioLMOptions) -> None:
    try:
        tiny_loop(options, world)
    except OtherRunError as error:
        (options.manifest_dir.parent / f"said-{world.rank}").write_text(str(error))


def test_another_world_size_is_refused_on_every_rank(manifests: Path, unbroken: Run) -> None:
    """Others stored rank 0's sampler alone: lhotse then refuses it on rank 1, or asserts that the world has changed."""
    assert in_processes(go_on, tiny_options(manifests, unbroken.exp_dir, keep_last_k=99), size=2) == [0, 0]
    for rank in range(2):
        assert "was trained with 1 processes; resuming with 2 would change the batches" in (manifests.parent / f"said-{rank}").read_text()


@pytest.mark.parametrize(
    ("flag", "stages"),
    [
        ("all", ("semantic", "coarse", "fine")), ("0", ("semantic", "coarse", "fine")), ("1", ("coarse",)), ("2", ("fine",)),
        ("semantic", ("semantic",)), ("coarse", ("coarse",)), ("fine", ("fine",)),
        ("fine, semantic", ("semantic", "fine")), ("1,2", ("coarse", "fine")),
    ],
)  # fmt: skip
def test_train_stage_takes_names_and_numbers(flag: str, stages: tuple[str, ...], manifests: Path, tmp_path: Path) -> None:
    task = AudioLMTask(tiny_options(manifests, tmp_path, train_stage=flag))
    assert task.stages == stages and set(task.part_parameters()) == set(stages)
    batch = next(iter(task.batches(epoch=1, skip=0, world=World())))
    assert set(batch) == set(stages)
    learning = {name.partition(".")[0] for name, parameter in task.model.named_parameters() if parameter.requires_grad}
    assert learning == set(stages)


def test_another_stage_is_refused_and_an_absent_one_too(manifests: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--train-stage must be semantic, coarse, fine, all or 0"):
        tiny_options(manifests, tmp_path, train_stage="3")
    without = tiny_manifests(tmp_path / "without", units=False)
    with pytest.raises(UserError, match="the manifests hold no units"):
        AudioLMTask(tiny_options(without, tmp_path, train_stage="semantic"))
    assert AudioLMTask(tiny_options(without, tmp_path)).stages == ("coarse", "fine")


def test_only_the_stage_that_is_trained_moves(manifests: Path, tmp_path: Path) -> None:
    loop = tiny_loop(tiny_options(manifests, tmp_path, train_stage="fine", max_steps=2))
    before = {name: tensor.clone() for name, tensor in loop.task.model.state_dict().items()}
    loop.run()
    moved = {name.partition(".")[0] for name, tensor in loop.task.model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved == {"fine"}


def test_stages_of_the_same_shape_are_taken_from_a_checkpoint(
    manifests: Path, unbroken: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Not by copying files from one run's folder to another's."""
    source = unbroken.exp_dir / "epoch-2.pt"
    caplog.set_level("INFO")
    task = AudioLMTask(tiny_options(manifests, tmp_path, init_from=source))
    for name, tensor in task.model.state_dict().items():
        assert torch.equal(tensor, unbroken.state["model"][name])
    other = AudioLMTask(tiny_options(manifests, tmp_path, init_from=source, fine_num_layers=2, unit_window=2))
    assert take_stages(other.model, source) == ["semantic"]  # the others have another shape
    said = [message for message in caplog.messages if message.startswith("From ")]
    assert said[0].endswith("semantic, coarse, fine; at random, as sizes differ: none")
    assert said[1].endswith("semantic; at random, as sizes differ: coarse, fine")
    assert torch.equal(other.model.state_dict()["semantic.head.weight"], unbroken.state["model"]["semantic.head.weight"])


def test_stages_are_taken_from_a_released_folder(manifests: Path, unbroken: Run, tmp_path: Path) -> None:
    save_released(released_from_checkpoint(load_checkpoint(unbroken.exp_dir / "epoch-2.pt")), tmp_path / "model", dtype=torch.float32)
    task = AudioLMTask(tiny_options(manifests, tmp_path, init_from=tmp_path / "model"))
    for name, tensor in task.model.state_dict().items():
        assert torch.equal(tensor, unbroken.state["model"][name])


def test_a_source_without_a_stage_of_this_shape_is_refused(manifests: Path, unbroken: Run, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no stage of .* has the shape of this model's"):
        AudioLMTask(tiny_options(manifests, tmp_path, init_from=unbroken.exp_dir / "epoch-2.pt", decoder_dim=32))


def test_a_run_that_goes_on_keeps_its_own_weights_and_not_those_it_began_from(manifests: Path, unbroken: Run, tmp_path: Path) -> None:
    options = {"init_from": unbroken.exp_dir / "epoch-1.pt"}
    first = tiny_loop(tiny_options(manifests, tmp_path, max_steps=2, **options))
    first.run()
    again = tiny_loop(tiny_options(manifests, tmp_path, **options))
    for name, tensor in first.task.model.state_dict().items():
        assert torch.equal(tensor, again.task.model.state_dict()[name])


def test_dev_cuts_among_the_training_cuts_are_refused(tmp_path: Path) -> None:
    """Others had dev and test inside train."""
    manifests = tiny_manifests(tmp_path / "data")
    (manifests / "cuts_dev.jsonl.gz").write_bytes((manifests / "cuts_train.jsonl.gz").read_bytes())
    with pytest.raises(ManifestError, match="expected dev cuts that training never sees"):
        AudioLMTask(tiny_options(manifests, tmp_path))


def test_a_tokenizer_put_in_another_ones_place_is_refused(tmp_path: Path) -> None:
    manifests = tiny_manifests(tmp_path / "data")
    config = manifests.parent / "tokenizers" / "semantic" / "config.yaml"
    config.write_text(config.read_text().replace("tiny-units", "other-units"))
    with pytest.raises(ManifestError, match=r"were made by tiny-units .* holds other-units"):
        AudioLMTask(tiny_options(manifests, tmp_path))


def test_more_codebooks_than_the_tokens_have_are_refused(manifests: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--num-quantizers 8 asks for more codebooks than the 3 of tiny-codec"):
        AudioLMTask(tiny_options(manifests, tmp_path, num_quantizers=8))
