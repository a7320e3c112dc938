"""Which of a corpus's audio something is fitted on: all speakers as long as the hours allow, each by cuts that chance picks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from valle.audio import Waveform, resample
from valle.corpora.cut_audio import read_cut
from valle.corpora.manifests import duration_of, parse_cut, read_lines
from valle.progress import Progress
from valle.seeds import draw
from valle.tokenizers.kmeans_fit import ALONE, Processes


def training_audio(
    manifests: Sequence[Path], *, sample_rate: int, hours: float, seed: int, processes: Processes = ALONE, progress: Progress | None = None
) -> Iterator[Waveform]:
    """Waveforms ``(T,)`` at ``sample_rate`` of chosen cuts, in the manifests' order; each of several processes gets a share of them.

    ``progress(seconds_done, seconds_wanted)`` after each, of this process's share.
    """
    chosen = choose_cuts_to_hear(manifests, hours=hours, seed=seed)
    own = {place: seconds for number, (place, seconds) in enumerate(sorted(chosen.items())) if number % processes.size == processes.rank}
    done, wanted = 0.0, sum(own.values())
    for index, path in enumerate(manifests):
        for number, line in enumerate(read_lines(path)):
            if (index, number) not in own:
                continue
            samples, rate = read_cut(parse_cut(line, path))
            done += own[index, number]
            if progress:
                progress(done, wanted)
            yield resample(samples, rate, sample_rate)


def choose_cuts_to_hear(manifests: Sequence[Path], *, hours: float, seed: int) -> dict[tuple[int, int], float]:
    """``(manifest, line) -> seconds`` of cuts that just reach ``hours``, or of all.

    Nobody is heard a second time before everybody was heard once, and which cut of a speaker comes first is a hash of its id: so
    no order of the manifest, by speaker or by turns, leaves speakers out.
    """
    speakers: dict[str, list[tuple[float, int, int, float]]] = {}
    for index, path in enumerate(manifests):
        for number, line in enumerate(read_lines(path)):
            seconds, values = duration_of(line, path), json.loads(line)
            chance = draw(seed, 0, str(values.get("id")), "fit")
            speakers.setdefault(_speaker(values), []).append((chance, index, number, seconds))
    turns = [(turn, *cut) for cuts in speakers.values() for turn, cut in enumerate(sorted(cuts))]
    chosen: dict[tuple[int, int], float] = {}
    done = 0.0
    for _, _, index, number, seconds in sorted(turns):
        if done >= 3600 * hours:
            break
        chosen[index, number] = seconds
        done += seconds
    return chosen


def _speaker(values: dict[str, object]) -> str:
    """Of a cut as plain values: its speaker, else its recording."""
    supervisions = values.get("supervisions")
    for item in supervisions if isinstance(supervisions, list) else ():
        if isinstance(item, dict) and item.get("speaker"):
            return f"speaker {item['speaker']}"
    recording = values.get("recording")
    return f"recording {recording.get('id') if isinstance(recording, dict) else values.get('id')}"
