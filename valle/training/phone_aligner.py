"""Trains the aligner: on synthetic speech, whose phone times are known; then on recordings by the times that it found in them.

The second is the re-estimation of hidden Markov models (Rabiner 1989, III-C; along the best path, as Juang and Rabiner 1990):
align, train, align anew.  Synthetic speech stays in, so that the times cannot drift.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from valle.models.phone_aligner import PhoneAligner
from valle.progress import Progress

CROP_FRAMES = 300  # 3 s
SMOOTHING = 0.05  # of the labels: no phone is ever quite sure
TEMPO = (0.75, 1.3)
BEND = (0.85, 1.18)  # of the frequency axis, as of vocal tracts
ECHO_FRAMES = 30
LEAST_SHARE = 0.5  # of what a class would have if all were equal



@dataclass(frozen=True)
class LabelledFrames:
    """Log-mels ``(T, M)`` of utterances, kept in fp16, and the class of each frame, -1 for unknown ``(T,)``."""

    mels: list[Tensor]
    labels: list[NDArray[np.int64]]

    @property
    def num_frames(self) -> int:
        return sum(map(len, self.labels))


@dataclass(frozen=True, kw_only=True)
class FitSettings:
    """Length and size of one round of training."""

    steps: int
    batch_size: int = 16
    base_lr: float = 2e-3
    seed: int = 0
    dtype: str = "float32"  # or bfloat16, of matrix products


def take_statistics(aligner: PhoneAligner, mels: Sequence[Tensor]) -> None:
    """The deviation of each band about the mean of its utterance."""
    squares = sum((each.float() - each.float().mean(0)).square().sum(0) for each in mels)
    count = sum(map(len, mels))
    aligner.deviation.copy_(torch.as_tensor(squares / count).sqrt().clamp(min=1e-3))


def take_shares(aligner: PhoneAligner, corpora: Iterable[LabelledFrames]) -> None:
    """How frequent each class is, every corpus counted alike; rare ones as if less so, or next to nothing would do to hear them."""
    size = len(aligner.classes)
    shares = np.zeros(size)
    for corpus in corpora:
        labels = np.concatenate(corpus.labels)
        counts = np.bincount(labels[labels >= 0], minlength=size)
        shares += counts / counts.sum()
    shares = np.maximum(shares / shares.sum(), LEAST_SHARE / size)
    aligner.log_shares.copy_(torch.from_numpy(np.log(shares / shares.sum())))


def fit(aligner: PhoneAligner, corpora: Sequence[LabelledFrames], settings: FitSettings, *, progress: Progress | None = None) -> float:
    """Train in place on batches to which every corpus gives equal shares; returns the mean loss of the last tenth, in nats a frame."""
    rng = np.random.default_rng(settings.seed)
    torch.manual_seed(settings.seed)
    optimizer = torch.optim.AdamW(aligner.parameters(), lr=settings.base_lr, betas=(0.9, 0.98), weight_decay=0.01)
    chances = [np.cumsum([len(labels) for labels in corpus.labels]) for corpus in corpora]
    losses = []
    aligner.train()
    for step in range(settings.steps):
        rows = [_crop(corpora[row % len(corpora)], chances[row % len(corpora)], rng) for row in range(settings.batch_size)]
        mels, labels = torch.stack([row[0] for row in rows]), torch.stack([row[1] for row in rows])
        mels = disguised(mels, rng)
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.dtype == "bfloat16"):
            logits = aligner(mels)
        loss = F.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), ignore_index=-1, label_smoothing=SMOOTHING)
        rate = settings.base_lr * min(1.0, (step + 1) / 30) * 0.5 * (1 + math.cos(math.pi * step / settings.steps))
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(aligner.parameters(), 5.0)
        optimizer.step()
        losses.append(float(loss.detach()))
        if progress is not None:
            progress(step + 1, settings.steps)
    aligner.eval()
    return float(np.mean(losses[-max(1, settings.steps // 10) :]))


def _crop(corpus: LabelledFrames, ends: NDArray[np.int64], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """``(T, M)`` and ``(T,)`` at a tempo of their own; of an utterance that is too short, as much as there is, round and round."""
    index = int(np.searchsorted(ends, rng.random() * ends[-1], side="right"))
    mels, labels = corpus.mels[index], corpus.labels[index]
    tempo = rng.uniform(*TEMPO)
    first = int(rng.random() * (max(0, len(labels) - int(CROP_FRAMES * tempo)) + 1))
    places = (first + (np.arange(CROP_FRAMES) * tempo).astype(np.int64)) % len(labels)
    return mels[torch.from_numpy(places)].float(), torch.from_numpy(labels[places])


def disguised(mels: Tensor, rng: np.random.Generator) -> Tensor:
    """``mels (B, T, M)`` in nats by other vocal tracts, in rooms and in noise, with some bands silenced."""
    batch, length, bands = mels.shape

    def draw(low: float, high: float, *shape: int) -> Tensor:
        return torch.from_numpy(rng.uniform(low, high, (batch, *shape)).astype(np.float32))

    places = (torch.arange(bands) * draw(*BEND, 1)).clamp(max=bands - 1)  # (B, M)
    below = places.floor().long()[:, None].expand(-1, length, -1)
    share = (places - places.floor())[:, None]
    mels = torch.lerp(mels.gather(2, below), mels.gather(2, (below + 1).clamp(max=bands - 1)), share)

    decay = 10 ** (-0.06 / draw(0.05, 0.5, 1))  # a frame, of energy that falls by 60 dB in so many seconds
    echo = draw(0, 0.15, 1) * decay ** torch.arange(ECHO_FRAMES)  # (B, frames)
    echo[:, 0] = 1
    mels = _filtered(mels.exp(), echo).clamp(min=1e-6).log()

    # Noise of another colour in every row, 26 to 70 dB below the loudest band.
    peak = mels.amax((1, 2), keepdim=True)
    colour = torch.cumsum(draw(-0.5, 0.5, 1, bands), 2)
    hiss = peak + draw(-16, -6, 1, 1) + colour + 0.5 * torch.from_numpy(rng.standard_normal((batch, length, bands)).astype(np.float32))
    mels = torch.logaddexp(mels, hiss)

    width, lowest = draw(0, bands / 5, 1), draw(0, bands, 1)
    hidden = (torch.arange(bands) >= lowest) & (torch.arange(bands) < lowest + width)  # (B, M)
    return torch.where(hidden[:, None], mels.mean(1, keepdim=True), mels)


def _filtered(energy: Tensor, echo: Tensor) -> Tensor:
    """``energy (B, T, M)`` with the decaying ``echo (B, E)`` of each row, along time."""
    rows = F.pad(energy.transpose(1, 2), (echo.shape[1] - 1, 0)).transpose(0, 1)  # (M, B, T + E - 1)
    return F.conv1d(rows, echo.flip(1)[:, None], groups=len(energy)).permute(1, 2, 0)
