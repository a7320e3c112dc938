#!/usr/bin/env bash
# The parallel corpus from nothing to a model that transcribes, speaks and translates: synthesise, tokenise, train, ask.

set -eou pipefail

stage=0                  # first stage: 0 prepare, 1 train joint-lm, 2 train the AudioLM that gives it a voice, 3 ask both, 4 speech-llama
stop_stage=3             # last stage; 4 trains speech-llama too
languages=en,es          # two or more of en, es, de, fr
num_hours=8              # hours of training speech
num_voices=40            # voices to train on
joint_dir=exp/joint-lm   # where joint-lm goes
joint_minutes=60         # minutes of its training, by the clock
joint_options=           # more flags of bin/trainer_audiolm.py --model-name joint-lm, in one quoted word
llama_dir=exp/speech-llama  # where speech-llama goes, beside its encoder (-ctc) and its text LM (-lm)
lm_minutes=10            # minutes of training the text LM that reads
ctc_minutes=30           # minutes of training the encoder that hears
llama_minutes=20         # minutes of training what leads from one to the other
llama_options=           # more flags of bin/trainer_audiolm.py --model-name speech-llama, in one quoted word
exp_dir=exp/audio-lm     # where the AudioLM goes
minutes=20               # minutes of its training; 0: by num_epochs, with ScaledAdam and Eden
num_epochs=20            # epochs where minutes is 0
world_size=1             # processes to train with, one a GPU
acoustic_model=          # how units become codes: ar-nar, soundstorm, flat, delay or rq; not given: as conf says
train_options=           # more flags of bin/trainer_audiolm.py for the AudioLM, in one quoted word
prepare_options=         # more options of prepare.sh, in one quoted word

help_message="Usage: ./run.sh [options]      in egs/espeak_text
Synthesise the corpus, train a model over text and speech on it, and let it transcribe and translate recordings of the test part."

[ ./run.sh -ef "$0" ] || { echo "run.sh: error: run it in its own folder: cd egs/espeak_text && ./run.sh" >&2; exit 2; }
. shared/parse_options.sh || exit 1
. shared/stages.sh

if [ $stage -le 0 ] && [ $stop_stage -ge 0 ]; then
  # shellcheck disable=SC2086  # options are words
  ./prepare.sh --languages "$languages" --num-hours "$num_hours" --num-voices "$num_voices" $prepare_options
fi

if [ $stage -le 1 ] && [ $stop_stage -ge 1 ]; then
  log "training into $joint_dir"
  # shellcheck disable=SC2086  # options are words
  $python bin/trainer_audiolm.py --model-name joint-lm --exp-dir "$joint_dir" --world-size "$world_size" --num-epochs 100000 \
    --max-minutes "$joint_minutes" --scheduler-name cosine $joint_options
fi

if [ $stage -le 2 ] && [ $stop_stage -ge 2 ]; then
  beginning=()  # only stages that turn units into sound; they begin as the bundled model's, which know many voices
  [ -n "$acoustic_model" ] ||
    beginning=(--train-stage coarse,fine --init-from ../../valle/assets/audio-lm --optimizer-name Muon --base-lr 0.001)
  run_training ${beginning[@]+"${beginning[@]}"}
fi

if [ $stage -le 3 ] && [ $stop_stage -ge 3 ]; then
  $python bin/write_prompts.py --manifest-dir data/tokenized --output-dir "$joint_dir/prompts" --num-prompts 4 --min-seconds 1 \
    --or-longest true
  $python bin/transcribe.py --model "$joint_dir" --audio "$joint_dir"/prompts/*.wav --language English
  $python bin/speak.py --model "$joint_dir" --voice-model "$exp_dir" --voice "$(ls "$joint_dir"/prompts/*.wav | head -n 1)" \
    --language English --text "Peter often washes the black knife." --output-dir "$joint_dir/spoken"
  log "listen: $joint_dir/spoken"
fi

if [ $stage -le 4 ] && [ $stop_stage -ge 4 ]; then
  log "training a text LM into $llama_dir-lm"
  $python bin/trainer_audiolm.py --model-name joint-lm --tasks LM --exp-dir "$llama_dir-lm" --world-size "$world_size" --num-epochs 100000 \
    --max-minutes "$lm_minutes" --scheduler-name cosine
  log "training an encoder into $llama_dir-ctc"
  $python bin/trainer_audiolm.py --model-name speech-llama --train-stage ctc --exp-dir "$llama_dir-ctc" --world-size "$world_size" \
    --num-epochs 100000 --max-minutes "$ctc_minutes" --scheduler-name cosine
  log "training into $llama_dir"
  # shellcheck disable=SC2086  # options are words
  $python bin/trainer_audiolm.py --model-name speech-llama --train-stage llama --lm "$llama_dir-lm" --encoder-from "$llama_dir-ctc" \
    --exp-dir "$llama_dir" --world-size "$world_size" --num-epochs 100000 --max-minutes "$llama_minutes" --scheduler-name cosine $llama_options
  $python bin/write_prompts.py --manifest-dir data/tokenized --output-dir "$llama_dir/prompts" --num-prompts 4 --min-seconds 1 \
    --or-longest true
  $python bin/transcribe.py --model "$llama_dir" --audio "$llama_dir"/prompts/*.wav --similarity-dir "$llama_dir/similarity"
  $python bin/transcribe.py --model "$llama_dir" --audio "$llama_dir"/prompts/*.wav --by ctc
fi
