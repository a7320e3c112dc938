"""Audio and seeds as a caller hands them over, in the types that numpy and torch have, checked and brought to one form."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from valle.errors import UserError

Waveform: TypeAlias = NDArray[np.float32]
Recording: TypeAlias = NDArray[Any] | Tensor  # (T,), (1, T) or (T, 1) of floats about -1..1, or of integers scaled by their type

HIGHEST_PEAK = 10.0  # of floats: mixes pass 1 by a little; samples of 16 bits that nobody divided pass it by far


class PromptError(UserError):
    """A prompt that cannot be continued."""


def as_waveform(recording: Recording) -> Waveform:
    """Mono float32 ``(T,)`` of a recording.

    Integers are scaled by their type: int8, int16 and int32 by 2^7, 2^15 and 2^31, and uint8 has its zero at 128, as in files.
    Several channels are refused, since nothing says which axis they are. Raises ``PromptError``.
    """
    if isinstance(recording, Tensor):
        recording = recording.detach().cpu()
        recording = (recording.float() if recording.dtype == torch.bfloat16 else recording).numpy()
    given = np.asarray(recording)
    if given.ndim == 2 and 1 in given.shape:
        given = given.reshape(-1)
    if given.ndim != 1:
        raise PromptError(f"expected a mono recording of shape (T,), found {given.shape}; average its channels first")
    return _of_integers(given) if given.dtype.kind in "iu" else _of_floats(given)


def as_seeds(seed: Any, count: int) -> list[int]:
    """A seed for each of ``count`` recordings: one integer of any type for all, or one for each."""
    several = isinstance(seed, Iterable) and not (isinstance(seed, (np.ndarray, Tensor)) and seed.ndim == 0)
    try:
        seeds = [operator.index(one) for one in seed] if several else [operator.index(seed)] * count
    except TypeError as error:
        raise PromptError(f"expected an integer as seed, or one for each recording, found {_said(seed)}; give such as 0") from error
    if len(seeds) != count:
        raise PromptError(f"expected one seed, or one for each of {count} recordings, found {len(seeds)}")
    return seeds


def as_rows(wav: Recording | Sequence[Recording]) -> list[Waveform]:
    """Every recording of a sequence, or the only one."""
    if isinstance(wav, (np.ndarray, Tensor)):
        return [as_waveform(wav)]
    return [as_waveform(recording) for recording in wav]


def _of_integers(given: NDArray[Any]) -> Waveform:
    if given.dtype.itemsize > 4 or given.dtype in (np.uint16, np.uint32):
        raise PromptError(
            f"expected samples as floats, int8, int16, int32 or uint8, found {given.dtype}, whose full scale is not known; "
            "divide them so that they lie within -1..1"
        )
    if given.dtype == np.uint8:
        return ((given.astype(np.float32) - 128) / 128).astype(np.float32)
    return (given.astype(np.float64) / 2.0 ** (8 * given.dtype.itemsize - 1)).astype(np.float32)


def _of_floats(given: NDArray[Any]) -> Waveform:
    if given.dtype.kind != "f":
        raise PromptError(f"expected samples as floats or integers, found {given.dtype}; read the recording with valle.audio.read_audio")
    if not np.isfinite(given).all():
        raise PromptError("expected finite samples in the recording, found NaN or infinity; read it anew from its source")
    peak = float(np.abs(given).max(initial=0.0))
    if peak > HIGHEST_PEAK:
        raise PromptError(f"expected samples within -1..1, found a peak of {peak:.4g}; divide them by full scale, 32768 for 16 bits")
    return given.astype(np.float32, copy=False)


def _said(seed: Any) -> str:
    return f"{seed!r}"[:60]
