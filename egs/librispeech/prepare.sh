#!/usr/bin/env bash
# LibriSpeech, or any folder in its layout, to cuts with tokens.  If you have the corpus already, give its folder
# (the one that holds train-clean-100 and the like) as --corpus-dir, or link it as download/LibriSpeech.

set -eou pipefail

stage=0                      # first stage to run
stop_stage=4                 # last stage to run; 5 also finds the phone times of dev and test, for ABX
corpus_dir=                  # folder in LibriSpeech's layout; none: download/LibriSpeech, downloaded where it is missing
train_parts=train-clean-100  # parts for train, separated by spaces or commas
dev_parts=dev-clean          # parts for dev
test_parts=                  # parts for test; default: half of dev, by chapter or utterance
speeds=                      # train has every utterance at these speeds too, such as "0.9 1.1", each as another speaker
acoustic=bundled             # codec: bundled, encodec-24khz, NAME=FILE_OR_FOLDER, or a saved tokenizer's folder
semantic=bundled             # units: bundled, fit (on this corpus), none, NAME=FILE_OR_FOLDER, or a folder
num_units=200                # units to fit
level=speech             # bring every cut to one active speech level before it becomes tokens; or none
batch_seconds=60             # seconds of padded audio that are tokenised at a time
shard_seconds=1800           # seconds of audio in a shard of tokens, the work that a kill can lose
nj=2                         # threads that read and tokenise audio
device=cpu                   # cpu or cuda

help_message="Usage: ./prepare.sh [options]      in egs/librispeech
Stages: 0 audio, 1 manifests, 2 tokenizers, 3 tokens, 4 cuts and statistics, 5 phone times (only where asked for).
What is done is skipped, and done again when its settings change."

[ ./prepare.sh -ef "$0" ] || { echo "prepare.sh: error: run it in its own folder: cd egs/librispeech && ./prepare.sh" >&2; exit 2; }
. shared/parse_options.sh || exit 1
. shared/stages.sh

train_parts=${train_parts//,/ }
dev_parts=${dev_parts//,/ }
test_parts=${test_parts//,/ }
speeds=${speeds//,/ }
corpus=${corpus_dir:-download/LibriSpeech}
[ -n "$train_parts" ] && [ -n "$dev_parts" ] || fail "--train-parts and --dev-parts expect names of parts, found none"
[ -z "$corpus_dir" ] || [ -d "$corpus_dir" ] || fail "--corpus-dir expects a folder in LibriSpeech's layout, found none at $corpus_dir"
mkdir -p data download
take_the_lock

settings 0 "$corpus_dir" "$train_parts" "$dev_parts" "$test_parts"
settings 1 "$(resolved "$corpus")" "$speeds"
token_settings

if [ $stage -le 0 ] && [ $stop_stage -ge 0 ]; then
  if must_run 0 "audio"; then
    if [ -z "$corpus_dir" ]; then
      missing=
      for part in $train_parts $dev_parts $test_parts; do
        [ -d "download/LibriSpeech/$part" ] && [ ! -e "download/$part.tar.gz" ] || missing="$missing $part"
      done
      [ -z "$missing" ] || $python bin/download_librispeech.py --output-dir download --parts $missing
    else
      log "Stage 0: the corpus is in $corpus_dir"
    fi
    mark_done 0
  fi
fi

if [ $stage -le 1 ] && [ $stop_stage -ge 1 ]; then
  if must_run 1 "manifests" data/manifests; then
    $python bin/prepare_librispeech.py --corpus-dir "$corpus" --output-dir data/manifests --num-workers "$nj" \
      --train-parts $train_parts --dev-parts $dev_parts ${test_parts:+--test-parts $test_parts} ${speeds:+--speeds $speeds}
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
  stage_cuts "LibriSpeech"
fi

if [ $stage -le 5 ] && [ $stop_stage -ge 5 ]; then
  log "Stage 5: phone times"  # needs stage 1 alone; the program skips what is done
  $python bin/align_phones.py --manifests data/manifests/cuts_{dev,test}.jsonl.gz --output-dir data/aligned
fi
