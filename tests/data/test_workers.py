"""Batches come from other processes without shared memory, and a process that dies is one sentence."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_training import differences, in_processes, tiny_manifests, tiny_options
from torch.utils.data import Dataset

from valle.data.workers import ReaderDiedError, read_batches
from valle.training.audio_lm_task import AudioLMTask
from valle.training.distributed import World
from valle.training.options import AudioLMOptions


def read_with_a_small_dev_shm(world: World, options: AudioLMOptions) -> None:
    """A limit on the size of files is one on what ``/dev/shm`` holds, too."""
    tasks = [AudioLMTask(AudioLMOptions(**{**vars(options), "num_workers": number})) for number in (0, 1)]
    alone = list(tasks[0].batches(epoch=1, skip=0, world=World()))
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
    assert differences(alone, list(tasks[1].batches(epoch=1, skip=0, world=World()))) == []


def test_batches_need_no_shared_memory(tmp_path: Path) -> None:
    assert in_processes(read_with_a_small_dev_shm, tiny_options(tiny_manifests(tmp_path / "data"), tmp_path)) == [0]


class Dying(Dataset[Any]):
    def __getitem__(self, index: int) -> torch.Tensor:
        if index == 2:
            os.kill(os.getpid(), signal.SIGBUS)
        return torch.zeros(3)


def test_a_reader_that_dies_is_a_sentence_that_names_the_memory() -> None:
    with pytest.raises(ReaderDiedError, match=r"a process that reads batches died .*/dev/shm.*--num-workers 0") as caught:
        list(read_batches(Dying(), range(4), num_workers=1))
    assert "\n" not in str(caught.value)


class Named(dict[str, Any]):
    name = ""


class NamedBatches(Dataset[Any]):
    def __getitem__(self, index: int) -> Named:
        batch = Named(stage={"codes": torch.full((2,), index), "number": 3})
        batch.name = f"batch {index}"
        return batch


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_batch_keeps_its_type_and_its_attributes(num_workers: int) -> None:
    batches = list(read_batches(NamedBatches(), range(3), num_workers=num_workers))
    assert [batch.name for batch in batches] == ["batch 0", "batch 1", "batch 2"]
    assert all(isinstance(batch["stage"]["codes"], torch.Tensor) and batch["stage"]["number"] == 3 for batch in batches)
    batches[0]["stage"]["codes"] += 1  # and may be changed
