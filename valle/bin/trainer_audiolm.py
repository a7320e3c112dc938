#!/usr/bin/env python3
"""Train an AudioLM on tokenized cuts.

Usage, in egs/<corpus> after ./prepare.sh:

  python3 bin/trainer_audiolm.py --model-name audio-lm --exp-dir exp/audio-lm \\
      --decoder-dim 1024 --nhead 16 --num-decoder-layers 12 --num-quantizers 4 \\
      --max-duration 150 --train-stage 0 --manifest-dir data/tokenized

  a size by name:    --preset tiny | small | base   (base is the papers', the rest are for CPUs)
  several GPUs:      torchrun --nproc-per-node 4 bin/trainer_audiolm.py ...   (or --world-size 4)
  one stage:         --train-stage semantic | coarse | fine   (0 all, 1 coarse, 2 fine)
  go on:             the same command; another configuration in the same --exp-dir is refused
  fine-tune:         --init-from FOLDER_OR_CHECKPOINT

Settings come from the defaults, then the preset, then conf/trainer_audiolm.yaml, then --config FILE, then flags.
"""

from valle.errors import end_on_ctrl_c

if __name__ == "__main__":
    end_on_ctrl_c()  # also while what follows is imported

from pathlib import Path

from valle.config import parse_flags
from valle.errors import run_program
from valle.training.options import AudioLMOptions
from valle.training.train import train_audio_lm


def main() -> None:
    train_audio_lm(parse_flags(AudioLMOptions, usage=__doc__ or "", config_files=[Path("conf/trainer_audiolm.yaml")]))


if __name__ == "__main__":
    run_program(main)
