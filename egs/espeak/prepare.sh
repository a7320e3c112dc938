#!/usr/bin/env bash
# The embedded corpus: English of many speakers, synthesised here, to cuts with tokens.  Nothing is downloaded.

set -eou pipefail

stage=0                  # first stage to run
stop_stage=4             # last stage to run
num_hours=8              # hours of training speech
dev_minutes=10           # minutes of dev
test_minutes=20          # minutes of test
num_voices=40            # voices in train, dev and half of test
num_test_voices=8        # voices that only test has
min_seconds=3            # shortest utterance
max_seconds=12           # longest utterance
seed=42                  # other seeds give other utterances
texts=sentences          # unrelated sentences, or discourse: short stories, or mixed: either in turns
withheld_words=0         # share of nouns, adjectives and verbs never said in train and dev, for tests of words
acoustic=bundled         # codec: bundled, encodec-24khz, NAME=FILE_OR_FOLDER, or a saved tokenizer's folder
semantic=bundled         # units: bundled, fit (on this corpus), none, NAME=FILE_OR_FOLDER, or a folder
num_units=200            # units to fit
level=speech             # bring every cut to one active speech level before it becomes tokens; or none
batch_seconds=60         # seconds of padded audio that are tokenised at a time
shard_seconds=1800       # seconds of audio in a shard of tokens, the work that a kill can lose
nj=2                     # threads that read and tokenise audio
device=cpu               # cpu or cuda

help_message="Usage: ./prepare.sh [options]      in egs/espeak
English of many speakers, synthesised on the spot.
Stages: 0 audio, 1 manifests, 2 tokenizers, 3 tokens, 4 cuts and statistics.
What is done is skipped, and done again when its settings change."

[ ./prepare.sh -ef "$0" ] || { echo "prepare.sh: error: run it in its own folder: cd egs/espeak && ./prepare.sh" >&2; exit 2; }
. shared/parse_options.sh || exit 1
. shared/stages.sh

mkdir -p data download
take_the_lock

said=()  # what is as it always was is no reason to do it again
[ "$texts $withheld_words" = "sentences 0" ] || said=(--texts "$texts" --withheld-words "$withheld_words")

settings 0 "$num_hours" "$dev_minutes" "$test_minutes" "$num_voices" "$num_test_voices" "$min_seconds" "$max_seconds" "$seed" \
  "${said[@]}"
settings 1
token_settings

if [ $stage -le 0 ] && [ $stop_stage -ge 0 ]; then
  if must_run 0 "audio" download/espeak; then
    $python bin/synthesize_espeak.py --output-dir download/espeak --num-workers "$nj" --seed "$seed" \
      --num-hours "$num_hours" --dev-minutes "$dev_minutes" --test-minutes "$test_minutes" \
      --num-voices "$num_voices" --num-test-voices "$num_test_voices" --min-seconds "$min_seconds" --max-seconds "$max_seconds" \
      "${said[@]}"
    mark_done 0
  fi
fi

if [ $stage -le 1 ] && [ $stop_stage -ge 1 ]; then
  if must_run 1 "manifests" data/manifests; then
    $python bin/prepare_espeak.py --corpus-dir download/espeak --output-dir data/manifests
    mark_done 1
  fi
fi

if [ $stage -le 2 ] && [ $stop_stage -ge 2 ]; then
  stage_tokenizers
fi

if [ $stage -le 3 ] && [ $stop_stage -ge 3 ]; then
  stage_tokens
fi

if [ $stage -le 4 ] && [ $stop_stage -ge 4 ]; then
  stage_cuts "eSpeak"
fi
