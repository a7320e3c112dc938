#!/usr/bin/env bash
# One model of several corpora: mix what other recipes prepared, train, release, continue.  The bundled AudioLM is made so.

set -eou pipefail

stage=0               # first stage: 0 mix, 1 train, 2 write the released folder, 3 continue prompts of the test part
stop_stage=3          # last stage
manifest_dirs="../espeak/data/tokenized ../librispeech/data/tokenized"  # prepared corpora, separated by spaces
repeats="1 3"         # how often train has each of them
exp_dir=exp/audio-lm  # where the model and its continuations go
released=$exp_dir/released  # folder that bin/infer.py takes as --model
minutes=95            # minutes of training by the clock, with AdamW and a cosine; 0: by num_epochs, with ScaledAdam and Eden
num_epochs=20         # epochs where minutes is 0
world_size=1          # processes to train with, one a GPU
num_prompts=8         # recordings to continue
prompt_seconds=3      # seconds of each that are the prompt
max_seconds=10        # seconds of new audio
acoustic_model=       # how units become codes: ar-nar, soundstorm, flat, delay or rq; not given: as conf says
train_options=        # more flags of bin/trainer_audiolm.py, in one quoted word
infer_options=        # more flags of bin/infer.py, in one quoted word

help_message="Usage: ./run.sh [options]      in egs/mixed
Train one AudioLM on corpora that other recipes have prepared with the same tokenizers."

[ -e bin ] || { echo "run.sh: error: run it in its own folder: cd egs/mixed && ./run.sh" >&2; exit 2; }
. shared/parse_options.sh || exit 1
. shared/stages.sh

if [ $stage -le 0 ] && [ $stop_stage -ge 0 ]; then
  # shellcheck disable=SC2086  # lists are words
  $python bin/mix_tokens.py --manifest-dirs $manifest_dirs --repeats $repeats --output-dir data/tokenized
fi

if [ $stage -le 1 ] && [ $stop_stage -ge 1 ]; then
  run_training
fi

if [ $stage -le 2 ] && [ $stop_stage -ge 2 ]; then
  $python bin/export.py --exp-dir "$exp_dir" --output-dir "$released"
fi

if [ $stage -le 3 ] && [ $stop_stage -ge 3 ]; then
  run_continuations
fi
