"""Print the flags of bin/trainer_audiolm.py that give a model the shape of a released one, to go on from it.

python3 bin/trainer_audiolm.py --init-from FOLDER $(python3 bin/model_flags.py --model FOLDER)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from valle.config import parse_flags
from valle.errors import run_program
from valle.models.released import read_released_config

RENAMED = {"d_model": "decoder_dim", "num_layers": "num_decoder_layers"}
FROM_TOKENS = {"codebook_size", "num_units", "units_per_period", "frames_per_period"}  # the trainer reads them from the manifests


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Which model."""

    model: Path = field(metadata={"help": "a released folder"})


def main() -> None:
    values = read_released_config(parse_flags(Settings, usage=__doc__ or "").model)["model"]
    for name, value in values.items():
        if name not in FROM_TOKENS and value is not None:
            text = str(value).lower() if isinstance(value, bool) else str(value)
            print(f"--{RENAMED.get(name, name).replace('_', '-')} {text}")


if __name__ == "__main__":
    run_program(main)
