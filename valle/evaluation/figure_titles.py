"""What figures are called on the page, and under which heading they stand."""

from __future__ import annotations

import re

from valle.evaluation.attacks import ATTACK_NAMES

TITLES = {"codec": "What the codec keeps", "units": "What the units tell", "lm": "How well tokens are predicted",
          "language": "What the model knows of language", "continuation": "What the model says",
          "safety": "At the door: watermark and detector"}  # fmt: skip
BETTER = {"higher": "higher is better", "lower": "lower is better", "neither": "nearest to real speech is best"}
HEADLINES = (  # shown first, as many as there is room for
    "voice_kept", "wer_acoustic", "word_rate_score_continuation", "syn_wuggy", "syn_blimp", "abx_across", "codec_stoi", "spectrum_drift",
    "silence_share", "nll_semantic", "nll_coarse",
)  # fmt: skip
_MEASURES = {
    "codec_stoi": "Intelligibility of the codec (STOI)", "codec_pesq": "Quality of the codec (PESQ)",
    "codec_mel_l1": "Spectral distance of the codec", "codec_si_sdr": "Waveform kept by the codec (SI-SDR)",
    "abx_within": "ABX error within a speaker", "abx_across": "ABX error across speakers", "pnmi": "Phone information in units (PNMI)",
    "unit_speaker_probe": "Speaker told by units", "voice_kept": "Voice of the prompt kept",
    "voice_cosine": "Likeness of the voice", "silence_share": "Silence",
    "continuation_seconds": "Length of the new audio", "longest_copy_of_prompt": "Longest copy of the prompt",
    "level_drift": "Drift of the level", "spectrum_drift": "Drift of the spectrum", "distinct_units": "Distinct units",
    "distinct_codes": "Distinct codes", "self_bleu_words": "Self-BLEU of words", "self_bleu": "Self-BLEU",
    "unit_divergence": "Mix of units", "code_divergence": "Mix of codes", "longest_run_in_train": "Longest run in the training data",
    "memorised": "Five words in a row from training texts", "wer": "Word error rate", "cer": "Character error rate",
    "syn_wuggy": "Words told from non-words", "syn_blimp": "Agreement of words", "syn_cloze": "Endings that belong to a text",
    "syn_salmon": "Sound that stays the same", "swuggy": "Words told from non-words (sWUGGY)", "sblimp": "Grammar (sBLIMP)",
    "salmon": "Sound that stays the same (SALMon)", "watermark_tpr": "Watermark found in one second",
    "watermark_files": "Files called watermarked",
    "watermark_false_alarms": "False alarms of the watermark", "watermark_pesq": "Quality with the watermark (PESQ)",
    "detector_accuracy": "Generated or real: accuracy of a detector", "detector_found": "Generated seconds that are called generated",
    "detector_false_alarms": "Real seconds that are called generated",
    "words_in_lexicon": "Words in the lexicon", "all_words_in_lexicon": "Words in the lexicon, doubted ones too",
    "lexicon_words_per_second": "Words of the lexicon a second", "words_per_second": "Words a second", "clips_trusted": "Clips trusted",
    "distinct_words": "Distinct words", "trigrams_allowed": "Word trigrams allowed", "words_score": "Words above babble",
    "word_rate_score": "Word rate above babble", "bits_per_second": "Bits a second", "nll": "Nats a token",
}  # fmt: skip
_SYSTEMS = {
    "original": "recording", "real": "real speech", "codec": "through the codec", "acoustic": "true units spoken",
    "continuation": "continuations", "babble": "babble", "codec_own": "round trip by the model's codec", **ATTACK_NAMES,
}  # fmt: skip
_GROUPS = (
    ("Voice and sound", ("voice", "silence", "continuation_seconds", "level_drift", "spectrum_drift")),
    ("Variety and memory", ("distinct_units", "distinct_codes", "self_bleu", "unit_div", "code_div", "longest_", "memorised")),
    ("Words that a recogniser hears", ("wer", "cer", "words", "word_", "all_words", "lexicon_words", "clips_trusted", "distinct_words",
                                       "trigrams")),
    ("Watermark", ("watermark",)), ("Detector of generated speech", ("detector",)),
)  # fmt: skip


def title_of(name: str) -> str:
    """A figure's name for people; a name that is not known is shown as it is, without its underscores.

    >>> title_of("wer_acoustic"), title_of("nll_fine_1"), title_of("a_new_one")
    ('Word error rate: true units spoken', 'Nats a token: fine, level 1', 'a new one')
    """
    for measure in sorted(_MEASURES, key=len, reverse=True):
        if name == measure:
            return _MEASURES[measure]
        if name.startswith(f"{measure}_"):
            rest = name[len(measure) + 1 :]
            shown = _SYSTEMS.get(rest) or re.sub(r"_(\d+)$", r", level \1", rest).replace("_", " ")
            return f"{_MEASURES[measure]}: {shown}"
    return name.replace("_", " ")


def group_of(name: str) -> str:
    """The heading of a figure within a suite of many; empty for none."""
    fitting = [(len(start), title) for title, starts in _GROUPS for start in starts if name.startswith(start)]
    return max(fitting, default=(0, ""))[1]
