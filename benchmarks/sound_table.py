"""Tables of ``sound.json``: whose voice is heard, and are there words, of every corpus each model beside what was really said."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.tables import markdown, where

Cell = Callable[[Mapping[str, float]], str]


def _percent(found: Mapping[str, float]) -> str:
    return f"{100 * found['value']:.0f} % ({100 * found['low']:.0f} to {100 * found['high']:.0f})"


def _number(found: Mapping[str, float]) -> str:
    return f"{found['value']:.2f} ({found['low']:.2f} to {found['high']:.2f})"


VOICE: dict[str, tuple[str, Cell]] = {
    "voice_kept": ("voice kept", _percent), "voice_cosine": ("cosine to the prompt", _number),
    "silence_share": ("silence", _percent), "longest_copy_of_prompt": ("longest run of the prompt's units", _number),
}  # fmt: skip
WORDS: dict[str, tuple[str, Cell]] = {
    "all_words_in_lexicon": ("heard words in the lexicon", _percent), "words_in_lexicon": ("of those that raise no doubts", _percent),
    "lexicon_words_per_second": ("such words a second", _number), "trigrams_allowed": ("three in a row that fit", _percent),
    "words_score": ("score by words", _number), "word_rate_score": ("score by rate", _number),
}  # fmt: skip
CONTROLS = {
    "real": "real speech", "codec": "real speech through the codec", "shuffled": "a wrong prompt", "babble": "shuffled units",
}  # fmt: skip


def voices(values: Mapping[str, Any]) -> str:
    """Whose voice is heard, how much is silence, and how much of the prompt is said again."""
    return markdown(("", *(title for title, _ in VOICE.values())), _rows(values, VOICE), _note(values))


def words(values: Mapping[str, Any]) -> str:
    """How many of the words that the recogniser hears are words of the language, of corpora whose lexicon tells words from babble."""
    told = {corpus: models for corpus, models in values["corpora"].items() if _tells(next(iter(models.values())))}
    silent = ", ".join(corpus for corpus in values["corpora"] if corpus not in told)
    note = f"Left out, as its lexicon has more of the words of shuffled units than of those of speech: {silent}. " if silent else ""
    return markdown(("", *(title for title, _ in WORDS.values())), _rows({"corpora": told}, WORDS), note + _note(values))


def _tells(found: Mapping[str, Any]) -> bool:
    controls = found.get("words_in_lexicon", {}).get("controls", {})
    return "babble" not in controls or bool(controls["babble"]["value"] <= controls["codec"]["value"])


def _rows(values: Mapping[str, Any], figures: Mapping[str, tuple[str, Cell]]) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = []
    for corpus, models in values["corpora"].items():
        for name, found in models.items():
            rows.append((f"{corpus}: {name}", *(cell(found[key]) if key in found else "" for key, (_, cell) in figures.items())))
        found = next(iter(models.values()))
        for control, title in CONTROLS.items():
            cells = [
                cell(found[key]["controls"][control]) if control in found.get(key, {}).get("controls", {}) else ""
                for key, (_, cell) in figures.items()
            ]
            if any(cells):
                rows.append((f"{corpus}: {title}", *cells))
    return rows


def _note(values: Mapping[str, Any]) -> str:
    prompts = ", ".join(f"{next(iter(models.values()))['voice_kept']['n']} ({corpus})" for corpus, models in values["corpora"].items())
    return (
        f"Prompts of 3 s: {prompts}; {values['seeds']} draws of {values['max_seconds']:g} s each; intervals over prompts. "
        f"Recogniser {values['recogniser']}, speaker encoder {values['speaker_encoder']}. {where(values)}"
    )
