"""The suite of what the model generates: does the voice stay, are there words, does it go on or repeat its prompt."""

from __future__ import annotations

from functools import partial

from lhotse.cut import Cut

from valle.corpora.manifests import read_cuts
from valle.errors import UserError
from valle.evaluation.continuations import Continued, continue_cuts, guard_seconds, in_hashed_order
from valle.evaluation.figures import Figure
from valle.evaluation.kept_sounds import keep_sounds
from valle.evaluation.speaker_encoder import SpeakerEncoder, cosines
from valle.evaluation.suite_memorised import runs_result
from valle.evaluation.suite_shape import shape_result
from valle.evaluation.suite_words import words_figures
from valle.evaluation.suites import SuiteResult, SuiteSettings, part_of
from valle.evaluation.voice_report import VoiceTrialSettings, choose_voice_trials, voices_of
from valle.evaluation.voices import VoiceReport, VoicesError, derangement
from valle.measures.intervals import bootstrap_mean
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
    if settings.sounds is not None:
        result.sounds = keep_sounds(settings.sounds, continued, pipeline.sample_rate)
    if by_voice:
        voices = voices_of(pipeline, by_voice, continued, seed=settings.seed)
        result.figures["voice_kept"] = _voice_figure(voices, [row.cut.id for row in continued], corpus)
    if settings.speaker is None:
        result.left_out.append("voice_cosine: no speaker encoder was given; name one as --speaker resemblyzer")
    else:
        result.figures.update(_cosine_figures(settings, settings.speaker, continued, corpus))
    result.add(shape_result(continued, pipeline.timeline, pipeline.sample_rate, corpus=corpus))
    result.add(runs_result(settings, continued, corpus=corpus, progress=partial(progress, "looking for runs in train")))
    if settings.recogniser is None:
        result.left_out.append("wer, words_in_lexicon: no recogniser was given; name Whisper's files as --whisper FOLDER")
    else:
        result.add(words_figures(settings, settings.recogniser, continued, corpus=corpus, progress=progress))
    return result


def _long_enough(settings: SuiteSettings, trials: VoiceTrialSettings) -> list[Cut]:
    wanted = trials.prompt_seconds + guard_seconds(settings.pipeline) + trials.least_seconds
    cuts = [cut for cut in read_cuts(part_of(settings)) if cut.duration >= wanted]
    if not cuts:
        raise UserError(f"expected test cuts of {wanted:.1f} s or more in {settings.corpus}, found none; lower --prompt-seconds")
    return in_hashed_order(cuts, settings.seed)[: settings.max_items]


def _voice_figure(report: VoiceReport, names: list[str], corpus: str) -> Figure:
    controls = {"real speech": report.real, "through the codec": report.round_trip, "prompts shuffled": report.shuffled}
    return Figure.of(
        report.generated, names=names, corpus=corpus, unit="%",
        controls={**{label: estimate.mean for label, estimate in controls.items()}, "chance": report.chance},
        definition=f"{VoiceReport.measure}; {report.num_voices} voices, fitted on other utterances of theirs; Wilson's interval",
        meaning="How often a classifier of voices takes the new audio for the voice of the prompt.",
    )  # fmt: skip


def _cosine_figures(settings: SuiteSettings, encoder: SpeakerEncoder, continued: list[Continued], corpus: str) -> dict[str, Figure]:
    """Likeness of voices by an encoder that was trained elsewhere, on whom nothing here was tuned; controls as figures, too."""
    rate = settings.pipeline.sample_rate
    prompts = [row.prompt for row in continued]
    others = [prompts[other] for other in derangement(len(prompts), settings.seed)]
    generated = [row.generated for row in continued]
    systems = {
        "voice_cosine": ("new audio", "its prompt", cosines(encoder, generated, prompts, rate)),
        "voice_cosine_real": ("real speech", "its prompt", cosines(encoder, [row.real for row in continued], prompts, rate)),
        "voice_cosine_codec": (
            "real speech through the codec", "its prompt", cosines(encoder, [row.round_trip for row in continued], prompts, rate),
        ),
        "voice_cosine_other": ("new audio", "another's prompt", cosines(encoder, generated, others, rate)),
    }
    labels = {"voice_cosine_real": "real speech", "voice_cosine_codec": "through the codec", "voice_cosine_other": "another's prompt"}
    means = {name: sum(values) / len(values) for name, (_, _, values) in systems.items()}
    return {
        name: Figure.of(
            bootstrap_mean(values, seed=settings.seed), names=[row.cut.id for row in continued], is_control=name in labels,
            corpus=f"{corpus}; speaker encoder {encoder.name}",
            controls={label: means[other] for other, label in labels.items() if other != name},
            definition=f"cosine between the speaker encoder's vectors of {what} and of {prompt}; 0 where there is no voice",
            meaning=f"How alike the voices of {what} and of {prompt} are, from 0 to 1.",
        )
        for name, (what, prompt, values) in systems.items()
    }  # fmt: skip
