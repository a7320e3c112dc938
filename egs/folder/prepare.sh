#!/usr/bin/env bash
# Anyone's own recordings to cuts with tokens: ./prepare.sh --audio-dir DIR.  Any nesting, format, rate and number of
# channels; what cannot be used is listed with its reason in data/report.html and stops nothing.

set -eou pipefail

stage=0                  # first stage to run
stop_stage=4             # last stage to run
audio_dir=               # folder of recordings, nested as you like
min_seconds=1            # shorter files are left out
max_seconds=15           # longer files are cut
cutting=silence          # cut long files at quiet places (silence) or evenly (windows)
split_by=file            # file, or speaker: the folder at the top that a file is in
dev_share=0.05           # share of files or speakers for dev
test_share=0.05          # share of files or speakers for test
seed=42                  # another seed gives another split
text_suffix=             # texts beside the recordings: the ending of their files, such as .txt
text_table=              # texts in a table, tab-separated, with the columns path and sentence (Common Voice)
transcribe=              # or a Whisper model (a folder, or a name in the hub's cache) that writes the texts
language=English         # language of the texts, by its English name
language_code=en         # the same as Whisper names it
num_pieces=1000          # text pieces to fit where there are texts, 256 bytes among them
acoustic=bundled         # codec: bundled, encodec-24khz, NAME=FILE_OR_FOLDER, or a saved tokenizer's folder
semantic=bundled         # units: bundled, fit (on this corpus), none, NAME=FILE_OR_FOLDER, or a folder
num_units=200            # units to fit
level=speech             # bring every cut to one active speech level before it becomes tokens; or none
batch_seconds=60         # seconds of padded audio that are tokenised at a time
shard_seconds=1800       # seconds of audio in a shard of tokens, the work that a kill can lose
nj=2                     # threads that read and tokenise audio
device=cpu               # cpu or cuda

help_message="Usage: ./prepare.sh [options]      in egs/folder
Your own recordings: wav, flac, mp3, ogg, opus, m4a, aiff and more.
Stages: 0 audio, 1 manifests, 2 tokenizers, 3 tokens, 4 cuts and statistics.
What is done is skipped, and done again when its settings change."

[ ./prepare.sh -ef "$0" ] || { echo "prepare.sh: error: run it in its own folder: cd egs/folder && ./prepare.sh" >&2; exit 2; }
. shared/parse_options.sh || exit 1
. shared/stages.sh

[ -n "$audio_dir" ] || fail "expected the folder of your recordings, found none; give --audio-dir DIR"
[ -d "$audio_dir" ] || fail "--audio-dir expects a folder, found none at $audio_dir"
mkdir -p data
take_the_lock

content=$($python bin/fingerprint_folder.py --audio-dir "$audio_dir") || exit $?
about_texts=() about_pieces=() text=fit
if [ -n "$text_suffix$text_table$transcribe" ]; then
  if [ -n "$text_suffix" ]; then  # what is written in them counts, and not only their names
    texts=$(find -L "$audio_dir" -type f -name "*$text_suffix" -exec cksum {} + | LC_ALL=C sort | cksum)
  fi
  about_texts=("$text_suffix" "${texts:-}" "$text_table" "${text_table:+$(cksum < "$text_table")}" "$transcribe" "$language" "$language_code")
  about_pieces=("$num_pieces")
fi
settings 0 "$(resolved "$audio_dir")" "$content"
settings 1 "$min_seconds" "$max_seconds" "$cutting" "$split_by" "$dev_share" "$test_share" "$seed" \
  ${about_texts[@]+"${about_texts[@]}"}
token_settings ${about_pieces[@]+"${about_pieces[@]}"}

if [ $stage -le 0 ] && [ $stop_stage -ge 0 ]; then
  if must_run 0 "audio"; then
    log "Stage 0: the recordings stay in $audio_dir"
    mark_done 0
  fi
fi

if [ $stage -le 1 ] && [ $stop_stage -ge 1 ]; then
  if must_run 1 "manifests" data/manifests; then
    $python bin/prepare_folder.py --audio-dir "$audio_dir" --output-dir data/manifests --num-workers "$nj" --seed "$seed" \
      --min-seconds "$min_seconds" --max-seconds "$max_seconds" --cutting "$cutting" \
      --split-by "$split_by" --dev-share "$dev_share" --test-share "$test_share" \
      ${text_suffix:+--text-suffix "$text_suffix"} ${text_table:+--text-table "$text_table"} --language "$language"
    if [ -n "$transcribe" ]; then
      $python bin/transcribe_cuts.py --manifest-dir data/manifests --whisper "$transcribe" --language "$language" --language-code "$language_code"
    fi
    mark_done 1
  fi
fi

if [ $stage -le 2 ] && [ $stop_stage -ge 2 ]; then
  if [ ${#about_pieces[@]} -gt 0 ]; then
    stage_tokenizers_and_text
  else
    stage_tokenizers
  fi
fi

if [ $stage -le 3 ] && [ $stop_stage -ge 3 ]; then
  stage_tokens
fi

if [ $stage -le 4 ] && [ $stop_stage -ge 4 ]; then
  stage_cuts "Own recordings"
fi
