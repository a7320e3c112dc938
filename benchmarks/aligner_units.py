"""What a phone aligner itself hears, as units: a bound for the table of units where its own phone times are scored.

It was taught with transcripts, so it is no tokenizer that learns from audio alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from valle.evaluation.unit_corpus import choose_cuts, encode_cuts
from valle.models.phone_aligner import PhoneAligner
from valle.tokenizers.base import SemanticTokenizer
from valle.tokenizers.front_ends import FRAME_HOP, MEL_STACK
from valle.tokenizers.kmeans_fit import fit_features

NUM_UNITS, FIT_SECONDS = 200, 1800.0


class AlignerUnits(SemanticTokenizer):
    """Clusters of the square roots of its posteriors, the mean of two frames of 10 ms, at 50 Hz; each row is encoded alone."""

    centroids: Tensor

    def __init__(self, aligner: PhoneAligner, *, num_units: int) -> None:
        super().__init__()
        self.name, self.num_units = "aligner", num_units
        self.sample_rate, self.hop_length = 16000, FRAME_HOP
        self.left_context = self.right_context = 0  # it hears whole utterances, and is never asked for parts of one
        self.aligner = aligner
        self.register_buffer("centroids", torch.zeros(num_units, len(aligner.classes)))

    def config(self) -> dict[str, Any]:
        return {"type": "aligner", "num_units": self.num_units}

    def features(self, wav: Tensor, lengths: Tensor) -> Tensor:
        """``wav (B, T)``, ``lengths (B,)`` samples -> ``(B, T_u, classes)``, 0 past a row's end."""
        found = torch.zeros(len(wav), self.num_tokens(wav.shape[1]), self.centroids.shape[1])
        for row, samples, length in zip(found, wav, lengths.tolist(), strict=True):
            told = torch.from_numpy(self.aligner.posteriors(self.aligner.log_mels(samples[:length].numpy()))).float()
            told = torch.cat([told, told[-1:].expand(-len(told) % MEL_STACK, -1)])
            heard = told.unflatten(0, (-1, MEL_STACK)).mean(1).sqrt()
            row[: len(heard)] = heard
        return found

    def encode(self, wav: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return torch.cdist(self.features(wav, lengths), self.centroids[None]).argmin(-1), -(-lengths // self.hop_length)


def aligner_units(folder: Path, fit_manifest: Path) -> AlignerUnits:
    """Of the aligner in ``folder``, clustered on half an hour of a manifest."""
    aligner, _ = PhoneAligner.load(folder)
    units = AlignerUnits(aligner, num_units=NUM_UNITS)
    heard = encode_cuts(units, choose_cuts(fit_manifest, max_seconds=FIT_SECONDS, unseen_voices=False))
    assert heard.features is not None
    fit = fit_features(iter([heard.features]), NUM_UNITS, seed=0, seconds_per_frame=0.02, standardise=False)
    units.centroids.copy_(torch.from_numpy(fit.centroids))
    return units.eval()
