#!/usr/bin/env python3
"""The sizes of a checkpoint or released model as settings of the trainer, so that --init-from fits.

python3 bin/settings_of_model.py --init-from FOLDER_OR_CHECKPOINT --output exp/finetune.yaml
python3 bin/trainer_audiolm.py --config exp/finetune.yaml --init-from FOLDER_OR_CHECKPOINT
"""

from __future__ import annotations

from valle.errors import end_on_ctrl_c

if __name__ == "__main__":
    end_on_ctrl_c()  # also while what follows is imported

from valle.config import parse_flags
from valle.errors import run_program
from valle.training.finetune import SettingsOf, write_trainer_settings


def main() -> None:
    settings = write_trainer_settings(parse_flags(SettingsOf, usage=__doc__ or ""))
    print(", ".join(f"{name} {value}" for name, value in settings.items()))


if __name__ == "__main__":
    run_program(main)
