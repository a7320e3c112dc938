"""Audio to continue: a few cuts of a manifest, of as many speakers as there are, as wavs."""

from __future__ import annotations

import heapq
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

from lhotse import CutSet
from lhotse.cut import Cut

from valle.audio import write_wav
from valle.data.manifests import ManifestError, read_manifests
from valle.data.tokenize_batches import read_cut


@dataclass(frozen=True, kw_only=True)
class PromptsConfig:
    """Which cuts, and where their audio goes."""

    manifest_dir: Path = field(default=Path("data/tokenized"), metadata={"help": "folder of cuts_test.jsonl.gz"})
    part: str = field(default="test", metadata={"help": "test, dev or train"})
    output_dir: Path = field(default=Path("exp/prompts"), metadata={"help": "where the wavs go; what it held is replaced"})
    num_prompts: int = field(default=8, metadata={"help": "how many"})
    min_seconds: float = field(default=3.0, metadata={"help": "shorter cuts are not chosen while there are longer ones"})
    seed: int = field(default=0, metadata={"help": "another seed chooses others"})

    def __post_init__(self) -> None:
        if self.part not in ("train", "dev", "test"):
            raise ManifestError(f"expected train, dev or test for --part, found {self.part!r}")
        if self.num_prompts < 1:
            raise ManifestError(f"--num-prompts must be 1 or more, found {self.num_prompts}")


def write_prompts(config: PromptsConfig) -> list[Path]:
    """Write the chosen cuts' audio, whole, one wav each; ``output_dir`` appears with all of them or not at all."""
    chosen = choose_prompts(_cuts(config), num_prompts=config.num_prompts, min_seconds=config.min_seconds, seed=config.seed)
    if not chosen:
        raise ManifestError(f"expected cuts in {config.manifest_dir}/cuts_{config.part}.jsonl.gz, found none; take another --part")
    temporary = config.output_dir.with_name(f".{config.output_dir.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    names = []
    for number, cut in enumerate(chosen, 1):
        samples, rate = read_cut(cut)
        names.append(f"{number:02d}-{cut.id.replace('/', '-')[-80:]}.wav")
        write_wav(temporary / names[-1], samples, rate)
    shutil.rmtree(config.output_dir, ignore_errors=True)
    temporary.rename(config.output_dir)
    return [config.output_dir / name for name in names]


def choose_prompts(cuts: Iterator[Cut], *, num_prompts: int, min_seconds: float, seed: int) -> list[Cut]:
    """``num_prompts`` cuts by a hash of their names: one of each speaker, then a second of each, and so on; long enough ones first.

    Reads the cuts once and holds ``num_prompts`` a speaker.
    """
    best: dict[str, list[tuple[bool, int, str, Cut]]] = {}
    for cut in cuts:
        rank = (cut.duration >= min_seconds, _hash(cut.id, seed), cut.id, cut)
        of_speaker = best.setdefault(_speaker(cut), [])
        if len(of_speaker) < num_prompts:
            heapq.heappush(of_speaker, rank)
        else:
            heapq.heappushpop(of_speaker, rank)
    rounds = [
        (turn, -rank[0], -rank[1], rank[2], rank[3])
        for ranks in best.values()
        for turn, rank in enumerate(sorted(ranks, key=lambda item: item[:3], reverse=True))
    ]
    long_first = sorted(rounds, key=lambda item: (item[1], item[0], item[2], item[3]))
    return [item[4] for item in long_first[:num_prompts]]


def _cuts(config: PromptsConfig) -> Iterator[Cut]:
    read_manifests(config.manifest_dir)
    path = config.manifest_dir / f"cuts_{config.part}.jsonl.gz"
    if not path.is_file():
        raise ManifestError(f"expected cuts in {path}, found none; run ./prepare.sh")
    yield from CutSet.from_jsonl_lazy(path)


def _speaker(cut: Cut) -> str:
    """Who speaks; of a recording without a name, the recording."""
    named = [supervision.speaker for supervision in cut.supervisions if supervision.speaker]
    return named[0] if named else cut.recording_id


def _hash(name: str, seed: int) -> int:
    return int.from_bytes(blake2b(f"{seed}:{name}".encode(), digest_size=7).digest(), "big")
