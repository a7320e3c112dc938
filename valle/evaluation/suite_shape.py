"""The shape of what was generated, beside what was really said: silence, length, variety, drift, and how often which unit occurs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise, zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from valle.audio import Waveform
from valle.evaluation.charts import Chart, Series
from valle.evaluation.continuations import Continued
from valle.evaluation.figures import Figure
from valle.evaluation.suites import SuiteResult
from valle.measures.diversity import distinct_share, self_bleu
from valle.measures.drift import level_drift, spectrum_drift
from valle.measures.intervals import Estimate, bootstrap_mean, jackknife
from valle.measures.sound import silence_share
from valle.measures.tokens import Counts, divergence, token_counts
from valle.measures.words import longest_common_run
from valle.timeline import Timeline

REAL, CODEC, MODEL = "real speech", "through the codec", "this model"
LEAST_CLIPS = 3  # of which a second is drawn
HISTOGRAM_BINS = 60
LONGEST_RUN, SHORTEST_AXIS = 20, 4  # frames of one unit that have a bin of their own, at most and at least


def shape_result(continued: Sequence[Continued], timeline: Timeline, sample_rate: int, *, corpus: str) -> SuiteResult:
    """Figures and charts of what every model has; of a model without units, codes of level 0 stand for units."""
    result = SuiteResult({**_sound_figures(continued, sample_rate, corpus), **_copy_figure(continued, corpus)})
    _add_drift(result, continued, sample_rate, corpus)
    rows = [(row.new_units, row.real_units) for row in continued]
    units = [(np.asarray(new), np.asarray(real)) for new, real in rows if new is not None and real is not None]
    codes = [(np.asarray(row.new_codes), np.asarray(row.real_codes)) for row in continued]
    has_units = timeline.units is not None and len(units) == len(continued)
    new, real = zip(*(units if has_units else codes), strict=True)
    grid = timeline.units if has_units and timeline.units is not None else timeline.codes
    _add_tokens(result, new, real, token="unit" if has_units else "code", rate=grid.rate, corpus=corpus, names=_names(continued))
    return result


def _names(continued: Sequence[Continued]) -> list[str]:
    return [row.cut.id for row in continued]


def _sound_figures(continued: Sequence[Continued], rate: int, corpus: str) -> dict[str, Figure]:
    generated, real = ([getattr(row, name) for row in continued] for name in ("generated", "real"))
    return {
        "silence_share": Figure.of(
            bootstrap_mean([silence_share(wav, rate) for wav in generated]), names=_names(continued), corpus=corpus, unit="%",
            better="neither", controls={REAL: bootstrap_mean([silence_share(wav, rate) for wav in real]).mean},
            definition="share of 20 ms frames more than 40 dB below the loudest of the clip; a clip without sound counts as 1",
            meaning="How much of the new audio is silence; weak models fall silent.",
        ),
        "continuation_seconds": Figure.of(
            bootstrap_mean([len(wav) / rate for wav in generated]), names=_names(continued), corpus=corpus, unit="s", better="neither",
            controls={REAL: bootstrap_mean([len(wav) / rate for wav in real]).mean},
            definition="seconds of new audio that are judged: after the prompt and the codec's receptive field, until the model's end",
            meaning="How long the model speaks before it ends, at most as long as it may.",
        ),
    }  # fmt: skip


def _copy_figure(continued: Sequence[Continued], corpus: str) -> dict[str, Figure]:
    rows = [(row.prompt_units, row.new_units, row.real_units) for row in continued]
    lengths = [
        (_copied(prompt, new), _copied(prompt, said))
        for prompt, new, said in rows if prompt is not None and new is not None and said is not None
    ]  # fmt: skip
    if not lengths:
        return {}
    own, said = ([float(row[place]) for row in lengths] for place in (0, 1))
    return {"longest_copy_of_prompt": Figure.of(
        bootstrap_mean(own), names=_names(continued), corpus=corpus, unit="units", better="neither",
        controls={REAL: bootstrap_mean(said).mean},
        definition="longest stretch of units, repeats removed, that stands in the prompt and in what follows it; mean over prompts",
        meaning="How long a stretch of its prompt the model says again; much above real speech means that it repeats, not continues.",
    )}  # fmt: skip


def _copied(prompt: Tensor, after: Tensor) -> int:
    return longest_common_run(prompt.unique_consecutive().tolist(), after.unique_consecutive().tolist())


def _add_drift(result: SuiteResult, continued: Sequence[Continued], rate: int, corpus: str) -> None:
    """Level and spectrum by the second; their change is measured within each clip."""
    measures: list[tuple[str, str, Callable[[Waveform, Waveform, int], list[float]], str, str, str]] = [
        ("level_drift", "Level by second", level_drift, "level against the prompt, dB",
         "active level of the last whole second less that of the first, within a clip of two whole seconds or more",
         "How much louder (or, below 0, quieter) the new audio becomes from its first to its last second."),
        ("spectrum_drift", "Distance from the prompt's spectrum by second", spectrum_drift, "distance, dB",
         "distance of a second's mean log-mel spectrum (40 bands, level removed) from the prompt's, last second less first",
         "How much further the sound moves away from the prompt's from its first to its last second."),
    ]  # fmt: skip
    for name, title, measure, label, definition, meaning in measures:
        rows = {system: [measure(getattr(row, part), row.prompt, rate) for row in continued]
                for system, part in ((MODEL, "generated"), (REAL, "real"), (CODEC, "round_trip"))}  # fmt: skip
        changes = {system: bootstrap_mean([_change(seconds) for seconds in some]) for system, some in rows.items()}
        if changes[MODEL].count:
            result.figures[name] = Figure.of(
                changes[MODEL], names=_names(continued), corpus=corpus, unit="dB", better="neither", definition=definition, meaning=meaning,
                controls={system: estimate.mean for system, estimate in changes.items() if system != MODEL and estimate.count},
            )  # fmt: skip
        chart = _by_second(title, label, rows)
        if chart is not None:
            result.charts.append(chart)


def _change(seconds: Sequence[float]) -> float:
    return seconds[-1] - seconds[0] if len(seconds) > 1 else float("nan")


def _by_second(title: str, label: str, rows: dict[str, list[list[float]]]) -> Chart | None:
    estimates = {system: _each_second(some) for system, some in rows.items()}
    count = max(len(some) for some in estimates.values())
    if count < 2:
        return None
    nothing = Estimate(mean=float("nan"), low=float("nan"), high=float("nan"), count=0)
    series = []
    for system, some in estimates.items():
        whole = [*some, *[nothing] * (count - len(some))]
        series.append(Series(
            system, [one.mean for one in whole], [one.low for one in whole], [one.high for one in whole], is_model=system == MODEL
        ))  # fmt: skip
    return Chart(
        title=title, x_label="second of the new audio", y_label=label, x=[second + 1.0 for second in range(count)], series=series,
        meaning="Mean over clips with its 95 % interval. The sound should stay as near to the prompt as real speech does; "
        "a model that drifts moves away with every second.",
    )  # fmt: skip


def _each_second(rows: Sequence[Sequence[float]]) -> list[Estimate]:
    """Up to the last second that enough clips reach."""
    seconds = [[value for value in column if value is not None] for column in zip_longest(*rows)]
    return [bootstrap_mean(column) for column in seconds if sum(value == value for value in column) >= LEAST_CLIPS]


def _add_tokens(
    result: SuiteResult, new: Sequence[NDArray[Any]], real: Sequence[NDArray[Any]], *, token: str, rate: float, corpus: str,
    names: Sequence[str],
) -> None:  # fmt: skip
    """Variety of units (or codes of level 0), and their histograms."""
    runs = {MODEL: [_runs(tokens) for tokens in new], REAL: [_runs(tokens) for tokens in real]}
    without_repeats = {system: [values.tolist() for values, _ in rows] for system, rows in runs.items()}
    distinct = {system: bootstrap_mean([distinct_share(row) for row in rows]) for system, rows in without_repeats.items()}
    result.figures[f"distinct_{token}s"] = Figure.of(
        distinct[MODEL], names=names, corpus=corpus, unit="%", better="neither", controls={REAL: distinct[REAL].mean},
        definition=f"different {token}s over all {token}s of a clip's new audio, repeats removed; mean over clips",
        meaning="How varied the sounds within a clip are; a low value means loops.",
    )  # fmt: skip
    bleu = {system: bootstrap_mean(self_bleu(rows)) for system, rows in without_repeats.items()}
    result.figures["self_bleu"] = Figure.of(
        bleu[MODEL], names=names, corpus=corpus, better="neither", controls={REAL: bleu[REAL].mean},
        definition=f"BLEU-4 of a clip's {token}s, repeats removed, with all other clips as references, without smoothing (Texygen, 2018); "
        "mean over clips",
        meaning="How much of a clip is said in other clips too, from 0 to 1; far above real speech means that all clips say the same.",
    )  # fmt: skip
    _add_divergence(result, new, real, token=token, corpus=corpus)
    result.charts += [_frequencies(new, real, token), _durations(runs, token, rate)]


def _add_divergence(
    result: SuiteResult, new: Sequence[NDArray[Any]], real: Sequence[NDArray[Any]], *, token: str, corpus: str
) -> None:
    """Generated clips of one half of the prompts against real ones of the other half, as real ones of both halves are compared."""
    size = 1 + max((int(tokens.max()) for tokens in (*new, *real) if len(tokens)), default=0)
    counts = {name: np.stack([token_counts([tokens], size) for tokens in rows]) for name, rows in (("new", new), ("real", real))}
    pairs = len(new) // 2
    if pairs < 2:
        return

    def between(which: str) -> Estimate:
        odd, even = counts[which][: 2 * pairs : 2], counts["real"][1 : 2 * pairs : 2]
        return jackknife(lambda kept: divergence(odd[kept].sum(0), even[kept].sum(0)), pairs)

    result.figures[f"{token}_divergence"] = Figure.of(
        between("new"), corpus=corpus, unit="bits", better="lower", controls={"real speech, other half": between("real").mean},
        definition=f"Jensen-Shannon divergence between how often each {token} occurs in new audio of one half of the prompts and in real "
        "speech of the other half, 0 to 1 bit; the control compares real speech of both halves",
        meaning=f"How different the model's mix of {token}s is from that of real speech.",
    )  # fmt: skip


def _runs(tokens: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Tokens without their repeats, and how often each is repeated."""
    starts = np.flatnonzero(np.diff(tokens, prepend=-1))
    return tokens[starts], np.diff(starts, append=len(tokens))


def _frequencies(new: Sequence[NDArray[Any]], real: Sequence[NDArray[Any]], token: str) -> Chart:
    """Shares of tokens in bins of equally many tokens, the most frequent in real speech first."""
    size = 1 + max((int(tokens.max()) for tokens in (*new, *real) if len(tokens)), default=0)
    counts = {MODEL: token_counts(new, size), REAL: token_counts(real, size)}
    order = np.argsort(-counts[REAL], kind="stable")
    edges = np.unique(np.linspace(0, size, min(size, HISTOGRAM_BINS) + 1).round().astype(int))

    def shares(of: Counts) -> list[float]:
        return [100 * float(of[order[start:stop]].sum()) / max(1, int(of.sum())) for start, stop in pairwise(edges)]

    return Chart(
        title=f"How often each {token} occurs", x_label=f"{token}s, the most frequent in real speech first", y_label=f"% of all {token}s",
        x=edges.tolist(), kind="steps", from_zero=True,
        series=[Series(MODEL, shares(counts[MODEL]), is_model=True), Series(REAL, shares(counts[REAL]))],
        meaning=f"Where the model's line stands high above real speech, it uses a few {token}s too often.",
    )  # fmt: skip


def _durations(runs: dict[str, list[tuple[NDArray[Any], NDArray[np.int64]]]], token: str, rate: float) -> Chart:
    lengths = {system: np.concatenate([counts for _, counts in rows]) for system, rows in runs.items()}
    together = np.concatenate(list(lengths.values()))
    most = int(np.clip(np.quantile(together, 0.995), SHORTEST_AXIS, LONGEST_RUN)) if len(together) else SHORTEST_AXIS

    def shares(own: NDArray[np.int64]) -> list[float]:
        counts = np.bincount(own.clip(max=most), minlength=most + 1)[1:]
        return (100 * counts / max(1, counts.sum())).tolist()

    return Chart(
        title=f"How long a {token} lasts", x_label=f"ms that a {token} is repeated; the last bar: longer", y_label=f"% of {token}s",
        x=[1000 * (length + 0.5) / rate for length in range(most + 1)], kind="steps", from_zero=True,
        series=[Series(MODEL, shares(lengths[MODEL]), is_model=True), Series(REAL, shares(lengths[REAL]))],
        meaning=f"Tempo and pauses: longer {token}s than in real speech are drawl or silence, shorter ones are haste.",
    )  # fmt: skip
