"""Reads what ``prepare.sh`` left in ``data/tokenized``: cuts with tokens, and what made the tokens."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lhotse import CutSet
from lhotse.serialization import deserialize_item

from valle.corpora.manifests import id_of
from valle.errors import UserError
from valle.timeline import Timeline
from valle.tokenizers.base import TokenizerIdentity
from valle.tokenizing.cut_index import CutIndex, find_index, mark_of


class ManifestError(UserError):
    """Manifests that are missing, damaged, or of other tokenizers."""


@dataclass(frozen=True)
class TokenManifests:
    """A folder of tokenized cuts."""

    folder: Path
    timeline: Timeline
    acoustic: TokenizerIdentity
    semantic: TokenizerIdentity | None
    statistics: dict[str, Any]
    num_shards: dict[str, int] | None = None  # of each part, where the tokens are lhotse Shar

    @property
    def tag(self) -> str:
        """The mark that every cut of these tokenizers bears."""
        return tokenizers_tag(self.acoustic, self.semantic)

    def cuts(self, part: str) -> CutSet:
        """The cuts of ``train``, ``dev`` or ``test``, read lazily; from Shar they come with their tokens, in one pass over the files."""
        paths = self.cuts_paths(part)
        for path in paths:
            _check_gzip(path)
        if self.num_shards is None:
            return CutSet.from_jsonl_lazy(paths[0])
        if not paths:
            return CutSet.from_cuts([])
        fields: dict[str, list[Path]] = {"cuts": paths}
        for stream in ("units", "codes") if self.semantic else ("codes",):
            fields[stream] = [path.with_name(path.name.replace("cuts.", f"{stream}.").replace(".jsonl.gz", ".tar")) for path in paths]
            for path in fields[stream]:
                if not path.is_file():
                    raise ManifestError(f"expected tokens in {path}, found nothing there; delete {self.folder} and make the tokens again")
        return CutSet.from_shar(fields=fields)

    def cuts_paths(self, part: str) -> list[Path]:
        """The manifests of a part: one, or one a shard."""
        if self.num_shards is None:
            return [self.folder / f"cuts_{part}.jsonl.gz"]
        return [self.folder / "shards" / part / f"cuts.{number:06d}.jsonl.gz" for number in range(self.num_shards[part])]

    def refuse_overlap(self) -> None:
        """Dev or test cuts among the training cuts would make every figure too good."""
        held_out = [(part, path, set(_ids(path))) for part in ("dev", "test") for path in self.cuts_paths(part) if path.is_file()]
        everything = set[str]().union(*(ids for _, _, ids in held_out))
        index = self.index("train")
        if index is None:  # one id of train at a time: a large corpus has millions
            common = {cut_id for path in self.cuts_paths("train") for cut_id in _ids(path) if cut_id in everything}
        else:
            marks = {mark_of(cut_id): cut_id for cut_id in everything}
            common = {marks[mark] for mark in index.marks_among(list(marks))}
        for part, path, ids in held_out:
            if both := ids & common:
                raise ManifestError(
                    f"expected {part} cuts that training never sees, found {min(both)} in {path} and in cuts_train; "
                    f"delete {self.folder} and run ./prepare.sh"
                )

    def index(self, part: str) -> CutIndex | None:
        """The index that stage 4 wrote of a large part, with which a process parses its own cuts alone."""
        return find_index(self.folder, part)

    @property
    def tokenizers_folder(self) -> Path:
        return self.folder.parent / "tokenizers"


def tokenizers_tag(acoustic: TokenizerIdentity, semantic: TokenizerIdentity | None) -> str:
    """``<acoustic sha12>/<semantic sha12>``, the second part empty without units."""
    return f"{acoustic.sha256[:12]}/{semantic.sha256[:12] if semantic else ''}"


def read_manifests(folder: Path) -> TokenManifests:
    """Open ``folder``; raises ``ManifestError`` that says which stage of ``prepare.sh`` to run."""
    path = folder / "info.json"
    if not path.is_file():
        raise ManifestError(
            f"expected tokenized cuts in {folder}, found no info.json there; "
            "run ./prepare.sh, or point --manifest-dir at its data/tokenized"
        )
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
        semantic = info["tokenizers"].get("semantic")
        return TokenManifests(
            folder=folder,
            timeline=Timeline.from_dict(info["timeline"]),
            acoustic=TokenizerIdentity.from_dict(info["tokenizers"]["acoustic"]),
            semantic=TokenizerIdentity.from_dict(semantic) if semantic else None,
            statistics=info.get("statistics", {}),
            num_shards={part: int(count) for part, count in info["shar"].items()} if "shar" in info else None,
        )
    except (UserError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        raise ManifestError(f"{path} is damaged ({reason}); delete it and run ./prepare.sh --stage 4") from error


def _check_gzip(path: Path) -> None:
    """Read a manifest to its end once, cheaply, so that damage is a sentence at the start and no crash hours later."""
    if not path.is_file():
        raise ManifestError(f"expected a manifest at {path}, found nothing there; run ./prepare.sh --stage 4")
    try:
        with gzip.open(path) as stream:
            first = stream.readline()
            if first:
                deserialize_item(json.loads(first))
            elif path.stat().st_size == 0:  # a manifest without cuts has a gzip header
                raise EOFError("an empty file")
            for line in stream:
                if not (line.startswith(b"{") and line.rstrip().endswith(b"}")):
                    raise ValueError(f"a line that is no cut, {line[:40]!r}")
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ManifestError(f"{path} is damaged ({type(error).__name__}: {error}); delete it and run ./prepare.sh --stage 4") from error


def _ids(path: Path) -> Iterator[str]:
    """The ids of a manifest's cuts, one at a time, without parsing the cuts as lhotse writes them."""
    _check_gzip(path)
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        yield from map(id_of, stream)
