"""A picture of how a text LM's pieces resemble what it hears: where speech is as text, a line that rises (Fathullah et al. 2023, 4)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from valle.files import replacing
from valle.measures.monotony import monotony

MOST_LABELS = 60


def write_similarity(path: Path, cosines: NDArray[np.float32], pieces: Sequence[str], *, stride_ms: int) -> None:
    """A PNG of ``cosines (P, A)``: pieces from bottom to top, speech from left to right; each piece's likest embedding is dotted."""
    rows, columns = cosines.shape
    figure = Figure(figsize=(min(16, 2.5 + columns * 0.12), min(14, 1.4 + rows * 0.2)), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    seconds = columns * stride_ms / 1000
    extent = (0, seconds, -0.5, rows - 0.5)
    picture = axes.imshow(cosines, origin="lower", aspect="auto", cmap="viridis", extent=extent, interpolation="nearest")
    axes.plot((cosines.argmax(1) + 0.5) * stride_ms / 1000, np.arange(rows), "o", color="white", markersize=3)
    if rows <= MOST_LABELS:
        axes.set_yticks(range(rows), [_shown(piece) for piece in pieces], fontsize=7)
    axes.set_xlabel("seconds")
    axes.set_title(f"order of pieces and of their likest speech: {monotony(cosines):.2f} (1: the same, 0: by chance)", fontsize=9)
    figure.colorbar(picture, ax=axes, label="cosine")
    with replacing(path, ending=".tmp.png") as temporary:
        figure.savefig(temporary)


def _shown(piece: str) -> str:
    """A label: of a byte that is no letter a question mark, and no dollar that begins a formula."""
    return piece.replace("$", r"\$") if piece.isprintable() else "?"
