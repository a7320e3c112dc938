"""How far units and phones are the same partition of time: purities and PNMI (HuBERT, Hsu et al. 2021, equations 3 to 5)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Joint = NDArray[np.int64]  # (P, K) frames of each phone that bear each unit


@dataclass(frozen=True)
class Purity:
    """All 0 to 1, higher is better; NaN without frames (``pnmi`` also with one phone alone)."""

    phone_purity: float  # frames whose phone is the likeliest of their unit
    cluster_purity: float  # frames whose unit is the likeliest of their phone; falls as units grow in number
    pnmi: float  # share of the phones' entropy that the units tell


def joint_counts(phones: NDArray[np.int64], units: NDArray[np.int64], *, num_phones: int, num_units: int) -> Joint:
    """Frames by (phone, unit), of ``phones (T,)`` and ``units (T,)``."""
    if phones.shape != units.shape:
        raise ValueError(f"expected a phone and a unit for each frame, found {phones.shape} and {units.shape}")
    return np.bincount(phones * num_units + units, minlength=num_phones * num_units).reshape(num_phones, num_units)


def purity(joint: Joint) -> Purity:
    """Of counts ``(P, K)``."""
    total = joint.sum()
    if total == 0:
        return Purity(phone_purity=float("nan"), cluster_purity=float("nan"), pnmi=float("nan"))
    share = joint / total
    phone, unit = share.sum(1), share.sum(0)
    some = share > 0
    information = float((share[some] * np.log(share[some] / np.outer(phone, unit)[some])).sum())
    told = phone[phone > 0]
    entropy = float(-(told * np.log(told)).sum())
    return Purity(
        phone_purity=float(share.max(0).sum()),
        cluster_purity=float(share.max(1).sum()),
        pnmi=information / entropy if entropy > 0 else float("nan"),
    )


def purity_interval(joints: NDArray[np.int64], *, resamples: int = 200, seed: int = 0) -> tuple[float, float]:
    """The 95 % interval of PNMI by the bootstrap over utterances, ``joints (U, P, K)``; NaN for fewer than two.

    A redrawn corpus holds fewer different frames, which raises its PNMI; the mean rise is taken off.
    """
    if len(joints) < 2:
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    flat = joints.reshape(len(joints), -1).astype(np.float64)
    values = []
    for _ in range(resamples):
        weight = np.bincount(rng.integers(0, len(joints), len(joints)), minlength=len(joints)).astype(np.float64)
        values.append(purity((weight @ flat).reshape(joints.shape[1:]).astype(np.int64)).pnmi)
    rise = float(np.nanmean(values)) - purity(joints.sum(0)).pnmi
    low, high = np.nanquantile(values, [0.025, 0.975]) - rise
    return float(low), float(high)
