"""Statistics of a tokenised corpus from its shards' counts, and a picture of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from valle.files import replacing


@dataclass
class PartCounts:
    """Sums over the shards of one part: tokens by stream, cuts by length in whole seconds."""

    num_cuts: int = 0
    num_dropped: int = 0
    seconds: float = 0.0
    units: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))  # (num_units,)
    codes: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 0), np.int64))  # (Q, codebook_size)
    lengths: dict[int, int] = field(default_factory=dict)

    def add(self, shard: dict[str, Any]) -> None:
        """Add the counts of one shard's file."""
        self.num_cuts += shard["num_cuts"]
        self.num_dropped += shard["num_dropped"]
        self.seconds += shard["seconds"]
        units, codes = np.array(shard["units"], np.int64), np.array(shard["codes"], np.int64)
        self.units = self.units + units if self.units.size else units
        self.codes = self.codes + codes if self.codes.size else codes
        for second, count in shard["lengths"].items():
            self.lengths[int(second)] = self.lengths.get(int(second), 0) + count

    def streams(self) -> list[tuple[str, NDArray[np.int64]]]:
        """Name and histogram of the units, where there are any, and of each codebook."""
        units = [("units", self.units)] if self.units.size else []
        return units + [(f"codebook {level}", counts) for level, counts in enumerate(self.codes)]

    def to_dict(self) -> dict[str, Any]:
        """Plain values: hours, lengths, and for each stream its unigram entropy in nats, perplexity and share of tokens used."""
        return {
            "num_cuts": self.num_cuts,
            "num_dropped": self.num_dropped,
            "hours": round(self.seconds / 3600, 4),
            "mean_seconds": round(self.seconds / self.num_cuts, 3) if self.num_cuts else 0.0,
            "lengths": {str(second): self.lengths[second] for second in sorted(self.lengths)},
            "streams": [_describe(name, counts) for name, counts in self.streams()],
        }


def entropy(counts: NDArray[np.int64]) -> float:
    """Entropy of a histogram, in nats; 0 of an empty one."""
    shares = counts[counts > 0] / max(1, counts.sum())
    return float(-(shares * np.log(shares)).sum()) + 0.0


def _describe(name: str, counts: NDArray[np.int64]) -> dict[str, Any]:
    nats = entropy(counts)
    return {
        "name": name,
        "tokens": int(counts.sum()),
        "entropy": round(nats, 4),
        "perplexity": round(float(np.exp(nats)), 2),
        "used": round(float((counts > 0).mean()), 4) if counts.size else 0.0,
    }


def draw_statistics(path: Path, parts: dict[str, PartCounts]) -> None:
    """A PNG: how long the cuts are, and how train uses its units and codebooks."""
    figure = Figure(figsize=(10, 6.5), layout="constrained")
    FigureCanvasAgg(figure)
    lengths, used, perplexity = figure.add_subplot(2, 2, 1), figure.add_subplot(2, 1, 2), figure.add_subplot(2, 2, 2)
    for part, counts in parts.items():
        seconds = sorted(counts.lengths)
        hours = [counts.lengths[second] * (second + 0.5) / 3600 for second in seconds]
        lengths.step(
            [second + 0.5 for second in seconds], hours, where="mid", label=f"{part}: {counts.seconds / 3600:.2f} h, {counts.num_cuts} cuts"
        )
        streams = counts.streams()
        perplexity.plot(
            [name.replace("codebook ", "") for name, _ in streams], [np.exp(entropy(values)) for _, values in streams], "o-", label=part
        )
    lengths.set(xlabel="length of a cut, s", ylabel="hours", title="Lengths")
    perplexity.set(xlabel="units, then codebooks", ylabel="perplexity", title="Unigram perplexity")
    for name, values in next(iter(parts.values())).streams() if parts else []:
        shares = np.sort(values / max(1, values.sum()))[::-1]
        used.plot(np.arange(1, len(shares) + 1), np.maximum(shares, 1e-7), label=name, linewidth=1)
    used.set(xlabel="tokens of the first part, most frequent first", ylabel="share", yscale="log", title="Use of the tokens")
    used.set_xscale("log")
    for axes in (lengths, perplexity, used):
        axes.legend(fontsize="small")
        axes.grid(alpha=0.3)
    with replacing(path, ending=".tmp.png") as temporary:
        figure.savefig(temporary, dpi=110, metadata={"Software": None})
