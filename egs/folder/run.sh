#!/usr/bin/env bash
# Your own recordings to a page to listen to: the bundled model is tuned on them, or a new one is trained.

set -eou pipefail

stage=0               # first stage: 0 prepare, 1 train, 2 continue prompts of the test part
stop_stage=2          # last stage
audio_dir=            # folder of recordings, nested as you like
split_by=file         # file, or speaker: the folder at the top that a file is in
from_scratch=false    # train a new model instead of tuning the one of init_from
init_from=../../valle/assets/audio-lm  # released folder or checkpoint to start from
exp_dir=exp/audio-lm  # where the model and its continuations go
minutes=20            # minutes of training by the clock, with AdamW and a cosine; 0: by num_epochs, with ScaledAdam and Eden
num_epochs=20         # epochs where minutes is 0
world_size=1          # processes to train with, one a GPU
num_prompts=8         # recordings to continue
prompt_seconds=3      # seconds of each that are the prompt
max_seconds=10        # seconds of new audio
prepare_options=      # more options of prepare.sh, in one quoted word
acoustic_model=       # how units become codes: ar-nar, soundstorm, flat, delay or rq; not given: as conf says
train_options=        # more flags of bin/trainer_audiolm.py, in one quoted word
infer_options=        # more flags of bin/infer.py, in one quoted word

help_message="Usage: ./run.sh [options]      in egs/folder
Prepare your recordings, tune the bundled model on them, and let it continue what it has not heard."

[ ./run.sh -ef "$0" ] || { echo "run.sh: error: run it in its own folder: cd egs/folder && ./run.sh" >&2; exit 2; }
. shared/parse_options.sh || exit 1
. shared/stages.sh

if [ $stage -le 0 ] && [ $stop_stage -ge 0 ]; then
  tokenizers=()
  if [ "$from_scratch" = false ] && [ -d "$init_from/tokenizers" ]; then
    tokenizers=(--acoustic "$init_from/tokenizers/acoustic" --semantic "$init_from/tokenizers/semantic")
  fi
  # shellcheck disable=SC2086  # options are words
  ./prepare.sh "${tokenizers[@]}" --audio-dir "$audio_dir" --split-by "$split_by" $prepare_options
fi

if [ $stage -le 1 ] && [ $stop_stage -ge 1 ]; then
  if [ "$from_scratch" = true ]; then
    run_training
  else
    [ -e "$init_from" ] || fail "--init-from expects a released folder or a checkpoint, found none at $init_from; or give --from-scratch true"
    mkdir -p "$exp_dir"
    $python bin/settings_of_model.py --init-from "$init_from" --output "$exp_dir/finetune.yaml"
    log "loss on the dev recordings before tuning, nats per token:"
    $python bin/evaluate_audiolm.py --init-from "$init_from" --manifest-dir data/tokenized --output "$exp_dir/before.json"
    run_training --config "$exp_dir/finetune.yaml" --init-from "$init_from" --base-lr 0.0001 \
      --warmup-steps 20 --valid-interval 20 --epoch-ends false  # a handful of recordings is an epoch of a few steps
    log "loss after tuning:"
    $python bin/evaluate_audiolm.py --init-from "$exp_dir/best-valid-loss.pt" --manifest-dir data/tokenized --output "$exp_dir/after.json"
  fi
fi

if [ $stage -le 2 ] && [ $stop_stage -ge 2 ]; then
  run_continuations
fi
