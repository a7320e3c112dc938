"""A listening test as a static page: real speech or generated (AudioLM, Borsos et al. 2022, section IV-F), or which of two models.

Everything is heard through the codec, real speech and prompts too, so that nobody hears the codec instead of the model.  What is what
stands in ``key.json``, which raters do not get.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

import numpy as np
import soundfile

from valle.audio import Waveform, read_audio, to_int16
from valle.errors import UserError
from valle.evaluation.kept_sounds import KeptSound
from valle.evaluation.kept_suites import read_suite
from valle.evaluation.report_page import page_templates
from valle.files import write_text
from valle.outputs import claim_outputs
from valle.settings import require_at_least, setting

KEY, PAGE, SOUNDS, RESULT = "key.json", "page/index.html", "page/sounds", "result.json"
SUITE = "suites/continuation.json"  # of a report
LEAST_SECONDS = 1.0  # of new audio, or a prompt makes no trial
FADE_SECONDS = 0.02  # at the joint behind the prompt and at the end

Kind = Literal["real-or-generated", "preference"]
Row = tuple[int, dict[str, Waveform]]  # sample rate, and the three sounds of a prompt


@dataclass(frozen=True, kw_only=True)
class ListeningTestOptions:
    """Flags of ``bin/listening_test.py``."""

    output_dir: Path = field(metadata={"help": "where page/ (for raters) and key.json (not for raters) go, and result.json"})
    reports: list[Path] = setting([], "one report of evaluate.py: real or generated? two reports: which is better?")
    answers: list[Path] = setting([], "files that raters downloaded: read them against output_dir/key.json")
    num_trials: int = setting(50, "trials of each rater")
    seed: int = setting(0, "seed of which prompts are heard real and in which order two models are heard")

    def __post_init__(self) -> None:
        require_at_least(self, 2, "num_trials")
        if bool(self.answers) == bool(self.reports) or len(self.reports) > 2:
            raise UserError(
                "expected one or two reports after --reports to make a test, or answers after --answers to read one, "
                f"found {len(self.reports)} reports and {len(self.answers)} files of answers"
            )

    @property
    def kind(self) -> Kind:
        return "real-or-generated" if len(self.reports) == 1 else "preference"


@dataclass(frozen=True)
class Trial:
    """What a rater hears, one clip or two, and what it is."""

    name: str  # of the prompt
    prompt_seconds: float
    clips: Sequence[Waveform]
    truth: Sequence[str]  # of each clip: "real" or "generated", or the name of a report


def make_listening_test(options: ListeningTestOptions) -> dict[str, Any]:
    """Write the page, its sounds and the key -> the key."""
    outputs = claim_outputs(options.output_dir, [KEY, PAGE, SOUNDS], program="listening_test", inputs=options.reports)
    rate, trials = _trials(options)
    models = [read_suite(report / SUITE)[1].get("model_sha256") for report in options.reports]
    about = [options.kind, options.seed, models, [trial.name for trial in trials]]
    test = blake2b(json.dumps(about).encode(), digest_size=6).hexdigest()
    key: dict[str, Any] = {"test": test, "kind": options.kind, "reports": _names(options.reports), "trials": {}}
    heard = []
    with outputs.being_written():
        (options.output_dir / SOUNDS).mkdir(parents=True, exist_ok=True)
        for earlier in (options.output_dir / SOUNDS).glob("*.flac"):
            earlier.unlink()  # of this program's earlier test; claim_outputs refuses any other file
        for number, trial in enumerate(trials):
            name, files = f"trial-{number:03d}", []
            for side, clip in enumerate(trial.clips):
                file = blake2b(f"{test} {number} {side}".encode(), digest_size=8).hexdigest() + ".flac"
                soundfile.write(options.output_dir / SOUNDS / file, to_int16(clip), rate, format="FLAC", subtype="PCM_16")
                files.append(f"sounds/{file}")
            heard.append({"id": name, "clips": files, "prompt": trial.prompt_seconds})
            key["trials"][name] = {"prompt": trial.name, "truth": list(trial.truth)}
        page = (
            page_templates()
            .get_template("listening_test.html")
            .render(kind=options.kind, test={"test": test, "kind": options.kind, "trials": heard})
        )
        write_text(options.output_dir / PAGE, page)
        write_text(options.output_dir / KEY, json.dumps(key, indent=2) + "\n")
    return key


def _trials(options: ListeningTestOptions) -> tuple[int, list[Trial]]:
    """Trials in the order of the report's prompts, which the report's seed has drawn."""
    kept = [_sounds_of(report) for report in options.reports]
    names = [name for name in kept[0] if all(name in some for some in kept)]
    generator = np.random.default_rng(options.seed)
    is_real = generator.permutation(np.arange(len(names)) % 2 == 0)[: len(names)]
    found: list[Trial] = []
    rates = set()
    for name, real in zip(names, is_real, strict=True):
        rows = [_read(report, some[name]) for report, some in zip(options.reports, kept, strict=True)]
        rates |= {rate for rate, _ in rows}
        sounds = [some[name] for some in kept]
        trial = _one(sounds[0], rows[0], is_real=bool(real)) if len(rows) == 1 else _pair(_names(options.reports), sounds, rows, generator)
        if trial is not None:
            found.append(trial)
    if len(rates) > 1:
        raise UserError(f"expected models of one sample rate, found {sorted(rates)} Hz; listeners would hear the difference")
    chosen = _balanced(found, options.num_trials) if options.kind == "real-or-generated" else found[: options.num_trials]
    if len(chosen) < 2:
        raise UserError(
            f"expected two prompts or more with {LEAST_SECONDS:g} s of new audio in {options.reports[0]}, found {len(chosen)}; "
            "measure more with --max-items, and two models on the same corpus"
        )
    return rates.pop(), chosen


def _one(sound: KeptSound, row: Row, *, is_real: bool) -> Trial | None:
    """Real speech or generated, both cut to the shorter of the two, so that the length tells nothing."""
    rate, wavs = row
    length = min(len(wavs["codec"]), len(wavs["continuation"]))
    if length < (sound.prompt_seconds + LEAST_SECONDS) * rate:
        return None
    clip = wavs["codec"] if is_real else through_codec(wavs, sound, rate)
    return Trial(sound.name, sound.prompt_seconds, [_faded(clip[:length], rate)], ["real" if is_real else "generated"])


def _pair(labels: Sequence[str], sounds: Sequence[KeptSound], rows: Sequence[Row], generator: np.random.Generator) -> Trial | None:
    """Both models' continuations whole, in a random order."""
    order = generator.permutation(2)
    clips = [through_codec(wavs, sound, rate) for sound, (rate, wavs) in zip(sounds, rows, strict=True)]
    if max(len(clip) / rate for clip, (rate, _) in zip(clips, rows, strict=True)) < sounds[0].prompt_seconds + LEAST_SECONDS:
        return None
    heard = [_faded(clips[side], rows[side][0]) for side in order]
    return Trial(sounds[0].name, sounds[0].prompt_seconds, heard, [labels[side] for side in order])


def through_codec(wavs: dict[str, Waveform], sound: KeptSound, rate: int) -> Waveform:
    """The continuation with its prompt through the codec, crossfaded just before the prompt's end."""
    start, fade = round(sound.prompt_seconds * rate), round(FADE_SECONDS * rate)
    clip = wavs["continuation"].copy()
    start = min(start, len(wavs["codec"]), len(clip))
    fade = min(fade, start)
    weights = np.concatenate([np.zeros(start - fade), np.linspace(0, 1, fade)]).astype(np.float32)
    clip[:start] = (1 - weights) * wavs["codec"][:start] + weights * clip[:start]
    return clip


def _faded(clip: Waveform, rate: int) -> Waveform:
    fade = min(len(clip), round(FADE_SECONDS * rate))
    faded = clip.copy()
    faded[len(clip) - fade :] *= np.linspace(1, 0, fade, dtype=np.float32)
    return faded


def _balanced(trials: Sequence[Trial], count: int) -> list[Trial]:
    """As many real as generated ones, in the order given."""
    each = min(count // 2, *(sum(trial.truth[0] == truth for trial in trials) for truth in ("real", "generated")))
    left = {"real": each, "generated": each}
    chosen = []
    for trial in trials:
        if left[trial.truth[0]]:
            left[trial.truth[0]] -= 1
            chosen.append(trial)
    return chosen


def _sounds_of(report: Path) -> dict[str, KeptSound]:
    path = report / SUITE
    if not path.is_file():
        raise UserError(f"expected a report of bin/evaluate.py with the suite continuation in {report}, found no {path}; measure it first")
    sounds = {sound.name: sound for sound in read_suite(path)[0].sounds}
    if not sounds:
        raise UserError(f"expected sounds in the report {report}, found none; delete {path} and measure that suite again")
    return sounds


def _read(report: Path, sound: KeptSound) -> Row:
    wavs = {system: read_audio(report / file) for system, file in sound.files.items()}
    return next(rate for _, rate in wavs.values()), {system: wav for system, (wav, _) in wavs.items()}


def _names(reports: Sequence[Path]) -> list[str]:
    short = [report.resolve().name for report in reports]
    return short if len(set(short)) == len(short) else [str(report) for report in reports]
