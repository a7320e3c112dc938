"""Tokenized cuts with transcripts, held in memory: units (2 bytes each), text pieces, languages, and who says the same in another one.

An hour of speech takes about half a megabyte.  Sentences that nobody speaks may stand beside them, for tasks of text alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from valle.corpora.manifests import read_lines
from valle.data.dataset import read_units
from valle.tokenizing.token_manifests import ManifestError, TokenManifests


@dataclass(frozen=True)
class SpokenText:
    """One utterance."""

    id: str
    language: str
    text: str
    pieces: NDArray[np.int32]  # (P,)
    units: NDArray[np.int16]  # (T_u,), empty where no task hears or speaks
    translations: tuple[tuple[str, str], ...]  # language and id
    is_spoken: bool = True


@dataclass(frozen=True)
class SpokenTexts:
    """The utterances of a part that have a transcript, by id in the manifest's order."""

    by_id: dict[str, SpokenText]

    @classmethod
    def read(
        cls, manifests: TokenManifests, part: str, encode: Callable[[str], list[int]], *, with_units: bool, max_seconds: float
    ) -> SpokenTexts:
        """Those of ``part`` up to ``max_seconds`` long; ``encode`` makes pieces of a text."""
        found: dict[str, SpokenText] = {}
        for cut in manifests.cuts(part):
            supervision = cut.supervisions[0] if cut.supervisions else None
            if supervision is None or not (supervision.text or "").strip() or cut.duration > max_seconds:
                continue
            links = (supervision.custom or {}).get("translations", {})
            units = read_units(cut, manifests) if with_units else np.zeros(0, np.int64)
            found[cut.id] = SpokenText(
                id=cut.id, language=supervision.language or "English", text=supervision.text,
                pieces=np.array(encode(supervision.text), np.int32), units=units.astype(np.int16),
                translations=tuple((language, str(link["id"])) for language, link in links.items()),
            )  # fmt: skip
        if not found:
            raise ManifestError(
                f"expected cuts with transcripts in the part {part} of {manifests.folder}, found none up to {max_seconds:g} s; "
                "use a corpus with texts, such as egs/espeak_text, or raise --filter-max-duration"
            )
        return cls(found)

    def with_texts(self, path: Path, encode: Callable[[str], list[int]]) -> SpokenTexts:
        """With the sentences of ``path`` too, a line ``{"texts": {"English": "...", "Spanish": "..."}}`` each."""
        found = dict(self.by_id)
        for number, line in enumerate(read_lines(path)):
            try:
                texts = {str(language): str(text) for language, text in json.loads(line)["texts"].items()}
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ManifestError(
                    f"expected texts by language in every line of {path}, found {line.strip()[:60]!r}; run stage 1 again"
                ) from error
            ids = {language: f"text-{number:08d}-{language}" for language in texts}
            for language, text in texts.items():
                found[ids[language]] = SpokenText(
                    id=ids[language], language=language, text=text, pieces=np.array(encode(text), np.int32), units=np.zeros(0, np.int16),
                    translations=tuple((other, ids[other]) for other in texts if other != language), is_spoken=False,
                )  # fmt: skip
        return SpokenTexts(found)

    def partners(self, spoken: SpokenText) -> list[SpokenText]:
        """Those that say the same in other languages."""
        return [self.by_id[name] for _, name in spoken.translations if name in self.by_id]
