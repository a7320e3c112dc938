"""One tiny corpus, and one unbroken run on it, for all tests of training."""

from pathlib import Path

import pytest
from tiny_training import Run, in_processes, run_to_end, tiny_manifests, tiny_options, train

from valle.models.checkpoint import load_checkpoint


@pytest.fixture(scope="session")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_manifests(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="session")
def unbroken(manifests: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two epochs in one go, on one process."""
    exp_dir = tmp_path_factory.mktemp("unbroken")
    return Run(exp_dir, train(tiny_options(manifests, exp_dir, keep_last_k=99)))


@pytest.fixture(scope="session")
def unbroken_pair(manifests: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two epochs in one go, on two processes."""
    exp_dir = tmp_path_factory.mktemp("pair")
    options = tiny_options(manifests, exp_dir, save_every_n=2)
    assert in_processes(run_to_end, options, size=2) == [0, 0]
    return Run(exp_dir, load_checkpoint(exp_dir / "epoch-2.pt"))
