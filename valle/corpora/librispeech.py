"""LibriSpeech (Panayotov et al. 2015), or any folder of its layout, as lhotse cuts.

    DIR/PART/SPEAKER/CHAPTER/SPEAKER-CHAPTER-NUMBER.flac
    DIR/PART/SPEAKER/CHAPTER/SPEAKER-CHAPTER.trans.txt      a line an utterance: its id and its text
    DIR/SPEAKERS.TXT                                        optional, for the speakers' gender

Parts of the corpus become train, dev and test.  Without parts for test, dev's are split in two within each speaker,
by chapter where there are several and by utterance where there is one.
"""

from __future__ import annotations

import re
import tarfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.error import URLError

from lhotse import MonoCut, Recording, SupervisionSegment
from lhotse.audio import AudioSource
from lhotse.qa import validate
from lhotse.recipes import librispeech as recipe

from valle.audio import AudioFileError, count_samples
from valle.corpora.manifests import write_cuts
from valle.corpora.report import write_left_out
from valle.corpora.report_reasons import PARTS, LeftOut, Reason
from valle.errors import UserError
from valle.progress import Progress

UTTERANCE_ID = re.compile(r"\d+-\d+-\d+")
MIN_SECONDS = 0.1


class LibriSpeechError(UserError):
    """A folder that is not laid out as LibriSpeech, or parts that do not fit together."""


@dataclass(frozen=True, kw_only=True)
class LibriSpeechConfig:
    """Which parts of the corpus train, dev and test are made of."""

    corpus_dir: Path = field(default=Path("download/LibriSpeech"), metadata={"help": "folder of LibriSpeech's layout"})
    output_dir: Path = field(default=Path("data/manifests"), metadata={"help": "where the manifests go"})
    report: Path = field(default=Path("data/report.html"), metadata={"help": "page of what was kept and what was left out"})
    train_parts: list[str] = field(default_factory=lambda: ["train-clean-100"], metadata={"help": "parts for train"})
    dev_parts: list[str] = field(default_factory=lambda: ["dev-clean"], metadata={"help": "parts for dev"})
    test_parts: list[str] = field(default_factory=list, metadata={"help": "parts for test; default: half of dev, by chapter or utterance"})
    speeds: list[float] = field(
        default_factory=list, metadata={"help": "train also contains every utterance at these speeds, each as another speaker"}
    )
    num_workers: int = field(default=2, metadata={"help": "threads that read file headers"})

    def __post_init__(self) -> None:
        if not self.train_parts or not self.dev_parts:
            raise LibriSpeechError("expected parts of the corpus for train and for dev, found none; name them, such as dev-clean")
        check_parts([*self.train_parts, *self.dev_parts, *self.test_parts])
        for speed in self.speeds:
            if not 0.5 <= speed <= 2 or speed == 1:
                raise LibriSpeechError(f"expected speeds of 0.5 to 2 without 1, which is always included, found {speed:g}")
        if self.num_workers < 1:
            raise LibriSpeechError(f"expected at least 1 worker, found {self.num_workers}; give --num-workers 1 or more")
        for one, two in (("train", "dev"), ("train", "test"), ("dev", "test")):
            common = set(self.parts_of(one)) & set(self.parts_of(two))
            if common:
                shared = ", ".join(sorted(common))
                raise LibriSpeechError(f"{one} and {two} must not share audio, found {shared} in both; name other parts for one of them")

    def parts_of(self, part: str) -> list[str]:
        """Folders of train, dev or test."""
        return {"train": self.train_parts, "dev": self.dev_parts, "test": self.test_parts}[part]


@dataclass(frozen=True)
class Utterance:
    """One line of a transcript."""

    id: str
    text: str
    path: Path

    @property
    def speaker(self) -> str:
        return self.id.split("-")[0]

    @property
    def chapter(self) -> str:
        return self.id.split("-")[1]


def check_parts(names: list[str]) -> None:
    """Names of parts are names of folders in the corpus, and lead nowhere else."""
    for name in names:
        if not re.fullmatch(r"[\w-]+", name):
            raise LibriSpeechError(f"expected the name of a part, such as dev-clean, found {name!r}")


def download_parts(parts: list[str], folder: Path, *, base_url: str = "http://www.openslr.org/resources") -> Path:
    """Download parts by lhotse's recipe into ``folder/LibriSpeech``, which is returned; a part that is there is not fetched again."""
    known = (*recipe.LIBRISPEECH, *recipe.MINI_LIBRISPEECH)
    for name in parts:
        if name not in known:
            raise LibriSpeechError(f"expected parts of LibriSpeech ({', '.join(known)}), found {name!r}; name one of these")
    try:
        return Path(recipe.download_librispeech(folder, dataset_parts=parts, base_url=base_url))
    except (URLError, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", error)
        raise LibriSpeechError(
            f"expected to download from {base_url}, found no way there ({reason}); run the same command again later, "
            "or fetch the parts another way and name their folder: --corpus-dir"
        ) from error
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise LibriSpeechError(f"an archive in {folder} is damaged ({error}); delete it and run the same command again") from error


def prepare_librispeech(config: LibriSpeechConfig, *, progress: Progress | None = None) -> dict[str, tuple[int, float]]:
    """Write ``cuts_{train,dev,test}.jsonl.gz`` and ``left_out.jsonl``; returns (cuts, seconds) of each part.

    ``progress(speakers_done, speakers_wanted)`` is called as files are read.
    """
    speakers = {part: list(_speakers(config, part)) for part in PARTS}
    genders = _genders(config.corpus_dir / "SPEAKERS.TXT")
    left_out: dict[LeftOut, None] = {}  # a set in order: lines of a chapter that dev and test share are met twice
    sizes: dict[str, tuple[int, float]] = {}
    done = 0

    def cuts(part: str) -> Iterator[MonoCut]:
        nonlocal done
        for speaker, transcripts in speakers[part]:
            read = partial(_cut, corpus_dir=config.corpus_dir, gender=genders.get(speaker))
            for found in pool.map(read, _utterances(config, part, transcripts, left_out)):
                if isinstance(found, LeftOut):
                    left_out[found] = None
                else:
                    for cut in (found, *(at_speed(found, speed) for speed in config.speeds if part == "train")):
                        sizes[part] = (sizes[part][0] + 1, sizes[part][1] + cut.duration)
                        yield cut
            done += 1
            if progress:
                progress(done, sum(map(len, speakers.values())))

    with ThreadPoolExecutor(config.num_workers) as pool:
        for part in PARTS:
            sizes[part] = (0, 0.0)
            write_cuts(cuts(part), config.output_dir / f"cuts_{part}.jsonl.gz")
    listed = config.output_dir / "left_out.jsonl"
    write_left_out(sorted(left_out, key=lambda entry: entry.path), listed)
    if not sizes["train"][0]:
        raise LibriSpeechError(
            f"expected utterances for train in {', '.join(config.train_parts)} of {config.corpus_dir}, found none that can be used; "
            f"{listed} says why"
        )
    return sizes


def at_speed(cut: MonoCut, speed: float) -> MonoCut:
    """The cut faster or slower, higher or lower with it (Ko et al. 2015): another voice, so another speaker."""
    changed: MonoCut = cut.perturb_speed(speed)
    for supervision in changed.supervisions:
        supervision.speaker = f"{supervision.speaker}_sp{speed:g}"
    return changed


def halve(utterances: list[Utterance]) -> tuple[list[Utterance], list[Utterance]]:
    """Split one speaker's utterances for dev and test: whole chapters in turn, or one chapter in the middle."""
    chapters = sorted({item.chapter for item in utterances})
    if len(chapters) > 1:
        first = set(chapters[::2])
        return [item for item in utterances if item.chapter in first], [item for item in utterances if item.chapter not in first]
    middle = (len(utterances) + 1) // 2
    return utterances[:middle], utterances[middle:]


def _speakers(config: LibriSpeechConfig, part: str) -> Iterator[tuple[str, list[Path]]]:
    """Speakers of train, dev or test with their transcripts, in order; one who reads in two parts of the corpus comes twice."""
    for name in config.parts_of(part) or config.dev_parts:
        groups: dict[str, list[Path]] = {}
        for path in _transcripts(config.corpus_dir, name):
            groups.setdefault(path.parent.parent.name, []).append(path)
        yield from groups.items()


def _utterances(config: LibriSpeechConfig, part: str, transcripts: list[Path], left_out: dict[LeftOut, None]) -> list[Utterance]:
    """What one speaker gives to train, dev or test."""
    utterances = [item for path in transcripts for item in _read_transcript(path, config.corpus_dir, left_out)]
    if part == "train" or config.test_parts:
        return utterances
    dev, test = halve(utterances)
    return dev if part == "dev" else test


def _transcripts(corpus_dir: Path, part: str) -> list[Path]:
    """Transcripts of a part in order; one small file a chapter."""
    folder = corpus_dir / part
    if not folder.is_dir():
        there = sorted(path.name for path in corpus_dir.iterdir() if path.is_dir()) if corpus_dir.is_dir() else []
        found = ", ".join(there) or ("an empty folder" if corpus_dir.is_dir() else "no such folder")
        raise LibriSpeechError(f"expected the part {part} in {corpus_dir}, found {found}; check the folder and the names of the parts")
    paths = sorted(folder.glob("*/*/*.trans.txt"))
    if not paths:
        raise LibriSpeechError(f"expected transcripts SPEAKER/CHAPTER/*.trans.txt in {folder}, found none; unpack LibriSpeech there")
    return paths


def _read_transcript(path: Path, corpus_dir: Path, left_out: dict[LeftOut, None]) -> list[Utterance]:
    """Utterances of a chapter; lines that name no file of this chapter are left out."""
    utterances = []
    relative = path.relative_to(corpus_dir)
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        if not line.strip():
            continue
        name, _, text = line.partition(" ")
        if not UTTERANCE_ID.fullmatch(name):
            reason = Reason.OUTSIDE if "/" in name else Reason.BAD_LINE
            left_out[LeftOut(f"{relative}:{number}", reason, f"expected SPEAKER-CHAPTER-NUMBER and a text, found {line[:80]!r}")] = None
            continue
        utterances.append(Utterance(id=name, text=text.strip(), path=path.parent / f"{name}.flac"))
    return utterances


def _cut(utterance: Utterance, *, corpus_dir: Path, gender: str | None) -> MonoCut | LeftOut:
    relative = str(utterance.path.relative_to(corpus_dir))
    if not utterance.path.is_file():
        return LeftOut(relative, Reason.MISSING)
    if utterance.path.stat().st_size == 0:
        return LeftOut(relative, Reason.EMPTY)
    try:
        num_samples, sample_rate = count_samples(utterance.path)
    except AudioFileError as error:
        return LeftOut(relative, Reason.CORRUPT, error.detail or str(error))
    if num_samples < MIN_SECONDS * sample_rate:
        return LeftOut(relative, Reason.TOO_SHORT, f"{num_samples / sample_rate:.2f} s")
    duration = num_samples / sample_rate
    recording = Recording(
        id=utterance.id,
        sources=[AudioSource(type="file", channels=[0], source=str(utterance.path.resolve()))],
        sampling_rate=sample_rate,
        num_samples=num_samples,
        duration=duration,
    )
    supervision = SupervisionSegment(
        id=utterance.id, recording_id=utterance.id, start=0.0, duration=duration, text=utterance.text, language="English",
        speaker=utterance.speaker, gender=gender,
    )  # fmt: skip
    cut = MonoCut(id=utterance.id, start=0.0, duration=duration, channel=0, recording=recording, supervisions=[supervision])
    validate(cut)
    return cut


def _genders(path: Path) -> dict[str, str]:
    """``SPEAKERS.TXT``: id | F or M | ..."""
    genders = {}
    if path.is_file():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            cells = [cell.strip() for cell in line.split("|")]
            if not line.startswith(";") and len(cells) > 1 and cells[1] in ("F", "M"):
                genders[cells[0]] = {"F": "female", "M": "male"}[cells[1]]
    return genders
