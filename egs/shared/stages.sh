# What every prepare.sh has in common: the log, and which stages must run.  Sourced after parse_options.sh.
#
# A stage's key is a hash of its settings and of the keys of the stages before it.  A finished stage leaves its key in
# data/.stages/N; it is skipped while the key stays, and redone when a setting of it or of an earlier stage changes.
# data/.stages/N.started says under which key the work in progress was begun, so that a stage that was killed goes
# on, and one that was begun under other settings starts anew.

export PYTHONPATH="$(cd ../.. && pwd)${PYTHONPATH:+:$PYTHONPATH}"
python=python3
if [ -z "${VIRTUAL_ENV:-}" ] && [ -x ../../.venv/bin/python3 ]; then
  python=../../.venv/bin/python3
fi

stages_folder=data/.stages
layout_version=2  # raise it when a stage leaves something else for the same settings

log() {
  echo "$(date '+%Y-%m-%d %H:%M:%S') ($(basename "$0")) $*"
}

fail() {
  echo "$(basename "$0"): error: $*" >&2
  exit 2
}

# One run at a time in a recipe's folder.  A killed run can leave a program behind, which is waited for.
take_the_lock() {
  mkdir -p "$stages_folder"
  command -v flock > /dev/null || return 0
  exec 9> "$stages_folder/lock"
  flock -n 9 && return 0
  log "another run is working in $(pwd); waiting for it to end"
  flock 9
}

hash_of() {
  if command -v sha256sum > /dev/null; then sha256sum; else shasum -a 256; fi | cut -d ' ' -f 1
}

# settings N WORD...: declares what decides the content of stage N, for every stage, in order.
stage_keys=()
settings() {
  local number=$1 before=""
  shift
  [ "$number" -eq 0 ] || before=${stage_keys[$number - 1]}
  stage_keys[$number]=$(printf '%s\0' "$layout_version" "$before" "$@" | hash_of)
}

# is_done N OUTPUT...: finished under the present settings, and nobody removed what it left.
is_done() {
  local output
  [ "$(cat "$stages_folder/$1" 2> /dev/null)" = "${stage_keys[$1]}" ] || return 1
  for output in "${@:2}"; do
    [ -e "$output" ] || return 1
  done
}

# must_run N TITLE OUTPUT...: true unless stage N is done.  Outputs begun under other settings are removed.
must_run() {
  local number=$1 title=$2 marker
  shift 2
  if is_done "$number" "$@"; then
    log "Stage $number: $title: already done, skipped"
    return 1
  fi
  [ "$number" -eq 0 ] || is_done $((number - 1)) ||
    fail "stage $number needs stage $((number - 1)) with the same settings, which is not done; start with --stage $((number - 1)) or lower"
  log "Stage $number: $title"
  for marker in "$stages_folder"/[0-9]; do
    if [ -e "$marker" ] && [ "${marker##*/}" -ge "$number" ]; then rm -f "$marker"; fi
  done
  if [ "$(cat "$stages_folder/$number.started" 2> /dev/null)" != "${stage_keys[$number]}" ]; then
    rm -f "$stages_folder/$number.started"
    if [ $# -gt 0 ]; then rm -rf -- "$@"; fi
    mark "$number.started" "${stage_keys[$number]}"
  fi
}

mark() {
  echo "$2" > "$stages_folder/.$1.tmp"
  mv "$stages_folder/.$1.tmp" "$stages_folder/$1"
}

mark_done() {
  mark "$1" "${stage_keys[$1]}"
}

# Content of a tokenizer given as NAME, NAME=PATH or a folder, so that new weights count as a changed setting.
tokenizer_version() {
  local path=../../valle/assets/tokenizers/$1
  [ -e "$path" ] || path=${1#*=}
  if [ -e "$path" ]; then
    find -L "$path" -type f ! -name '.*' | LC_ALL=C sort | while IFS= read -r file; do hash_of < "$file"; done | hash_of
  else
    echo "$1"
  fi
}

# A path without links and dots, so that the same folder is the same setting.
resolved() {
  (cd "$1" 2> /dev/null && pwd -P) || echo "$1"
}

# Stages 2, 3 and 4 are the same for every corpus; a recipe declares the options that they use.

# token_settings WORD...: with what else decides stage 2
token_settings() {
  settings 2 "$(tokenizer_version "${acoustic/#bundled/valle-convnext}")" \
    "$(tokenizer_version "${semantic/#bundled/valle-whisper}")" "$num_units" "$@"
  settings 3 "$batch_seconds" "$shard_seconds" "$device" "$level"
  settings 4
}

stage_tokenizers() {
  must_run 2 "tokenizers" data/tokenizers || return 0
  $python bin/prepare_tokenizers.py --acoustic "$acoustic" --semantic "$semantic" --num-units "$num_units"
  mark_done 2
}

# stage_tokenizers of a corpus with transcripts; it declares text and num_pieces too, and may declare fit_encoder and fit_layer.
stage_tokenizers_and_text() {
  must_run 2 "tokenizers" data/tokenizers || return 0
  local units=$semantic
  if [ "$semantic" = fit ] && [ "${fit_encoder:-mfcc}" != mfcc ]; then
    units=data/tokenizers/fitted
    $python bin/tokenizer.py fit --encoder "$fit_encoder" --layer "$fit_layer" --num-units "$num_units" --frames-per-unit 2 --hours 1 \
      --manifests data/manifests/cuts_train.jsonl.gz --name units --device "$device" --output-dir "$units"
  fi
  $python bin/prepare_tokenizers.py --acoustic "$acoustic" --semantic "$units" --num-units "$num_units"
  $python bin/fit_text_pieces.py --text "$text" --num-pieces "$num_pieces"
  mark_done 2
}

stage_tokens() {
  must_run 3 "units and codes" data/tokenized || return 0
  $python bin/tokenize_cuts.py --batch-seconds "$batch_seconds" --shard-seconds "$shard_seconds" --num-workers "$nj" --device "$device" \
    --level "$level"
  mark_done 3
}

# stage_cuts TITLE
stage_cuts() {
  local left=(data/tokenized/cuts_{train,dev,test}.jsonl.gz data/tokenized/{info.json,statistics.png} data/report.html)
  must_run 4 "cuts and statistics" "${left[@]}" || return 0
  $python bin/finish_cuts.py --title "$1"
  mark_done 4
  log "cuts in data/tokenized, report in data/report.html"
}

# What every run.sh has in common.  A recipe declares exp_dir, minutes, num_epochs, world_size, num_prompts, prompt_seconds,
# max_seconds, acoustic_model, train_options and infer_options.

# run_training FLAG...: by the clock with AdamW and a cosine where `minutes` is above 0, else by epochs.
run_training() {
  local schedule=(--num-epochs "$num_epochs")
  if [ "$minutes" != 0 ]; then
    schedule=(--num-epochs 100000 --max-minutes "$minutes" --optimizer-name AdamW --scheduler-name cosine --base-lr 0.002)
  fi
  log "training into $exp_dir"
  # shellcheck disable=SC2086  # options are words
  $python bin/trainer_audiolm.py --exp-dir "$exp_dir" --manifest-dir data/tokenized --world-size "$world_size" \
    "${schedule[@]}" "$@" ${acoustic_model:+--acoustic-model "$acoustic_model"} $train_options
}

run_continuations() {
  $python bin/write_prompts.py --manifest-dir data/tokenized --output-dir "$exp_dir/prompts" --num-prompts "$num_prompts" --min-seconds "$prompt_seconds" \
    --or-longest true
  # shellcheck disable=SC2086  # options are words
  $python bin/infer.py --exp-dir "$exp_dir" --audio-prompts "$exp_dir"/prompts/*.wav --output-dir "$exp_dir/continued" \
    --prompt-seconds "$prompt_seconds" --max-seconds "$max_seconds" $infer_options
  log "listen: $exp_dir/continued/index.html"
}
