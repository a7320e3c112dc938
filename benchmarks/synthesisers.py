#!/usr/bin/env python3
"""What a public recogniser hears of each synthesiser of egs/synthetic, and how well a small judge tells the voices apart.

  python -m benchmarks.synthesisers --synthesisers espeak hibari --whisper FOLDER

The same sentences of the grammar's test part are spoken by each: by base voices as they are, by the recipe's training voices, and by
those after the codec.  Voices are told apart by valle.evaluation.voices on utterances that it was not fitted on.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import RESULTS, header, write_results
from valle.audio import Waveform
from valle.corpora.espeak_grammar import draw_text, lexicon
from valle.corpora.speech import SAMPLE_RATE
from valle.corpora.synthetic.corpus import SyntheticConfig
from valle.corpora.synthetic.utterance import SyntheticSpeaker
from valle.corpora.synthetic.voices import SyntheticVoice, VoiceSettings
from valle.evaluation.recogniser import Recogniser, whisper_recogniser
from valle.evaluation.voices import VoiceClip, VoiceJudge
from valle.measures.intervals import bootstrap, share
from valle.measures.words import edit_distance, words_of_speech
from valle.tokenizers.registry import BUNDLED_ACOUSTIC, load_acoustic

NUM_SENTENCES = 20
NUM_VOICES, CLIPS_A_VOICE, FITTED_CLIPS = 16, 6, 4


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--synthesisers", nargs="+", default=["espeak", "hibari"])
    parser.add_argument("--kokoro-dir", type=Path, default=None)
    parser.add_argument("--whisper", required=True, help="folder of a Whisper for CTranslate2")
    parser.add_argument("--output", type=Path, default=RESULTS / "synthesisers.json")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    recogniser, codec = whisper_recogniser(options.whisper), load_acoustic(BUNDLED_ACOUSTIC)
    texts = [draw_text(random.Random(f"sentence {number}"), part="test", num_sentences=1) for number in range(NUM_SENTENCES)]
    results: dict[str, Any] = {}
    for name in options.synthesisers:
        config = SyntheticConfig(synthesisers=name, kokoro_dir=options.kokoro_dir)
        with SyntheticSpeaker(config) as speaker:
            results[name] = {"heard": heard(speaker, texts, recogniser, codec), "voices": told_apart(speaker)}
        print(name, results[name])
    command = ["python -m benchmarks.synthesisers --synthesisers", *options.synthesisers]
    command += ["--kokoro-dir FOLDER"] if options.kokoro_dir else []
    about = {"recogniser": f"Whisper {recogniser.name.removeprefix('whisper-')}", "codec": BUNDLED_ACOUSTIC, "sentences": NUM_SENTENCES}
    write_results(options.output, {**header([*command, "--whisper FOLDER"]), **about, "synthesisers": results})
    print(f"written: {options.output}")


def heard(speaker: SyntheticSpeaker, texts: Sequence[str], recogniser: Recogniser, codec: Any) -> dict[str, Any]:
    """Word errors and words in the lexicon of the sentences, each by the next training voice."""
    clips: dict[str, list[Waveform]] = {"base voices": [], "voices": [], "voices after the codec": []}
    for number, text in enumerate(texts):
        voice, _ = speaker.voice_of("train", number)
        clips["base voices"].append(say(speaker, text, replace(voice, settings=VoiceSettings())))
        clips["voices"].append(say(speaker, text, voice))
        clips["voices after the codec"].append(round_trip(codec, clips["voices"][-1]))
    return {kind: compared([recogniser.hear(wav, SAMPLE_RATE).all_words for wav in wavs], texts) for kind, wavs in clips.items()}


def say(speaker: SyntheticSpeaker, text: str, voice: SyntheticVoice) -> Waveform:
    """(T,) float32 at 16 kHz."""
    return speaker.speak(text, voice, seed=text).samples.astype(np.float32) / np.float32(32768)


@torch.inference_mode()
def round_trip(codec: Any, wav: Waveform) -> Waveform:
    codes, frames = codec.encode(torch.from_numpy(wav)[None], torch.tensor([len(wav)]))
    decoded: Waveform = codec.decode(codes, frames)[0].numpy()
    return decoded[: len(wav)]


def compared(found: Sequence[Sequence[str]], texts: Sequence[str]) -> dict[str, Any]:
    """Word error rate with its interval over sentences, and the share of heard words that the grammar knows."""
    expected = [words_of_speech(text) for text in texts]
    edits = np.array([edit_distance(words, wanted) for words, wanted in zip(found, expected, strict=True)], np.float64)
    lengths = np.array([len(wanted) for wanted in expected], np.float64)
    known = lexicon()
    words = [word for sentence in found for word in sentence]
    return {
        "word_error": bootstrap(lambda drawn: edits[drawn].sum(1) / lengths[drawn].sum(1), len(texts)).to_dict(),
        "in_lexicon": share(sum(word in known for word in words), len(words)).to_dict(),
    }


def told_apart(speaker: SyntheticSpeaker) -> dict[str, Any]:
    """The share of utterances whose voice the judge names, of all that makes a voice, and of pitch, formants and tempo alone."""
    voices = [speaker.voice_of("train", number)[0] for number in range(NUM_VOICES)]
    bare = [replace(voice, settings=replace(voice.settings, tilt=0.0, bands=(), room_seconds=0.0, noise_level=-60.0)) for voice in voices]
    return {"whole": judged(speaker, voices), "pitch, formants and tempo": judged(speaker, bare), "chance": 1 / NUM_VOICES}


def judged(speaker: SyntheticSpeaker, voices: Sequence[SyntheticVoice]) -> dict[str, Any]:
    clips = []
    for number in range(CLIPS_A_VOICE):
        for voice in voices:
            text = draw_text(random.Random(f"{voice.name} {number}"), part="dev", num_sentences=1)
            clips.append(VoiceClip(name=f"{voice.name} {number}", voice=voice.name, wav=say(speaker, text, voice)))
    fitted, tested = clips[: FITTED_CLIPS * len(voices)], clips[FITTED_CLIPS * len(voices) :]
    judge = VoiceJudge(fitted, SAMPLE_RATE)
    return share(sum(judge.name_voice(clip.wav) == clip.voice for clip in tested), len(tested)).to_dict()


if __name__ == "__main__":
    main()
