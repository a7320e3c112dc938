#!/usr/bin/env python3
"""Train an AudioLM, or another of the models by name, on tokenized cuts.

Usage, in egs/<corpus> after ./prepare.sh:

  python3 bin/trainer_audiolm.py --model-name audio-lm --exp-dir exp/audio-lm \\
      --decoder-dim 1024 --nhead 16 --num-decoder-layers 12 --num-quantizers 4 \\
      --max-duration 150 --train-stage 0 --manifest-dir data/tokenized

  a size by name:    --preset tiny | small | base   (base is the papers', the rest are for CPUs)
  several GPUs:      torchrun --nproc-per-node 4 bin/trainer_audiolm.py ...   (or --world-size 4)
  one stage:         --train-stage semantic | coarse | fine   (0 all, 1 coarse, 2 fine)
  text and speech:   --model-name joint-lm, speech-llama or conversation   (with --help after it, its flags are listed)
  go on:             the same command; another configuration in the same --exp-dir is refused
  fine-tune:         --init-from FOLDER_OR_CHECKPOINT

Settings come from the defaults, then the preset, then conf/trainer_audiolm.yaml, then --config FILE, then flags.
"""

from valle.errors import end_on_ctrl_c

if __name__ == "__main__":
    end_on_ctrl_c()  # also while what follows is imported

import sys

from valle.config import parse_flags
from valle.errors import run_program
from valle.training.model_names import chosen_model


def main() -> None:
    model = chosen_model(sys.argv[1:])
    model.train(parse_flags(model.options, usage=__doc__ or "", config_files=[model.config_file]))


if __name__ == "__main__":
    run_program(main)
