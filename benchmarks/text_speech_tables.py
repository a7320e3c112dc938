"""The tables of benchmarks.text_speech and benchmarks.conversation, and of the runs that they measure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from benchmarks.tables import Results, markdown, percent, run_note, where

VOICES = ("trained voices", "new voices")
SAID = {"synthesiser": "the synthesiser's own", "round trip": "that through the codec", "own units": "its units in the voice model's sound"}
SYSTEMS = {
    "generated": "made",
    "without_own": "made after the other speaker's turns alone",
    "real": "real",
    "round_trip": "real, through the codec",
}


def text_speech(values: Mapping[str, Any]) -> str:
    """A row a figure, a column a model, and the control."""
    models, controls = values["models"], values.get("controls", {})
    rows = []
    for words, path, control in _figures(models, controls):
        said = _bleu if path[-1] == "bleu" else percent
        cells = [said(_at(model, path)) for model in models.values()]
        if any(cells):
            rows.append((words, *cells, control))
    sizes = ", ".join(f"{name} {model['parameters'] / 1e6:.1f} million parameters" for name, model in models.items())
    note = f"{values['recordings']} recordings; {sizes}; shares in percent, 95 % intervals over sentences. {where(values)}"
    return markdown(("", *models, "control"), rows, note)


def _figures(models: Mapping[str, Any], controls: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, ...], str]]:
    """What a row says, where its figure is in a model's results, and what stands beside it."""
    first = next(iter(models.values()))
    others = percent(_at(first, ("ASR", "other_sentences")))
    for voices in VOICES:
        yield f"ASR, word error, {voices}", ("ASR", voices), f"answers to other sentences {others}"
    pairs = [name for name in first.get("MT", first.get("AST", {})) if " to " in name]
    for pair in pairs:
        yield f"MT, exact sentences, {pair}", ("MT", pair, "exact"), ""
        yield (
            f"MT, BLEU, {pair}",
            ("MT", pair, "bleu"),
            f"answers to other sentences {_bleu(_at(first, ('MT', 'other_sentences', 'bleu')))}",
        )
    for task, path in (("AST", ("AST",)), ("AST by the chain ASR, AST, S2ST", ("ASR+AST+S2ST", "translations"))):
        for voices in VOICES:
            yield f"{task}, exact sentences, {voices}", (*path, voices, "exact"), ""
    yield "the chain above AST alone, exact sentences", ("chain_above_direct",), "0: no difference"
    for language in [name for name in controls.get("TTS", {}).get("synthesiser", {}) if name != "other_sentences"]:
        beside = ", ".join(f"{words} {percent(controls['TTS'][name][language])}" for name, words in SAID.items())
        yield f"TTS, word error that Whisper hears, {language}", ("spoken", "TTS", language), beside
    for target, beside in controls.get("S2ST", {}).get("synthesiser", {}).items():
        for task, words in (("S2ST", "S2ST"), ("ASR+AST+S2ST", "S2ST by the chain")):
            for measure, name in (("bleu", "BLEU"), ("word_error", "word error")):
                control = f"{SAID['synthesiser']} {(_bleu if measure == 'bleu' else percent)(beside[measure])}"
                yield f"{words}, {name} that Whisper hears, {target}", ("spoken", task, target, measure), control
    yield "the chain above S2ST alone, word error", ("spoken", "chain_above_direct"), "0: no difference"


def _at(values: Mapping[str, Any], path: tuple[str, ...]) -> Mapping[str, Any] | None:
    found: Any = values
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _bleu(value: Mapping[str, float] | None) -> str:
    return "" if value is None else f"{value['mean']:.1f} ({value['low']:.1f} to {value['high']:.1f})"


def conversation(values: Mapping[str, Any]) -> str:
    """A row a kind of voice and a system."""
    rows = []
    for kind, words in (("trained", "trained voices"), ("new", "new voices")):
        for name, system in SYSTEMS.items():
            if (found := values.get(kind, {}).get(name)) is not None:
                rows.append((
                    f"{words}: {system}", percent(found["own_voice"]), percent(found["other_speakers_voice"]),
                    percent(found.get("word_error")), percent(found.get("word_error_of_other_texts")),
                ))  # fmt: skip
    columns = ("turn", "its speaker's voice, %", "the other speaker's, %", "word error, %", "of other turns' texts, %")
    turns = " and ".join(f"{values[kind]['turns']} turns of {kind} voices" for kind in ("trained", "new") if kind in values)
    note = f"{turns}; {values['voices']} voices to choose from, chance {100 * values['chance']:.0f} %; 95 % intervals. {where(values)}"
    return markdown(columns, rows, note)


def one_body(name: str) -> Callable[[Results], str | None]:
    """The run of a model that is one stage: a row for each of its tasks or levels, the terms of its loss."""

    def block(results: Results) -> str | None:
        if name not in results:
            return None
        values = results[name]
        terms = {term: row for term, row in values["training"].items() if isinstance(row, Mapping) and "valid_nll" in row}
        rows = [
            (term.removeprefix("conversation_"), f"{row['train_nll']:.3f}", f"{row['valid_nll']:.3f}", f"{100 * row['accuracy']:.0f} %")
            for term, row in terms.items()
        ]  # fmt: skip
        return markdown(("task" if name == "espeak_text" else "level", "train", "dev", "accuracy"), rows, run_note(values))

    return block
