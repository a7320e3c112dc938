"""The tables of the watermark and of the detector as documents show them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.tables import interval, markdown, where
from valle.evaluation.attacks import ATTACK_NAMES, CODEC


def watermark(values: Mapping[str, Any]) -> str:
    """What is found of the mark, attack by attack."""
    rows = []
    for name, row in values["watermark_tpr"].items():
        share = f"{100 * row['value']:.0f} % ({100 * row['low']:.0f} to {100 * row['high']:.0f})"
        told = ATTACK_NAMES.get(name, f"round trip by the codec `{name.removeprefix(CODEC)}`")
        rows.append((told, share, f"{100 * row['whole_recordings']:.0f} %"))
    pesq, null = values["pesq"], values["negatives"]
    note = (
        f"PESQ of marked against unmarked speech: {pesq['value']:.2f} ({pesq['lowest']:.2f} to {pesq['highest']:.2f}; 4.64 is the "
        "same sound). "
        f"Threshold from {null['windows']} overlapping windows of {null['speakers']} other speakers, "
        f"{null['files_called_watermarked']} of whose {null['files']} recordings are called watermarked. "
    )
    return markdown(("after", "found in 1 s", "whole recordings called watermarked"), rows, note + where(values))


def detector(values: Mapping[str, Any]) -> str:
    """What the detector finds, and falsely finds, in crops of a second."""
    names = {"none": "raw", "mp3_64k": "mp3", "opus_32k": "Opus", "resample_8khz": "8 kHz", "codec_own": "our codec"}
    rows = [(f"real speech, {names[kind]}", interval(row)) for kind, row in values["false_alarms"].items()]
    for name, kinds in values["found"].items():
        rows += [(f"{name}, {names[kind]}", interval(row)) for kind, row in kinds.items()]
    told = ", ".join(f"{name} {100 * share:.0f} %" for name, share in values["detector_accuracy"].items())
    note = f"Accuracy of generated against real speech through the codec, equal shares: {told}. "
    return markdown(("crops of 1 s", "called generated"), rows, note + where(values))
