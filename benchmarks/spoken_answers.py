"""What a recogniser hears of a joint-lm's speech, beside the synthesiser's own, its round trip, and its own units in the same voice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from benchmarks.parallel_texts import Spoken, answered, bleu, errors, plain
from valle.audio import Waveform, resample
from valle.corpora.parallel_grammar import LANGUAGES
from valle.errors import UserError
from valle.evaluation.continuations import round_trip
from valle.evaluation.recogniser import Recogniser, whisper_recogniser
from valle.evaluation.voices import derangement
from valle.inference.pipeline import Pipeline
from valle.inference.text_speech import TextSpeech
from valle.measures.intervals import paired_difference
from valle.measures.level import speech_gain_db, with_gain
from valle.tokenizers.stream import encode_pieces

Sound = tuple[Waveform, int]
SPEAKING = ("S2ST", "ASR+AST+S2ST")


@dataclass(frozen=True)
class SpokenAnswers:
    """Sentences that are spoken, the voices that they are given, and who listens."""

    spoken: Sequence[Spoken]
    voices: Sequence[Sound]  # another recording of each sentence's voice
    recordings: dict[str, Spoken]  # of all sentences, by the cut's id
    voice_model: Pipeline
    judges: dict[str, Recogniser]  # by language

    @classmethod
    def of(cls, spoken: Sequence[Spoken], voice_model: Pipeline | None, whisper: str | None, most: int) -> SpokenAnswers | None:
        """The first ``most`` sentences of each language; None where nothing is to be spoken."""
        if voice_model is None and whisper is None:
            return None
        if voice_model is None or whisper is None:
            raise UserError("speech is judged with --voice-model and --whisper together, found one of them; give both or neither")
        codes = {language.name: code for code, language in LANGUAGES.items()}
        languages = sorted({one.language for one in spoken})
        judges: dict[str, Recogniser] = {language: whisper_recogniser(whisper, language=codes[language]) for language in languages}
        chosen = [one for language in languages for one in [row for row in spoken if row.language == language][:most]]
        return cls(chosen, [another_of(one, spoken) for one in chosen], {one.cut.id: one for one in spoken}, voice_model, judges)

    def controls(self) -> dict[str, Any]:
        """Of the sentences as the synthesiser says them: errors of the recording, of its round trip, and of its units in another sound."""
        systems: dict[str, Callable[[int], Sound]] = {
            "synthesiser": lambda row: self.spoken[row].sound(),
            "round trip": lambda row: (round_trip(self.voice_model, self._at_its_rate(row)), self.voice_model.sample_rate),
            "own units": lambda row: self._say(self._units(row), row),
        }
        heard = {name: [self._hear(row, *sound(row)) for row in range(len(self.spoken))] for name, sound in systems.items()}
        found = {name: self._errors(texts) for name, texts in heard.items()}
        translated = [self.judges[one.target].hear(*self.recordings[one.translated_id].sound()).text for one in self.spoken]
        return {"TTS": found, "S2ST": {"synthesiser": self._translated(translated)}}

    def of_model(self, model: TextSpeech) -> dict[str, Any]:
        """Of what the model says: word errors of ``TTS``, and of translations by one step and by a chain."""
        found: dict[str, Any] = {}
        if "TTS" in model.released.tasks:
            found["TTS"] = self._errors(self._heard(model, "TTS", [one.language for one in self.spoken]))
        targets = [one.target for one in self.spoken]
        heard = {task: self._heard(model, task, targets) for task in SPEAKING if task in model.released.tasks}
        found |= {task: self._translated(texts) for task, texts in heard.items()}
        if len(heard) == len(SPEAKING):
            wanted = [one.translation for one in self.spoken]
            direct, chain = (errors(wanted, heard[task], capped=True).items for task in SPEAKING)
            assert direct is not None and chain is not None
            found["chain_above_direct"] = plain(paired_difference(direct, chain))
        return found

    def _heard(self, model: TextSpeech, task: str, languages: Sequence[str]) -> list[str]:
        answers = answered(model, task, self.spoken)
        return [self._hear(row, *self._say(answer.units, row), language=languages[row]) for row, answer in enumerate(answers)]

    def _hear(self, row: int, wav: Waveform, rate: int, *, language: str = "") -> str:
        return self.judges[language or self.spoken[row].language].hear(wav, rate).text if len(wav) else ""

    def _say(self, units: Tensor | None, row: int) -> Sound:
        """Units with the sound of another recording of the sentence's voice."""
        rate = self.voice_model.sample_rate
        if units is None or not len(units):
            return self._at_its_rate(row)[:0], rate
        return self.voice_model.speak_units(units, *self.voices[row], seed=row), rate

    def _at_its_rate(self, row: int) -> Waveform:
        return resample(*self.spoken[row].sound(), self.voice_model.sample_rate)

    def _units(self, row: int) -> Tensor:
        semantic = self.voice_model.semantic
        assert semantic is not None  # a model that knows no units speaks none
        wav, rate = self.spoken[row].sound()
        heard = with_gain(wav, speech_gain_db(wav, rate))
        return encode_pieces(semantic, [resample(heard, rate, semantic.sample_rate)])

    def _errors(self, texts: Sequence[str]) -> dict[str, Any]:
        """Word errors by language; ``other_sentences`` against the texts of others."""
        wanted, order = [one.text for one in self.spoken], derangement(len(texts), seed=0)
        found = {"other_sentences": plain(errors([wanted[place] for place in order], texts, capped=True))}
        for language in sorted({one.language for one in self.spoken}):
            rows = [row for row, one in enumerate(self.spoken) if one.language == language]
            found[language] = plain(errors([wanted[row] for row in rows], [texts[row] for row in rows], capped=True))
        return found

    def _translated(self, texts: Sequence[str]) -> dict[str, Any]:
        """BLEU and word errors of what was heard in the other language."""
        found: dict[str, Any] = {}
        for target in sorted({one.target for one in self.spoken}):
            rows = [row for row, one in enumerate(self.spoken) if one.target == target]
            given, wanted = [texts[row] for row in rows], [self.spoken[row].translation for row in rows]
            found[f"to {target}"] = {"bleu": bleu(given, wanted), "word_error": plain(errors(wanted, given, capped=True))}
        return found


def another_of(one: Spoken, spoken: Sequence[Spoken]) -> Sound:
    """Another sentence of the same voice; the sentence itself where it has one alone."""
    others = [row for row in spoken if row.voice == one.voice and row.text not in (one.text, one.translation)]
    same_language = [row for row in others if row.language == one.language]
    return (same_language or others or [one])[0].sound()
