"""Natural and synthetic voices that speak the embedded grammar: to disk (stage 0), and to lhotse manifests (stage 1)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lhotse import CutSet

from valle.corpora.speech_cuts import write_manifests
from valle.corpora.speech_writer import SynthesisReport, write_corpus
from valle.corpora.synthetic.config import SyntheticConfig
from valle.corpora.synthetic.utterance import SyntheticSpeaker, SyntheticUtterance
from valle.progress import Progress

__all__ = ["SyntheticConfig", "prepare_synthetic", "synthesize_synthetic"]


def synthesize_synthetic(
    directory: Path, *, config: SyntheticConfig, num_workers: int = 1, progress: Progress | None = None
) -> SynthesisReport:
    """Synthesise the corpus into ``directory``, or complete it, or replace one of other settings.

    ``progress(seconds_done, seconds_wanted)`` is called, in the caller's thread, after each shard.
    Raises :class:`CorpusDirectoryError` where the folder holds something else.
    """
    return write_corpus(
        directory, config=config, open_speaker=lambda: SyntheticSpeaker(config), num_workers=num_workers, progress=progress
    )


def prepare_synthetic(directory: Path, output_dir: Path) -> dict[str, CutSet]:
    """Write ``cuts_{train,dev,test}.jsonl.gz`` of a synthesised corpus and return them, read lazily.

    See :func:`valle.corpora.speech_cuts.write_manifests`; ``custom`` has the synthesiser, the base voice and what the voice changes in it.
    """
    return write_manifests(
        directory,
        output_dir,
        parse=SyntheticUtterance.from_dict,
        is_female=lambda utterance: utterance.voice.is_female,
        describe=_describe,
    )


def _describe(utterance: SyntheticUtterance) -> dict[str, Any]:
    voice = utterance.voice
    settings = voice.to_dict()["settings"]
    return {"synthesiser": voice.synthesiser, "base_voice": voice.base.name, **settings, "bands": list(settings["bands"])}
