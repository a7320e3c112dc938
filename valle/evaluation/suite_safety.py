"""The suite of what stands at the door: is the watermark found in what the model generates, and does the detector tell it from speech?

Prompts of the test part are continued twice by the pipeline, as every user's are: with the mark, which is then looked for after what
happens to sound on its way, and without, for the detector, which is judged on unmarked sound alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from lhotse.cut import Cut

from valle.audio import Waveform, resample, write_wav
from valle.corpora.manifests import read_cuts
from valle.errors import UserError
from valle.evaluation.attacks import RATE, attacks
from valle.evaluation.continuations import Continued, continue_cuts, cut_audio, guard_seconds, in_hashed_order
from valle.evaluation.figures import Figure
from valle.evaluation.mark_windows import FALSE_ALARMS, Threshold, crop_scores, window_scores, window_threshold
from valle.evaluation.suite_detector import detector_figures
from valle.evaluation.suites import SuiteResult, SuiteSettings, part_of
from valle.evaluation.systems import CODEC, REAL
from valle.inference.continuation import ContinueSettings
from valle.inference.detect import detect_file
from valle.measures.intervals import Estimate, Items, bootstrap_mean, share, share_of
from valle.measures.sound import has_pesq, pesq_wb
from valle.progress import TitledProgress

LEAST_NEW_SECONDS = 2.0  # of real speech after a prompt, so that there is a crop of one second in it
STREAMED = 4  # prompts that are continued as a stream, too
BATCH = 8
UNMARKED = "without the mark"


@dataclass(frozen=True)
class Prompted:
    """One prompt's sound, each ``(T,)`` at ``RATE`` Hz and without the prompt."""

    row: Continued = field(repr=False)  # at the codec's rate
    marked: Waveform = field(repr=False)
    unmarked: Waveform = field(repr=False)
    real: Waveform = field(repr=False)
    round_trip: Waveform = field(repr=False)

    @property
    def name(self) -> str:
        return self.row.cut.id


def safety_suite(settings: SuiteSettings, progress: TitledProgress) -> SuiteResult:
    """Watermark and detector on what the model generates; takes some ``safety_items`` prompts of ``max_seconds`` twice."""
    cuts = _prompts(settings)
    if len(cuts) < 2:
        return SuiteResult(left_out=[
            f"watermark, detector: {len(cuts)} of the prompts asked for (--safety-items) have {LEAST_NEW_SECONDS:g} s of speech after "
            f"{settings.prompt_seconds:g} s; lower --prompt-seconds"
        ])  # fmt: skip
    rows = _continued(settings, cuts, progress)
    corpus = settings.corpus_name(f"{len(cuts)} prompts of {settings.prompt_seconds:g} s, {settings.max_seconds:g} s of new audio at most")
    result = SuiteResult()
    progress("unmarked windows", 0, 1)
    threshold = window_threshold(_unmarked(settings, cuts), settings.safety_windows)
    progress("unmarked windows", 1, 1)
    result.figures.update(_found_by_attack(settings, rows, threshold, corpus, progress))
    result.figures["watermark_false_alarms"] = _false_alarms(rows, threshold, corpus)
    result.add(_whole_files(settings, rows, corpus, progress))
    if has_pesq():
        result.figures["watermark_pesq"] = _pesq(rows, corpus)
    else:
        result.left_out.append('watermark_pesq: the package pesq is missing; pip install "valle[pesq]"')
    if settings.pipeline.semantic is None:
        result.left_out.append("detector: it knows speech, and the model has no units, as for music")
        return result
    clips = {
        "generated": [row.unmarked for row in rows], REAL: [row.real for row in rows], CODEC: [row.round_trip for row in rows],
    }  # fmt: skip
    result.add(detector_figures(clips, [row.name for row in rows], corpus=corpus, progress=partial(progress, "detector")))
    return result


def _prompts(settings: SuiteSettings) -> list[Cut]:
    wanted = settings.prompt_seconds + guard_seconds(settings.pipeline) + LEAST_NEW_SECONDS
    cuts = [cut for cut in read_cuts(part_of(settings)) if cut.duration >= wanted]
    return in_hashed_order(cuts, settings.seed)[: min(settings.max_items, settings.safety_items)]


def _continuing(settings: SuiteSettings) -> ContinueSettings:
    """Speech that does not end before its time, so that there are crops of a second in all of it."""
    return ContinueSettings(prompt_seconds=settings.prompt_seconds, max_seconds=settings.max_seconds, min_seconds=settings.max_seconds)


def _continued(settings: SuiteSettings, cuts: Sequence[Cut], progress: TitledProgress) -> list[Prompted]:
    pipeline, asked, rate = settings.pipeline, _continuing(settings), settings.pipeline.sample_rate
    unmarked = continue_cuts(
        pipeline, cuts, asked, batch_size=BATCH, seed=settings.seed, progress=partial(progress, "continuing without a mark")
    )
    rows = list[Prompted]()
    for first in range(0, len(cuts), BATCH):
        batch = unmarked[first : first + BATCH]
        recordings = [cut_audio(row.cut, rate) for row in batch]
        for row, marked in zip(batch, pipeline.continue_audio(recordings, rate, seed=settings.seed, settings=asked), strict=True):
            new = [marked.wav[marked.prompt_samples :], row.continuation[row.prompt_samples :], row.real, row.round_trip]
            rows.append(Prompted(row, *(resample(wav, rate, RATE) for wav in new)))
        progress("continuing with the mark", len(rows), len(cuts))
    return rows


def _unmarked(settings: SuiteSettings, cuts: Sequence[Cut]) -> Iterator[Waveform]:
    """Recordings of train by speakers who said none of the prompts."""
    speakers = {supervision.speaker for cut in cuts for supervision in cut.supervisions} - {None}
    path = part_of(settings, "train")
    for cut in in_hashed_order(read_cuts(path), settings.seed) if path.is_file() else ():
        if speakers.isdisjoint(supervision.speaker for supervision in cut.supervisions):
            yield cut_audio(cut, RATE)


def _found_by_attack(
    settings: SuiteSettings, rows: Sequence[Prompted], threshold: Threshold, corpus: str, progress: TitledProgress
) -> dict[str, Figure]:
    """The share of seconds in which the mark is found after each attack; its control has the same attack and no mark."""
    figures, changes = dict[str, Figure](), attacks({"own": settings.pipeline.acoustic})
    for done, (name, attack) in enumerate(changes.items(), 1):
        found = _share_of_windows([crop_scores(attack(row.marked)) for row in rows], threshold)
        without = _share_of_windows([crop_scores(attack(row.unmarked)) for row in rows], threshold)
        figures[f"watermark_tpr_{name}"] = Figure.of(
            found, names=[row.name for row in rows], corpus=corpus, unit="%",
            controls={UNMARKED: without.mean, "allowed false alarms": FALSE_ALARMS},
            definition=f"crops of 1 s whose score is above that of {FALSE_ALARMS:g} false alarms a second: {threshold.source}; "
            "Wilson's interval over crops",
            meaning="How often one second of generated sound gives its watermark away, after what was done to it.",
        )  # fmt: skip
        progress("watermark by attack", done, len(changes))
    return figures


def _share_of_windows(scores: Sequence[Sequence[float]], threshold: Threshold) -> Estimate:
    """Of the windows of all clips together, with one item a clip."""
    parts, wholes = [sum(score > threshold.z for score in own) for own in scores], [len(own) for own in scores]
    return replace(share(sum(parts), sum(wholes)), items=Items(tuple(map(float, parts)), tuple(map(float, wholes))))


def _false_alarms(rows: Sequence[Prompted], threshold: Threshold, corpus: str) -> Figure:
    kinds = {"generated": [row.unmarked for row in rows], REAL: [row.real for row in rows], CODEC: [row.round_trip for row in rows]}
    scores = {name: [window_scores(wav) for wav in wavs] for name, wavs in kinds.items()}
    controls = {name: _share_of_windows(own, threshold).mean for name, own in scores.items()}
    return Figure.of(
        _share_of_windows([own for rows in scores.values() for own in rows], threshold), corpus=corpus, unit="%", better="lower",
        controls={**controls, "allowed": FALSE_ALARMS},
        definition=f"overlapping windows of 1 s of unmarked sound above the threshold ({threshold.source}); Wilson's interval over windows",
        meaning="How often a second of sound without a mark is taken for marked.",
    )  # fmt: skip


def _whole_files(settings: SuiteSettings, rows: Sequence[Prompted], corpus: str, progress: TitledProgress) -> SuiteResult:
    """What ``bin/detect.py`` says of whole files: of ``continue_audio``'s sound, of a stream's, and of unmarked sound."""
    result = SuiteResult()
    with TemporaryDirectory() as folder:
        marked = [_is_marked(Path(folder), row.marked) for row in rows]
        unmarked = share_of([_is_marked(Path(folder), row.unmarked) for row in rows]).mean
        real = share_of([_is_marked(Path(folder), row.real) for row in rows]).mean

        def put(name: str, found: list[bool], meaning: str) -> None:
            result.figures[name] = Figure.of(
                share_of(found), names=[row.name for row in rows[: len(found)]], corpus=corpus, unit="%", meaning=meaning,
                controls={UNMARKED: unmarked, REAL: real},
                definition="files that bin/detect.py calls watermarked, the new audio as 16-bit wav; Wilson's interval over files",
            )  # fmt: skip

        put("watermark_files", marked, "How often a whole continuation is called watermarked.")
        try:
            streamed = list[bool]()
            for row in rows[:STREAMED]:
                streamed.append(_is_marked(Path(folder), _streamed(settings, row.row)))
                progress("streaming", len(streamed), min(STREAMED, len(rows)))
            put("watermark_files_streamed", streamed, "How often a continuation that came chunk by chunk is called watermarked.")
        except UserError as error:
            result.left_out.append(f"watermark_files_streamed: {error}")
    return result


def _streamed(settings: SuiteSettings, row: Continued) -> Waveform:
    pipeline = settings.pipeline
    with pipeline.stream(row.prompt, pipeline.sample_rate, seed=settings.seed, settings=_continuing(settings)) as live:
        return resample(np.concatenate(list(live)), pipeline.sample_rate, RATE)


def _is_marked(folder: Path, wav: Waveform) -> bool:
    path = folder / "new.wav"
    write_wav(path, wav, RATE)
    return bool(detect_file(path)["verdict"] == "watermarked")


def _pesq(rows: Sequence[Prompted], corpus: str) -> Figure:
    scores = [pesq_wb(row.marked[: len(row.unmarked)], row.unmarked[: len(row.marked)], RATE) for row in rows]
    same = bootstrap_mean([pesq_wb(row.unmarked, row.unmarked, RATE) for row in rows])
    return Figure.of(
        bootstrap_mean(scores), names=[row.name for row in rows], corpus=corpus, controls={"the same sound": same.mean},
        definition="wide-band PESQ (ITU-T P.862.2) of new audio with the mark against the same without it",
        meaning="How close marked sound is to unmarked sound; 4.64 is the same.",
    )  # fmt: skip
