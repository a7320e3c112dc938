#!/usr/bin/env python3
"""What a joint-lm hears, translates and says, on test sentences that no part of its training had.

  python -m benchmarks.text_speech --models joint=exp/joint-lm --manifest-dir egs/espeak_text/data/tokenized \\
      --voice-model exp/audio-lm --whisper FOLDER

Text by text: word errors of transcripts, exact sentences and BLEU of translations.  Speech by a recogniser (``--whisper``, one of several
languages): word errors of what was spoken, a sentence wholly wrong at most, and BLEU of spoken translations.  Voices that were trained on
and new ones count apart.  Beside each figure stands its control: the answers to other sentences, the synthesiser's own recording, that
recording through the codec, and its own units in the voice model's sound.  A model is asked the tasks alone that it has learned.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import RESULTS, header, write_results
from benchmarks.parallel_texts import Spoken, spoken_sentences, text_figures
from benchmarks.spoken_answers import SpokenAnswers
from valle.inference.asking import SoundOptions
from valle.inference.text_speech import TextSpeech
from valle.models.joint_released import load_joint

ASKED = ("ASR", "MT", "AST", "ASR+AST+S2ST")  # of which text is judged


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", required=True, help="NAME=FOLDER of runs or released folders")
    parser.add_argument("--manifest-dir", type=Path, required=True, help="where cuts_test.jsonl.gz of espeak_text is")
    parser.add_argument("--voice-model", help="an AudioLM of the same units, a run or a released folder; without it nothing is spoken")
    parser.add_argument("--whisper", help="a recogniser: the folder of a CTranslate2 Whisper, or its name in the hub's cache")
    parser.add_argument("--num-texts", type=int, default=1000, help="recordings whose text is judged, at most")
    parser.add_argument("--num-spoken", type=int, default=100, help="sentences of each language that are spoken, at most")
    parser.add_argument("--output", type=Path, default=RESULTS / "text_speech.json")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    results = header(["python -m benchmarks.text_speech", *(sys.argv[1:] if arguments is None else arguments)])
    spoken = spoken_sentences(options.manifest_dir / "cuts_test.jsonl.gz")
    voice = SoundOptions(voice_model=options.voice_model).load_voice() if options.voice_model else None
    judge = SpokenAnswers.of(spoken, voice, options.whisper, options.num_spoken)
    results["recordings"], results["models"] = len(spoken[: options.num_texts]), {}
    if judge is not None:
        results["controls"] = judge.controls()
    for entry in options.models:
        name, _, folder = entry.partition("=")
        released = load_joint(Path(folder))
        model = TextSpeech(released, voice_model=voice if released.semantic else None)
        results["models"][name] = judged(model, spoken[: options.num_texts], judge)
        write_results(options.output, results)


def judged(model: TextSpeech, spoken: Sequence[Spoken], judge: SpokenAnswers | None) -> dict[str, Any]:
    """The figures of every task that ``model`` has learned."""
    learned = [task for task in ASKED if task in model.released.tasks]
    found: dict[str, Any] = {
        "parameters": sum(weight.numel() for weight in model.model.parameters()),
        **text_figures(model, learned, spoken),
    }
    if judge is not None:
        found["spoken"] = judge.of_model(model)
    return found


if __name__ == "__main__":
    main()
