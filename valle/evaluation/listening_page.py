"""The page on which continuations are listened to: one file beside its wavs and pictures, nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

TITLES = {"continue": "Continuations", "resynthesize": "Round trips through the codec", "acoustic": "Sound from true units"}


@dataclass(frozen=True)
class PageItem:
    """One result; file names are relative to the page."""

    title: str
    wav: str
    picture: str
    prompt_seconds: float
    generated_seconds: float
    seed: int

    @property
    def prompt_percent(self) -> float:
        """Share of the sound that is prompt."""
        return 100 * self.prompt_seconds / max(self.prompt_seconds + self.generated_seconds, 1e-9)


def write_page(path: Path, items: Sequence[PageItem], *, mode: str, rtf: float) -> None:
    """Write the page under a temporary name and rename it; every text is escaped."""
    loader = PackageLoader("valle.evaluation")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page = environment.get_template("listening_page.html").render(title=TITLES[mode], items=items, rtf=rtf)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(page, encoding="utf-8")
    temporary.replace(path)
