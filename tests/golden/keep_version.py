"""Keeps what this version writes, for later versions to read: ``python tests/golden/keep_version.py version-0.1`` at each release."""

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # tiny_training and the like
sys.path.insert(0, str(Path(__file__).parents[2]))

import torch
from tiny_pipeline import recording, tiny_released
from tiny_training import tiny_loop, tiny_manifests, tiny_options

from valle.inference.pipeline import ContinueSettings, Pipeline
from valle.models.released import load_released, save_released


def main(version: str) -> None:
    torch.set_num_threads(1)
    folder = (Path(__file__).parent / version).absolute()
    save_released(tiny_released(), folder / "released")
    [result] = Pipeline(load_released(folder / "released")).continue_audio(
        recording(2.0), 16000, seed=3, settings=ContinueSettings(prompt_seconds=1.0, max_seconds=0.5, min_seconds=0.5, level="none")
    )
    assert result.units is not None
    tokens = {"units": result.units.tolist(), "codes": result.codes.tolist()}
    (folder / "continued.json").write_text(json.dumps(tokens, separators=(",", ":")) + "\n")
    os.chdir(tempfile.mkdtemp())  # paths in a checkpoint are relative
    options = tiny_options(tiny_manifests(Path("tokens")), Path("exp"), max_steps=3, num_epochs=1, valid_interval=1000)
    tiny_loop(options).run()
    shutil.copy(options.exp_dir / "checkpoint-3.pt", folder)


if __name__ == "__main__":
    main(sys.argv[1])
