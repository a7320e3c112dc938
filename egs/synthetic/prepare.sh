#!/usr/bin/env bash
# The embedded grammar's sentences by several synthesisers, natural ones among them, to cuts with tokens.  Nothing is downloaded.

set -eou pipefail

stage=0                  # first stage to run
stop_stage=4             # last stage to run
num_hours=8              # hours of training speech
dev_minutes=10           # minutes of dev
test_minutes=20          # minutes of test
synthesisers=hibari      # who speaks, with shares of the voices: espeak=1,hibari=3
kokoro_dir=              # kokoro: folder with one .onnx file and voices/NAME.bin
command=                 # command: a command line with {output}, and with {text}, {voice}, {speed}, {seed} as it takes them
command_voices=          # command: what {voice} is replaced by, separated by commas
num_voices=80            # voices in train, dev and half of test
num_test_voices=8        # voices that only test has
min_seconds=3            # shortest utterance
max_seconds=12           # longest utterance
seed=42                  # other seeds give other utterances
acoustic=bundled         # codec: bundled, encodec-24khz, NAME=FILE_OR_FOLDER, or a saved tokenizer's folder
semantic=bundled         # units: bundled, fit (on this corpus), none, NAME=FILE_OR_FOLDER, or a folder
num_units=200            # units to fit
level=speech             # bring every cut to one active speech level before it becomes tokens; or none
batch_seconds=60         # seconds of padded audio that are tokenised at a time
shard_seconds=1800       # seconds of audio in a shard of tokens, the work that a kill can lose
nj=2                     # threads that read and tokenise audio
device=cpu               # cpu or cuda

help_message="Usage: ./prepare.sh [options]      in egs/synthetic
English by several synthesisers, each multiplied to many voices.
Stages: 0 audio, 1 manifests, 2 tokenizers, 3 tokens, 4 cuts and statistics.
What is done is skipped, and done again when its settings change."

[ ./prepare.sh -ef "$0" ] || { echo "prepare.sh: error: run it in its own folder: cd egs/synthetic && ./prepare.sh" >&2; exit 2; }
. shared/parse_options.sh || exit 1
. shared/stages.sh

mkdir -p data download
take_the_lock

kokoro_files=""
[ -z "$kokoro_dir" ] || kokoro_files=$(cd "$kokoro_dir" && for file in *.onnx voices/*.bin; do hash_of < "$file"; done)
settings 0 "$synthesisers" "$kokoro_files" "$command" "$command_voices" "$num_hours" "$dev_minutes" "$test_minutes" "$num_voices" "$num_test_voices" "$min_seconds" "$max_seconds" "$seed"
settings 1
token_settings

if [ $stage -le 0 ] && [ $stop_stage -ge 0 ]; then
  if must_run 0 "audio" download/synthetic; then
    $python bin/synthesize_synthetic.py --output-dir download/synthetic --num-workers "$nj" --seed "$seed" --synthesisers "$synthesisers" \
      ${kokoro_dir:+--kokoro-dir "$kokoro_dir"} ${command:+--command "$command"} ${command_voices:+--command-voices "$command_voices"} \
      --num-hours "$num_hours" --dev-minutes "$dev_minutes" --test-minutes "$test_minutes" \
      --num-voices "$num_voices" --num-test-voices "$num_test_voices" --min-seconds "$min_seconds" --max-seconds "$max_seconds"
    mark_done 0
  fi
fi

if [ $stage -le 1 ] && [ $stop_stage -ge 1 ]; then
  if must_run 1 "manifests" data/manifests; then
    $python bin/prepare_synthetic.py --corpus-dir download/synthetic --output-dir data/manifests
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
  stage_cuts "synthetic voices"
fi
