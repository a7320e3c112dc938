"""The dialogue corpus: small talk of two eSpeak NG voices on two channels, synthesised on the spot, no download.

:func:`synthesize_dialogues` (stage 0) writes stereo wavs and an index; :func:`prepare_espeak_dialogue` (stage 1) makes lhotse manifests
of it.  A part is the shortest run of dialogues 0, 1, 2, ... that reaches its duration.  Dev has the training voices; in test, both voices
of every second dialogue are ones that only test has.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from lhotse import CutSet, MonoCut, Recording, SupervisionSegment
from lhotse.audio import AudioSource

from valle.corpora.espeak_dialogue_turns import NUM_CHANNELS, Dialogue, EspeakDialogueConfig, Turn, speak_dialogue
from valle.corpora.espeak_writer import EspeakCorpusSpeaker
from valle.corpora.speech import SAMPLE_RATE
from valle.corpora.speech_cuts import alignment, write_parts
from valle.corpora.speech_writer import SynthesisReport, write_corpus
from valle.progress import Progress

__all__ = ["EspeakDialogueConfig", "prepare_espeak_dialogue", "synthesize_dialogues"]


def synthesize_dialogues(
    directory: Path, *, config: EspeakDialogueConfig, num_workers: int = 1, progress: Progress | None = None
) -> SynthesisReport:
    """Synthesise the corpus into ``directory``, or complete it, or replace one of other settings.

    ``progress(seconds_done, seconds_wanted)`` is called, in the caller's thread, after each shard.
    Raises :class:`CorpusDirectoryError` where the folder holds something else.
    """
    return write_corpus(
        directory,
        config=config,
        open_speaker=lambda: EspeakCorpusSpeaker(partial(speak_dialogue, config)),
        num_workers=num_workers,
        progress=progress,
    )


def prepare_espeak_dialogue(directory: Path, output_dir: Path) -> dict[str, CutSet]:
    """Write ``cuts_{train,dev,test}.jsonl.gz`` of a synthesised corpus and return them, read lazily.

    A cut is one channel of one dialogue, as long as the dialogue, so that units and codes of both channels lie on one time.  Its
    supervisions are that voice's turns, each with text, speaker, word and phone times (seconds from the dialogue's start) and in
    ``custom`` its ``kind`` (question, answer or back-channel), its ``rule``, and ``voice_is_in_train``.  The cut's ``custom`` has the
    ``dialogue``'s id.  Raises :class:`CorpusDirectoryError` unless the corpus is complete.
    """
    return write_parts(directory, output_dir, parse=Dialogue.from_dict, cuts_of=_cuts)


def _cuts(dialogue: Dialogue, root: Path) -> Iterator[MonoCut]:
    duration = dialogue.num_samples / SAMPLE_RATE
    recording = Recording(
        id=dialogue.id,
        sources=[AudioSource(type="file", channels=list(range(NUM_CHANNELS)), source=str(root / dialogue.path))],
        sampling_rate=SAMPLE_RATE,
        num_samples=dialogue.num_samples,
        duration=duration,
    )
    for channel in range(NUM_CHANNELS):
        turns = [(number, turn) for number, turn in enumerate(dialogue.turns) if turn.channel == channel]
        yield MonoCut(
            id=f"{dialogue.id}-{channel}", start=0.0, duration=duration, channel=channel, recording=recording,
            supervisions=[_supervision(dialogue, number, turn) for number, turn in turns], custom={"dialogue": dialogue.id},
        )  # fmt: skip


def _supervision(dialogue: Dialogue, number: int, turn: Turn) -> SupervisionSegment:
    voice = dialogue.voices[turn.channel]
    custom: dict[str, Any] = {
        **voice.settings, "kind": turn.kind, "rule": turn.rule, "voice_is_in_train": dialogue.voices_are_in_train,
    }  # fmt: skip
    return SupervisionSegment(
        id=f"{dialogue.id}-turn-{number:02d}",
        recording_id=dialogue.id,
        start=turn.start,
        duration=turn.duration,
        channel=turn.channel,
        text=turn.text,
        language="English",
        speaker=voice.name,
        gender="female" if voice.is_female else "male",
        custom=custom,
        alignment={"word": alignment(turn.words), "phone": alignment(turn.phones)} if turn.words else None,
    )
