"""Pictures of sound: a spectrogram with the prompt marked off from what was generated."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from valle.audio import Waveform
from valle.files import replacing
from valle.measures.mel import mel_filters
from valle.timeline import ceil_division

WINDOW, HOP = 512, 128
FLOOR_DB = -80.0
MOST_COLUMNS = 4000
PICTURE_MELS, PICTURE_FLOOR_DB = 128, -65.0
WIDEST_PICTURE = 1600  # pixels


def write_spectrogram(path: Path, wav: Waveform, sample_rate: int, *, prompt_seconds: float) -> None:
    """A PNG of ``wav (T,)``; a line stands where the prompt ends."""
    seconds = len(wav) / sample_rate
    figure = Figure(figsize=(10, 2.6), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    extent = (0, seconds, 0, sample_rate / 2000)
    levels = decibels(wav, hop=max(HOP, len(wav) // MOST_COLUMNS))  # a picture of ten minutes takes no more memory than one of ten seconds
    axes.imshow(levels, origin="lower", aspect="auto", cmap="magma", vmin=FLOOR_DB, vmax=0, extent=extent, interpolation="bilinear")
    if 0 < prompt_seconds < seconds:
        axes.axvline(prompt_seconds, color="white", linewidth=1.6)
        ground = {"facecolor": "black", "alpha": 0.55, "edgecolor": "none", "pad": 2}
        box: dict[str, Any] = {"color": "white", "fontsize": 9, "va": "top", "bbox": ground}
        top = sample_rate / 2000 * 0.96
        axes.text(prompt_seconds - seconds * 0.008, top, "prompt", ha="right", **box)
        axes.text(prompt_seconds + seconds * 0.008, top, "continuation", ha="left", **box)
    axes.set_xlabel("seconds")
    axes.set_ylabel("kHz")
    with replacing(path, ending=".tmp.png") as temporary:
        figure.savefig(temporary)


def decibels(wav: Waveform, *, window: int = WINDOW, hop: int = HOP, floor: float = FLOOR_DB, filters: Any = None) -> NDArray[np.float32]:
    """Power of ``wav (T,)`` in dB below its loudest point, ``(bins, frames)``, at least ``floor``; of mels by ``filters (bins, mels)``."""
    padded = np.pad(wav, (0, max(0, window - len(wav))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[::hop] * np.hanning(window).astype(np.float32)
    power = np.abs(np.fft.rfft(frames)) ** 2
    level = 10 * np.log10(np.maximum(power if filters is None else power @ filters, 1e-10))
    return np.maximum(level - max(level.max(), -60.0), floor).T.astype(np.float32)


def mel_picture(wav: Waveform, sample_rate: int) -> bytes:
    """A PNG of the log-mel spectrogram of ``wav (T,)`` and nothing else, 128 pixels high, for a page that draws its own marks."""
    window = 2 ** round(np.log2(0.05 * sample_rate))
    hop = max(1, round(0.01 * sample_rate), ceil_division(len(wav), WIDEST_PICTURE))
    padded = np.pad(wav, (window // 2, window // 2))
    filters = mel_filters(sample_rate, window, PICTURE_MELS).numpy()
    levels = decibels(padded, window=window, hop=hop, floor=PICTURE_FLOOR_DB, filters=filters)  # (mels, frames)
    image = Image.fromarray(np.round((1 - levels[::-1] / PICTURE_FLOOR_DB) * 255).astype(np.uint8), mode="P")
    image.putpalette((colormaps["magma"](np.arange(256))[:, :3] * 255).round().astype(np.uint8).tobytes())
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
