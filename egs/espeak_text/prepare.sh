#!/usr/bin/env bash
# The parallel corpus: sentences in several languages with their transcripts, synthesised here, to cuts with tokens.  Nothing is downloaded.

set -eou pipefail

stage=0                  # first stage to run
stop_stage=4             # last stage to run
languages=en,es          # two or more of en, es, de, fr
num_hours=8              # hours of training speech, of all languages together
dev_minutes=10           # minutes of dev
test_minutes=20          # minutes of test
num_texts=20000          # more training sentences, as text alone
num_voices=40            # voices in train, dev and half of test
num_test_voices=8        # voices that only test has
max_seconds=8            # longest sentence
seed=42                  # other seeds give other sentences
acoustic=bundled         # codec: bundled, encodec-24khz, NAME=FILE_OR_FOLDER, or a saved tokenizer's folder
semantic=fit             # units: fit (k-means on all languages), bundled (fitted on English), NAME=FILE_OR_FOLDER, or a folder
fit_encoder=valle-whisper  # whose states are clustered by fit: mfcc, valle-hubert, valle-whisper, or a run of trainer_speech_encoder.py
fit_layer=4              # the layer of that encoder
num_units=300            # units to fit
text=fit                 # text pieces: fit, or the folder of a text tokenizer or of a text model
num_pieces=1000          # text pieces to fit, 256 bytes among them
level=speech             # bring every cut to one active speech level before it becomes tokens; or none
batch_seconds=60         # seconds of padded audio that are tokenised at a time
shard_seconds=1800       # seconds of audio in a shard of tokens, the work that a kill can lose
nj=2                     # threads that read and tokenise audio
device=cpu               # cpu or cuda

help_message="Usage: ./prepare.sh [options]      in egs/espeak_text
Sentences that say one thing in several languages, synthesised on the spot, with their texts.
Stages: 0 audio, 1 manifests, 2 tokenizers, 3 tokens, 4 cuts and statistics.
What is done is skipped, and done again when its settings change."

[ ./prepare.sh -ef "$0" ] || { echo "prepare.sh: error: run it in its own folder: cd egs/espeak_text && ./prepare.sh" >&2; exit 2; }
. shared/parse_options.sh || exit 1
. shared/stages.sh

mkdir -p data download
take_the_lock

text_version=$text
[ "$text" = fit ] || text_version=$(tokenizer_version "$text")
settings 0 "$languages" "$num_hours" "$dev_minutes" "$test_minutes" "$num_voices" "$num_test_voices" "$max_seconds" "$seed"
settings 1 "$num_texts"
token_settings "$text_version" "$num_pieces" "$(tokenizer_version "$fit_encoder")" "$fit_layer"

if [ $stage -le 0 ] && [ $stop_stage -ge 0 ]; then
  if must_run 0 "audio" download/espeak_text; then
    $python bin/synthesize_espeak_text.py --output-dir download/espeak_text --num-workers "$nj" --seed "$seed" --languages "$languages" \
      --num-hours "$num_hours" --dev-minutes "$dev_minutes" --test-minutes "$test_minutes" \
      --num-voices "$num_voices" --num-test-voices "$num_test_voices" --max-seconds "$max_seconds"
    mark_done 0
  fi
fi

if [ $stage -le 1 ] && [ $stop_stage -ge 1 ]; then
  if must_run 1 "manifests" data/manifests; then
    $python bin/prepare_espeak_text.py --corpus-dir download/espeak_text --output-dir data/manifests --num-texts "$num_texts"
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
  stage_cuts "eSpeak, text and speech"
fi
