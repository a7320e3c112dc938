"""Train, dev and test by a hash of each group's name, so that more files move none of those there were."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import TypeVar

Item = TypeVar("Item")


def split_groups(groups: Iterable[str], *, dev_share: float, test_share: float, seed: int) -> dict[str, str]:
    """The part of each group (a file, a speaker, a piece).  From three groups on, no part is empty.

    The hash says the part; where it leaves one empty, that part takes the group whose hash comes nearest.
    """
    ranked = sorted({group: _hash(group, seed) for group in groups}.items(), key=lambda item: (item[1], item[0]))
    parts = {group: "dev" if value < dev_share else "test" if value < dev_share + test_share else "train" for group, value in ranked}
    if len(ranked) < 3:
        return dict.fromkeys(parts, "train")
    names = [group for group, _ in ranked]
    for part, candidates in (("train", names[::-1]), ("dev", names), ("test", names)):
        if part not in parts.values():
            sizes = {other: list(parts.values()).count(other) for other in parts.values()}
            parts[next(group for group in candidates if sizes[parts[group]] > 1)] = part
    return parts


def split_time(items: Sequence[Item], *, dev_share: float, test_share: float) -> dict[str, list[Item]]:
    """The last of a recording's pieces for test, those before for dev, the rest for train.

    Of three pieces on, no part is empty; of two, test is.
    """
    total = len(items)
    num_test = max(1, round(total * test_share)) if total > 2 else 0
    num_dev = max(1, round(total * dev_share)) if total > 1 else 0
    while total - num_dev - num_test < 1 and num_dev + num_test:
        num_dev, num_test = (num_dev - 1, num_test) if num_dev > 1 else (num_dev, num_test - 1)
    first, second = total - num_dev - num_test, total - num_test
    return {"train": list(items[:first]), "dev": list(items[first:second]), "test": list(items[second:])}


def _hash(group: str, seed: int) -> float:
    """A number in [0, 1)."""
    digest = hashlib.blake2b(f"{seed}:{group}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
