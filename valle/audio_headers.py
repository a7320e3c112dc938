"""What the first bytes of a file say that no library tells."""

from __future__ import annotations

from pathlib import Path

XING_PLACE = 4096  # bytes within which an mp3's table of contents stands, after its tags


def second_of_its_kind(path: Path, size: int) -> str | None:
    """The format of a WAV or AIFF file after whose end another begins, which no library reads; else None."""
    with path.open("rb") as stream:
        head = stream.read(12)
        kind, form = head[:4], head[8:12]
        if kind not in (b"RIFF", b"RIFX", b"FORM") or form not in (b"WAVE", b"AIFF", b"AIFC"):
            return None
        end = 8 + int.from_bytes(head[4:8], "little" if kind == b"RIFF" else "big")
        for place in (end, end + end % 2):
            if 12 < place < size - 12:
                stream.seek(place)
                after = stream.read(12)
                if (after[:4], after[8:12]) == (kind, form):
                    return form.decode()
    return None


def mp3_length_is_wrong(path: Path, size: int) -> bool:
    """Whether an mp3 has a Xing header that was written for a file of another size: cut, or followed by others."""
    with path.open("rb") as stream:
        head = stream.read(10)
        tags = 10 + sum(byte << 7 * place for place, byte in enumerate(reversed(head[6:10]))) if head[:3] == b"ID3" else 0
        stream.seek(tags)
        begin = stream.read(XING_PLACE)
    if begin[:1] != b"\xff":
        return False
    place = max(begin.find(b"Xing", 0, 200), begin.find(b"Info", 0, 200))
    if place < 0 or not begin[place + 7 : place + 8] or begin[place + 7] & 3 != 3:  # flags: frames and bytes are there
        return False
    promised = int.from_bytes(begin[place + 12 : place + 16], "big")
    return abs(size - tags - promised) > max(4096, size // 100)
