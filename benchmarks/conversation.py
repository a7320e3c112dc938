#!/usr/bin/env python3
"""The next turn of a conversation: whose voice it has, and whether its words are those of its text.

  python -m benchmarks.conversation --model exp/conversation --manifest-dir egs/espeak_dialogue/data/manifests --whisper FOLDER

Turns of test that follow one of their own speaker and one of the other are made from the true turns before them.  A closed-set judge of
voices, fitted on other dialogues, names the voice of each: the speaker's own, beside the share that it gives to the dialogue's other
speaker.  Controls: the real turn, its round trip through the codec, the same turn after those of the other speaker alone, and texts of
other turns.  With a recogniser, word errors of each, by kind of voice; a turn counts as wholly wrong at most.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS, header, write_results
from valle.audio import Waveform, resample
from valle.corpora.cut_audio import read_cut
from valle.corpora.manifests import read_cuts
from valle.errors import UserError
from valle.evaluation.heard_words import HeardClip, word_errors
from valle.evaluation.recogniser import Recogniser, whisper_recogniser
from valle.evaluation.voices import VoiceClip, VoiceJudge, derangement
from valle.inference.conversation import Conversation, Line
from valle.measures.intervals import Estimate, share_of

SYSTEMS = ("generated", "real", "round_trip", "without_own")
LEAST_SECONDS = 0.8  # of a turn that is judged


@dataclass(frozen=True)
class Trial:
    """A turn to be made, and what was said before it."""

    name: str
    voice: str
    other: str  # the voice of the dialogue's other speaker
    is_new: bool  # to the training
    line: Line  # as it was said
    earlier: tuple[Line, ...]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a run, a checkpoint or a released folder")
    parser.add_argument("--manifest-dir", type=Path, required=True, help="cuts of train and test, a channel each")
    parser.add_argument("--whisper", help="a recogniser: the folder of a CTranslate2 Whisper, or its name in the hub's cache")
    parser.add_argument("--num-turns", type=int, default=100, help="turns of each kind of voice, at most")
    parser.add_argument("--clips-a-voice", type=int, default=12, help="turns of each voice that the judge is fitted on")
    parser.add_argument("--output", type=Path, default=RESULTS / "conversation.json")
    options = parser.parse_args(arguments)
    command = ["python -m benchmarks.conversation", *(sys.argv[1:] if arguments is None else arguments)]
    talk = Conversation.from_pretrained(options.model)
    judge = whisper_recogniser(options.whisper) if options.whisper else None
    found = report(talk, options.manifest_dir, options.num_turns, options.clips_a_voice, judge)
    write_results(options.output, {**header(command), **found})


def report(talk: Conversation, manifest_dir: Path, num_turns: int, clips_a_voice: int, recogniser: Recogniser | None) -> dict[str, Any]:
    """Shares and word errors, of voices that were trained on and of new ones apart."""
    said = {part: dialogues(manifest_dir / f"cuts_{part}.jsonl.gz") for part in ("train", "test")}
    names = sorted(said["test"])
    judged = {name: said["test"][name] for name in names[: (len(names) + 1) // 2]}  # the others of test fit the judge to its voices
    clips = _clips([*said["train"].values(), *(said["test"][name] for name in names if name not in judged)], clips_a_voice)
    voices = VoiceJudge(clips, _rate(clips, said["train"]))
    trials = [trial for name, turns in judged.items() for trial in _trials(name, turns) if {trial.voice, trial.other} <= set(voices.voices)]
    found: dict[str, Any] = {"voices": len(voices.voices), "chance": round(1 / len(voices.voices), 4)}
    for kind in ("trained", "new"):
        own = [trial for trial in trials if trial.is_new == (kind == "new")][:num_turns]
        if len(own) > 1:
            found[kind] = _judged(talk, own, voices, recogniser)
    if not {"trained", "new"} & set(found):
        raise UserError(f"expected dialogues of test whose speakers speak twice in {manifest_dir}, found too few; make a larger corpus")
    return found


def dialogues(path: Path) -> dict[str, list[tuple[Line, bool]]]:
    """By dialogue its turns with their sound, in order, and whether their voices are new; back-channels are left out."""
    found: dict[str, list[tuple[float, Line, bool]]] = {}
    for cut in read_cuts(path):
        wav, rate = read_cut(cut)
        for turn in cut.supervisions:
            custom = turn.custom or {}
            if turn.text and custom.get("kind") != "back-channel":
                own = wav[round(turn.start * rate) : round(turn.end * rate)]
                line = Line(speaker=str(turn.speaker), text=turn.text, wav=own, sample_rate=rate)
                found.setdefault(cut.recording.id, []).append((turn.start, line, not custom.get("voice_is_in_train", False)))
    return {name: [(line, is_new) for _, line, is_new in sorted(turns, key=lambda turn: turn[0])] for name, turns in found.items()}


def _trials(name: str, turns: Sequence[tuple[Line, bool]]) -> list[Trial]:
    """The last turn of each speaker that has one of his and one of the other's before it."""
    trials: dict[str, Trial] = {}
    for place, (line, is_new) in enumerate(turns):
        earlier = tuple(one for one, _ in turns[:place])
        others = [one.speaker for one in earlier if one.speaker != line.speaker]
        if others and any(one.speaker == line.speaker for one in earlier) and _seconds(line) >= LEAST_SECONDS:
            trials[line.speaker] = Trial(f"{name}-{place}", line.speaker, others[-1], is_new, line, earlier)
    return list(trials.values())


def _judged(talk: Conversation, trials: Sequence[Trial], voices: VoiceJudge, recogniser: Recogniser | None) -> dict[str, Any]:
    sounds: dict[str, list[Waveform]] = {name: [] for name in SYSTEMS}
    for number, trial in enumerate(trials):
        for name, earlier in (("generated", trial.earlier), ("without_own", _of_others(trial))):
            sounds[name].append(talk.next_turn(earlier, speaker=trial.voice, text=trial.line.text, seed=number, watermark=False))
        sounds["real"].append(_at(trial.line, talk.sample_rate))
        sounds["round_trip"].append(talk.round_trip(trial.line))
    found: dict[str, Any] = {"turns": len(trials)}
    for name, wavs in sounds.items():
        named = [voices.name_voice(resample(wav, talk.sample_rate, voices.sample_rate)) for wav in wavs]
        found[name] = {
            "own_voice": _plain(share_of([voice == trial.voice for voice, trial in zip(named, trials, strict=True)])),
            "other_speakers_voice": _plain(share_of([voice == trial.other for voice, trial in zip(named, trials, strict=True)])),
            "seconds": round(sum(len(wav) for wav in wavs) / talk.sample_rate / len(wavs), 3),
        }
        if recogniser is not None:
            texts = [trial.line.text for trial in trials]
            heard = [
                HeardClip(trial.name, len(wav) / talk.sample_rate, recogniser.hear(wav, talk.sample_rate))
                for wav, trial in zip(wavs, trials, strict=True)
            ]
            found[name]["word_error"] = _plain(word_errors(heard, texts, capped=True))
            order = derangement(len(texts), seed=0)
            found[name]["word_error_of_other_texts"] = _plain(word_errors(heard, [texts[place] for place in order], capped=True))
    return found


def _of_others(trial: Trial) -> list[Line]:
    return [line for line in trial.earlier if line.speaker != trial.voice]


def _clips(talks: Sequence[Sequence[tuple[Line, bool]]], most: int) -> list[VoiceClip]:
    """Up to ``most`` turns of every voice that has two or more."""
    by_voice: dict[str, list[VoiceClip]] = {}
    for turns in talks:
        for line, _ in turns:
            clips = by_voice.setdefault(line.speaker, [])
            if _seconds(line) >= LEAST_SECONDS and len(clips) < most:
                assert line.wav is not None
                clips.append(VoiceClip(f"{line.speaker}-{len(clips)}", line.speaker, line.wav))  # type: ignore[arg-type]
    return [clip for clips in by_voice.values() if len(clips) > 1 for clip in clips]


def _rate(clips: Sequence[VoiceClip], talks: dict[str, list[tuple[Line, bool]]]) -> int:
    rates = {line.sample_rate for turns in talks.values() for line, _ in turns}
    if not clips or len(rates) != 1:
        raise UserError(f"expected turns of one sample rate, of voices that speak twice, found rates {sorted(rates)}; make a larger corpus")
    return rates.pop()


def _seconds(line: Line) -> float:
    assert line.wav is not None
    return len(line.wav) / line.sample_rate


def _at(line: Line, rate: int) -> Waveform:
    return resample(line.wav, line.sample_rate, rate)  # type: ignore[arg-type]


def _plain(estimate: Estimate) -> dict[str, float]:
    return {"mean": round(estimate.mean, 4), "low": round(estimate.low, 4), "high": round(estimate.high, 4)}


if __name__ == "__main__":
    main()
