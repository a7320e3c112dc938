"""Finds when the phones of a known text are said: a small classifier of frames, and Viterbi alignment under its likelihoods.

The classifier is a hybrid model's (Bourlard and Morgan 1994): its posteriors over the phones' shares give likelihoods up to a factor.
It hears whole utterances, never parts of one, so that each is standardised by its own mean: synthetic voices and recordings
differ most in what a constant filter changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from valle.errors import UserError
from valle.files import replacing
from valle.measures.forced_alignment import Segment, align_segments
from valle.modules.convnext import ConvNeXt
from valle.timeline import ceil_division
from valle.tokenizers.front_ends import FRAME_HOP, MEL_HOP, MelFrontEnd

SAMPLE_RATE = 16_000  # Hz
STEP = MEL_HOP / SAMPLE_RATE  # seconds from one frame to the next
PAUSE = "(pause)"  # the first class
SHARE_OF_SURPRISE = 0.01  # of a posterior, that is spread over all classes: a phone said otherwise than the text says costs so much only
CONFIG_FILE, WEIGHTS_FILE = "config.yaml", "model.safetensors"


class AlignerError(UserError):
    """No aligner, or none that fits."""


@dataclass(frozen=True, kw_only=True)
class AlignerConfig:
    """What the network is built of; ``phones`` are its classes after the pause."""

    phones: tuple[str, ...]
    num_mels: int = 40
    dim: int = 128
    num_blocks: int = 4
    reach: int = 4  # frames of 10 ms on each side that a block hears
    min_phone_frames: int = 3
    min_pause_frames: int = 4


@dataclass(frozen=True)
class AlignedPhone:
    """When a phone of the text is said, in seconds, and the mean posterior probability of it meanwhile, 0 to 1."""

    word: int
    symbol: str
    begin: float
    end: float
    confidence: float


@dataclass(frozen=True)
class Aligned:
    """An utterance's phones, and its log likelihood ratio a frame: of the text against the phone that is likeliest at each frame."""

    phones: list[AlignedPhone]
    score: float


class PhoneAligner(nn.Module):
    """Frames of 10 ms to classes, and texts to times."""

    deviation: Tensor
    log_shares: Tensor

    def __init__(self, config: AlignerConfig) -> None:
        super().__init__()
        self.config = config
        self.classes = (PAUSE, *config.phones)
        self.front_end = MelFrontEnd(sample_rate=SAMPLE_RATE, num_mels=config.num_mels, causal=False)
        self.hear = nn.Linear(config.num_mels, config.dim)
        self.body = ConvNeXt(config.dim, config.num_blocks, lookahead=config.reach, kernel_size=2 * config.reach + 1)
        self.tell = nn.Linear(config.dim, len(self.classes))
        self.register_buffer("deviation", torch.ones(config.num_mels))
        self.register_buffer("log_shares", torch.zeros(len(self.classes)))
        self._number = {symbol: number for number, symbol in enumerate(self.classes)}

    def log_mels(self, wav: NDArray[np.float32]) -> Tensor:
        """``wav (T,)`` at 16 kHz -> ``(ceil(T / 160), num_mels)`` in nats."""
        padded = torch.from_numpy(np.pad(wav, (0, -len(wav) % FRAME_HOP)))
        with torch.inference_mode():
            return self.front_end.log_mels(padded[None])[0, : ceil_division(len(wav), MEL_HOP)].clone()

    def forward(self, mels: Tensor) -> Tensor:
        """``mels (B, T, num_mels)`` -> logits ``(B, T, classes)``; every row is whole or a crop, none is padded."""
        heard = (mels - mels.mean(1, keepdim=True)) / self.deviation
        return self.tell(self.body(self.hear(heard), torch.ones_like(mels[..., :1])))

    def number(self, symbol: str) -> int:
        """The class of a phone; of one that training lacked, that of the phone written most alike, or a pause's."""
        if symbol in self._number:
            return self._number[symbol]
        likest = max(self.classes, key=lambda known: (letters_in_common(known, symbol), -len(known)))
        return self._number[likest] if letters_in_common(likest, symbol) else 0

    @torch.inference_mode()
    def posteriors(self, mels: Tensor) -> NDArray[np.float64]:
        """``mels (T, num_mels)`` -> probabilities ``(T, classes)``."""
        return self(mels[None].float())[0].double().softmax(-1).numpy()

    def align(self, posteriors: NDArray[np.float64], words: Sequence[Sequence[str]]) -> Aligned | None:
        """Phones of ``words`` in time, with pauses between words where they fit; None where the utterance is too short for them."""
        pause = Segment(0, self.config.min_pause_frames, optional=True)
        segments, places = [pause], []
        for word, symbols in enumerate(words):
            for symbol in symbols:
                places.append((len(segments), word, symbol))
                segments.append(Segment(self.number(symbol), self.config.min_phone_frames))
            segments.append(pause)
        if not places:
            return None
        smooth = (1 - SHARE_OF_SURPRISE) * posteriors + SHARE_OF_SURPRISE / len(self.classes)
        scores = np.log(smooth) - self.log_shares.double().numpy()
        path = align_segments(scores, segments)
        if path is None:
            return None
        phones = []
        for place, word, symbol in places:
            span = path.spans[place]
            assert span is not None
            confidence = float(posteriors[slice(*span), segments[place].label].mean())
            phones.append(AlignedPhone(word, symbol, span[0] * STEP, span[1] * STEP, confidence))
        return Aligned(phones, (path.score - float(scores.max(1).sum())) / len(scores))

    def save(self, folder: Path, info: dict[str, Any]) -> None:
        """Write ``config.yaml`` (with ``info`` on how it was trained) and ``model.safetensors``."""
        values = {**asdict(self.config), "phones": list(self.config.phones), "training": info}
        with replacing(folder / WEIGHTS_FILE) as temporary:
            save_file({name: tensor.contiguous() for name, tensor in self.state_dict().items()}, temporary)
        with replacing(folder / CONFIG_FILE) as temporary:
            temporary.write_text(yaml.safe_dump(values, sort_keys=False, allow_unicode=True), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> tuple[PhoneAligner, dict[str, Any]]:
        """The aligner in a folder, and how it was trained."""
        try:
            values = dict(yaml.safe_load((folder / CONFIG_FILE).read_text(encoding="utf-8")))
            info = dict(values.pop("training"))
            aligner = cls(AlignerConfig(**{**values, "phones": tuple(map(str, values["phones"]))}))
            aligner.load_state_dict(load_file(folder / WEIGHTS_FILE))
        except FileNotFoundError as error:
            raise AlignerError(
                f"expected an aligner in {folder}, found no {Path(error.filename).name} there; name another folder"
            ) from error
        except (yaml.YAMLError, UnicodeDecodeError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise AlignerError(f"the aligner in {folder} cannot be read ({reason}); delete the folder and train it again") from error
        return aligner.eval(), info


def letters_in_common(one: str, other: str) -> int:
    """With how many equal letters two phones are begun."""
    return next((place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def is_aligner(folder: Path) -> bool:
    """Is a finished aligner there?  Its configuration is written last."""
    return (folder / CONFIG_FILE).is_file()
