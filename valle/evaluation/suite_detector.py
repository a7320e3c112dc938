"""Figures of the detector of generated speech (AudioLM, Borsos et al. 2022, section IV-F) on crops of one second of unmarked sound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from valle.audio import Waveform
from valle.evaluation.attacks import attacks
from valle.evaluation.figures import Figure
from valle.evaluation.suites import SuiteResult
from valle.evaluation.systems import CODEC, REAL
from valle.marks.generated import Crops, Detector, bundled_detector, features_of
from valle.measures.intervals import Estimate, Items, bootstrap, ratio, share
from valle.progress import Progress

GENERATED = "generated"
CARRIED = {"mp3_64k": "mp3", "opus_32k": "Opus", "resample_8khz": "8 kHz"}  # what real speech went through
DETECTOR = "the bundled detector, fitted on other prompts and speakers (benchmarks/detector.py)"

Logits = list[NDArray[np.float64]]  # of each clip's crops


def detector_figures(clips: Mapping[str, Sequence[Waveform]], names: Sequence[str], *, corpus: str, progress: Progress) -> SuiteResult:
    """Of clips ``(T,)`` at 16 kHz: what was generated, real speech, and real speech through the codec, without a mark.

    ``clips`` has the systems ``generated``, ``REAL`` and ``CODEC``, each with a clip for every name.
    """
    detector, changes = bundled_detector(), attacks({})
    heard: dict[str, Logits] = {}
    wanted = 3 + len(CARRIED)
    for system, of in clips.items():
        heard[system] = [_logits(detector, wav) for wav in of]
        progress(len(heard), wanted)
    for change, label in CARRIED.items():
        heard[f"{REAL}, {label}"] = [_logits(detector, changes[change](wav)) for wav in clips[REAL]]
        progress(len(heard), wanted)
    if not _count(heard[GENERATED]) or not _count(heard[CODEC]):
        return SuiteResult(left_out=["detector: no second of what was generated, or of real speech, is loud enough to be judged"])
    figures = {"detector_accuracy": _accuracy(heard, corpus)}
    called = {system: _called(logits, detector) for system, logits in heard.items()}
    alarms = {system: estimate for system, estimate in called.items() if system != GENERATED}
    shares = {system: estimate.mean for system, estimate in alarms.items()}
    worst = max(alarms, key=lambda system: alarms[system].mean)
    above = f"crops of 1 s whose logit is above {detector.generated_above:.2f} ({DETECTOR}); Wilson's interval over crops"
    figures["detector_found"] = Figure.of(
        called[GENERATED], names=names, corpus=corpus, unit="%", better="lower", definition=above, controls=shares,
        meaning="How often a second that the model generated is called generated; less may mean better sound.",
    )
    figures["detector_false_alarms"] = Figure.of(
        alarms[worst], names=names, corpus=corpus, unit="%", better="lower", definition=f"{above}; of all kinds, the worst: {worst}",
        controls={**shares, "allowed": 0.01}, meaning="How often a second of real speech is called generated, in the worst of its forms.",
    )  # fmt: skip
    return SuiteResult(figures)


def _logits(detector: Detector, wav: Waveform) -> NDArray[np.float64]:
    crops = [features_of(crop) for crop in Crops().next(wav)]
    return detector.logits(np.stack(crops)) if crops else np.zeros(0)


def _count(logits: Logits) -> int:
    return sum(map(len, logits))


def _called(logits: Logits, detector: Detector) -> Estimate:
    """The share of crops that are called generated, with one item a clip."""
    hits = [int((own > detector.generated_above).sum()) for own in logits]
    estimate = share(sum(hits), _count(logits))
    items = Items(tuple(map(float, hits)), tuple(float(len(own)) for own in logits))
    return Estimate(estimate.mean, estimate.low, estimate.high, estimate.count, items)


def _accuracy(heard: Mapping[str, Logits], corpus: str) -> Figure:
    """AudioLM's measure; its 98.6 % is of a convolutional network that was trained on the model it judges."""
    estimate = _balanced(heard[GENERATED], heard[CODEC])
    return Figure.of(
        estimate, corpus=f"{corpus}; {_count(heard[GENERATED])} crops that were generated and {_count(heard[CODEC])} real ones", unit="%",
        better="lower", controls={"against the recording itself": _balanced(heard[GENERATED], heard[REAL]).mean, "chance": 0.5},
        definition=f"crops of 1 s on the right side of logit 0, generated and real speech through the codec counting alike; {DETECTOR}; "
        "bootstrap over prompts",
        meaning="How often a small detector tells generated seconds from real ones; lower may mean better sound.",
    )  # fmt: skip


def _balanced(generated: Logits, real: Logits) -> Estimate:
    """Half the share of generated crops above 0 and half that of real ones at or below it, by prompts."""
    rows = [[float((own > 0).sum()) for own in generated], [float((own <= 0).sum()) for own in real]]
    wholes = [[float(len(own)) for own in side] for side in (generated, real)]

    def accuracy(indices: NDArray[np.int64]) -> NDArray[np.float64]:
        found, kept = (ratio(part, whole, indices) for part, whole in zip(rows, wholes, strict=True))
        return 0.5 * found + 0.5 * kept

    return bootstrap(accuracy, len(generated))
