"""Phone times for recordings that have transcripts only: what ``bin/align_phones.py`` does.

Rounds of training leave ``ALIGNER_DIR/round-0`` (synthetic speech alone), ``round-1``, ...; those that are there are not made again.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from lhotse.cut import Cut
from lhotse.supervision import AlignmentItem
from lhotse.utils import fastcopy

from valle.audio import resample
from valle.corpora.cut_audio import read_cut
from valle.corpora.manifests import read_cuts, write_cuts
from valle.corpora.pronunciation import Pronouncer, SpokenWord
from valle.errors import UserError
from valle.evaluation.align_pocketsphinx import align_by_pocketsphinx
from valle.evaluation.unit_corpus import draw_cuts, phones_of
from valle.files import write_text
from valle.measures.forced_alignment import frame_labels
from valle.models.phone_aligner import SAMPLE_RATE, STEP, Aligned, AlignerConfig, PhoneAligner, is_aligner
from valle.outputs import Outputs, claim_outputs
from valle.progress import TitledProgress
from valle.training.phone_aligner import FitSettings, LabelledFrames, fit, take_shares, take_statistics

FEWEST = 20  # times that a phone is said in the training speech to become a class
MOST_STAND_INS = 0.05  # of a text's phones



class AlignError(UserError):
    """Cuts that cannot be aligned, or settings that do not fit."""


@dataclass(frozen=True, kw_only=True)
class AlignOptions:
    """Flags of ``bin/align_phones.py``."""

    manifests: list[Path] = field(metadata={"help": "cuts with transcripts, to align"})
    output_dir: Path = field(metadata={"help": "folder for cuts.jsonl.gz, the same cuts with phone and word times, and info.json"})
    aligner_dir: Path = field(default=Path("exp/aligner"), metadata={"help": "where the aligner is, or goes once it is trained"})
    timed_manifest: Path = field(
        default=Path("../espeak/data/manifests/cuts_train.jsonl.gz"), metadata={"help": "cuts with phone times, to learn phones from"}
    )
    timed_minutes: float = field(default=90.0, metadata={"help": "minutes of them"})
    recordings: Path = field(
        default=Path("data/manifests/cuts_train.jsonl.gz"), metadata={"help": "cuts with transcripts, to learn real voices from"}
    )
    recording_minutes: float = field(default=60.0, metadata={"help": "minutes of them; copies at other speeds are skipped"})
    labels: Literal["network", "pocketsphinx"] = field(
        default="network",
        metadata={"help": "who aligns: the network trained here, or PocketSphinx (pip install pocketsphinx), English alone, CMU phones"},
    )
    accent: str = field(default="en-us", metadata={"help": "accent or language of eSpeak NG for the transcripts"})
    rounds: int = field(default=3, metadata={"help": "times that recordings are aligned and trained on; 0: synthetic speech alone"})
    steps: int = field(default=600, metadata={"help": "batches of 48 s of synthetic speech, before the first round"})
    round_steps: int = field(default=150, metadata={"help": "batches of each round, half of them recordings"})
    min_score: float = field(
        default=-10.0,
        metadata={"help": "leave out lower scores, in nats per frame (0: every frame's likeliest phone is the text's)"},
    )
    seed: int = field(default=0, metadata={"help": "seed of all random choices"})
    dtype: Literal["float32", "bfloat16"] = field(
        default="float32", metadata={"help": "format of matrix products; bfloat16 is four times faster where supported"}
    )

    def __post_init__(self) -> None:
        for flag in ("timed_minutes", "recording_minutes", "steps", "round_steps"):
            if not getattr(self, flag) > 0:
                raise AlignError(f"--{flag.replace('_', '-')} must be above 0, found {getattr(self, flag)}")
        if self.rounds < 0:
            raise AlignError(f"--rounds must be 0 or more, found {self.rounds}")

    def training_of(self, number: int) -> dict[str, Any]:
        """What decides the weights of a round."""
        own: dict[str, Any] = {"steps": self.steps} if number == 0 else {
            "recordings": str(self.recordings), "recording_minutes": self.recording_minutes, "accent": self.accent,
            "steps": self.steps, "round_steps": self.round_steps,
        }  # fmt: skip
        return {
            "round": number,
            "timed_manifest": str(self.timed_manifest),
            "timed_minutes": self.timed_minutes,
            **own,
            "seed": self.seed,
            "dtype": self.dtype,
        }


@dataclass(frozen=True)
class Heard:
    """A cut with what an aligner needs of it: its words, and its log-mels ``(T, M)`` in fp16."""

    cut: Cut
    words: list[SpokenWord]
    mels: torch.Tensor

    @property
    def symbols(self) -> list[tuple[str, ...]]:
        return [word.phones for word in self.words]


def align_phones(options: AlignOptions, *, progress: TitledProgress | None = None) -> dict[str, Any]:
    """Write the aligned cuts; returns what ``info.json`` says."""
    show = progress or (lambda title, done, wanted: None)
    outputs = claim_outputs(options.output_dir, ["cuts.jsonl.gz", "info.json"], program="align_phones", inputs=options.manifests)
    cuts = [cut for path in options.manifests for cut in read_cuts(path)]
    if not cuts:
        raise AlignError(f"expected cuts in {', '.join(map(str, options.manifests))}, found none; name other manifests")
    if options.labels == "pocketsphinx":
        return _by_pocketsphinx(options, cuts, outputs, show)
    with Pronouncer(options.accent) as pronouncer:
        texts = [pronouncer.pronounce(text_of(cut)) for cut in cuts]
        aligner, training = prepared_aligner(options, pronouncer, show)
    stand_ins = refuse_foreign_phones(aligner, texts, options)
    left_out: list[dict[str, str]] = []
    found: list[tuple[Cut, list[SpokenWord], Aligned]] = []
    for number, (cut, words) in enumerate(zip(cuts, texts, strict=True)):
        aligned = align_heard(aligner, hear(aligner, cut, words))
        if aligned is None:
            left_out.append({"id": cut.id, "reason": "too short for its text"})
        elif aligned.score < options.min_score:
            left_out.append({"id": cut.id, "reason": f"scores {aligned.score:.2f} nats a frame"})
        else:
            found.append((cut, words, aligned))
        show("aligning", number + 1, len(cuts))
    with outputs.being_written():
        return _write(options, found, left_out, training=training, stand_ins=stand_ins)


def _by_pocketsphinx(options: AlignOptions, cuts: list[Cut], outputs: Outputs, show: TitledProgress) -> dict[str, Any]:
    left_out: list[dict[str, str]] = []
    found: list[tuple[Cut, list[SpokenWord], Aligned]] = []
    each = align_by_pocketsphinx(cuts, [text_of(cut) for cut in cuts])
    for number, (cut, result) in enumerate(zip(cuts, each, strict=True)):
        if isinstance(result, str):
            left_out.append({"id": cut.id, "reason": result})
        else:
            found.append((cut, *result))
        show("aligning", number + 1, len(cuts))
    if not found:
        raise AlignError(f"expected utterances that PocketSphinx can align, found none; the first: {left_out[0]['reason']}")
    with outputs.being_written():
        return _write(options, found, left_out, training={"labels": "pocketsphinx", "version": version("pocketsphinx")}, stand_ins={})


def _write(
    options: AlignOptions, found: list[tuple[Cut, list[SpokenWord], Aligned]], left_out: list[dict[str, str]],
    *, training: dict[str, Any], stand_ins: Any,
) -> dict[str, Any]:  # fmt: skip
    """The cuts with their times, and beside them what is known of them, which is returned."""
    write_cuts((timed_cut(cut, words, aligned) for cut, words, aligned in found), options.output_dir / "cuts.jsonl.gz")
    info = {
        "manifests": [str(path) for path in options.manifests], "accent": options.accent, "min_score": options.min_score,
        "aligner": training, "frame_seconds": STEP, "cuts": len(found), "phones": sum(len(aligned.phones) for _, _, aligned in found),
        "mean_score": mean([aligned.score for _, _, aligned in found]),
        "mean_confidence": mean([phone.confidence for _, _, aligned in found for phone in aligned.phones]),
        "stand_ins": stand_ins, "left_out": left_out,
    }  # fmt: skip
    write_text(options.output_dir / "info.json", json.dumps(info, indent=2, ensure_ascii=False) + "\n")
    return info


def prepared_aligner(options: AlignOptions, pronouncer: Pronouncer, show: TitledProgress) -> tuple[PhoneAligner, dict[str, Any]]:
    """The aligner of the last round, and how it was trained; rounds that are not in the folder are trained."""
    aligner, training = None, dict[str, Any]()
    for number in range(options.rounds + 1):
        folder, wanted = options.aligner_dir / f"round-{number}", options.training_of(number)
        if not is_aligner(folder):
            return train_rounds(aligner, number, options, pronouncer, show)
        aligner, training = PhoneAligner.load(folder)
        differing = sorted(name for name in wanted if training.get(name) != wanted[name])
        if differing:
            flags = ", ".join("--" + name.replace("_", "-") for name in differing)
            raise AlignError(f"expected the aligner in {folder} to be trained with the same {flags}; name another --aligner-dir")
    assert aligner is not None
    return aligner, training


def train_rounds(
    aligner: PhoneAligner | None, first: int, options: AlignOptions, pronouncer: Pronouncer, show: TitledProgress
) -> tuple[PhoneAligner, dict[str, Any]]:
    """Round ``first`` and those after it, from the aligner of the round before."""
    rounds = [f"round-{number}" for number in range(first, options.rounds + 1)]
    claim_outputs(options.aligner_dir, rounds, program="align_phones")  # before the first, not hours later
    timed = draw_cuts(_with_phones(options.timed_manifest), max_seconds=60 * options.timed_minutes)
    aligner = aligner or untrained_aligner(timed, options)
    recordings = draw_recordings(options) if options.rounds else []
    texts = [pronouncer.pronounce(text_of(cut)) for cut in recordings]
    refuse_foreign_phones(aligner, texts, options)
    synthetic = labelled(aligner, timed, show)
    heard = []
    for number, (cut, words) in enumerate(zip(recordings, texts, strict=True)):
        heard.append(hear(aligner, cut, words))
        show("reading recordings", number + 1, len(recordings))
    training: dict[str, Any] = {}
    for number in range(first, options.rounds + 1):
        corpora = [synthetic]
        if number == 0:
            take_statistics(aligner, synthetic.mels)
        else:
            corpora.append(self_labelled(aligner, heard, show))
        settings = FitSettings(
            steps=options.round_steps if number else options.steps, seed=options.seed + number, dtype=options.dtype
        )  # fmt: skip
        loss = fit(aligner, corpora, settings, progress=partial(show, f"training round {number}"))
        take_shares(aligner, corpora)
        training = {**options.training_of(number), "loss_nats": round(loss, 4)}
        with claim_outputs(options.aligner_dir, [f"round-{number}"], program="align_phones").being_written():
            aligner.save(options.aligner_dir / f"round-{number}", training)
    return aligner, training


def untrained_aligner(timed: Sequence[Cut], options: AlignOptions) -> PhoneAligner:
    """One whose classes are the phones of ``timed``."""
    counts = Counter(symbol for cut in timed for symbol, _, _ in phones_of(cut))
    phones = tuple(sorted(symbol for symbol, count in counts.items() if count >= FEWEST))
    if not phones:
        raise AlignError(f"expected phones that are said {FEWEST} times in {options.timed_manifest}, found none; give more --timed-minutes")
    torch.manual_seed(options.seed)
    return PhoneAligner(AlignerConfig(phones=phones))


def labelled(aligner: PhoneAligner, cuts: Sequence[Cut], show: TitledProgress) -> LabelledFrames:
    """Synthetic speech with the class of each frame; phones that are too rare to be classes are left open."""
    mels, labels = [], []
    for number, cut in enumerate(cuts):
        mels.append(log_mels(aligner, cut))
        spans = [(aligner.classes.index(name) if name in aligner.classes else -1, begin, end) for name, begin, end in phones_of(cut)]
        labels.append(frame_labels(spans, num_frames=len(mels[-1]), step=STEP, none=0))
        show("reading synthetic speech", number + 1, len(cuts))
    return LabelledFrames(mels, labels)


def draw_recordings(options: AlignOptions) -> list[Cut]:
    """Real speech to learn from."""
    originals = [cut for cut in read_cuts(options.recordings) if not cut.recording.transforms]
    if not originals:
        raise AlignError(f"expected recordings in {options.recordings}, found none; name another manifest, or --rounds 0")
    return draw_cuts(originals, max_seconds=60 * options.recording_minutes)


def self_labelled(aligner: PhoneAligner, recordings: Sequence[Heard], show: TitledProgress) -> LabelledFrames:
    """Recordings with the classes at which the aligner finds them; what cannot be aligned is passed over."""
    mels, labels = [], []
    for number, heard in enumerate(recordings):
        aligned = align_heard(aligner, heard)
        if aligned is not None:
            spans = [(aligner.number(phone.symbol), phone.begin, phone.end) for phone in aligned.phones]
            mels.append(heard.mels)
            labels.append(frame_labels(spans, num_frames=len(heard.mels), step=STEP, none=0))
        show("aligning recordings", number + 1, len(recordings))
    if not labels:
        raise AlignError("expected recordings that are long enough for their texts, found none; check the transcripts")
    return LabelledFrames(mels, labels)


def hear(aligner: PhoneAligner, cut: Cut, words: list[SpokenWord]) -> Heard:
    return Heard(cut, words, log_mels(aligner, cut))


def log_mels(aligner: PhoneAligner, cut: Cut) -> torch.Tensor:
    """Of a cut's audio, in fp16."""
    samples, rate = read_cut(cut)
    return aligner.log_mels(resample(samples, rate, SAMPLE_RATE)).half()


def align_heard(aligner: PhoneAligner, heard: Heard) -> Aligned | None:
    return aligner.align(aligner.posteriors(heard.mels), heard.symbols)


def text_of(cut: Cut) -> str:
    """The transcript of a cut."""
    text = " ".join(supervision.text for supervision in cut.supervisions if supervision.text).strip()
    if not text:
        raise AlignError(f"expected a transcript with every cut, found none with {cut.id}; leave it out, or align another manifest")
    return text


def timed_cut(cut: Cut, spoken: Sequence[SpokenWord], aligned: Aligned) -> Cut:
    """The cut with ``alignment["phone"]`` and ``alignment["word"]`` in its first supervision; an item's score is its confidence."""
    words = []
    for number, word in enumerate(spoken):
        own = [phone for phone in aligned.phones if phone.word == number]
        words.append(_item(word.text, own[0].begin, own[-1].end, mean([phone.confidence for phone in own])))
    phones = [_item(phone.symbol, phone.begin, phone.end, phone.confidence) for phone in aligned.phones]
    first, *others = cut.supervisions
    return fastcopy(cut, supervisions=[fastcopy(first, alignment={"word": words, "phone": phones}), *others])


def _item(symbol: str, begin: float, end: float, confidence: float) -> AlignmentItem:
    return AlignmentItem(symbol=symbol, start=round(begin, 4), duration=round(end - begin, 4), score=round(confidence, 4))


def refuse_foreign_phones(aligner: PhoneAligner, texts: Iterable[Sequence[SpokenWord]], options: AlignOptions) -> dict[str, str]:
    """Phones that are no classes and the ones that stand in for them; raises where they are many."""
    counts = Counter(symbol for words in texts for word in words for symbol in word.phones)
    others = {symbol: count for symbol, count in counts.items() if symbol not in aligner.classes}
    if sum(others.values()) > MOST_STAND_INS * sum(counts.values()):
        names = " ".join(sorted(others, key=lambda symbol: -others[symbol])[:5])
        raise AlignError(
            f"expected transcripts of phones that the speech in {options.timed_manifest} has, found others ({names} ...) too often; "
            f"name the accent of that speech, or --timed-manifest of speech in {options.accent}"
        )
    return {symbol: aligner.classes[aligner.number(symbol)] for symbol in sorted(others)}


def _with_phones(manifest: Path) -> list[Cut]:
    cuts = [cut for cut in read_cuts(manifest) if phones_of(cut)]
    if not cuts:
        raise AlignError(f"expected cuts with phone times in {manifest}, found none; run stage 1 of egs/espeak, and name its manifest")
    return cuts


def mean(values: Sequence[float]) -> float:
    """NaN of nothing."""
    return float(np.mean(values)) if len(values) else float("nan")
