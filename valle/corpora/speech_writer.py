"""Stage 0 of a synthesised corpus: utterances to disk, in parallel, resumable, in memory that does not grow.

    DIR/settings.json                    what was asked for; another wish starts anew
    DIR/audio/PART/VOICE/ID.wav          16 kHz, 16 bit, mono (of a dialogue a channel a voice)
    DIR/shards/PART/000000.jsonl         index of 16 utterances, renamed into place once their audio is written
    DIR/utterances_PART.jsonl            the whole index of a finished part
    DIR/report.json                      written last: the corpus is complete

Workers finish shards in any order, and the parent takes them in order until the part is long enough.  What lies
beyond is deleted, so the folder's content depends on the settings alone.
"""

from __future__ import annotations

import io
import json
import re
import shutil
import threading
import wave
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from valle.corpora.espeak_grammar import PARTS
from valle.corpora.speech import SAMPLE_RATE
from valle.corpora.speech_config import CorpusConfigError, CorpusDirectoryError, CorpusSize
from valle.files import replacing
from valle.progress import Progress

UTTERANCES_PER_SHARD = 16

Parsed = TypeVar("Parsed")


class IndexEntry(Protocol):
    """What the index says of one utterance; ``path`` is of its audio, relative to the corpus's folder."""

    @property
    def path(self) -> str: ...

    def to_dict(self) -> dict[str, Any]:
        """Plain types, ``num_samples`` among them."""
        ...


class CorpusSpeaker(Protocol):
    """What speaks the utterances of a corpus; each is a function of (settings, part, number).  One thread has one."""

    def speak_utterance(self, part: str, number: int) -> tuple[IndexEntry, NDArray[np.int16]]:
        """Utterance ``number`` of ``part`` and its samples (T,) at 16 kHz, or (T, C) of several channels."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: Any) -> None: ...


OpenSpeaker = Callable[[], CorpusSpeaker]


@dataclass(frozen=True, kw_only=True)
class PartReport:
    """Size of one part."""

    num_utterances: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class SynthesisReport:
    """What stage 0 left.  ``is_new`` is false when all of it had been there before."""

    parts: dict[str, PartReport]
    is_new: bool


def write_corpus(
    directory: Path, *, config: CorpusSize, open_speaker: OpenSpeaker, num_workers: int, progress: Progress | None
) -> SynthesisReport:
    """Synthesise the corpus into ``directory``, or complete it, or replace one of other settings.

    ``progress(seconds_done, seconds_wanted)`` is called, in the caller's thread, after each shard.
    Raises :class:`CorpusDirectoryError` where the folder holds something else.
    """
    if num_workers < 1:
        raise CorpusConfigError(f"expected at least 1 worker, found {num_workers}; give --num-workers 1 or more")
    if _claim(directory, config) and (report := _read_report(directory)) is not None:
        return report
    parts: dict[str, PartReport] = {}
    with _SpeakingPool(num_workers, open_speaker) as pool:
        for part in PARTS:
            done = sum(report.seconds for report in parts.values())
            parts[part] = _write_part(
                directory,
                config=config,
                part=part,
                pool=pool,
                progress=_from(progress, done, config.total_seconds),
            )
    if (directory / "shards").exists():
        shutil.rmtree(directory / "shards")
    _write_json(directory / "report.json", {part: asdict(report) for part, report in parts.items()})
    return SynthesisReport(parts=parts, is_new=True)


def index_path(directory: Path, part: str) -> Path:
    return directory / f"utterances_{part}.jsonl"


def _from(progress: Progress | None, done: float, wanted: float) -> Callable[[float], None]:
    """``progress`` of one part, as that of all."""
    return lambda seconds: progress(done + seconds, wanted) if progress else None


def read_index(path: Path, parse: Callable[[dict[str, Any]], Parsed]) -> Iterator[Parsed]:
    """Utterances of an index, one at a time, each parsed."""
    try:
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                yield parse(json.loads(line))
    except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
        raise CorpusDirectoryError(f"the index {path} is missing or damaged; delete {path.parent} and run stage 0 again") from error


def is_complete(directory: Path) -> bool:
    """Does the folder hold a finished corpus?"""
    return _read_report(directory) is not None


class _SpeakingPool:
    """Threads that each own a speaker, whose work is done in helper processes or in libraries, outside Python's lock."""

    def __init__(self, num_workers: int, open_speaker: OpenSpeaker) -> None:
        self.num_workers = num_workers
        self._open_speaker = open_speaker
        self._local = threading.local()
        self._speakers = ExitStack()
        self._executor = ThreadPoolExecutor(num_workers)

    def __enter__(self) -> _SpeakingPool:
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown(cancel_futures=True)
        self._speakers.close()

    def _speaker(self) -> CorpusSpeaker:
        """This thread's own."""
        if not hasattr(self._local, "speaker"):
            self._local.speaker = self._speakers.enter_context(self._open_speaker())
        speaker: CorpusSpeaker = self._local.speaker
        return speaker

    def _do(self, work: Callable[[CorpusSpeaker, int], Path], number: int) -> Path:
        return work(self._speaker(), number)

    def in_order(self, work: Callable[[CorpusSpeaker, int], Path]) -> Generator[Path]:
        """Results of ``work`` for 0, 1, 2, ... without end, a few ahead of what is asked for."""
        ahead: deque[Future[Path]] = deque()
        try:
            for number in count():
                ahead.append(self._executor.submit(self._do, work, number))
                if len(ahead) > 2 * self.num_workers:
                    yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()
            for future in ahead:
                if not future.cancelled():
                    future.exception()  # waits: nothing may be written after this


def _write_part(directory: Path, *, config: CorpusSize, part: str, pool: _SpeakingPool, progress: Callable[[float], Any]) -> PartReport:
    path = index_path(directory, part)
    if path.exists():
        return _measure(path)
    wanted, seconds, kept = config.seconds_of(part), 0.0, 0
    shards = pool.in_order(lambda speaker, shard: _write_shard(directory, part, shard, speaker))
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as index:
        while seconds < wanted or kept % config.utterances_together:
            for line in next(shards).read_text(encoding="utf-8").splitlines():
                if seconds < wanted or kept % config.utterances_together:
                    index.write(line + "\n")
                    seconds += json.loads(line)["num_samples"] / SAMPLE_RATE
                    kept += 1
            progress(seconds)
        shards.close()
        _delete_audio_beyond(directory / "audio" / part, kept)
    return PartReport(num_utterances=kept, seconds=round(seconds, 3))


def _write_shard(directory: Path, part: str, shard: int, speaker: CorpusSpeaker) -> Path:
    """Speak the utterances of a shard and return its index, which is renamed into place last."""
    path = directory / "shards" / part / f"{shard:06d}.jsonl"
    if path.exists():
        return path
    lines = []
    for number in range(shard * UTTERANCES_PER_SHARD, (shard + 1) * UTTERANCES_PER_SHARD):
        utterance, samples = speaker.speak_utterance(part, number)
        _write_bytes(directory / utterance.path, _wav(samples))
        lines.append(json.dumps(utterance.to_dict(), ensure_ascii=False) + "\n")
    _write_text(path, "".join(lines))
    return path


def _wav(samples: NDArray[np.int16]) -> bytes:
    """A 16-bit wav file of samples (T,), or (T, C) of several channels."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1 if samples.ndim == 1 else samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(samples.astype("<i2").tobytes())
    return buffer.getvalue()


def _delete_audio_beyond(folder: Path, num_kept: int) -> None:
    """Remove what workers wrote ahead and what a killed run left under a temporary name; nobody else's files."""
    for path in folder.glob("*/*"):
        own = re.fullmatch(rf"\.?{re.escape(folder.name)}-(\d{{8,}})\.wav(\.tmp)?", path.name)
        if own and (own[2] or int(own[1]) >= num_kept):
            path.unlink()
    for voice_folder in folder.glob("*/"):
        if not any(voice_folder.iterdir()):
            voice_folder.rmdir()


def _claim(directory: Path, config: CorpusSize) -> bool:
    """Make the folder this corpus's; true if it was before.  A corpus of other settings is removed."""
    wanted = config.fingerprint()
    found = _read_settings(directory)
    if found == wanted:
        return True
    if found is not None:
        _remove_corpus(directory)
    _write_json(directory / "settings.json", wanted)
    return False


def _read_settings(directory: Path) -> dict[str, Any] | None:
    """Settings of the corpus in a folder, None where there is nothing yet."""
    path = directory / "settings.json"
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        if not directory.exists() or (directory.is_dir() and all(path.suffix == ".tmp" for path in directory.iterdir())):
            return None
        settings = None
    except ValueError:
        settings = None
    if not isinstance(settings, dict) or "generator_version" not in settings:
        raise CorpusDirectoryError(
            f"expected an empty folder or an earlier corpus of this program in {directory}, found other files; choose another folder"
        )
    return settings


def _remove_corpus(directory: Path) -> None:
    """Marks first and audio last, so that no mark ever vouches for audio that is gone."""
    (directory / "report.json").unlink(missing_ok=True)
    for part in PARTS:
        index_path(directory, part).unlink(missing_ok=True)
        _delete_audio_beyond(directory / "audio" / part, 0)
    if (directory / "shards").exists():
        shutil.rmtree(directory / "shards")


def _read_report(directory: Path) -> SynthesisReport | None:
    path = directory / "report.json"
    if not path.exists():
        return None
    try:
        parts = {part: PartReport(**sizes) for part, sizes in json.loads(path.read_text(encoding="utf-8")).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise CorpusDirectoryError(f"the report {path} is damaged; delete {directory} and run stage 0 again") from error
    return SynthesisReport(parts=parts, is_new=False)


def _measure(path: Path) -> PartReport:
    lengths = [0, 0]
    for num_samples in read_index(path, lambda fields: int(fields["num_samples"])):
        lengths[0] += 1
        lengths[1] += num_samples
    return PartReport(num_utterances=lengths[0], seconds=round(lengths[1] / SAMPLE_RATE, 3))


def _write_json(path: Path, content: dict[str, Any]) -> None:
    _write_text(path, json.dumps(content, indent=2) + "\n")


def _write_text(path: Path, text: str) -> None:
    _write_bytes(path, text.encode())


def _write_bytes(path: Path, content: bytes) -> None:
    """All of it or nothing; a temporary name that a killed run left is written over."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)
