#!/usr/bin/env python3
"""What a person hears of a model: are there words, and does the prompt's voice stay?  Several draws of every prompt, models side by side.

  python -m benchmarks.sound --models valle/assets/audio-lm "previous model=exp/former" --whisper whisper-base --speaker resemblyzer \\
    --corpora "natural voices=held_out.jsonl.gz" "test-other=cuts_dev.jsonl.gz,cuts_test.jsonl.gz" --texts test-other=cuts_train.jsonl.gz

A corpus is manifests whose supervisions name speakers.  Half of every speaker's cuts go to a judge of voices, the others are prompts,
and the other way round, as in ``voices_kept.py``.  Where the recipe marks voices that its training part does not have, only these
speak.  Every prompt is continued ``--seeds`` times, and the draws of a prompt are counted together: an interval is a bootstrap over
prompts.  ``--texts`` names manifests whose words are a corpus's lexicon; without them it is that of the embedded grammar.  What is
finished lies in ``--work-dir``, and the same command goes on from there.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lhotse.cut import Cut

from benchmarks.common import RESULTS, header, write_results
from benchmarks.voices_kept import parted
from valle.audio import Waveform
from valle.corpora import espeak_grammar
from valle.corpora.grammar_fragments import fragments
from valle.corpora.manifests import read_cuts, write_cuts
from valle.decoding.sampling import Sampling
from valle.evaluation.continuations import Continued, continue_cuts, cut_audio, guard_seconds, shuffled_runs, speak_units
from valle.evaluation.heard_words import Grammar, HeardClip, LexiconCounts, above_babble, lexicon_counts, trigram_counts
from valle.evaluation.recogniser import Recogniser, whisper_recogniser
from valle.evaluation.remembered import RememberingRecogniser
from valle.evaluation.speaker_encoder import SpeakerEncoder, cosines, speaker_encoder
from valle.evaluation.voice_report import VoiceTrialSettings, choose_voice_trials, voice_of
from valle.evaluation.voices import VoiceClip, VoiceJudge, derangement
from valle.files import write_text
from valle.inference.continuation import ContinueSettings
from valle.inference.pipeline import Pipeline
from valle.measures.intervals import Estimate, bootstrap_ratio
from valle.measures.sound import silence_share
from valle.measures.words import longest_common_run, words_of_speech
from valle.models.registry import all_stages

TIMED_PROMPTS = 3  # one after another, for the real-time factor
GENERATED, REAL, CODEC, BABBLE = "generated", "real", "codec", "babble"
OTHERS = "shuffled"  # outputs beside the prompts of others


@dataclass(frozen=True)
class Draw:
    """One continuation, and who should be heard in it."""

    row: Continued
    heard_voice: Mapping[str, str | None]  # by system: what the judge names

    @property
    def prompt(self) -> str:
        return self.row.cut.id


@dataclass(frozen=True)
class Judges:
    """Who listens, and to which words."""

    recogniser: Recogniser
    encoder: SpeakerEncoder
    lexicon: Set[str]
    grammar: Grammar | None


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", required=True, metavar="[NAME=]FOLDER", help="released models")
    parser.add_argument("--corpora", nargs="+", required=True, metavar="NAME=MANIFEST,MANIFEST", help="cuts with named speakers")
    parser.add_argument("--texts", nargs="*", default=[], metavar="NAME=MANIFEST", help="cuts whose words are a corpus's lexicon")
    parser.add_argument("--whisper", required=True, help="folder of a Whisper model for faster-whisper")
    parser.add_argument("--speaker", default="resemblyzer", help="speaker encoder: resemblyzer, or a folder of WavLM")
    parser.add_argument("--num-prompts", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=4, help="draws of every prompt")
    parser.add_argument("--max-seconds", type=float, default=7.0, help="of new audio")
    parser.add_argument("--sampling", nargs="*", default=[], metavar="STAGE:FIELD=VALUE", help="such as semantic:temperature=0.6")
    parser.add_argument("--work-dir", type=Path, default=Path("exp/sound"), help="finished parts, and what the recogniser heard")
    parser.add_argument("--output", type=Path, default=RESULTS / "sound.json")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    models, corpora, texts = (dict(_named(words) for words in given) for given in (options.models, options.corpora, options.texts))
    settings = ContinueSettings(
        prompt_seconds=3.0, min_seconds=options.max_seconds, max_seconds=options.max_seconds, sampling=chosen_sampling(options.sampling)
    )
    recogniser = RememberingRecogniser(whisper_recogniser(options.whisper), options.work_dir / "heard.jsonl")
    encoder = speaker_encoder(options.speaker)
    results: dict[str, Any] = {
        **header(_command(options, parser)), "num_prompts": options.num_prompts, "seeds": options.seeds, "max_seconds": options.max_seconds,
        "recogniser": recogniser.name, "speaker_encoder": encoder.name, "corpora": {},
    }  # fmt: skip
    for corpus, manifests in corpora.items():
        cuts = new_voices([cut for path in manifests.split(",") for cut in read_cuts(Path(path))])
        lexicon, grammar = lexicon_of(texts.get(corpus))
        judges = Judges(recogniser, encoder, lexicon, grammar)
        for name, folder in models.items():
            part = options.work_dir / f"{_file_name(corpus)}.{_file_name(name)}.json"
            if not part.is_file():
                pipeline = Pipeline.from_pretrained(folder)
                measured = measure(pipeline, cuts, settings, judges, num_prompts=options.num_prompts, seeds=options.seeds)
                write_text(part, json.dumps(measured, indent=2) + "\n")
            results["corpora"].setdefault(corpus, {})[name] = json.loads(part.read_text(encoding="utf-8"))
            print(f"{corpus}: {name}", json.dumps({key: found["value"] for key, found in results["corpora"][corpus][name].items()}))
    write_results(options.output, results)
    print(f"written: {options.output}")


def measure(
    pipeline: Pipeline, cuts: Sequence[Cut], settings: ContinueSettings, judges: Judges, *, num_prompts: int, seeds: int
) -> dict[str, Any]:
    """Every figure of one model on one corpus, by its name: its value, interval, number of prompts and controls."""
    draws: list[Draw] = []
    halves = parted(cuts)
    for known, others in (halves, halves[::-1]):
        draws += continued_half(pipeline, known, others, settings, num_prompts=num_prompts // 2, seeds=seeds)
    found = {
        **voice_figures(draws, judges.encoder, pipeline.sample_rate), **shape_figures(draws, pipeline.sample_rate),
        **word_figures(pipeline, draws, judges), "rtf": real_time_factor(pipeline, draws, settings),
    }  # fmt: skip
    return {
        name: values for name, values in found.items() if not np.isnan(values["value"])
    }  # a score whose controls are alike says nothing


def continued_half(
    pipeline: Pipeline, known: Sequence[Cut], others: Sequence[Cut], settings: ContinueSettings, *, num_prompts: int, seeds: int
) -> list[Draw]:
    """``seeds`` continuations of up to ``num_prompts`` of ``others``, heard by a judge of voices that is fitted on ``known``."""
    trials, rate = VoiceTrialSettings(num_prompts=num_prompts, max_seconds=settings.max_seconds), pipeline.sample_rate
    with tempfile.TemporaryDirectory() as folder:
        for part, chosen in (("train", known), ("test", others), ("dev", [])):
            write_cuts(chosen, Path(folder) / f"cuts_{part}.jsonl.gz")
        by_voice, prompts = choose_voice_trials(Path(folder), trials, guard=guard_seconds(pipeline))
    judge = VoiceJudge([VoiceClip(cut.id, voice_of(cut), cut_audio(cut, rate)) for own in by_voice.values() for cut in own], rate)
    draws: list[Draw] = []
    for seed in range(seeds):
        for row in continue_cuts(pipeline, prompts, settings, batch_size=32, seed=seed * len(prompts)):
            first = draws[len(draws) % len(prompts)] if seed else None  # what was really said is judged once
            said = first.heard_voice if first else {REAL: judge.name_voice(row.real), CODEC: judge.name_voice(row.round_trip)}
            draws.append(Draw(row, {**said, GENERATED: judge.name_voice(row.generated)}))
    return draws


def voice_figures(draws: Sequence[Draw], encoder: SpeakerEncoder, rate: int) -> dict[str, Any]:
    """Whose voice the new audio has, by a closed set of voices and by an open-set encoder."""
    own = [voice_of(draw.row.cut) for draw in draws]
    others = _others(draws)
    kept = {
        system: by_prompt(draws, [draw.heard_voice[system] == voice for draw, voice in zip(draws, own, strict=True)])
        for system in (GENERATED, REAL, CODEC)
    }
    taken = [voice_of(other.row.cut) for other in others]
    kept[OTHERS] = by_prompt(draws, [draw.heard_voice[GENERATED] == voice for draw, voice in zip(draws, taken, strict=True)])
    prompts, once = [draw.row.prompt for draw in draws], _once(draws)
    alike = {
        GENERATED: by_prompt(draws, cosines(encoder, [draw.row.generated for draw in draws], prompts, rate)),
        REAL: by_prompt(once, cosines(encoder, [draw.row.real for draw in once], [draw.row.prompt for draw in once], rate)),
        CODEC: by_prompt(once, cosines(encoder, [draw.row.round_trip for draw in once], [draw.row.prompt for draw in once], rate)),
        OTHERS: by_prompt(draws, cosines(encoder, [draw.row.generated for draw in draws], [other.row.prompt for other in others], rate)),
    }
    return {"voice_kept": figure(kept), "voice_cosine": figure(alike)}


def shape_figures(draws: Sequence[Draw], rate: int) -> dict[str, Any]:
    """Silence, and the longest stretch of units that is said again."""
    silence = {
        system: by_prompt(draws, [silence_share(getattr(draw.row, part), rate) for draw in draws])
        for system, part in ((GENERATED, "generated"), (REAL, "real"))
    }
    copies = {
        system: by_prompt(draws, [float(_copied(draw.row, part)) for draw in draws])
        for system, part in ((GENERATED, "new_units"), (REAL, "real_units"))
    }
    return {"silence_share": figure(silence), "longest_copy_of_prompt": figure(copies)}


def word_figures(pipeline: Pipeline, draws: Sequence[Draw], judges: Judges) -> dict[str, Any]:
    """Words of the lexicon in what a recogniser hears, beside real speech, its round trip and babble of shuffled units."""
    rate, once = pipeline.sample_rate, _once(draws)
    rows = [draw.row for draw in once]
    babble = spoken_babble(pipeline, rows)
    heard = {
        GENERATED: _hear(judges.recogniser, draws, [draw.row.generated for draw in draws], rate),
        REAL: _hear(judges.recogniser, once, [row.real for row in rows], rate),
        CODEC: _hear(judges.recogniser, once, [row.round_trip for row in rows], rate),
        BABBLE: _hear(judges.recogniser, once, babble, rate),
    }
    counted = {system: grouped(clips, lexicon_counts(clips, judges.lexicon)) for system, clips in heard.items()}
    everything = {system: grouped(clips, lexicon_counts(clips, judges.lexicon, doubted=True)) for system, clips in heard.items()}
    figures = {
        "words_in_lexicon": figure({system: some.share for system, some in counted.items()}),
        "all_words_in_lexicon": figure({system: some.share for system, some in everything.items()}),
        "lexicon_words_per_second": figure({system: some.words_a_second for system, some in counted.items()}),
        "words_score": figure({GENERATED: score(everything, "words")}),
        "word_rate_score": figure({GENERATED: score(counted, "seconds")}),
    }
    if judges.grammar is not None:
        figures["trigrams_allowed"] = figure({system: _trigrams(clips, judges.lexicon, judges.grammar) for system, clips in heard.items()})
    return figures


def score(counts: Mapping[str, LexiconCounts], of: Any) -> Estimate:
    return above_babble(counts[GENERATED], babble=counts[BABBLE], round_trip=counts[CODEC], of=of)


def spoken_babble(pipeline: Pipeline, rows: Sequence[Continued]) -> list[Waveform]:
    """What was really said after every prompt, its units shuffled, spoken by the model without a prompt."""
    shuffled = [shuffled_runs(row.real_units, seed=number) for number, row in enumerate(rows) if row.real_units is not None]
    return speak_units(pipeline, shuffled)


def grouped(clips: Sequence[HeardClip], counts: LexiconCounts) -> LexiconCounts:
    """Counts by prompt instead of by clip, in the order of the prompts' names."""
    names = [clip.name for clip in clips]
    words, inside, seconds = (_sums(names, values) for values in (counts.words, counts.inside, counts.seconds))
    return replace(counts, words=words.astype(np.int64), inside=inside.astype(np.int64), seconds=seconds)


def by_prompt(draws: Sequence[Draw], values: Sequence[float]) -> Estimate:
    """Mean over draws, with the bootstrap over prompts."""
    return ratio_by_name([draw.prompt for draw in draws], values, [1.0] * len(draws))


def ratio_by_name(names: Sequence[str], parts: Sequence[float], wholes: Sequence[float]) -> Estimate:
    """Sum of ``parts`` over sum of ``wholes``; the items of one name are drawn together."""
    return bootstrap_ratio(_sums(names, parts).tolist(), _sums(names, wholes).tolist())


def real_time_factor(pipeline: Pipeline, draws: Sequence[Draw], settings: ContinueSettings) -> dict[str, Any]:
    """Seconds of one thread for a second of new audio, one prompt after another."""
    took = []
    for row in [draw.row for draw in _once(draws)[:TIMED_PROMPTS]]:
        start = time.thread_time()
        pipeline.continue_audio(row.prompt, pipeline.sample_rate, settings=settings)
        took.append((time.thread_time() - start) / settings.max_seconds)
    return {"value": float(np.median(took)), "low": min(took), "high": max(took), "n": len(took), "controls": {}}


def figure(estimates: Mapping[str, Estimate]) -> dict[str, Any]:
    """The model's estimate, and the others as its controls."""
    own = estimates[GENERATED]
    said = {system: estimate for system, estimate in estimates.items() if not np.isnan(estimate.mean)}  # babble may have no three words
    controls = {system: _plain(estimate) for system, estimate in said.items() if system != GENERATED}
    return {**_plain(own), "n": own.count, "controls": controls}


def new_voices(cuts: Sequence[Cut]) -> list[Cut]:
    """Those of ``cuts`` whose voices are marked as missing in training; all where none is marked."""
    marked = [cut for cut in cuts if any((one.custom or {}).get("voice_is_in_train") is False for one in cut.supervisions)]
    return marked or list(cuts)


def lexicon_of(texts: str | None) -> tuple[Set[str], Grammar | None]:
    """All words of the cuts in the manifests ``texts``, or the embedded grammar and its words."""
    if texts is None:
        return espeak_grammar.lexicon(), fragments()
    cuts = (cut for path in texts.split(",") for cut in read_cuts(Path(path)))
    return frozenset(word for cut in cuts for one in cut.supervisions if one.text for word in words_of_speech(one.text)), None


def chosen_sampling(words: Iterable[str]) -> dict[str, Sampling]:
    """Of ``STAGE:FIELD=VALUE`` what every stage samples by; fields that are not named keep a stage's own value."""
    chosen: dict[str, Sampling] = {}
    for given in words:
        stage, _, assigned = given.partition(":")
        name, _, value = assigned.partition("=")
        chosen[stage] = replace(chosen.get(stage, all_stages()[stage].sampling), **{name: float(value)})
    return chosen


def _trigrams(clips: Sequence[HeardClip], lexicon: Set[str], grammar: Grammar) -> Estimate:
    allowed, known = trigram_counts(clips, lexicon, grammar)
    return ratio_by_name([clip.name for clip in clips], allowed, known)


def _hear(recogniser: Recogniser, draws: Sequence[Draw], wavs: Sequence[Waveform], rate: int) -> list[HeardClip]:
    return [HeardClip(draw.prompt, len(wav) / rate, recogniser.hear(wav, rate)) for draw, wav in zip(draws, wavs, strict=True)]


def _once(draws: Sequence[Draw]) -> list[Draw]:
    """The first draw of every prompt."""
    return list({draw.prompt: draw for draw in reversed(draws)}.values())[::-1]


def _others(draws: Sequence[Draw]) -> list[Draw]:
    """For each draw, another prompt's."""
    once = _once(draws)
    other = {draw.prompt: once[place] for draw, place in zip(once, derangement(len(once), 0), strict=True)}
    return [other[draw.prompt] for draw in draws]


def _copied(row: Continued, part: str) -> int:
    after = getattr(row, part)
    assert row.prompt_units is not None
    return longest_common_run(row.prompt_units.unique_consecutive().tolist(), after.unique_consecutive().tolist())


def _sums(names: Sequence[str], values: Iterable[float]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Sum of ``values`` by name, in the order of the names."""
    _, places = np.unique(np.asarray(names), return_inverse=True)
    return np.bincount(places, weights=np.asarray(list(values), np.float64))


def _plain(estimate: Estimate) -> dict[str, float]:
    return {"value": estimate.mean, "low": estimate.low, "high": estimate.high}


def _command(options: argparse.Namespace, parser: argparse.ArgumentParser) -> list[str]:
    words = ["python -m benchmarks.sound"]
    for name in ("models", "corpora", "texts", "sampling"):
        if getattr(options, name):
            words += [f"--{name}", *(f'"{word}"' if " " in word else word for word in getattr(options, name))]
    for name in ("whisper", "speaker", "num_prompts", "seeds", "max_seconds"):
        if getattr(options, name) != parser.get_default(name):
            words += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
    return words


def _file_name(words: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in words)


def _named(words: str) -> tuple[str, str]:
    name, _, rest = words.partition("=")
    return name, rest or name


if __name__ == "__main__":
    main()
