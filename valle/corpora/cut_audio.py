"""The audio of cuts: as tokenizers and listeners want it, mono."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from lhotse.cut import Cut, MonoCut

from valle.audio import Waveform, read_audio, write_wav
from valle.audio_source import channel_to_take, mix
from valle.corpora.manifests import read_cuts
from valle.errors import UserError
from valle.files import plain_stem
from valle.outputs import claim_outputs


class CutAudioError(UserError):
    """Cuts whose audio is not what the manifest says, or that are not there."""


def read_cut(cut: Cut) -> tuple[Waveform, int]:
    """A cut's audio, its channels mixed, ``(T,)`` float32, and its sample rate in Hz.

    A ``MonoCut`` of a recording of several channels is its own channel alone.
    """
    for source in cut.recording.sources:
        if source.type != "file":  # lhotse would run a command, or go to an address, that a manifest names
            raise CutAudioError(
                f"expected a file as the audio of cut {cut.id}, found a {source.type}, which is never run or fetched; store it as a file"
            )
    source = cut.recording.sources[0]
    if cut.recording.transforms:  # such as another speed
        channel = channel_to_take(Path(source.source))  # says what is wrong with the file, if anything is
        return mix(cut.load_audio().T, channel), cut.sampling_rate
    count = round(cut.duration * cut.sampling_rate)
    channel = source.channels.index(cut.channel) if isinstance(cut, MonoCut) and len(source.channels) > 1 else None
    samples, rate = read_audio(source.source, offset=cut.start, duration=cut.duration, channel=channel)
    if len(samples) < count or rate != cut.sampling_rate:
        raise CutAudioError(
            f"expected {count} samples at {cut.sampling_rate} Hz for cut {cut.id} in {source.source}, found {len(samples)} at {rate} Hz; "
            "the file has changed, run stage 1 of prepare.sh again"
        )
    return samples, rate


@dataclass(frozen=True, kw_only=True)
class PromptsConfig:
    """Which cuts to write out as prompts."""

    manifest_dir: Path = field(default=Path("data/manifests"), metadata={"help": "folder of cuts_{train,dev,test}.jsonl.gz"})
    output_dir: Path = field(metadata={"help": "where the wavs go"})
    num_prompts: int = field(default=8, metadata={"help": "how many"})
    min_seconds: float = field(default=4.0, metadata={"help": "shorter cuts are skipped"})
    or_longest: bool = field(default=False, metadata={"help": "take the longest where all are shorter, rather than none"})

    def __post_init__(self) -> None:
        if self.num_prompts < 1:
            raise CutAudioError(f"expected at least 1 prompt, found {self.num_prompts}; give --num-prompts 1 or more")


def write_prompts(config: PromptsConfig) -> list[Path]:
    """Write cuts of test (of dev, where test has none; then of train) as wavs, of as many speakers as there are; returns their paths."""
    chosen: list[Cut] = []
    for part in ("test", "dev", "train"):
        path = config.manifest_dir / f"cuts_{part}.jsonl.gz"
        if not path.is_file():
            raise CutAudioError(f"expected cuts in {path}, found none; run ./prepare.sh first")
        chosen = _choose(read_cuts(path), config)
        if chosen:
            break
    if not chosen and config.or_longest:
        chosen = _longest(config)
    if not chosen:
        raise CutAudioError(f"expected cuts of at least {config.min_seconds:g} s in {config.manifest_dir}, found none; lower --min-seconds")
    names = prompt_names(chosen)
    outputs = claim_outputs(config.output_dir, names, program="write_prompts", inputs=_audio_of(chosen))
    with outputs.being_written():
        for name, cut in zip(names, chosen, strict=True):
            samples, rate = read_cut(cut)
            write_wav(config.output_dir / name, samples, rate)
        outputs.delete_earlier()
    return [config.output_dir / name for name in names]


def prompt_names(cuts: Sequence[Cut]) -> list[str]:
    """A wav's name for each cut, by its id, numbered where two ids end alike."""
    names: dict[str, None] = {}
    for cut in cuts:
        stem = plain_stem(Path(cut.id).name)
        candidates = (stem if number == 1 else f"{stem}-{number}" for number in count(1))
        names[next(f"{name}.wav" for name in candidates if f"{name}.wav" not in names)] = None
    return list(names)


def _audio_of(cuts: Iterable[Cut]) -> list[Path]:
    return [Path(source.source) for cut in cuts for source in cut.recording.sources if source.type == "file"]


def _longest(config: PromptsConfig) -> list[Cut]:
    """Of the first part that has any cuts."""
    for part in ("test", "dev", "train"):
        cuts = heapq.nlargest(config.num_prompts, read_cuts(config.manifest_dir / f"cuts_{part}.jsonl.gz"), key=lambda cut: cut.duration)
        if cuts:
            return cuts
    return []


def _choose(cuts: Iterable[Cut], config: PromptsConfig) -> list[Cut]:
    """The first cut of each speaker (or recording), then more of those that come first, in the manifest's order."""
    firsts: dict[str, Cut] = {}
    others: list[Cut] = []
    for cut in cuts:
        if len(firsts) == config.num_prompts:
            break
        if cut.duration < config.min_seconds:
            continue
        speaker = next((item.speaker for item in cut.supervisions if item.speaker), cut.recording.id)
        if speaker not in firsts:
            firsts[speaker] = cut
        elif len(others) < config.num_prompts:
            others.append(cut)
    return [*firsts.values(), *others][: config.num_prompts]
