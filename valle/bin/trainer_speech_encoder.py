#!/usr/bin/env python3
"""Train a speech encoder from audio alone: HuBERT, wav2vec, vq-wav2vec, wav2vec 2.0 or w2v-BERT.

Usage, after stage 1 of a recipe (docs/semantic-training.md has the whole way to units):

  python3 bin/trainer_speech_encoder.py --exp-dir exp/hubert-1 --num-clusters 100 --max-minutes 10
  python3 bin/trainer_speech_encoder.py --exp-dir exp/hubert-2 --targets-from exp/hubert-1 --target-layer 3 --num-clusters 200 \\
    --max-minutes 12
  python3 bin/evaluate_units.py --exp-dir exp/hubert-2 --layers 3 4 5 --num-units 100 200 --output-dir exp/hubert-2/units
"""

from valle.errors import end_on_ctrl_c

if __name__ == "__main__":
    end_on_ctrl_c()  # also while what follows is imported

from pathlib import Path

from valle.config import parse_flags
from valle.errors import run_program
from valle.training.speech_encoder_options import SpeechEncoderOptions
from valle.training.train_speech_encoder import train_speech_encoder


def main() -> None:
    train_speech_encoder(parse_flags(SpeechEncoderOptions, usage=__doc__ or "", config_files=[Path("conf/trainer_speech_encoder.yaml")]))


if __name__ == "__main__":
    run_program(main)
