#!/usr/bin/env bash
# From nothing to a voice that goes on: synthesise, tokenise, train a small AudioLM, continue, report.

set -eou pipefail

fast=false               # the same path in under three minutes, for a first look and for CI
num_hours=4.5            # hours of synthetic speech to train on, about as many as are read
train_minutes=7.5        # minutes of training
semantic=mfcc-kmeans     # units: mfcc-kmeans takes the least work and is learned soonest; bundled wants more minutes
exp_dir=exp/demo         # where the model, the sounds and summary.json go

help_message="Usage: ./demo.sh [options]      in egs/espeak
Trains a small AudioLM on synthetic speech and lets you hear it."

[ ./demo.sh -ef "$0" ] || { echo "demo.sh: error: run it in its own folder: cd egs/espeak && ./demo.sh" >&2; exit 2; }
. shared/parse_options.sh || exit 1

export PYTHONPATH="$(cd ../.. && pwd)${PYTHONPATH:+:$PYTHONPATH}"
sizes=(--num-hours "$num_hours" --num-voices 40)
training=(--max-minutes "$train_minutes")
num_prompts=16 num_judged=64
if $fast; then
  exp_dir=exp/demo-fast
  sizes=(--num-hours 0.4 --num-voices 12 --num-test-voices 4 --dev-minutes 2 --test-minutes 4)
  training=(--max-minutes 0.6 --decoder-dim 128 --num-decoder-layers 2 --valid-max-cuts 20)
  num_prompts=6 num_judged=16
fi

started=$(date +%s)
./prepare.sh --semantic "$semantic" "${sizes[@]}"
rm -rf "$exp_dir"  # each demo is a run of its own
python3 bin/trainer_audiolm.py --config conf/demo.yaml --exp-dir "$exp_dir" "${training[@]}"
python3 bin/demo_report.py --exp-dir "$exp_dir" --num-prompts "$num_prompts" --num-judged "$num_judged" --started "$started"
