"""What the first bytes of a file say that no library tells."""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

BEGINNINGS = {  # of formats whose end stands nowhere
    "CAF": re.compile(rb"caff\x00\x01\x00\x00desc"),
    "RF64": re.compile(rb"RF64\xff\xff\xff\xffWAVE"),
    "W64": re.compile(rb"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"),
    "TTA": re.compile(rb"TTA1[\x01\x02\x03]\x00"),
    "FLV": re.compile(rb"FLV\x01[\x00\x01\x04\x05]\x00\x00\x00\x09"),
}
XING_PLACE = 4096  # bytes within which an mp3's table of contents stands, after its tags


def second_of_its_kind(path: Path, size: int) -> str | None:
    """The format of a file after whose end another begins, where no library reads on (WAV, AIFF, MP4, ...); else None."""
    with path.open("rb") as stream:
        head = stream.read(16)
        if head[4:8] == b"ftyp":
            kinds = [kind for kind, _ in _boxes(stream, size)]
            return "MP4" if min(kinds.count(b"ftyp"), kinds.count(b"moov")) > 1 and b"moof" not in kinds else None
        if head[:4] == b".snd":
            end = int.from_bytes(head[4:8], "big") + int.from_bytes(head[8:12], "big")
            stream.seek(min(end, size))
            return "AU" if stream.read(4) == head[:4] else None
        for name, beginning in BEGINNINGS.items():
            if beginning.match(head):
                with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
                    return name if beginning.search(content, 4) else None
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


def _boxes(stream: BinaryIO, size: int) -> Iterator[tuple[bytes, int]]:
    """Kind and place of every box at the top of an MP4 file."""
    place = 0
    while place + 8 <= size:
        stream.seek(place)
        head = stream.read(16)
        length, kind = int.from_bytes(head[:4], "big"), head[4:8]
        yield kind, place
        if length == 1:  # the length stands after the kind, in eight bytes
            length = int.from_bytes(head[8:16], "big")
        if length < 8:  # to the end of the file
            return
        place += length
