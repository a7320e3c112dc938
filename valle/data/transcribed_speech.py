"""Recordings with their transcripts, as batches of audio and text pieces; an utterance is heard whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from lhotse.cut import Cut
from lhotse.utils import fastcopy
from torch import Tensor
from torch.utils.data import Dataset

from valle.corpora.cut_audio import read_cut
from valle.corpora.manifests import read_cuts
from valle.crops import pad
from valle.data.like_length import batches_of_like_length
from valle.tokenizers.frames import heard
from valle.tokenizers.transcripts import Transcripts
from valle.tokenizing.token_manifests import ManifestError


@dataclass(frozen=True)
class Transcribed:
    """One utterance: its audio, and what is said in it."""

    cut: Cut  # without its supervisions
    text: str
    language: str

    @property
    def id(self) -> str:
        name: str = self.cut.id
        return name


def read_transcribed(path: Path, *, min_seconds: float, max_seconds: float) -> list[Transcribed]:
    """Cuts of a manifest that have a transcript, by the first supervision; raises ``ManifestError`` where there are none."""
    found = []
    for cut in read_cuts(path):
        supervision = cut.supervisions[0] if cut.supervisions else None
        if supervision is None or not (supervision.text or "").strip() or not min_seconds <= cut.duration <= max_seconds:
            continue
        bare = fastcopy(cut, supervisions=[])
        found.append(Transcribed(cut=bare, text=supervision.text, language=supervision.language or "English"))
    if not found:
        raise ManifestError(
            f"expected cuts with transcripts of {min_seconds:g} to {max_seconds:g} s in {path}, found none; use a corpus with texts, "
            "such as egs/espeak_text, or change --filter-max-duration"
        )
    return found


class SpeechBatch(dict[str, Tensor]):
    """``wav (B, T) lengths (B,)`` and the tensors of texts that ``SpeechLlama`` names, and whose they are."""

    cut_ids: tuple[str, ...] = ()


class SpeechBatches(Dataset[SpeechBatch]):
    """Batch number i of one epoch, of at most ``max_seconds`` of audio with its padding; every utterance stands in one of them."""

    def __init__(
        self, utterances: Sequence[Transcribed], transcripts: Transcripts, *, sample_rate: int, max_seconds: float, seed: int, epoch: int
    ) -> None:
        self.utterances, self.transcripts, self.sample_rate = utterances, transcripts, sample_rate
        lengths = [round(1000 * utterance.cut.duration) for utterance in utterances]
        ids = [utterance.id for utterance in utterances]
        self.batches = batches_of_like_length(lengths, ids, most=round(1000 * max_seconds), seed=seed, epoch=epoch)

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> SpeechBatch:
        chosen, transcripts = [self.utterances[place] for place in self.batches[index]], self.transcripts
        audio = [heard(*read_cut(utterance.cut), self.sample_rate) for utterance in chosen]
        wav = torch.zeros(len(audio), max(map(len, audio)))
        for row, samples in zip(wav, audio, strict=True):
            row[: len(samples)] = torch.from_numpy(samples)
        batch = SpeechBatch(wav=wav, lengths=torch.tensor([len(samples) for samples in audio]))
        for name, length, rows in (
            ("pieces", "piece_lengths", [transcripts.text.encode(utterance.text) for utterance in chosen]),
            ("ctc_pieces", "ctc_lengths", [transcripts.ctc_text.encode(utterance.text) for utterance in chosen]),
            ("prompts", "prompt_lengths", [transcripts.before(utterance.language) for utterance in chosen]),
        ):
            batch[name], batch[length] = pad([np.array(row, np.int64) for row in rows])
        batch.cut_ids = tuple(utterance.id for utterance in chosen)
        return batch
