#!/usr/bin/env python3
"""Train a codec on the audio of manifests: ConvNeXt and inverse STFT, or SoundStream, with or without an adversary.

Usage, after stage 1 of the recipes whose audio it shall learn:

  python3 bin/trainer_codec.py --exp-dir exp/codec --manifests data/manifests/cuts_train.jsonl.gz \\
      --optimizer-name AdamW --scheduler-name cosine --base-lr 0.002 --max-minutes 45

Going on from the bundled one against discriminators:

  python3 bin/trainer_codec.py --exp-dir exp/codec-gan --init-codec valle-convnext --adversarial msstft \\
      --manifests data/manifests/cuts_train.jsonl.gz --valid-manifest data/manifests/cuts_dev.jsonl.gz \\
      --optimizer-name AdamW --scheduler-name cosine --base-lr 0.0003 --discriminator-lr 0.001 --max-minutes 45

It leaves the folder exp/codec/codec, which prepare.sh takes as --acoustic; checkpoints hold the discriminators too.
"""

from valle.errors import end_on_ctrl_c

if __name__ == "__main__":
    end_on_ctrl_c()  # also while what follows is imported

from pathlib import Path

from valle.config import parse_flags
from valle.errors import run_program
from valle.training.codec_task import CodecOptions
from valle.training.train_codec import train_codec


def main() -> None:
    train_codec(parse_flags(CodecOptions, usage=__doc__ or "", config_files=[Path("conf/trainer_codec.yaml")]))


if __name__ == "__main__":
    run_program(main)
