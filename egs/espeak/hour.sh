#!/usr/bin/env bash
# The best model that an hour of two cores trains on the embedded corpus, and its figures: words, agreement, stories, sound, marks.

set -eou pipefail

stage=0                  # first stage: 0 corpus, 1 unit pairs, 2 train, 3 join the stages into one folder, 4 measure
stop_stage=4             # last stage
num_hours=12             # hours of training speech
num_voices=100           # voices to train on
withheld_words=0.2       # share of words never said in train and dev, which the language suites ask for
vocab_size=1000          # kinds of frequent unit sequences that the semantic stage predicts
semantic_minutes=60      # minutes of the semantic stage, on the first core
coarse_minutes=25        # minutes of the coarse stage, on the second core
fine_minutes=35          # minutes of the fine stage, after the coarse one
exp_dir=exp/hour         # where the runs, the released folder and the reports go
language_items=1000      # pairs of each language suite
max_items=64             # utterances or prompts of the other suites
whisper=                 # folder of a Whisper model for words; not given: no words are heard
speaker=                 # speaker encoder, such as resemblyzer; not given: no cosines of voices
prepare_options=         # more options of prepare.sh, in one quoted word
train_options=           # more flags of bin/trainer_audiolm.py for every stage, in one quoted word
evaluate_options=        # more flags of bin/evaluate.py, in one quoted word

help_message="Usage: ./hour.sh [options]      in egs/espeak
Train the stages of an AudioLM side by side, one thread each, and measure the model.
A run that was stopped goes on where it was: give the same command again."

[ ./hour.sh -ef "$0" ] || { echo "hour.sh: error: run it in its own folder: cd egs/espeak && ./hour.sh" >&2; exit 2; }
. shared/parse_options.sh || exit 1
. shared/stages.sh

# train STAGE MINUTES FLAG...: one stage in a run of its own, on one thread; becomes that run, so call it in a shell of its own.
train() {
  # shellcheck disable=SC2086  # options are words
  OMP_NUM_THREADS=1 exec $python bin/trainer_audiolm.py --config conf/hour.yaml --train-stage "$1" --exp-dir "$exp_dir/$1" \
    --unit-bpe "$exp_dir/unit_bpe.json" --max-minutes "$2" --num-threads 1 "${@:3}" $train_options
}

measure() {
  # shellcheck disable=SC2086  # options are words
  $python bin/evaluate.py --model "$exp_dir/released" --corpus data/tokenized --output-dir "$exp_dir/$1" "${@:2}" $evaluate_options
}

if [ $stage -le 0 ] && [ $stop_stage -ge 0 ]; then
  # shellcheck disable=SC2086  # options are words
  ./prepare.sh --num-hours "$num_hours" --num-voices "$num_voices" --texts mixed --withheld-words "$withheld_words" $prepare_options
fi

if [ $stage -le 1 ] && [ $stop_stage -ge 1 ]; then
  if [ ! -e "$exp_dir/unit_bpe.json" ]; then
    mkdir -p "$exp_dir"
    $python bin/fit_unit_bpe.py --vocab-size "$vocab_size" --output "$exp_dir/unit_bpe.json"
  fi
fi

if [ $stage -le 2 ] && [ $stop_stage -ge 2 ]; then
  log "training: semantic for $semantic_minutes minutes; beside it coarse for $coarse_minutes and fine for $fine_minutes"
  train semantic "$semantic_minutes" &
  semantic=$!
  trap 'kill $semantic 2> /dev/null || true' EXIT
  (train coarse "$coarse_minutes")
  (train fine "$fine_minutes" --base-lr 0.001 --max-duration 100 --fine-crops 2)
  wait $semantic || fail "the semantic stage failed; what it says is above"
  trap - EXIT
fi

if [ $stage -le 3 ] && [ $stop_stage -ge 3 ]; then
  $python bin/export.py --exp-dir "$exp_dir/fine" --stages-from "semantic=$exp_dir/semantic" "coarse=$exp_dir/coarse" \
    --output-dir "$exp_dir/released"
fi

if [ $stage -le 4 ] && [ $stop_stage -ge 4 ]; then
  $python bin/make_language_suites.py --output-dir "$exp_dir/items" --max-items "$language_items" --withheld-words "$withheld_words"
  measure language --suite language --language-items "$exp_dir/items" --max-items "$language_items"
  for suite in units continuation safety; do
    measure "$suite" --suite "$suite" --max-items "$max_items" ${whisper:+--whisper "$whisper"} ${speaker:+--speaker "$speaker"}
  done
  log "reports: $exp_dir/{language,units,continuation,safety}/report.html"
fi
