"""Texts that eSpeak NG says: cuts with exact phone times, and the same as recordings that have their transcripts alone."""

from __future__ import annotations

from pathlib import Path

from lhotse import MonoCut, Recording, SupervisionSegment
from lhotse.audio import AudioSource
from lhotse.supervision import AlignmentItem

from valle.audio import write_wav
from valle.corpora.espeak_synthesiser import SAMPLE_RATE, EspeakSynthesiser
from valle.corpora.espeak_voices import training_voice
from valle.corpora.manifests import write_cuts

TEXTS = ("Anna saw a tall man. A tall man saw Anna.", "Tall Anna met a man. A man met Anna.", "A man met a tall man. Anna saw a man.")


def write_spoken_texts(path: Path, *, num_cuts: int, times: bool = True, first: int = 0) -> Path:
    """Cuts of ``TEXTS`` in turn by American voices in turn."""
    voices = [voice for voice in (training_voice(index, seed=0) for index in range(60)) if voice.accent == "en-us"]
    cuts = []
    with EspeakSynthesiser() as synthesiser:
        for number in range(first, first + num_cuts):
            text, voice = TEXTS[number % len(TEXTS)], voices[number % len(voices)]
            speech = synthesiser.speak(text, voice)
            wav = path.parent / f"{path.name.split('.')[0]}-{number}.wav"
            write_wav(wav, speech.samples.astype("float32") / 32768, SAMPLE_RATE)
            source = AudioSource(type="file", channels=[0], source=str(wav))
            recording = Recording(
                id=wav.stem, sources=[source], sampling_rate=SAMPLE_RATE, num_samples=len(speech.samples), duration=speech.seconds
            )
            spans = {"phone": speech.phones, "word": speech.words}
            alignment = {name: [AlignmentItem(span.symbol, span.start, span.duration) for span in found] for name, found in spans.items()}
            supervision = SupervisionSegment(
                id=wav.stem, recording_id=wav.stem, start=0, duration=speech.seconds, speaker=voice.name,
                text=text if times else text.upper(), custom={"voice_is_in_train": False}, alignment=alignment if times else None,
            )  # fmt: skip
            cuts.append(MonoCut(id=wav.stem, start=0, duration=speech.seconds, channel=0, recording=recording, supervisions=[supervision]))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_cuts(cuts, path)
    return path
