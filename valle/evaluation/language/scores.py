"""How a model finds the recordings of pairs: four scores of every recording, under every stage and under the controls.

``sum`` and ``mean`` are over all tokens.  Both hide what a continuation does behind what comes before it, so two more look at it alone
(the fallacy of global token perplexity, arXiv 2601.06329): ``window`` is the mean over the first second after the prompt, and ``gain``
is the log-likelihood of the continuation given its prompt, minus that of the continuation as a recording of its own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import isnan, nan
from pathlib import Path

import numpy as np
import torch

from valle.audio import read_audio
from valle.crops import CroppedTokens
from valle.evaluation.language.items import Side
from valle.evaluation.score import Likelihood, clip_of, rest_of, score_clips, seconds_of
from valle.files import keep_whole_lines
from valle.inference.pipeline import Pipeline
from valle.measures.ngrams import Trigram
from valle.models.audio_lm import AudioLM
from valle.progress import Progress

SCORES = ("sum", "mean", "window", "gain")
WINDOW_SECONDS = 1.0
ALL, UNTRAINED, UNITS = "all", "untrained", "unit trigram"
BATCH = 8
Scores = Mapping[str, Mapping[str, float]]  # of a recording, by system and score; NaN where a score is not defined


@dataclass(frozen=True)
class ScoredRecording:
    """One recording: how long it is, and its scores by system: a stage, ``all`` of them, or a control."""

    seconds: float
    scores: Scores


class PairScorer:
    """Scores by a model, by one of the same shape with fresh weights, and by a trigram of units; remembered in a file.

    Recordings are named by their samples and prompts, and the file's first key by the model, so that a run goes on where it was stopped.
    """

    def __init__(self, pipeline: Pipeline, *, stages: Sequence[str], trigram: Trigram | None, remembered: Path | None, mark: str) -> None:
        self.pipeline, self.stages, self.trigram, self.mark = pipeline, list(stages), trigram, mark
        self._file = remembered
        self._known = dict(_read(remembered)) if remembered is not None else {}

    @cached_property
    def untrained(self) -> Pipeline:
        """The same tokenizers with a model that has learned nothing; its weights depend on nothing but its shape."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = AudioLM.from_config(self.pipeline.model.config).eval()
        return Pipeline(replace(self.pipeline.released, model=model), device=self.pipeline.device)

    def score(self, sides: Sequence[Side], *, progress: Progress | None = None) -> dict[Path, ScoredRecording]:
        """Scores of every recording, each as if it were scored alone."""
        unique = {side.audio: side for side in sides}
        found: dict[Path, ScoredRecording] = {}
        waiting: list[tuple[str, Side, CroppedTokens]] = []
        for count, side in enumerate(unique.values()):
            wav = read_audio(side.audio, sample_rate=self.pipeline.sample_rate)[0]
            about = f"{self.mark} {','.join(self.stages)} {side.prompt_seconds} "
            key = hashlib.sha256(about.encode() + wav.tobytes()).hexdigest()
            if key in self._known:
                found[side.audio] = self._known[key]
            else:
                waiting.append((key, side, clip_of(self.pipeline, wav, name=key)))
            if len(waiting) == BATCH or (waiting and count + 1 == len(unique)):
                scored = self._score([side for _, side, _ in waiting], [clip for _, _, clip in waiting])
                self._remember({key: one for (key, _, _), one in zip(waiting, scored, strict=True)})
                found.update({side.audio: one for (_, side, _), one in zip(waiting, scored, strict=True)})
                waiting = []
                if progress is not None:
                    progress(count + 1, len(unique))
        return found

    def _score(self, sides: Sequence[Side], clips: Sequence[CroppedTokens]) -> list[ScoredRecording]:
        prompts = [side.prompt_seconds for side in sides]
        rests = [None if prompt is None else rest_of(self.pipeline, clip, prompt) for prompt, clip in zip(prompts, clips, strict=True)]
        systems = dict[str, list[tuple[Likelihood, Likelihood | None]]]()
        for name, pipeline in (("", self.pipeline), (UNTRAINED, self.untrained)):
            whole, alone = self._likelihoods(pipeline, clips), self._likelihoods(pipeline, [rest for rest in rests if rest is not None])
            left = iter(alone)
            rows = [(likelihoods, next(left) if rest is not None else None) for likelihoods, rest in zip(whole, rests, strict=True)]
            for place, stage in enumerate([*self.stages, ALL]):
                systems[f"{name} {stage}".strip()] = [(one[place], other[place] if other else None) for one, other in rows]
        if self.trigram is not None:
            systems[UNITS] = [
                (unit_likelihood(self.trigram, clip, seconds_of(self.pipeline, clip)),
                 None if rest is None else unit_likelihood(self.trigram, rest, seconds_of(self.pipeline, rest)))
                for clip, rest in zip(clips, rests, strict=True)
            ]  # fmt: skip
        return [
            ScoredRecording(
                seconds_of(self.pipeline, clip),
                {name: four_scores(*rows[row], prompt_seconds=prompts[row]) for name, rows in systems.items()},
            )
            for row, clip in enumerate(clips)
        ]

    def _likelihoods(self, pipeline: Pipeline, clips: Sequence[CroppedTokens]) -> list[list[Likelihood]]:
        """Of every stage, then of all together."""
        scored = score_clips(pipeline, clips, stages=self.stages, batch_size=BATCH)
        return [
            [*rows, Likelihood(ALL, [one for row in rows for one in row.tokens], [end for row in rows for end in row.ends])]
            for rows in scored
        ]  # fmt: skip

    def _remember(self, scored: Mapping[str, ScoredRecording]) -> None:
        self._known.update(scored)
        if self._file is None:
            return
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.open("a", encoding="utf-8") as lines:
            for key, one in scored.items():
                scores = {
                    system: {name: None if isnan(value) else value for name, value in four.items()} for system, four in one.scores.items()
                }
                lines.write(json.dumps({"key": key, "seconds": one.seconds, "scores": scores}) + "\n")


def four_scores(whole: Likelihood, alone: Likelihood | None, *, prompt_seconds: float | None) -> dict[str, float]:
    """:data:`SCORES` of one recording; ``alone`` is the likelihood of what follows the prompt without it."""
    scores = {"sum": whole.sum, "mean": whole.mean, "window": nan, "gain": nan}
    if prompt_seconds is None or alone is None:
        return scores
    tokens, ends = np.asarray(whole.tokens), np.asarray(whole.ends)
    after = ends > prompt_seconds + 1e-6
    window = after & (ends <= prompt_seconds + WINDOW_SECONDS + 1e-6)
    scores["window"] = float(tokens[window].mean()) if window.any() else nan
    scores["gain"] = float(tokens[after].sum()) - alone.sum
    return scores


def unit_likelihood(trigram: Trigram, clip: CroppedTokens, seconds: float) -> Likelihood:
    """Of a clip's units without their repeats, which say nothing of what is said but how long it takes."""
    units = clip.units
    last = np.flatnonzero(np.append(units[1:] != units[:-1], True)) if len(units) else np.zeros(0, np.int64)
    nats = trigram.each(units[last].tolist())
    ends = [*((last + 1) * (seconds / max(1, len(units)))).tolist(), seconds]
    return Likelihood(UNITS, [-one for one in nats], ends)


def _read(path: Path) -> Iterator[tuple[str, ScoredRecording]]:
    """What a run before has scored, but for half a line of one that was killed."""
    if not path.is_file():
        return
    keep_whole_lines(path)
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
            scores = {
                system: {name: nan if value is None else value for name, value in four.items()} for system, four in row["scores"].items()
            }
            yield row["key"], ScoredRecording(row["seconds"], scores)
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
