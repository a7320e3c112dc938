"""Manifests of audio."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from damage import copied, info, lines, mistake, raw, truncated
from tiny_audio import write_sound

TOKENIZE = "--manifest-dir data/manifests --tokenizer-dir good/data/tokenizers --output-dir out"
AUDIO_CUTS = "manifests/cuts_train.jsonl.gz"
CODEC = (
    "--exp-dir exp --manifests data/manifests/cuts_train.jsonl.gz --dim 8 --num-blocks 1 --codebook-size 4 --num-quantizers 1 "
    "--batch-size 2 --segment-seconds 0.5 --batches-per-epoch 1 --num-epochs 1 --num-workers 0 --tensorboard false --dtype float32"
)


def _source(path: str) -> Callable[[list[dict[str, Any]]], object]:
    return lambda cuts: [cut["recording"]["sources"][0].update(source=path) for cut in cuts]


def _each(change: Callable[[dict[str, Any]], object]) -> Callable[[list[dict[str, Any]]], object]:
    return lambda cuts: [change(cut) for cut in cuts]


AUDIO_MANIFESTS = [
    mistake("`tokenize_cuts.py` without manifests", "tokenize_cuts", TOKENIZE, "data/manifests/cuts_train.jsonl.gz", "stage 1"),
    mistake(
        "`tokenize_cuts.py` without tokenizers",
        "tokenize_cuts",
        TOKENIZE.replace("good/data/tokenizers", "no"),
        "no/acoustic",
        make=copied(lambda data: None),
    ),
    mistake(
        "`tokenize_cuts.py` and a manifest that is cut short",
        "tokenize_cuts",
        TOKENIZE,
        "cuts_train.jsonl.gz cannot be read to its end",
        "./prepare.sh again",
        make=copied(truncated(AUDIO_CUTS)),
    ),
    mistake(
        "`tokenize_cuts.py` and a manifest that holds no JSON",
        "tokenize_cuts",
        TOKENIZE,
        "cuts_train.jsonl.gz",
        make=copied(raw(AUDIO_CUTS, "words\n")),
    ),
    mistake(
        "`tokenize_cuts.py` and a manifest that holds JSON of another kind",
        "tokenize_cuts",
        TOKENIZE,
        "cuts_train.jsonl.gz",
        make=copied(raw(AUDIO_CUTS, '{"id": "a", "duration": 1}\n')),
        leaves=("out",),
    ),
    mistake(
        "`tokenize_cuts.py` and a manifest that is not packed",
        "tokenize_cuts",
        TOKENIZE,
        "cuts_train.jsonl.gz",
        make=copied(raw(AUDIO_CUTS, "{}\n", packed=False)),
    ),
    mistake(
        "`tokenize_cuts.py` and audio that is gone",
        "tokenize_cuts",
        TOKENIZE,
        "gone.wav",
        make=copied(lines(AUDIO_CUTS, _source("gone.wav"))),
        leaves=("out",),
    ),
    mistake(
        "`tokenize_cuts.py` and audio that is a folder",
        "tokenize_cuts",
        TOKENIZE,
        "good",
        make=copied(lines(AUDIO_CUTS, _source("good"))),
        leaves=("out",),
    ),
    mistake(
        "`tokenize_cuts.py` and audio that has become shorter",
        "tokenize_cuts",
        TOKENIZE,
        "the file has changed",
        make=copied(lambda data: (write_sound(data.parent / "s.wav", 0.5), lines(AUDIO_CUTS, _source("s.wav"))(data))),
        leaves=("out",),
    ),
    mistake(
        "`tokenize_cuts.py` and audio as a command to run",
        "tokenize_cuts",
        TOKENIZE,
        "command",
        make=copied(lines(AUDIO_CUTS, _each(lambda cut: cut["recording"]["sources"][0].update(type="command", source="touch ran")))),
        leaves=("out",),
    ),
    mistake(
        "`tokenize_cuts.py` and audio at an address",
        "tokenize_cuts",
        TOKENIZE,
        "url",
        make=copied(
            lines(AUDIO_CUTS, _each(lambda cut: cut["recording"]["sources"][0].update(type="url", source="http://127.0.0.1:9/a.wav")))
        ),
        leaves=("out",),
    ),
    mistake(
        "`tokenize_cuts.py` and cuts of a negative start",
        "tokenize_cuts",
        TOKENIZE,
        "offset of 0 s or more",
        make=copied(lines(AUDIO_CUTS, _each(lambda cut: cut.update(start=-1)))),
        leaves=("out",),
    ),
    mistake(
        "`tokenize_cuts.py` and cuts of another length than a number",
        "tokenize_cuts",
        TOKENIZE,
        "cuts_train.jsonl.gz",
        make=copied(lines(AUDIO_CUTS, _each(lambda cut: cut.update(duration="long")))),
    ),
    mistake(
        "`prepare_tokenizers.py --semantic fit` and a manifest that is cut short",
        "prepare_tokenizers",
        "--semantic fit --manifest-dir data/manifests --output-dir out",
        "cuts_train.jsonl.gz",
        make=copied(truncated(AUDIO_CUTS)),
    ),
    mistake(
        "`prepare_tokenizers.py --semantic fit` and no cuts",
        "prepare_tokenizers",
        "--semantic fit --manifest-dir data/manifests --output-dir out",
        "found 0",
        "bundled tokenizer",
        make=copied(raw(AUDIO_CUTS, "")),
    ),
    mistake(
        "`prepare_tokenizers.py --semantic fit` of more units than there is audio for",
        "prepare_tokenizers",
        "--semantic fit --num-units 9999 --manifest-dir good/data/manifests --output-dir out",
        "9999",
    ),
    mistake(
        "`finish_cuts.py` before stage 3",
        "finish_cuts",
        "--output-dir out --manifest-dir good/data/manifests --report report.html",
        "out/shards",
        "stage 3",
    ),
    mistake(
        "`finish_cuts.py` and a part's counts that are damaged",
        "finish_cuts",
        "--output-dir out --manifest-dir good/data/manifests --report report.html",
        "out/shards",
        "stage 3",
        make=lambda folder: (
            (folder / "out" / "shards").mkdir(parents=True),
            [(folder / "out" / "shards" / f"{part}.json").write_text("{") for part in ("train", "dev", "test")],
        ),
    ),
    mistake(
        "`mix_tokens.py` and a folder without tokens",
        "mix_tokens",
        "--manifest-dirs good/data/tokenized good/recordings --output-dir out",
        "good/recordings, found no info.json",
    ),
    mistake(
        "`mix_tokens.py` and tokens of other tokenizers",
        "mix_tokens",
        "--manifest-dirs good/data/tokenized data/tokenized --output-dir out",
        "one pair of tokenizers",
        make=copied(info(lambda info: info["tokenizers"]["acoustic"].update(sha256="0" * 64))),
    ),
    mistake(
        "`mix_tokens.py` and tokens in lhotse Shar",
        "mix_tokens",
        "--manifest-dirs good/data/tokenized data/tokenized --output-dir out",
        "lhotse Shar in data/tokenized",
        "--format hdf5 or memmap",
        make=copied(info(lambda info: info.update(shar={"train": 1, "dev": 1, "test": 1}))),
    ),
    mistake(
        "`write_prompts.py` without manifests",
        "write_prompts",
        "--output-dir out --manifest-dir no",
        "no/cuts_test.jsonl.gz",
        "./prepare.sh",
    ),
    mistake(
        "`write_prompts.py` and a manifest that is cut short",
        "write_prompts",
        "--output-dir out --manifest-dir data/manifests --min-seconds 1",
        "cuts_test.jsonl.gz",
        make=copied(truncated("manifests/cuts_test.jsonl.gz")),
    ),
    mistake(
        "`write_prompts.py` and a manifest that holds no JSON",
        "write_prompts",
        "--output-dir out --manifest-dir data/manifests --min-seconds 1",
        "cuts_test.jsonl.gz",
        make=copied(raw("manifests/cuts_test.jsonl.gz", "words\n")),
    ),
    mistake(
        "`write_prompts.py` and a manifest that holds JSON of another kind",
        "write_prompts",
        "--output-dir out --manifest-dir data/manifests --min-seconds 1",
        "cuts_test.jsonl.gz",
        make=copied(raw("manifests/cuts_test.jsonl.gz", "[1]\n")),
    ),
    mistake("`trainer_codec.py` and a manifest that is not there", "trainer_codec", CODEC, "data/manifests/cuts_train.jsonl.gz", "stage 1"),
    mistake(
        "`trainer_codec.py` and a manifest that is cut short",
        "trainer_codec",
        CODEC,
        "cuts_train.jsonl.gz",
        make=copied(truncated(AUDIO_CUTS)),
    ),
    mistake(
        "`trainer_codec.py` and a manifest that holds no JSON",
        "trainer_codec",
        CODEC,
        "cuts_train.jsonl.gz",
        make=copied(raw(AUDIO_CUTS, "words\n")),
    ),
    mistake(
        "`trainer_codec.py` and audio that is gone",
        "trainer_codec",
        CODEC,
        "gone.wav",
        make=copied(lines(AUDIO_CUTS, _source("gone.wav"))),
    ),
    mistake(
        "`trainer_codec.py --init-codec` that makes units",
        "trainer_codec",
        f"{CODEC} --init-codec mfcc-kmeans",
        "expected a codec",
        make=copied(lambda data: None),
    ),
    mistake(
        "`trainer_codec.py --init-blocks` of a codec of another width",
        "trainer_codec",
        f"{CODEC} --init-blocks valle-16khz --dim 7 --num-quantizers 3 --codebook-size 5",
        "expected weights in --init-blocks valle-16khz that fit the new codec",
        "--dim",
        make=copied(lambda data: None),
    ),
    mistake(
        "`trainer_codec.py --init-codec` and `--init-blocks` at once",
        "trainer_codec",
        f"{CODEC} --init-codec valle-16khz --init-blocks valle-16khz",
        "found both",
        make=copied(lambda data: None),
    ),
    mistake(
        "`trainer_codec.py` and pieces longer than all cuts",
        "trainer_codec",
        f"{CODEC} --segment-seconds 9",
        "at least 9 s",
        "--segment-seconds",
        make=copied(lambda data: None),
    ),
]

CASES = AUDIO_MANIFESTS
