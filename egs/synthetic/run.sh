#!/usr/bin/env bash
# Synthetic voices from nothing to a page to listen to: synthesise, tokenise, train, continue.

set -eou pipefail

stage=0               # first stage: 0 prepare, 1 train, 2 continue prompts of the test part
stop_stage=2          # last stage
num_hours=8           # hours of training speech
synthesisers=hibari   # who speaks, with shares of the voices: espeak=1,hibari=3
num_voices=80         # voices to train on
exp_dir=exp/audio-lm  # where the model and its continuations go
minutes=20            # minutes of training by the clock, with AdamW and a cosine; 0: by num_epochs, with ScaledAdam and Eden
num_epochs=20         # epochs where minutes is 0
world_size=1          # processes to train with, one a GPU
num_prompts=8         # recordings to continue
prompt_seconds=3      # seconds of each that are the prompt
max_seconds=10        # seconds of new audio
prepare_options=      # more options of prepare.sh, in one quoted word
acoustic_model=       # how units become codes: ar-nar, soundstorm, flat, delay or rq; not given: as conf says
train_options=        # more flags of bin/trainer_audiolm.py, in one quoted word
infer_options=        # more flags of bin/infer.py, in one quoted word

help_message="Usage: ./run.sh [options]      in egs/synthetic
Synthesise the corpus, train an AudioLM on it, and let it continue voices of the test part."

[ ./run.sh -ef "$0" ] || { echo "run.sh: error: run it in its own folder: cd egs/synthetic && ./run.sh" >&2; exit 2; }
. shared/parse_options.sh || exit 1
. shared/stages.sh

if [ $stage -le 0 ] && [ $stop_stage -ge 0 ]; then
  # shellcheck disable=SC2086  # options are words
  ./prepare.sh --num-hours "$num_hours" --num-voices "$num_voices" --synthesisers "$synthesisers" $prepare_options
fi

if [ $stage -le 1 ] && [ $stop_stage -ge 1 ]; then
  run_training
fi

if [ $stage -le 2 ] && [ $stop_stage -ge 2 ]; then
  run_continuations
fi
