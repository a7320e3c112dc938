#!/usr/bin/env python3
"""SoundStorm's quality against the passes on its first level: what 16, 8, 4 and 1 passes sound like, and what they cost.

  python -m benchmarks.soundstorm_passes --exp-dir exp/acoustic/soundstorm/exp --manifest-dir egs/espeak/data/tokenized

All other levels have one pass.  The likelihood of masked codes does not depend on the passes, so sound is judged: the same recordings'
own units after a prompt of 3 s (STOI, beside that of the codec's round trip), and the same prompts along new units (voice kept).  The
processor time of 10 s of codes is taken in turns, beside as many bare passes of the network over the same frames: what no schedule can be
below.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from contextlib import chdir
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.acoustic_measures import PROMPT_SECONDS, recordings, speak, trained_pipeline
from benchmarks.common import RESULTS, header, write_results
from valle.decoding.sampling import Sampling
from valle.errors import UserError
from valle.evaluation.continuations import continue_cuts, guard_seconds
from valle.evaluation.voice_report import VoiceTrialSettings, choose_voice_trials, report_of_voices
from valle.inference.pipeline import Pipeline
from valle.models.acoustic.base import AcousticRequest
from valle.models.soundstorm import SoundStormLM

CONTROLS = ("real", "round_trip", "shuffled")
NEW_SECONDS = 10.0  # of codes, of which the time is taken


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exp-dir", type=Path, required=True, help="a run with --acoustic-model soundstorm")
    parser.add_argument("--manifest-dir", type=Path, required=True, help="data/tokenized of its recipe")
    parser.add_argument("--passes", type=int, nargs="+", default=[16, 8, 4, 1], help="on the first level")
    parser.add_argument("--num-prompts", type=int, default=64, help="whose voice is judged; 0: none")
    parser.add_argument("--num-spoken", type=int, default=16, help="recordings that are spoken along their own units")
    parser.add_argument("--rounds", type=int, default=3, help="of the time, by turns")
    parser.add_argument("--output", type=Path, default=RESULTS / "soundstorm_passes.json")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    output, pipeline = options.output.resolve(), trained_pipeline(options.exp_dir)
    if SoundStormLM.name not in pipeline.model.stages():
        raise UserError(f"expected a model with the stage soundstorm in {options.exp_dir}, found {', '.join(pipeline.model.stages())}")
    manifests = options.manifest_dir.resolve()
    with chdir(manifests.parents[1]):
        wavs = recordings(manifests, pipeline.sample_rate, options.num_spoken)
        judged = kept_voices_by_passes(pipeline, manifests, options.passes, options.num_prompts) if options.num_prompts else {}
        spoken = {count: speak(pipeline, wavs, sampling=schedule(count)) for count in options.passes}
    taken = seconds_of_codes(pipeline, options.passes, rounds=options.rounds)
    rows = [
        {
            "passes": count, "passes_of_all_levels": total_passes(pipeline, count), **spoken[count], **taken[count],
            "voice_kept": judged[count]["generated"] if judged else None,
        }
        for count in options.passes
    ]  # fmt: skip
    command = ["python -m benchmarks.soundstorm_passes --exp-dir", str(options.exp_dir), "--manifest-dir", str(options.manifest_dir)]
    sizes = ["--num-prompts", str(options.num_prompts), "--num-spoken", str(options.num_spoken), "--rounds", str(options.rounds)]
    controls = {kind: judged[options.passes[0]][kind] for kind in CONTROLS} if judged else {}
    write_results(options.output, {**header([*command, *sizes]), "controls": controls, "rows": rows})
    print(f"written: {output}")


def schedule(count: int) -> dict[str, Sampling]:
    """``count`` passes on the first level and one on each other, by stage."""
    return {SoundStormLM.name: replace(SoundStormLM.sampling, passes=(count, 1))}


def total_passes(pipeline: Pipeline, count: int) -> int:
    """Passes of all levels together."""
    return count + pipeline.model.config.num_quantizers - 1


def kept_voices_by_passes(pipeline: Pipeline, manifest_dir: Path, passes: Sequence[int], num_prompts: int) -> dict[int, dict[str, Any]]:
    """The report on voices of the same prompts by every number of passes."""
    settings, reports = VoiceTrialSettings(num_prompts=num_prompts), {}
    by_voice, chosen = choose_voice_trials(manifest_dir, settings, guard=guard_seconds(pipeline))
    for count in passes:
        how = settings.continuing()
        how = replace(how, sampling={**how.sampling, **schedule(count)})
        continued = continue_cuts(pipeline, chosen, how, batch_size=settings.batch_size, seed=settings.seed)
        reports[count] = report_of_voices(pipeline, by_voice, continued, settings)
    return reports


def seconds_of_codes(pipeline: Pipeline, passes: Sequence[int], *, rounds: int) -> dict[int, dict[str, float]]:
    """Median seconds of 10 s of new codes after a prompt, and of as many bare passes of the network, all by turns, one row.

    Units and codes are drawn at random: the time does not depend on what they are.
    """
    model, timeline = pipeline.model, pipeline.timeline
    generator = torch.Generator().manual_seed(0)
    prompt, whole = (timeline.periods_for(seconds) for seconds in (PROMPT_SECONDS, PROMPT_SECONDS + NEW_SECONDS))
    frames = whole * timeline.frames_per_period
    codes = torch.randint(model.config.codebook_size, (frames, model.config.num_quantizers), generator=generator)
    units = None
    if model.config.num_units is not None:
        units = torch.randint(model.config.num_units, (whole * timeline.units_per_period,), generator=generator)
    known = codes[: prompt * timeline.frames_per_period]

    def generate(count: int) -> float:
        request = AcousticRequest(
            prompt_codes=[known], num_frames=[frames], seeds=[0], units=None if units is None else [units], sampling=schedule(count),
            windows={SoundStormLM.name: frames},
        )  # fmt: skip
        started = time.process_time()
        model.acoustic.generate(request)
        return time.process_time() - started

    generate(1)
    taken: dict[int, list[float]] = {count: [] for count in passes}
    bare: list[float] = []
    for _ in range(rounds):
        for count in passes:
            taken[count].append(generate(count))
        bare.append(seconds_of_a_pass(pipeline, codes, units))
    return {
        count: {
            "seconds": round(statistics.median(of_count), 3),
            "seconds_of_bare_passes": round(total_passes(pipeline, count) * statistics.median(bare), 3),
        }
        for count, of_count in taken.items()
    }  # fmt: skip


@torch.inference_mode()
def seconds_of_a_pass(pipeline: Pipeline, codes: torch.Tensor, units: torch.Tensor | None, *, repeats: int = 3) -> float:
    """The network alone over ``codes (T, Q)``, once."""
    stage = pipeline.model.stages()[SoundStormLM.name]
    length, level = torch.tensor([len(codes)]), torch.tensor([0])
    given = (None, None) if units is None else (units[None], torch.tensor([len(units)]))
    started = time.process_time()
    for _ in range(repeats):
        stage(codes[None], length, level, *given)
    return (time.process_time() - started) / repeats


if __name__ == "__main__":
    main()
