#!/usr/bin/env bash
# The dialogue corpus from nothing to a model that speaks the next turn: synthesise, tokenise, train, converse.

set -eou pipefail

stage=0                  # first stage: 0 prepare, 1 train the conversation model, 2 converse, 3 train an AudioLM on both channels
stop_stage=2             # last stage; 3 trains an AudioLM too
num_hours=4              # hours of training dialogues
num_voices=40            # voices to train on
talk_dir=exp/conversation  # where the conversation model goes
talk_minutes=60          # minutes of its training, by the clock
talk_options=            # more flags of bin/trainer_audiolm.py --model-name conversation, in one quoted word
exp_dir=exp/audio-lm     # where the AudioLM goes
minutes=20               # minutes of its training; 0: by num_epochs, with ScaledAdam and Eden
num_epochs=20            # epochs where minutes is 0
world_size=1             # processes to train with, one a GPU
acoustic_model=          # how units become codes: ar-nar, soundstorm, flat, delay or rq; not given: as conf says
train_options=           # more flags of bin/trainer_audiolm.py for the AudioLM, in one quoted word
prepare_options=         # more options of prepare.sh, in one quoted word

help_message="Usage: ./run.sh [options]      in egs/espeak_dialogue
Synthesise dialogues, train a model of the next turn on them, and let it answer in one of them."

[ ./run.sh -ef "$0" ] || { echo "run.sh: error: run it in its own folder: cd egs/espeak_dialogue && ./run.sh" >&2; exit 2; }
. shared/parse_options.sh || exit 1
. shared/stages.sh

if [ $stage -le 0 ] && [ $stop_stage -ge 0 ]; then
  # shellcheck disable=SC2086  # options are words
  ./prepare.sh --num-hours "$num_hours" --num-voices "$num_voices" $prepare_options
fi

if [ $stage -le 1 ] && [ $stop_stage -ge 1 ]; then
  log "training into $talk_dir"
  # shellcheck disable=SC2086  # options are words
  $python bin/trainer_audiolm.py --model-name conversation --exp-dir "$talk_dir" --world-size "$world_size" --num-epochs 100000 \
    --max-minutes "$talk_minutes" --scheduler-name cosine $talk_options
fi

if [ $stage -le 2 ] && [ $stop_stage -ge 2 ]; then
  printf 'Anna\tWhere did you find the red hammer?\nPeter\tI found the hammer behind the castle.\n' > "$talk_dir/talk.tsv"
  $python bin/converse.py --model "$talk_dir" --script "$talk_dir/talk.tsv" --output-dir "$talk_dir/conversed"
  log "listen: $talk_dir/conversed"
fi

if [ $stage -le 3 ] && [ $stop_stage -ge 3 ]; then
  run_training
fi
