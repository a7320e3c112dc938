"""A tokenized corpus with transcripts in two languages, made in a moment, and what trains joint-lm on it."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

from tiny_corpus import Corpus, write_corpus

from valle.corpora.parallel_grammar import concepts, say
from valle.corpora.parallel_meaning import draw_meaning
from valle.tokenizers.text_pieces import fit_text_pieces, save_text_tokenizer
from valle.training.joint_options import JointOptions

LANGUAGES = (("en", "English"), ("es", "Spanish"))
TINY: dict[str, Any] = {
    "decoder_dim": 16, "nhead": 2, "num_decoder_layers": 1, "max_tokens": 400, "num_epochs": 2, "save_every_n": 3, "valid_interval": 5,
    "log_interval": 2, "average_period": 2, "warmup_steps": 4, "dtype": "float32", "device": "cpu", "tensorboard": False,
    "optimizer_name": "AdamW", "base_lr": 0.003,
}  # fmt: skip


def texts(number: int) -> list[str]:
    """Sentence ``number`` in both languages."""
    meaning = draw_meaning(random.Random(number), concepts())
    return [say(meaning, code) for code, _ in LANGUAGES]


def write_text_corpus(folder: Path, *, num_pieces: int = 400) -> Path:
    """As ``prepare.sh`` of egs/espeak_text leaves it: cut 2n is English, cut 2n + 1 the same in Spanish."""
    manifests = write_corpus(folder, Corpus(num_train=12, num_dev=4, longest=2.0))
    for part in ("train", "dev", "test"):
        path = manifests / f"cuts_{part}.jsonl.gz"
        with gzip.open(path, "rt", encoding="utf-8") as stream:
            cuts = [json.loads(line) for line in stream]
        for number, cut in enumerate(cuts):
            cut["supervisions"] = [_supervision(cut, cuts[number ^ 1]["id"] if number ^ 1 < len(cuts) else "", number)]
        with gzip.open(path, "wt", encoding="utf-8") as stream:
            stream.writelines(json.dumps(cut) + "\n" for cut in cuts)
    sentences = [text for number in range(300) for text in texts(number)]
    save_text_tokenizer(fit_text_pieces(sentences, num_pieces=num_pieces), folder / "tokenizers" / "text")
    return manifests


def _supervision(cut: dict[str, Any], partner: str, number: int) -> dict[str, Any]:
    said, place = texts(number // 2), number % 2
    other = {LANGUAGES[1 - place][1]: {"id": partner, "text": said[1 - place]}}
    return {
        "id": cut["id"], "recording_id": cut["id"], "start": 0.0, "duration": cut["duration"], "text": said[place],
        "language": LANGUAGES[place][1], "speaker": "tiny", "custom": {"translations": other},
    }  # fmt: skip


def tiny_joint_options(manifests: Path, exp_dir: Path, **changes: Any) -> JointOptions:
    """Two epochs of a few steps of a model of a few thousand parameters."""
    return JointOptions(**{**TINY, "manifest_dir": manifests, "text": manifests.parent / "tokenizers/text", "exp_dir": exp_dir, **changes})
