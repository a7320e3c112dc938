#!/usr/bin/env bash
# Solo piano to windows of 5 to 15 s with codes: ./prepare.sh --audio-dir DIR, for ATEPP, MAESTRO or any folder of
# recordings.  No piece is in two of train, dev and test.

set -eou pipefail

stage=0                  # first stage to run
stop_stage=4             # last stage to run
audio_dir=               # folder of recordings: ATEPP, MAESTRO or any other
min_seconds=5            # no window is shorter
max_seconds=15           # no window is longer
cutting=silence          # cut at quiet places (silence) or evenly (windows)
piece=auto               # what all recordings of a piece share: file, folder, or auto (folder in ATEPP)
dev_share=0.1            # share of pieces for dev
test_share=0.1           # share of pieces for test
seed=42                  # another seed gives another split
tokenizer=bundled        # codec: bundled, encodec-24khz, NAME=FILE_OR_FOLDER, or a saved tokenizer's folder
level=none               # none, or speech: every cut is brought to one active speech level before it becomes tokens
batch_seconds=60         # seconds of padded audio that are tokenised at a time
shard_seconds=1800       # seconds of audio in a shard of tokens, the work that a kill can lose
nj=2                     # threads that read and tokenise audio
device=cpu               # cpu or cuda

help_message="Usage: ./prepare.sh [options]      in egs/atepp
Solo piano, codes only.
Stages: 0 audio, 1 manifests, 2 tokenizers, 3 tokens, 4 cuts and statistics.
What is done is skipped, and done again when its settings change."

[ ./prepare.sh -ef "$0" ] || { echo "prepare.sh: error: run it in its own folder: cd egs/atepp && ./prepare.sh" >&2; exit 2; }
. shared/parse_options.sh || exit 1
. shared/stages.sh

[ -n "$audio_dir" ] || fail "expected the folder of the recordings, found none; give --audio-dir DIR"
[ -d "$audio_dir" ] || fail "--audio-dir expects a folder, found none at $audio_dir"
mkdir -p data
take_the_lock
acoustic=$tokenizer
semantic=none
num_units=200  # not used

content=$($python bin/fingerprint_folder.py --audio-dir "$audio_dir") || exit $?
settings 0 "$(resolved "$audio_dir")" "$content"
settings 1 "$min_seconds" "$max_seconds" "$cutting" "$piece" "$dev_share" "$test_share" "$seed"
token_settings

if [ $stage -le 0 ] && [ $stop_stage -ge 0 ]; then
  if must_run 0 "audio"; then
    log "Stage 0: the recordings stay in $audio_dir"
    mark_done 0
  fi
fi

if [ $stage -le 1 ] && [ $stop_stage -ge 1 ]; then
  if must_run 1 "manifests" data/manifests; then
    $python bin/prepare_piano.py --audio-dir "$audio_dir" --output-dir data/manifests --num-workers "$nj" --seed "$seed" \
      --min-seconds "$min_seconds" --max-seconds "$max_seconds" --cutting "$cutting" \
      --piece "$piece" --dev-share "$dev_share" --test-share "$test_share"
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
  stage_cuts "Piano"
fi
