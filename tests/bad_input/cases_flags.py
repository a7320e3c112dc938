"""Flags and settings that cannot be used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from bad_house import TRAIN, Case


def _file(name: str, content: str | bytes) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    return make


PROMPT = "--audio-prompts good/a.wav --output-dir out --model good/model"

UNKNOWN = [
    Case(given=f"`{program}.py {typed} ...`", program=program, flags=f"{typed} x", says=("unknown flag", typed, f"did you mean {meant}"))
    for program, typed, meant in (
        ("infer", "--audio-prompt", "--audio-prompts"),
        ("align_phones", "--outputdir", "--output-dir"),
        ("export", "--outputdir", "--output-dir"),
        ("trainer_audiolm", "--max-durations", "--max-duration"),
        ("trainer_codec", "--segment-second", "--segment-seconds"),
        ("evaluate", "--max-item", "--max-items"),
        ("score", "--outputs", "--output"),
        ("listening_test", "--answer", "--answers"),
        ("estimate", "--tflop", "--tflops"),
        ("evaluate_audiolm", "--init-form", "--init-from"),
        ("evaluate_codec", "--max-recording", "--max-recordings"),
        ("evaluate_units", "--outputs", "--output"),
        ("trainer_speech_encoder", "--max-minute", "--max-minutes"),
        ("settings_of_model", "--init", "--init-from"),
        ("demo_report", "--num-prompt", "--num-prompts"),
        ("download_librispeech", "--part", "--parts"),
        ("synthesize_espeak", "--num-hour", "--num-hours"),
        ("prepare_espeak", "--corpus", "--corpus-dir"),
        ("prepare_folder", "--audiodir", "--audio-dir"),
        ("prepare_librispeech", "--train-part", "--train-parts"),
        ("prepare_piano", "--audio", "--audio-dir"),
        ("prepare_tokenizers", "--accoustic", "--acoustic"),
        ("tokenize_cuts", "--batch-second", "--batch-seconds"),
        ("finish_cuts", "--output", "--output-dir"),
        ("mix_tokens", "--manifest-dir", "--manifest-dirs"),
        ("fit_unit_bpe", "--vocabsize", "--vocab-size"),
        ("write_prompts", "--num-prompt", "--num-prompts"),
        ("fingerprint_folder", "--audiodir", "--audio-dir"),
        ("serve", "--grace-second", "--grace-seconds"),
        ("detect", "--verif", "--verify"),
        ("transcribe", "--languag", "--language"),
        ("transcribe_cuts", "--wisper", "--whisper"),
        ("fit_text_pieces", "--num-piece", "--num-pieces"),
        ("prepare_espeak_text", "--num-text", "--num-texts"),
        ("prepare_espeak_dialogue", "--corpus", "--corpus-dir"),
        ("prepare_synthetic", "--corpus", "--corpus-dir"),
        ("make_language_suites", "--max-item", "--max-items"),
        ("speak", "--voicemodel", "--voice-model"),
        ("translate", "--voicemodel", "--voice-model"),
        ("converse", "--scrip", "--script"),
        ("synthesize_espeak_text", "--num-hour", "--num-hours"),
        ("synthesize_espeak_dialogue", "--num-hour", "--num-hours"),
        ("synthesize_synthetic", "--num-hour", "--num-hours"),
    )
]

MISSING = [
    Case(given=f"`{program}.py` without {flag}", program=program, flags="", says=(f"expected {flag}", "--help"))
    for program, flag in (
        ("infer", "--audio-prompts, --output-dir"),
        ("export", "--output-dir"),
        ("download_librispeech", "--parts"),
        ("converse", "--script"),
        ("prepare_folder", "--audio-dir"),
        ("prepare_piano", "--audio-dir"),
        ("mix_tokens", "--manifest-dirs"),
        ("write_prompts", "--output-dir"),
        ("fingerprint_folder", "--audio-dir"),
    )
]

WRONG = [
    Case(given=f"`{program}.py {flags}`", program=program, flags=f"{more} {flags}", says=says, leaves=("exp",) if "100" in flags else ())
    for program, more, flags, says in (
        ("infer", PROMPT, "--max-seconds ten", ("--max-seconds", "ten")),
        ("infer", PROMPT, "--max-seconds nan", ("--max-seconds", "nan")),
        ("infer", PROMPT, "--max-seconds -1", ("--max-seconds", "-1")),
        ("infer", PROMPT, "--prompt-seconds nan", ("--prompt-seconds", "nan")),
        ("infer", PROMPT, "--temperature inf", ("temperature", "inf")),
        ("infer", PROMPT, "--temperature nan", ("temperature", "nan")),
        ("infer", PROMPT, "--top-p 2", ("top-p", "2")),
        ("infer", PROMPT, "--top-k 1.5", ("--top-k", "1.5")),
        ("infer", PROMPT, "--draft-tokens 17", ("1 to 16", "17")),
        ("infer", PROMPT, "--draft-tokens 2", ("--draft-tokens 2 needs draft heads", "none", "--coarse-drafts")),
        ("infer", PROMPT, "--seed one", ("--seed", "one")),
        ("infer", PROMPT, "--use-averaged-model maybe", ("--use-averaged-model", "maybe")),
        ("infer", PROMPT, "--mode sing", ("--mode", "continue", "sing")),
        ("infer", PROMPT, "--num-samples 0", ("--num-samples", "0")),
        ("infer", PROMPT, "--num-threads -1", ("--num-threads", "-1")),
        ("infer", PROMPT, "--device tpu", ("--device tpu", "cpu")),
        ("infer", PROMPT, "--device cpu:x", ("--device cpu:x", "cpu")),
        ("infer", PROMPT, "--checkpoint good/exp/epoch-1.pt", ("one of --checkpoint, --exp-dir and --model",)),
        ("infer", PROMPT, "--epoch 3", ("--epoch", "--exp-dir")),
        ("infer", PROMPT, "stray", ("stray",)),
        ("infer", "--output-dir out", "--audio-prompts", ("audio",)),
        ("export", "--output-dir out", "--exp-dir good/exp --epoch one", ("--epoch", "one")),
        ("export", "--output-dir out", "--exp-dir good/exp --avg 3", ("--avg", "--epoch N")),
        ("export", "", "--output-dir out", ("--checkpoint or --exp-dir",)),
        ("trainer_audiolm", TRAIN, "--base-lr fast", ("--base-lr", "fast")),
        ("trainer_audiolm", TRAIN, "--base-lr nan", ("--base-lr", "nan")),
        ("trainer_audiolm", TRAIN, "--max-duration nan", ("--max-duration", "nan")),
        ("trainer_audiolm", TRAIN, "--decoder-dim 0", ("--decoder-dim", "0")),
        ("trainer_audiolm", TRAIN, "--decoder-dim 17", ("17",)),
        ("trainer_audiolm", TRAIN, "--nhead 3", ("3",)),
        ("trainer_audiolm", TRAIN, "--nhead 0", ("0",)),
        ("trainer_audiolm", TRAIN, "--num-decoder-layers 0", ("--num-decoder-layers", "0")),
        ("trainer_audiolm", TRAIN, "--dim-feedforward -4", ("--dim-feedforward", "-4")),
        ("trainer_audiolm", TRAIN, "--num-quantizers 9", ("--num-quantizers 9", "3 of tiny-codec")),
        ("trainer_audiolm", TRAIN, "--num-coarse 5", ("coarse", "5")),
        ("trainer_audiolm", TRAIN, "--unit-window -1", ("--unit-window", "-1")),
        ("trainer_audiolm", TRAIN, "--prefix-mode 3", ("prefix mode", "3")),
        ("trainer_audiolm", TRAIN, "--drop-conditions 2", ("0..1", "found 2, 0, 0.1")),
        ("trainer_audiolm", TRAIN, "--prompt-share 1", ("share", "1")),
        ("trainer_audiolm", TRAIN, "--dropout 1", ("--dropout", "1")),
        ("trainer_audiolm", TRAIN, "--train-stage last", ("--train-stage", "last")),
        ("trainer_audiolm", TRAIN, "--dtype int8", ("--dtype", "int8")),
        ("trainer_audiolm", TRAIN, "--optimizer-name SGD", ("--optimizer-name", "SGD")),
        ("trainer_audiolm", TRAIN, "--scheduler-name cosine", ("--max-steps or --max-minutes",)),
        ("trainer_audiolm", TRAIN, "--num-workers -1", ("--num-workers", "-1")),
        ("trainer_audiolm", TRAIN, "--num-epochs 0", ("--num-epochs", "0")),
        ("trainer_audiolm", TRAIN, "--max-steps -1", ("--max-steps", "-1")),
        ("trainer_audiolm", TRAIN, "--warmup-steps -5", ("--warmup-steps", "-5")),
        ("trainer_audiolm", TRAIN, "--clip-grad-norm -1", ("--clip-grad-norm", "-1")),
        ("trainer_audiolm", TRAIN, "--weight-decay nan", ("--weight-decay", "nan")),
        ("trainer_audiolm", TRAIN, "--save-every-n -1", ("--save-every-n", "-1")),
        ("trainer_audiolm", TRAIN, "--seed -1", ("--seed", "-1")),
        ("infer", PROMPT, "--max-seconds .nan", ("--max-seconds", "nan")),
        ("infer", PROMPT, "-x", ("unknown flag -x",)),
        ("trainer_audiolm", TRAIN, "--start-epoch 0", ("--start-epoch", "0")),
        ("trainer_audiolm", TRAIN, "--num-threads -2", ("--num-threads", "-2")),
        ("trainer_audiolm", TRAIN, "--world-size 0", ("--world-size", "0")),
        ("trainer_audiolm", TRAIN, "--world-size 2 --master-port 99999", ("--master-port", "99999")),
        ("trainer_audiolm", TRAIN, "--device tpu", ("--device", "tpu")),
        ("trainer_audiolm", TRAIN, "--filter-min-duration 5 --filter-max-duration 5", ("--filter-min-duration", "5")),
        ("trainer_audiolm", TRAIN, "--filter-min-duration 100 --filter-max-duration 200", ("100 to 200 s", "found none")),
        ("trainer_codec", "--exp-dir exp", "--base-lr 0.1", ("--manifests",)),
        ("trainer_codec", "--exp-dir exp --manifests m.jsonl.gz", "--shares 1 2", ("--shares", "2")),
        ("trainer_codec", "--exp-dir exp --manifests m.jsonl.gz", "--shares 0", ("--shares", "0")),
        ("trainer_codec", "--exp-dir exp --manifests m.jsonl.gz", "--batch-size 0", ("--batch-size", "0")),
        ("trainer_codec", "--exp-dir exp --manifests m.jsonl.gz", "--segment-seconds -1", ("--segment-seconds", "-1")),
        ("trainer_codec", "--exp-dir exp --manifests m.jsonl.gz", "--codebook-size 0", ("--codebook-size", "0")),
        ("trainer_codec", "--exp-dir exp --manifests m.jsonl.gz", "--num-quantizers 0", ("--num-quantizers", "0")),
        ("trainer_codec", "--exp-dir exp --manifests m.jsonl.gz", "--dim 0", ("--dim", "0")),
        ("evaluate_audiolm", TRAIN, "--num-quantizers 3", ("--init-from",)),
        ("demo_report", "--exp-dir exp", "--num-prompts 1", ("--num-prompts", "1")),
        ("demo_report", "--exp-dir exp", "--max-seconds 0", ("--max-seconds", "0")),
        ("synthesize_espeak", "--output-dir out", "--num-voices 0", ("num-voices", "0")),
        ("synthesize_espeak", "--output-dir out", "--num-hours -1", ("num-hours", "-1")),
        ("synthesize_espeak", "--output-dir out", "--num-hours inf", ("num-hours", "inf")),
        ("synthesize_espeak", "--output-dir out", "--min-seconds 9 --max-seconds 10", ("min-seconds", "9 to 10")),
        ("synthesize_espeak", "--output-dir out", "--num-workers 0", ("--num-workers", "0")),
        ("synthesize_espeak", "--output-dir out", "--num-voices 1.5", ("--num-voices", "1.5")),
        ("prepare_folder", "--audio-dir good/recordings", "--min-seconds 5 --max-seconds 6", ("--max-seconds", "5 to 6")),
        ("prepare_folder", "--audio-dir good/recordings", "--min-seconds nan", ("--min-seconds", "nan")),
        ("prepare_folder", "--audio-dir good/recordings", "--dev-share 0.6 --test-share 0.4", ("shares", "0.6 and 0.4")),
        ("prepare_folder", "--audio-dir good/recordings", "--dev-share nan", ("share", "nan")),
        ("prepare_folder", "--audio-dir good/recordings", "--cutting words", ("--cutting", "words")),
        ("prepare_folder", "--audio-dir good/recordings", "--num-workers 0", ("--num-workers", "0")),
        ("prepare_piano", "--audio-dir good/recordings", "--piece chapter", ("--piece", "chapter")),
        ("prepare_librispeech", "--corpus-dir good/LibriSpeech", "--train-parts ../x", ("../x", "name of a part")),
        ("prepare_librispeech", "--corpus-dir good/LibriSpeech", "--train-parts dev-clean --dev-parts dev-clean", ("must not share",)),
        ("prepare_librispeech", "--corpus-dir good/LibriSpeech", "--speeds 9", ("speeds", "9")),
        ("prepare_librispeech", "--corpus-dir good/LibriSpeech", "--num-workers 0", ("--num-workers", "0")),
        ("download_librispeech", "--output-dir out", "--parts ../../etc", ("../../etc",)),
        ("download_librispeech", "--output-dir out", "--parts train-clean-7", ("train-clean-7",)),
        ("prepare_tokenizers", "--manifest-dir good/data/manifests --output-dir out", "--semantic fit --num-units 1", ("1 units",)),
        ("prepare_tokenizers", "--manifest-dir good/data/manifests --output-dir out", "--semantic fit --fit-hours nan", ("nan",)),
        ("tokenize_cuts", "--output-dir out", "--batch-seconds 0", ("batch-seconds", "0")),
        ("tokenize_cuts", "--output-dir out", "--shard-seconds nan", ("shard-seconds", "nan")),
        ("tokenize_cuts", "--output-dir out", "--num-workers 0", ("num-workers", "0")),
        (
            "tokenize_cuts",
            "--output-dir out --manifest-dir good/data/manifests --tokenizer-dir good/data/tokenizers",
            "--device tpu",
            ("device", "tpu"),
        ),
        ("mix_tokens", "--manifest-dirs good/data/tokenized --output-dir out", "--repeats 1 2", ("--repeats", "2")),
        ("mix_tokens", "--manifest-dirs good/data/tokenized --output-dir out", "--repeats 0", ("--repeats", "0")),
        ("write_prompts", "--manifest-dir good/data/manifests --output-dir out", "--num-prompts 0", ("--num-prompts", "0")),
        ("write_prompts", "--manifest-dir good/data/manifests --output-dir out", "--min-seconds 99", ("--min-seconds", "99")),
    )
]

CUDA = [
    Case(
        given=f"`{program}.py --device cuda` without a GPU",
        program=program,
        flags=f"{more} --device cuda",
        says=("cuda", "cpu"),
        needs=lambda: not torch.cuda.is_available() and not torch.backends.mps.is_available(),
    )
    for program, more in (
        ("infer", PROMPT),
        ("trainer_audiolm", TRAIN),
        ("tokenize_cuts", "--output-dir out --manifest-dir good/data/manifests --tokenizer-dir good/data/tokenizers"),
    )
]

YAML = [
    Case(
        given=given,
        program="trainer_audiolm",
        flags=f"{TRAIN} --config {name}",
        says=says,
        make=_file(name, content) if content is not None else (lambda folder: None),
    )
    for given, name, content, says in (
        ("--config with a key that is none", "c.yaml", "max-duratoin: 80\n", ("max_duratoin", "c.yaml", "did you mean", "max_duration")),
        ("--config that is not there", "no.yaml", None, ("no.yaml", "found nothing there")),
        ("--config that is a folder", ".", None, ("YAML file",)),
        ("--config that is no YAML", "c.yaml", "max_duration: [80\n", ("expected YAML in c.yaml",)),
        ("--config that is not UTF-8", "c.yaml", b"exp_dir: caf\xe9\n", ("expected YAML in c.yaml",)),
        ("--config with control characters", "c.yaml", b"exp_dir: a\x00b\n", ("expected YAML in c.yaml",)),
        ("--config that is a list", "c.yaml", "- 80\n", ("c.yaml", "list")),
        ("--config that is one word", "c.yaml", "hello\n", ("c.yaml", "str")),
        ("--config with a value of the wrong type", "c.yaml", "max_duration: long\n", ("--max-duration", "long")),
        ("--config with a list for one value", "c.yaml", "max_duration: [80]\n", ("--max-duration", "80")),
        ("--config with nothing for a value", "c.yaml", "max_duration:\n", ("--max-duration",)),
        ("--config with a value out of range", "c.yaml", "dropout: 2\n", ("--dropout", "2")),
        ("--config that would run code", "c.yaml", "exp_dir: !!python/object/apply:os.mkdir [ran]\n", ("expected YAML in c.yaml",)),
        ("a recipe's conf/trainer_audiolm.yaml with a key that is none", "conf/trainer_audiolm.yaml", "warmup: 3\n", ("warmup_steps",)),
    )
]

CASES = [*UNKNOWN, *MISSING, *WRONG, *CUDA, *YAML]
