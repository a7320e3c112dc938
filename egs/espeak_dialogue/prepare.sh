#!/usr/bin/env bash
# Dialogues of two voices on two channels with their transcripts, synthesised here, to cuts with tokens.  Nothing is downloaded.

set -eou pipefail

stage=0                  # first stage to run
stop_stage=4             # last stage to run
num_hours=4              # hours of training dialogues; each channel is as long
dev_minutes=10           # minutes of dev
test_minutes=20          # minutes of test
num_voices=40            # voices in train, dev and half of test
num_test_voices=8        # voices that only test has
max_seconds=30           # longest dialogue
overlap_share=0.2        # share of answers that begin before their question has ended
silence_share=0.2        # share of exchanges with a silence of 1 to 2 s before them
back_channel_share=0.3   # share of long turns in which the listener says a word
seed=42                  # other seeds give other dialogues
acoustic=bundled         # codec: bundled, encodec-24khz, NAME=FILE_OR_FOLDER, or a saved tokenizer's folder
semantic=fit             # units: fit (MFCC k-means on this corpus), bundled (fitted on English), NAME=FILE_OR_FOLDER, or a folder
num_units=200            # units to fit
text=fit                 # text pieces: fit, or the folder of a text tokenizer or of a text model
num_pieces=800           # text pieces to fit, 256 bytes among them
level=speech             # bring every cut to one active speech level before it becomes tokens; or none
batch_seconds=60         # seconds of padded audio that are tokenised at a time
shard_seconds=1800       # seconds of audio in a shard of tokens, the work that a kill can lose
nj=2                     # threads that read and tokenise audio
device=cpu               # cpu or cuda

help_message="Usage: ./prepare.sh [options]      in egs/espeak_dialogue
Small talk of two voices on two channels, synthesised on the spot, with texts and word times.
Stages: 0 audio, 1 manifests, 2 tokenizers, 3 tokens, 4 cuts and statistics.
What is done is skipped, and done again when its settings change."

[ ./prepare.sh -ef "$0" ] || { echo "prepare.sh: error: run it in its own folder: cd egs/espeak_dialogue && ./prepare.sh" >&2; exit 2; }
. shared/parse_options.sh || exit 1
. shared/stages.sh

mkdir -p data download
take_the_lock

text_version=$text
[ "$text" = fit ] || text_version=$(tokenizer_version "$text")
settings 0 "$num_hours" "$dev_minutes" "$test_minutes" "$num_voices" "$num_test_voices" "$max_seconds" "$overlap_share" \
  "$silence_share" "$back_channel_share" "$seed"
settings 1
token_settings "$text_version" "$num_pieces"

if [ $stage -le 0 ] && [ $stop_stage -ge 0 ]; then
  if must_run 0 "audio" download/espeak_dialogue; then
    $python bin/synthesize_espeak_dialogue.py --output-dir download/espeak_dialogue --num-workers "$nj" --seed "$seed" \
      --num-hours "$num_hours" --dev-minutes "$dev_minutes" --test-minutes "$test_minutes" \
      --num-voices "$num_voices" --num-test-voices "$num_test_voices" --max-seconds "$max_seconds" \
      --overlap-share "$overlap_share" --silence-share "$silence_share" --back-channel-share "$back_channel_share"
    mark_done 0
  fi
fi

if [ $stage -le 1 ] && [ $stop_stage -ge 1 ]; then
  if must_run 1 "manifests" data/manifests; then
    $python bin/prepare_espeak_dialogue.py --corpus-dir download/espeak_dialogue --output-dir data/manifests
    mark_done 1
  fi
fi

if [ $stage -le 2 ] && [ $stop_stage -ge 2 ]; then
  stage_tokenizers_and_text
fi

if [ $stage -le 3 ] && [ $stop_stage -ge 3 ]; then
  stage_tokens
fi

if [ $stage -le 4 ] && [ $stop_stage -ge 4 ]; then
  stage_cuts "eSpeak, dialogues"
fi
