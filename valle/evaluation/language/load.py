"""Pairs of recordings from a folder: items made here, ZeroSpeech 2021's (sWUGGY, sBLIMP) or SALMon's.

ZeroSpeech 2021 (Nguyen et al. 2020), as its data set is laid out: ``lexical/dev/gold.csv`` and ``syntactic/dev/gold.csv`` beside the wavs,
with a line a recording.  Rows of one id and one voice are a pair: ids and not the order of lines say what belongs together.

SALMon (Maimon, Roth and Adi 2024): a folder a part, ``speaker_consistency/sample_17_0.wav`` the right one of item 17, and those
with higher numbers wrong.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from valle.evaluation.language.items import LanguageItemsError, Pair, Side, refuse_bad_pairs

MADE = ("wuggy", "blimp", "cloze", "salmon")
ZEROSPEECH = {"lexical": "swuggy", "syntactic": "sblimp"}
SALMON_SAMPLE = re.compile(r"sample_(\d+)_(\d+)")
SALMON_PARTS = ("bg_alignment", "bg_all_consistency", "bg_domain_consistency", "gender_consistency", "rir_consistency",
                "sentiment_alignment", "sentiment_consistency", "speaker_consistency")  # fmt: skip


def load_pairs(folder: Path, *, max_items: int | None = None) -> list[Pair]:
    """All pairs of ``folder``, whichever kind it is; ``max_items`` of each suite (of SALMon, of each part).

    Raises :class:`LanguageItemsError` for a folder of no such kind and for items that are not whole.
    """
    if not folder.is_dir():
        raise LanguageItemsError(f"expected a folder of items at {folder}, found none; make some with bin/make_language_suites.py")
    found: list[Pair] = []
    for suite in MADE:
        found += read_made(folder, suite, max_items=max_items)
    for part in ZEROSPEECH:
        if (folder / part / "dev" / "gold.csv").is_file():
            found += _limited(read_zerospeech(folder, part), max_items)
    for part in SALMON_PARTS:
        if (folder / part).is_dir():
            found += _limited(read_salmon(folder, part), max_items)
    refuse_bad_pairs(found, str(folder))
    return found


def items_mark(folders: Sequence[Path]) -> str:
    """Tells apart what folders of items hold, by their indices and by the names of SALMon's recordings."""
    digest = hashlib.sha256()
    for folder in folders:
        indices = [*folder.glob("*/*.jsonl"), *folder.glob("*/dev/gold.csv")]
        names = [path for part in SALMON_PARTS for path in (folder / part).glob("*.wav")]
        for path in sorted([*indices, *names]):
            digest.update(str(path.relative_to(folder)).encode())
            digest.update(path.read_bytes() if path in indices else b"")
    return digest.hexdigest()


def read_made(folder: Path, suite: str, *, max_items: int | None = None) -> list[Pair]:
    """Items of ``make.py``, as many of each group; what a killed run left of a line or of half a quadruple is passed over."""
    groups = []
    for index in sorted((folder / suite).glob("*.jsonl")):
        blocks: defaultdict[str, dict[str, Pair]] = defaultdict(dict)
        for line in index.read_text(encoding="utf-8").splitlines():
            try:
                pair = _pair(json.loads(line), folder, suite, index.stem)
            except (ValueError, KeyError, TypeError):
                continue
            blocks[pair.block][pair.id] = pair
        groups.append([list(pairs.values()) for _, pairs in sorted(blocks.items()) if len(pairs) == 2])
    each = None if max_items is None or not groups else -(-max_items // (2 * len(groups)))
    return [pair for group in groups for pairs in group[:each] for pair in pairs]


def read_zerospeech(folder: Path, part: str) -> list[Pair]:
    """Pairs of ``lexical`` (in or out of LibriSpeech's vocabulary) or ``syntactic`` (by kind); a block is an id, said by several voices."""
    home = folder / part / "dev"
    rows: defaultdict[tuple[str, str], dict[bool, Mapping[str, str]]] = defaultdict(dict)
    with (home / "gold.csv").open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            try:
                key, correct = (row["id"], row["voice"]), row["correct"] == "1"
                if correct in rows[key]:
                    raise LanguageItemsError(f"expected one {'right' if correct else 'wrong'} recording of id {key[0]} by the voice "
                                             f"{key[1]} in {home / 'gold.csv'}, found several; fetch the data again")  # fmt: skip
                rows[key][correct] = {**row, "filename": row["filename"]}
            except KeyError as error:
                raise LanguageItemsError(f"expected a column {error} in {home / 'gold.csv'}, found none; fetch the data again") from error
    pairs = []
    for (number, voice), sides in sorted(rows.items()):
        if sides.keys() != {True, False}:
            raise LanguageItemsError(
                f"expected a right and a wrong recording of id {number} by the voice {voice} in {home / 'gold.csv'}, found one; "
                "fetch the data again"
            )
        right, wrong = sides[True], sides[False]
        suite = ZEROSPEECH[part]
        pairs.append(Pair(
            id=f"{suite}/{number}/{voice}", block=f"{suite}/{number}", suite=suite, group=_zerospeech_group(right),
            right=_zerospeech_side(home, right), wrong=_zerospeech_side(home, wrong),
        ))  # fmt: skip
    return pairs


def read_salmon(folder: Path, part: str) -> list[Pair]:
    """Items of one part; with several wrong recordings of an item, as many pairs."""
    samples: defaultdict[int, dict[int, Path]] = defaultdict(dict)
    for path in (folder / part).glob("*.wav"):
        if (name := SALMON_SAMPLE.fullmatch(path.stem)) is not None:
            samples[int(name[1])][int(name[2])] = path
    return list(_salmon_pairs(samples, folder / part, part))


def _salmon_pairs(samples: Mapping[int, Mapping[int, Path]], home: Path, part: str) -> Iterator[Pair]:
    for number, files in sorted(samples.items()):
        if 0 not in files or len(files) < 2:
            raise LanguageItemsError(f"expected sample_{number}_0.wav and a wrong one beside it in {home}, found {len(files)} file(s); "
                                     "fetch the data again")  # fmt: skip
        for option in sorted(files.keys() - {0}):
            yield Pair(id=f"salmon_original/{part}/{number}/{option}", block=f"salmon_original/{part}/{number}", suite="salmon_original",
                       group=part, right=Side(audio=files[0]), wrong=Side(audio=files[option]))  # fmt: skip


def _pair(row: Mapping[str, Any], folder: Path, suite: str, group: str) -> Pair:
    sides = {
        name: Side(
            audio=folder / row[name]["audio"], prompt_seconds=row[name]["prompt_seconds"], symbols=tuple(row[name]["symbols"]),
            trigram_nats=row[name]["trigram_nats"],
        )
        for name in ("right", "wrong")
    }  # fmt: skip
    return Pair(id=row["id"], block=row["block"], suite=suite, group=group, **sides)


def _zerospeech_group(row: Mapping[str, str]) -> str:
    if "frequency" in row:
        return "in_vocabulary" if float(row["frequency"] or 0) > 0 else "out_of_vocabulary"
    return row["type"]


def _zerospeech_side(home: Path, row: Mapping[str, str]) -> Side:
    words = row.get("phones") or row.get("transcription") or ""
    return Side(audio=home / f"{row['filename']}.wav", symbols=tuple(words.split()))


def _limited(pairs: list[Pair], max_items: int | None) -> list[Pair]:
    """The pairs of whole blocks, in order, until there are ``max_items``."""
    if max_items is None:
        return pairs
    kept: list[Pair] = []
    for pair in pairs:
        if len(kept) >= max_items and pair.block != kept[-1].block:
            break
        kept.append(pair)
    return kept
