#!/usr/bin/env bash
# LibriSpeech, or any folder in its layout, to a page to listen to: manifests, tokens, training, continuations.

set -eou pipefail

stage=0               # first stage: 0 prepare, 1 train, 2 continue prompts of the test part
stop_stage=2          # last stage
corpus_dir=           # folder in LibriSpeech's layout; none: downloaded
train_parts=train-clean-100  # parts for train, separated by spaces or commas
dev_parts=dev-clean   # parts for dev
test_parts=           # parts for test; none: half of dev's
exp_dir=exp/audio-lm  # where the model and its continuations go
minutes=60            # minutes of training by the clock, with AdamW and a cosine; 0: by num_epochs, with ScaledAdam and Eden
num_epochs=20         # epochs where minutes is 0
world_size=1          # processes to train with, one a GPU
num_prompts=8         # recordings to continue
prompt_seconds=3      # seconds of each that are the prompt
max_seconds=10        # seconds of new audio
prepare_options=      # more options of prepare.sh, in one quoted word
acoustic_model=       # how units become codes: ar-nar, soundstorm, flat, delay or rq; not given: as conf says
train_options=        # more flags of bin/trainer_audiolm.py, in one quoted word
infer_options=        # more flags of bin/infer.py, in one quoted word

help_message="Usage: ./run.sh [options]      in egs/librispeech
Prepare LibriSpeech, train an AudioLM on it, and let it continue speakers of the test part."

[ ./run.sh -ef "$0" ] || { echo "run.sh: error: run it in its own folder: cd egs/librispeech && ./run.sh" >&2; exit 2; }
. shared/parse_options.sh || exit 1
. shared/stages.sh

if [ $stage -le 0 ] && [ $stop_stage -ge 0 ]; then
  # shellcheck disable=SC2086  # options are words
  ./prepare.sh --corpus-dir "$corpus_dir" --train-parts "$train_parts" --dev-parts "$dev_parts" --test-parts "$test_parts" $prepare_options
fi

if [ $stage -le 1 ] && [ $stop_stage -ge 1 ]; then
  run_training
fi

if [ $stage -le 2 ] && [ $stop_stage -ge 2 ]; then
  run_continuations
fi
