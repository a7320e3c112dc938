"""Pictures of sound: a spectrogram with the prompt marked off from what was generated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from valle.audio import Waveform

WINDOW, HOP = 512, 128
FLOOR_DB = -80.0


def write_spectrogram(path: Path, wav: Waveform, sample_rate: int, *, prompt_seconds: float) -> None:
    """A PNG of ``wav (T,)``; a line stands where the prompt ends."""
    seconds = len(wav) / sample_rate
    figure = Figure(figsize=(10, 2.6), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    extent = (0, seconds, 0, sample_rate / 2000)
    axes.imshow(decibels(wav), origin="lower", aspect="auto", cmap="magma", vmin=FLOOR_DB, vmax=0, extent=extent, interpolation="bilinear")
    if 0 < prompt_seconds < seconds:
        axes.axvline(prompt_seconds, color="white", linewidth=1.6)
        ground = {"facecolor": "black", "alpha": 0.55, "edgecolor": "none", "pad": 2}
        box: dict[str, Any] = {"color": "white", "fontsize": 9, "va": "top", "bbox": ground}
        top = sample_rate / 2000 * 0.96
        axes.text(prompt_seconds - seconds * 0.008, top, "prompt", ha="right", **box)
        axes.text(prompt_seconds + seconds * 0.008, top, "continuation", ha="left", **box)
    axes.set_xlabel("seconds")
    axes.set_ylabel("kHz")
    temporary = path.with_name(f".{path.name}.tmp.png")
    figure.savefig(temporary)
    temporary.replace(path)


def decibels(wav: Waveform) -> NDArray[np.float32]:
    """Power of ``wav (T,)`` in dB below its loudest point, ``(bins, frames)``, at least 80 dB down."""
    padded = np.pad(wav, (0, max(0, WINDOW - len(wav))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP] * np.hanning(WINDOW).astype(np.float32)
    power = np.abs(np.fft.rfft(frames)) ** 2
    level = 10 * np.log10(np.maximum(power, 1e-10))
    return np.maximum(level - max(level.max(), -60.0), FLOOR_DB).T.astype(np.float32)
