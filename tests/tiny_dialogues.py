"""Tokenized dialogues of two channels, made in a moment, and what trains a conversation model on them."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lhotse import MonoCut, NumpyHdf5Writer, Recording, SupervisionSegment
from lhotse.array import TemporalArray
from lhotse.audio import AudioSource
from lhotse.supervision import AlignmentItem
from tiny_corpus import CODEBOOKS, CODES, UNITS, make_tokenizers, pattern

from valle.corpora.dialogue_script import draw_exchange
from valle.models.conversation import ConversationLM
from valle.models.conversation_config import ConversationConfig
from valle.models.conversation_released import ReleasedConversation
from valle.timeline import Timeline
from valle.tokenizers.convnext_codec import ConvNeXtCodec, ConvNeXtCodecConfig
from valle.tokenizers.text_pieces import SentencePieces, fit_text_pieces, save_text_tokenizer
from valle.tokenizing.token_manifests import tokenizers_tag
from valle.training.conversation_options import ConversationOptions

TURN, GAP = 0.8, 0.2  # seconds
TINY: dict[str, Any] = {
    "decoder_dim": 16, "nhead": 2, "num_decoder_layers": 1, "depth_dim": 8, "depth_nhead": 2, "depth_num_layers": 1,
    "num_quantizers": CODEBOOKS, "max_tokens": 600, "num_epochs": 2, "save_every_n": 3, "valid_interval": 5, "log_interval": 2,
    "average_period": 2, "warmup_steps": 4, "dtype": "float32", "device": "cpu", "tensorboard": False, "optimizer_name": "AdamW",
    "base_lr": 0.003,
}  # fmt: skip


def exchange(number: int) -> tuple[str, str]:
    """A question and its answer."""
    drawn = draw_exchange(random.Random(number), part="train")
    return drawn.question, drawn.answer


def tiny_text() -> SentencePieces:
    """Text pieces of the script."""
    return fit_text_pieces([text for number in range(200) for text in exchange(number)], num_pieces=400)


def write_dialogues(folder: Path, *, num_train: int = 6, num_dev: int = 2) -> Path:
    """As ``prepare.sh`` of egs/espeak_dialogue leaves them: two exchanges a dialogue, a cut a channel, a back-channel among the turns."""
    codec, kmeans = make_tokenizers(folder / "tokenizers")
    assert kmeans is not None
    manifests = folder / "tokenized"
    manifests.mkdir(parents=True)
    timeline = Timeline(codes=codec.identity.grid, units=kmeans.identity.grid)
    tokenizers = {"acoustic": codec.identity.to_dict(), "semantic": kmeans.identity.to_dict()}
    (manifests / "info.json").write_text(json.dumps({"timeline": timeline.to_dict(), "tokenizers": tokenizers, "statistics": {}}))
    tag = tokenizers_tag(codec.identity, kmeans.identity)
    for part, count in (("train", num_train), ("dev", num_dev), ("test", 2)):
        with NumpyHdf5Writer(manifests / f"{part}.h5") as writer, gzip.open(manifests / f"cuts_{part}.jsonl.gz", "wt") as stream:
            for number in range(count):
                for cut in _cuts(f"{part}-{number:08d}", number, writer, tag):
                    stream.write(json.dumps(cut.to_dict()) + "\n")
    save_text_tokenizer(tiny_text(), folder / "tokenizers" / "text")
    return manifests


def _cuts(name: str, number: int, writer: NumpyHdf5Writer, tag: str) -> list[MonoCut]:
    texts = [*exchange(2 * number), *exchange(2 * number + 1)]
    turns = [(place % 2, place * (TURN + GAP), TURN, text, ("question", "answer")[place % 2]) for place, text in enumerate(texts)]
    turns.append((1, 0.3, 0.2, "Okay.", "back-channel"))
    duration = len(texts) * (TURN + GAP)
    recording = Recording(
        id=name, sources=[AudioSource(type="file", channels=[0, 1], source=f"{name}.wav")], sampling_rate=16000,
        num_samples=round(duration * 16000), duration=duration,
    )  # fmt: skip
    cuts = []
    for channel in range(2):
        said = [
            SupervisionSegment(
                id=f"{name}-turn-{place:02d}", recording_id=name, start=start, duration=length, channel=channel, text=text,
                language="English", speaker=f"voice-{number % 3}-{channel}", custom={"kind": kind, "voice_is_in_train": True},
                alignment={"word": [AlignmentItem("all", start, length)]},
            )
            for place, (own, start, length, text, kind) in enumerate(turns) if own == channel
        ]  # fmt: skip
        codes, units = pattern(round(duration * 25), seed=random.Random(f"{name} {channel}").randrange(UNITS))
        cut = MonoCut(id=f"{name}-{channel}", start=0.0, duration=duration, channel=channel, recording=recording, supervisions=said)
        cut.custom = {"dialogue": name, "tokenizers": tag}
        for field, values, step in (("units", units, 0.04), ("codes", codes, 0.02)):
            stored = writer.store_array(f"{cut.id}-{field}", values.astype(np.int16))
            cut.custom[field] = TemporalArray(array=stored, temporal_dim=0, frame_shift=step, start=0.0)
        cuts.append(cut)
    return cuts


def tiny_conversation_options(manifests: Path, exp_dir: Path, **changes: Any) -> ConversationOptions:
    """Two epochs of a few steps of a model of a few thousand parameters."""
    return ConversationOptions(
        **{**TINY, "manifest_dir": manifests, "text": manifests.parent / "tokenizers/text", "exp_dir": exp_dir, **changes}
    )


def tiny_conversation(**changes: Any) -> ReleasedConversation:
    """An untrained model with its tokenizers."""
    text = tiny_text()
    torch.manual_seed(0)
    codec = ConvNeXtCodec(
        ConvNeXtCodecConfig(name="tiny-codec", dim=8, num_blocks=1, vq_dim=4, num_codebooks=CODEBOOKS, codebook_size=CODES)
    ).eval()
    sizes = {"d_model": 16, "nhead": 2, "num_layers": 2, "dim_feedforward": 32, "depth_dim": 8, "depth_nhead": 2, "depth_num_layers": 1}
    config = ConversationConfig(**{**sizes, "num_pieces": text.num_pieces, "num_levels": CODEBOOKS, "codebook_size": CODES, **changes})
    model = ConversationLM(config).eval()
    for parameter in model.parameters():
        parameter.data.normal_(std=0.8)
    return ReleasedConversation(model=model, text=text, acoustic=codec, longest_seconds=1.0, context_seconds=4.0)
