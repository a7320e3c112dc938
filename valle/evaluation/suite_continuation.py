"""The suite of what the model generates: does the voice stay, are there words, does it go on or repeat its prompt."""

from __future__ import annotations

from functools import partial
from typing import Any

from lhotse.cut import Cut

from valle.corpora.manifests import read_cuts
from valle.errors import UserError
from valle.evaluation.continuations import Continued, continue_cuts, cut_audio, guard_seconds, in_hashed_order
from valle.evaluation.figures import Figure
from valle.evaluation.speaker_encoder import SpeakerEncoder, cosines
from valle.evaluation.suite_words import words_figures
from valle.evaluation.suites import SuiteResult, SuiteSettings, part_of
from valle.evaluation.voice_report import VoiceTrialSettings, choose_voice_trials, report_of_voices
from valle.evaluation.voices import VoicesError, derangement
from valle.measures.intervals import bootstrap_mean
from valle.measures.sound import silence_share
from valle.measures.words import longest_common_run
from valle.progress import TitledProgress


def continuation_suite(settings: SuiteSettings, progress: TitledProgress) -> SuiteResult:
    """Voice, silence, length, what is copied from the prompt and, with a recogniser, words; only generated sound is judged."""
    pipeline, result = settings.pipeline, SuiteResult()
    trials = VoiceTrialSettings(
        num_prompts=max(2, settings.max_items), prompt_seconds=settings.prompt_seconds, max_seconds=settings.max_seconds, seed=settings.seed
    )
    try:
        by_voice, cuts = choose_voice_trials(settings.corpus, trials, guard=guard_seconds(pipeline))
    except VoicesError as error:
        by_voice, cuts = {}, _long_enough(settings, trials)
        result.left_out.append(f"voice_kept: {error}")
    continued = continue_cuts(
        pipeline, cuts, trials.continuing(), batch_size=trials.batch_size, seed=settings.seed, progress=partial(progress, "continuing")
    )
    corpus = settings.corpus_name(f"{len(cuts)} prompts of {settings.prompt_seconds:g} s, {settings.max_seconds:g} s of new audio at most")
    if by_voice:
        result.figures["voice_kept"] = _voice_figure(report_of_voices(pipeline, by_voice, continued, trials), corpus)
    if settings.speaker is None:
        result.left_out.append("voice_cosine: no speaker encoder was given; name one as --speaker resemblyzer")
    else:
        result.figures["voice_cosine"] = _cosine_figure(settings, settings.speaker, continued, corpus)
    result.figures.update(_shape_figures(continued, pipeline.sample_rate, corpus))
    if settings.recogniser is None:
        result.left_out.append("wer, words_in_lexicon: no recogniser was given; name Whisper's files as --whisper FOLDER")
    else:
        words = words_figures(settings, settings.recogniser, continued, corpus=corpus, progress=progress)
        result.figures.update(words.figures)
        result.left_out += words.left_out
    return result


def _long_enough(settings: SuiteSettings, trials: VoiceTrialSettings) -> list[Cut]:
    wanted = trials.prompt_seconds + guard_seconds(settings.pipeline) + trials.least_seconds
    cuts = [cut for cut in read_cuts(part_of(settings)) if cut.duration >= wanted]
    if not cuts:
        raise UserError(f"expected test cuts of {wanted:.1f} s or more in {settings.corpus}, found none; lower --prompt-seconds")
    return in_hashed_order(cuts, settings.seed)[: settings.max_items]


def _voice_figure(report: dict[str, Any], corpus: str) -> Figure:
    controls = {label: report[name]["mean"] for name, label in
                (("real", "real speech"), ("round_trip", "through the codec"), ("shuffled", "prompts shuffled"))}  # fmt: skip
    return Figure.of(
        report["generated"], corpus=corpus, unit="%", controls={**controls, "chance": report["chance"]},
        definition=f"{report['measure']}; {report['num_voices']} voices, fitted on other utterances of theirs; Wilson's interval",
        meaning="How often a classifier of voices takes the new audio for the voice of the prompt.",
    )  # fmt: skip


def _cosine_figure(settings: SuiteSettings, encoder: SpeakerEncoder, continued: list[Continued], corpus: str) -> Figure:
    """Likeness of voices by an encoder that was trained elsewhere, on whom nothing here was tuned."""
    rate = settings.pipeline.sample_rate
    prompts = [cut_audio(row.cut, rate)[: round(settings.prompt_seconds * rate)] for row in continued]
    others = [prompts[other] for other in derangement(len(prompts), settings.seed)]
    generated = [row.generated for row in continued]
    controls = {
        "real speech": cosines(encoder, [row.real for row in continued], prompts, rate),
        "through the codec": cosines(encoder, [row.round_trip for row in continued], prompts, rate),
        "another's prompt": cosines(encoder, generated, others, rate),
    }
    return Figure.of(
        bootstrap_mean(cosines(encoder, generated, prompts, rate), seed=settings.seed), corpus=f"{corpus}; speaker encoder {encoder.name}",
        controls={name: sum(values) / len(values) for name, values in controls.items()},
        definition="cosine between the speaker encoder's vectors of the new audio and of the prompt; 0 where there is no voice",
        meaning="How alike the voices of the new audio and of its prompt are, from 0 to 1.",
    )  # fmt: skip


def _shape_figures(continued: list[Continued], rate: int, corpus: str) -> dict[str, Figure]:
    """Silence, length and copying, beside what was really said."""
    generated, real = ([getattr(row, name) for row in continued] for name in ("generated", "real"))
    figures = {
        "silence_share": Figure.of(
            bootstrap_mean([silence_share(wav, rate) for wav in generated]), corpus=corpus, unit="%", better="neither",
            controls={"real speech": bootstrap_mean([silence_share(wav, rate) for wav in real]).mean},
            definition="share of 20 ms frames more than 40 dB below the loudest of the clip; a clip without sound counts as 1",
            meaning="How much of the new audio is silence; weak models fall silent.",
        ),
        "continuation_seconds": Figure.of(
            bootstrap_mean([len(wav) / rate for wav in generated]), corpus=corpus, unit="s", better="neither",
            controls={"real speech": bootstrap_mean([len(wav) / rate for wav in real]).mean},
            definition="seconds of new audio that are judged: after the prompt and the codec's receptive field, until the model's end",
            meaning="How long the model speaks before it ends, at most as long as it may.",
        ),
    }  # fmt: skip
    copies = [(row.prompt_units, row.new_units, row.real_units) for row in continued]
    lengths = [
        (_copied(prompt, new), _copied(prompt, said))
        for prompt, new, said in copies if prompt is not None and new is not None and said is not None
    ]  # fmt: skip
    if lengths:
        own, said = ([float(row[place]) for row in lengths] for place in (0, 1))
        figures["longest_copy_of_prompt"] = Figure.of(
            bootstrap_mean(own), corpus=corpus, unit="units", better="neither", controls={"real speech": bootstrap_mean(said).mean},
            definition="longest stretch of units, repeats removed, that stands in the prompt and in what follows it; mean over prompts",
            meaning="How long a stretch of its prompt the model says again; much above real speech means that it repeats, not continues.",
        )  # fmt: skip
    return figures


def _copied(prompt: Any, after: Any) -> int:
    return longest_common_run(prompt.unique_consecutive().tolist(), after.unique_consecutive().tolist())
