"""Several tokenized corpora as one: what a model that shall know more than one of them is trained on.

The cuts of all are interleaved in proportion to their numbers; their tokens stay where they are.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lhotse import CutSet
from lhotse.cut import Cut
from lhotse.utils import fastcopy

from valle.corpora.manifests import write_cuts
from valle.corpora.report_reasons import PARTS
from valle.outputs import PREPARE, all_being_written, claim_outputs
from valle.tokenizing.cut_index import forget_index, index_names
from valle.tokenizing.statistics import PartCounts
from valle.tokenizing.token_manifests import ManifestError, TokenManifests, read_manifests
from valle.tokenizing.tokenize_cuts import read_json, shards_folder, write_json


@dataclass(frozen=True, kw_only=True)
class MixConfig:
    """Which corpora, how much of each, and where the cuts of all go."""

    manifest_dirs: list[Path] = field(metadata={"help": "folders of prepared recipes, each a data/tokenized"})
    repeats: list[int] = field(
        default_factory=list, metadata={"help": "how often train contains each corpus, so that a small one counts; default once"}
    )
    output_dir: Path = field(default=Path("data/tokenized"), metadata={"help": "where the cuts go; ../tokenizers is filled too"})

    def __post_init__(self) -> None:
        if self.repeats and len(self.repeats) != len(self.manifest_dirs):
            raise ManifestError(
                f"expected a number for each of {len(self.manifest_dirs)} corpora after --repeats, found {len(self.repeats)}"
            )
        if any(count < 1 for count in self.repeats):
            raise ManifestError(f"expected --repeats of 1 or more, found {min(self.repeats)}; leave the corpus out instead")
        if self.output_dir.resolve() in {folder.resolve() for folder in self.manifest_dirs}:
            raise ManifestError(
                f"expected a folder of its own for the mixture, found {self.output_dir} among the corpora; change --output-dir"
            )


def mix_tokens(config: MixConfig) -> dict[str, PartCounts]:
    """Write ``cuts_{train,dev,test}.jsonl.gz``, ``info.json`` and the tokenizers; raises ``ManifestError`` unless all share them."""
    cuts = [f"cuts_{part}.jsonl.gz" for part in PARTS]
    claims = [
        claim_outputs(config.output_dir, [*cuts, *index_names("train"), "info.json"], program=PREPARE),
        claim_outputs(config.output_dir.parent / "tokenizers", ["acoustic", "semantic"], program=PREPARE),
    ]
    corpora = [read_manifests(folder) for folder in config.manifest_dirs]
    first = corpora[0]
    for other in corpora[1:]:
        if other.tag != first.tag:
            raise ManifestError(
                f"expected tokens of one pair of tokenizers, found {first.acoustic} and {first.semantic} in {first.folder} "
                f"but {other.acoustic} and {other.semantic} in {other.folder}; run stage 2 of one of them with the tokenizers of the other"
            )
    streams = [str(corpus.folder) for corpus in corpora if corpus.num_shards is not None]
    if streams:
        raise ManifestError(
            f"expected tokens that cuts can point to, found lhotse Shar in {', '.join(streams)}, which is read in order; "
            "make that corpus with --format hdf5 or memmap"
        )
    with all_being_written(claims):
        return _write(config, corpora)


def _write(config: MixConfig, corpora: list[TokenManifests]) -> dict[str, PartCounts]:
    first = corpora[0]
    info = config.output_dir / "info.json"
    info.unlink(missing_ok=True)  # what was mixed before is not valid until the end
    counts = {}
    forget_index(config.output_dir, "train")
    for part in PARTS:
        repeats = config.repeats if part == "train" and config.repeats else [1] * len(corpora)
        write_cuts(_interleaved(corpora, part, repeats), config.output_dir / f"cuts_{part}.jsonl.gz")
        counts[part] = _counts(corpora, part, repeats)
    for kind in ("acoustic", "semantic"):
        source, copy = first.tokenizers_folder / kind, config.output_dir.parent / "tokenizers" / kind
        if copy.exists():
            shutil.rmtree(copy)
        if source.is_dir():
            shutil.copytree(source, copy)
    described = json.loads((first.folder / "info.json").read_text(encoding="utf-8"))
    write_json(info, {**described, "statistics": {part: values.to_dict() for part, values in counts.items()}})
    return counts


def _interleaved(corpora: list[TokenManifests], part: str, repeats: list[int]) -> Iterator[Cut]:
    """Cuts of all corpora in turn by the number of cuts that each still has, so that any stretch holds the mixture."""
    sizes = [count * sum(1 for _ in corpus.cuts(part)) for corpus, count in zip(corpora, repeats, strict=True)]
    streams = [_repeated(corpus, part, number, count) for number, (corpus, count) in enumerate(zip(corpora, repeats, strict=True))]
    taken = [0] * len(streams)
    for _ in range(sum(sizes)):
        behind = min(
            (index for index in range(len(streams)) if taken[index] < sizes[index]), key=lambda index: (taken[index] + 1) / sizes[index]
        )
        taken[behind] += 1
        yield next(streams[behind])


def _repeated(corpus: TokenManifests, part: str, number: int, count: int) -> Iterator[Cut]:
    """Cuts with ids of their own: the same utterance comes again as another crop."""
    root = corpus.folder.resolve().parent.parent  # stored paths are relative to the recipe's folder
    for turn in range(count):
        for cut in CutSet.from_jsonl_lazy(corpus.folder / f"cuts_{part}.jsonl.gz"):
            fields = {name: _from_anywhere(value, root) for name, value in (cut.custom or {}).items()}
            yield fastcopy(cut, id=f"{number}-{turn}/{cut.id}", custom=fields)


def _from_anywhere(value: object, root: Path) -> object:
    """A stored array whose path does not depend on the folder in which the program runs."""
    stored = getattr(value, "array", None)
    if stored is None:
        return value
    return fastcopy(value, array=fastcopy(stored, storage_path=str(root / stored.storage_path)))


def _counts(corpora: list[TokenManifests], part: str, repeats: list[int]) -> PartCounts:
    counts = PartCounts()
    for corpus, count in zip(corpora, repeats, strict=True):
        folder = shards_folder(corpus.folder)
        described = read_json(folder / f"{part}.json")
        if described is None:
            raise ManifestError(f"expected the shards of {part} in {folder}, found them missing; run stage 3 of that corpus's prepare.sh")
        shards = [read_json(folder / f"{part}-{number:05d}.json") for number in range(described["num_shards"])]
        for shard in shards * count:
            if shard is None:
                raise ManifestError(f"a shard of {part} is missing in {folder}; run stage 3 of that corpus's prepare.sh")
            counts.add(shard)
    return counts
