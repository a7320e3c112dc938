#!/usr/bin/env bash
# Units from audio alone: an encoder is trained, its layers are clustered, and those that tell phones best across speakers are kept.

set -eou pipefail

stage=0               # first stage: 0 audio and manifests, 1 train, 2 choose layer and units, and measure them
stop_stage=2          # last stage
objective=hubert      # hubert (in iterations), wav2vec, vq-wav2vec, wav2vec2 or w2v-bert
manifests=data/manifests/cuts_train.jsonl.gz    # manifests of cuts to learn from, in one quoted word
minutes="7 10 16"     # minutes of each iteration by the clock, in one quoted word; objectives but hubert take the first alone
clusters="200 200 500"    # clusters that each iteration predicts
target_layer=6        # layer of the iteration before whose clusters they are
layers="3 4 5 6"      # layers to choose among
num_units="200"       # numbers of units to choose among
exp_dir=exp           # where OBJECTIVE-1, OBJECTIVE-2, ... go; the units go into the last one's folder units
train_options=        # more flags of bin/trainer_speech_encoder.py, in one quoted word
evaluate_options=     # more flags of bin/evaluate_units.py, in one quoted word

help_message="Usage: ./train_units.sh [options]      in egs/espeak
Train a speech encoder on audio alone, make units of it, and measure them beside those of MFCCs."

[ ./train_units.sh -ef "$0" ] || { echo "train_units.sh: error: run it in its own folder: cd egs/espeak && ./train_units.sh" >&2; exit 2; }
. shared/parse_options.sh || exit 1

read -r -a minutes_of <<< "$minutes"
read -r -a clusters_of <<< "$clusters"
[ "$objective" = hubert ] || minutes_of=("${minutes_of[0]}")
if [ ${#clusters_of[@]} -lt ${#minutes_of[@]} ]; then
  echo "train_units.sh: error: expected --clusters for each of ${#minutes_of[@]} iterations, found '$clusters'; give as many as --minutes" >&2
  exit 2
fi
last="$exp_dir/$objective-${#minutes_of[@]}"

if [ "$stage" -le 0 ] && [ "$stop_stage" -ge 0 ]; then
  ./prepare.sh --stop-stage 1
fi

if [ "$stage" -le 1 ] && [ "$stop_stage" -ge 1 ]; then
  for place in "${!minutes_of[@]}"; do
    from=(--gumbel-share 0.7)  # where there is a Gumbel quantizer, it is cool by then, however short the run
    if [ "$objective" = hubert ]; then
      from=(--num-clusters "${clusters_of[$place]}")
      before="$exp_dir/$objective-$place"
      [ "$place" -eq 0 ] || from+=(--targets-from "$before" --target-layer "$target_layer" --init-encoder "$before")
    fi
    # shellcheck disable=SC2086  # options are words
    python3 bin/trainer_speech_encoder.py --config conf/trainer_speech_encoder.yaml --objective "$objective" --manifests $manifests \
      --exp-dir "$exp_dir/$objective-$((place + 1))" --max-minutes "${minutes_of[$place]}" "${from[@]}" $train_options
  done
fi

if [ "$stage" -le 2 ] && [ "$stop_stage" -ge 2 ]; then
  # shellcheck disable=SC2086  # options are words
  python3 bin/evaluate_units.py --exp-dir "$last" --layers $layers --num-units $num_units --output-dir "$last/units" \
    --name "$objective" --tokenizers mfcc-kmeans --voices unseen --output "$last/units.json" $evaluate_options
fi
