"""A spoken corpus of tones with its transcripts, a letter a tone, and what trains speech-llama on it in a moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from lhotse import MonoCut, Recording, SupervisionSegment
from lhotse.audio import AudioSource
from tiny_speech import RATE, TONES, utter

from valle.audio import write_wav
from valle.corpora.manifests import write_cuts
from valle.models.joint_config import JointLMConfig
from valle.models.speech_llama import SpeechLlama
from valle.models.speech_llama_config import SpeechLlamaConfig
from valle.models.speech_llama_released import ReleasedSpeechLlama
from valle.tokenizers.speech_encoder import SpeechEncoderConfig
from valle.tokenizers.text_pieces import SentencePieces, fit_text_pieces, save_text_tokenizer
from valle.tokenizers.transcripts import Transcripts
from valle.training.speech_llama_options import SpeechLlamaOptions

PHONE_SECONDS = 0.12
TINY: dict[str, Any] = {
    "encoder_dim": 32, "encoder_nhead": 2, "num_encoder_layers": 1, "encoder_dropout": 0.0, "voice_change": 0.0, "decoder_dim": 32,
    "nhead": 2, "num_decoder_layers": 1, "lm_training": "full", "max_duration": 6.0, "num_epochs": 2, "save_every_n": 3,
    "valid_interval": 5, "log_interval": 2, "average_period": 2, "warmup_steps": 4, "num_workers": 0, "dtype": "float32", "device": "cpu",
    "tensorboard": False, "optimizer_name": "AdamW", "base_lr": 0.003,
}  # fmt: skip


def sentence(number: int) -> str:
    """Two words of two or three of the letters that are tones."""
    rng = np.random.default_rng(number)
    return " ".join("".join(rng.choice(list(TONES), size=int(rng.integers(2, 4)))) for _ in range(2))


def spoken(text: str, *, seed: int = 0) -> np.ndarray:
    """``text`` in tones, ``(T,)`` float32 at 16 kHz."""
    return utter([(letter, PHONE_SECONDS) for letter in text if letter != " "], seed=seed)


def write_transcribed(path: Path, *, num_cuts: int, first: int = 0) -> Path:
    """A manifest of cuts of sentence ``first`` and those after it, and their wavs beside it; every second is Spanish."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cuts = []
    for number in range(first, first + num_cuts):
        text, name = sentence(number), f"{path.name.split('.')[0]}-{number}"
        samples = spoken(text, seed=number)
        write_wav(path.parent / f"{name}.wav", samples, RATE)
        source, duration = AudioSource(type="file", channels=[0], source=str(path.parent / f"{name}.wav")), len(samples) / RATE
        recording = Recording(id=name, sources=[source], sampling_rate=RATE, num_samples=len(samples), duration=duration)
        supervision = SupervisionSegment(
            id=name, recording_id=name, start=0, duration=duration, text=text, language=("English", "Spanish")[number % 2]
        )
        cuts.append(MonoCut(id=name, start=0, duration=duration, channel=0, recording=recording, supervisions=[supervision]))
    write_cuts(cuts, path)
    return path


def tiny_pieces() -> SentencePieces:
    return fit_text_pieces([sentence(number) for number in range(300)], num_pieces=300)


def write_transcribed_corpus(folder: Path, *, num_train: int = 12) -> Path:
    """``folder/manifests`` and ``folder/tokenizers/text``, as ``prepare.sh`` leaves them; returns the manifest folder."""
    write_transcribed(folder / "manifests" / "cuts_train.jsonl.gz", num_cuts=num_train)
    write_transcribed(folder / "manifests" / "cuts_dev.jsonl.gz", num_cuts=4, first=1000)
    save_text_tokenizer(tiny_pieces(), folder / "tokenizers" / "text")
    return folder / "manifests"


def tiny_llama_options(manifests: Path, exp_dir: Path, **changes: Any) -> SpeechLlamaOptions:
    """Two epochs of a few steps of a model of a few thousand parameters."""
    places = {"manifest_dir": manifests, "text": manifests.parent / "tokenizers/text", "exp_dir": exp_dir}
    return SpeechLlamaOptions(**{**TINY, **places, **changes})


def tiny_speech_llama() -> ReleasedSpeechLlama:
    """Of random weights, with two draft heads and tokenizers that are real."""
    text = tiny_pieces()
    torch.manual_seed(0)
    config = SpeechLlamaConfig(
        lm=JointLMConfig(d_model=16, nhead=2, num_layers=1, dim_feedforward=32, num_pieces=text.num_pieces), bos=text.num_pieces,
        eos=text.num_pieces + 1, encoder=SpeechEncoderConfig(d_model=16, nhead=2, num_layers=1, dim_feedforward=32, positional_groups=4),
        frame_dim=16, ctc_pieces=text.num_pieces, lm_training="full", drafts=2,
    )  # fmt: skip
    model = SpeechLlama(config).eval()
    for parameter in model.parameters():
        parameter.data.normal_(std=0.3)
    transcripts = Transcripts(text, text, bos=config.bos, prompt="{language}")
    return ReleasedSpeechLlama(model=model, transcripts=transcripts, frames=None, longest_seconds=1.0, learned=("ctc", "llama"))
