"""Items of the language suites, synthesised on the spot: what ``bin/make_language_suites.py`` does.

    DIR/settings.json             what decides the items; a folder of other settings is refused
    DIR/SUITE/GROUP.jsonl         a line a pair, written once its recordings are
    DIR/SUITE/GROUP/NUMBER-XY.wav recording of context X with continuation Y

An item is a function of (settings, group, number) alone, so a run that was stopped goes on, and more items leave those before as they are.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from valle.audio import write_wav
from valle.corpora.espeak_synthesiser import SAMPLE_RATE, EspeakSynthesiser
from valle.corpora.espeak_voices import Voice, training_voice
from valle.corpora.espeak_withheld import withheld_words
from valle.errors import UserError
from valle.evaluation.language import nonwords, sentences, sounds
from valle.evaluation.language.items import LanguageItemsError, Pair
from valle.evaluation.language.load import read_made
from valle.evaluation.language.nonwords import Nonwords, wuggy_quadruple
from valle.evaluation.language.sentences import blimp_quadruple, cloze_quadruple
from valle.evaluation.language.spoken import Quadruple
from valle.files import keep_whole_lines, replacing, write_text
from valle.outputs import claim_outputs
from valle.progress import Progress
from valle.settings import refuse_small, setting

ITEMS_VERSION = 1  # raise it with every change of the code that changes an item
PROGRAM, SETTINGS = "make_language_suites", "settings.json"
SUITES: dict[str, Sequence[str]] = {
    "wuggy": nonwords.GROUPS, "blimp": tuple(sentences.AGREEMENTS), "cloze": sentences.SWAPS, "salmon": sounds.GROUPS,
}  # fmt: skip
MAX_DRAWS = 50  # of one item, of which eSpeak may run words together that must be timed


@dataclass(frozen=True, kw_only=True)
class LanguageItemOptions:
    """Flags of ``bin/make_language_suites.py``."""

    output_dir: Path = field(metadata={"help": "folder of the items; what is there already is kept"})
    suite: Literal["all", "wuggy", "blimp", "cloze", "salmon"] = setting("all", "which suite to make items of")
    max_items: int = setting(1000, "pairs of recordings of each suite, shared out among its groups", least=2)
    num_voices: int = setting(40, "voices, which are those of the embedded corpus's train part", least=5)
    withheld_words: float = setting(
        0.0, "share of words that the corpus withheld from training (synthesize_espeak.py --withheld-words); 0: English words beyond it"
    )
    seed: int = setting(42, "seed of items, voices and withheld words; 42 has those of egs/espeak")

    def __post_init__(self) -> None:
        refuse_small(self)

    @property
    def suites(self) -> list[str]:
        return list(SUITES) if self.suite == "all" else [self.suite]


def make_language_items(options: LanguageItemOptions, *, progress: Progress | None = None) -> list[Pair]:
    """Make what is not there yet -> all pairs of the chosen suites, ``max_items`` of each at most."""
    folder, suites = options.output_dir, options.suites
    outputs = claim_outputs(folder, [SETTINGS, *SUITES], program=PROGRAM)
    settings = _settings_of(folder, options)
    work = [(suite, group, number) for suite in suites for group in SUITES[suite]
            for number in range(ceil(options.max_items / 2 / len(SUITES[suite])))]  # fmt: skip
    for index in (folder / suite / f"{group}.jsonl" for suite in suites for group in SUITES[suite]):
        keep_whole_lines(index)
    done = {suite: {pair.block for pair in read_made(folder, suite)} for suite in suites}
    with outputs.being_written(), EspeakSynthesiser() as synthesiser:
        write_text(folder / SETTINGS, settings)
        maker = _Maker(options, synthesiser)
        for count, (suite, group, number) in enumerate(work):
            if block_of(suite, group, number) not in done[suite]:
                maker.make(suite, group, number)
            if progress is not None:
                progress(count + 1, len(work))
    return [pair for suite in suites for pair in read_made(folder, suite, max_items=options.max_items)]


def block_of(suite: str, group: str, number: int) -> str:
    """The name of a quadruple."""
    return f"{suite}/{group}/{number:05d}"


@dataclass(frozen=True, kw_only=True)
class _Recorded:
    samples: NDArray[np.float32]
    prompt_seconds: float | None
    symbols: Sequence[str]
    trigram_nats: float | None = None


_Pairs = Sequence[tuple[_Recorded, _Recorded]]


class _Maker:
    """Speaks items and writes them."""

    def __init__(self, options: LanguageItemOptions, synthesiser: EspeakSynthesiser) -> None:
        self.options, self.synthesiser = options, synthesiser
        self._nonwords: dict[tuple[str, bool], Nonwords] = {}
        self._turns: defaultdict[tuple[int, str], int] = defaultdict(int)

    def make(self, suite: str, group: str, number: int) -> None:
        """Draw until eSpeak times what must be timed, then write recordings first and their pairs last."""
        for attempt in range(MAX_DRAWS):
            rng = random.Random(f"{self.options.seed} {suite} {group} {number} draw {attempt}")
            pairs = self._sounds(group, number, rng) if suite == "salmon" else self._spoken(self._quadruple(suite, group, number, rng))
            if pairs is not None:
                return self._write(suite, group, number, pairs)
        raise LanguageItemsError(f"expected an item of {suite}/{group} that eSpeak times, found none in {MAX_DRAWS}; name another --seed")

    def _quadruple(self, suite: str, group: str, number: int, rng: random.Random) -> Quadruple:
        voice = self._voice(number)
        if suite == "wuggy":
            turn = sum(self._voice(before).accent == voice.accent for before in range(number))
            return wuggy_quadruple(rng, group, voice, self._exchanges(voice, withheld=group.startswith("withheld")).take(turn))
        if suite == "blimp":
            return blimp_quadruple(rng, group, voice)
        return cloze_quadruple(rng, _fact(group), voice)

    def _exchanges(self, voice: Voice, *, withheld: bool) -> Nonwords:
        key = voice.accent, withheld
        if key not in self._nonwords:
            unsaid = withheld_words(self.options.withheld_words, seed=self.options.seed)
            self._nonwords[key] = Nonwords(self.synthesiser, voice, withheld=withheld, seed=self.options.seed, unsaid=unsaid)
        return self._nonwords[key]

    def _spoken(self, quadruple: Quadruple) -> _Pairs | None:
        recorded = []
        for pair in quadruple.pairs:
            for said in pair:
                speech = self.synthesiser.speak(said.text, quadruple.voice, phonemes=said.phonemes)
                prompt = _onset(speech.starts, said.place)
                if said.place is not None and prompt is None:
                    return None
                samples = speech.samples.astype(np.float32) / np.float32(32768)
                recorded.append(_Recorded(samples=samples, prompt_seconds=prompt, symbols=said.symbols, trigram_nats=said.trigram_nats))
        return [(recorded[0], recorded[1]), (recorded[2], recorded[3])]

    def _sounds(self, group: str, number: int, rng: random.Random) -> _Pairs | None:
        if group == "contour":
            return self._contours(self._voice(number), rng)
        versions = sounds.draw_versions(rng, group, number, num_voices=self.options.num_voices, seed=self.options.seed)
        made = sounds.speak_consistency(self.synthesiser, rng, versions)
        if made is None:
            return None
        sentence, pairs = made
        record = partial(_Recorded, symbols=sentence.split())
        return [tuple(record(samples=heard.samples, prompt_seconds=heard.prompt_seconds) for heard in pair) for pair in pairs]  # type: ignore[misc]

    def _contours(self, voice: Voice, rng: random.Random) -> _Pairs | None:
        """A question's words with its own melody and with a statement's, and the other way round."""
        rows = []
        for wording, own in zip(sounds.draw_wordings(rng), "?.", strict=True):
            for mark in (own, "." if own == "?" else "?"):
                speech = self.synthesiser.speak(wording + mark, voice)
                prompt = _onset(speech.starts, wording.rindex(" ") + 1)
                if prompt is None:
                    return None
                samples = speech.samples.astype(np.float32) / np.float32(32768)
                rows.append(_Recorded(samples=samples, prompt_seconds=prompt, symbols=wording.split()))
        return [(rows[0], rows[1]), (rows[2], rows[3])]

    def _voice(self, number: int) -> Voice:
        return training_voice(number % self.options.num_voices, seed=self.options.seed)

    def _write(self, suite: str, group: str, number: int, pairs: _Pairs) -> None:
        folder, block = self.options.output_dir, block_of(suite, group, number)
        lines = []
        for place, pair in enumerate(pairs):
            row: dict[str, Any] = {"id": f"{block}-{place}", "block": block}
            for name, recorded in zip(("right", "wrong"), pair, strict=True):
                audio = f"{block}-{place}-{name}.wav"
                (folder / audio).parent.mkdir(parents=True, exist_ok=True)
                with replacing(folder / audio, ending=".tmp.wav") as temporary:
                    write_wav(temporary, recorded.samples, SAMPLE_RATE)
                row[name] = {
                    "audio": audio, "prompt_seconds": recorded.prompt_seconds, "symbols": list(recorded.symbols),
                    "trigram_nats": recorded.trigram_nats,
                }  # fmt: skip
            lines.append(json.dumps(row, ensure_ascii=False) + "\n")
        with (folder / suite / f"{group}.jsonl").open("a", encoding="utf-8") as index:
            index.write("".join(lines))


def _onset(starts: Any, place: int | None) -> float | None:
    """Where what stands at ``place`` begins to sound; phonemes in brackets stand a little behind it."""
    return None if place is None else next((starts[near] for near in range(place, place + 3) if near in starts), None)


def _fact(group: str) -> Any:
    return group


def _settings_of(folder: Path, options: LanguageItemOptions) -> str:
    """What decides the items; refuses a folder of others."""
    wanted = {"version": ITEMS_VERSION, "seed": options.seed, "num_voices": options.num_voices, "withheld_words": options.withheld_words}
    try:
        found = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        found = wanted
    except ValueError:
        found = None
    if found != wanted:
        raise UserError(f"expected items made with {wanted} in {folder}, found {found}; name another --output-dir, or delete that folder")
    return json.dumps(wanted) + "\n"
