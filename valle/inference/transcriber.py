"""What recordings say, by a speech-llama (Fathullah et al. 2023), beside the encoder's own CTC and the text LM that hears nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from valle.audio import Waveform
from valle.device import find_device
from valle.errors import UserError
from valle.given_audio import PromptError, Recording, as_rows
from valle.inference.text_speech import TextSpeech
from valle.models.checkpoint import choose_checkpoint, load_checkpoint
from valle.models.ctc import ctc_greedy
from valle.models.folder import read_model_config
from valle.models.joint_released import joint_from_checkpoint, load_joint
from valle.models.speech_llama import CTC, LLAMA
from valle.models.speech_llama_decoding import write_down
from valle.models.speech_llama_released import KEY, NAME, ReleasedSpeechLlama, load_speech_llama, speech_llama_from_checkpoint
from valle.tokenizers.frames import frames_of, heard

By = Literal["llama", "ctc", "text"]
WAYS = ("llama", "ctc", "text")
MOST_PIECES = 200  # of a transcript
LONGER = 1.25  # a recording may last so much longer than any that was learned from


class Transcriber:
    """A speech-llama, ready to be asked.

    >>> transcriber = Transcriber.from_pretrained("exp/speech-llama")  # doctest: +SKIP
    >>> transcriber.transcribe(*read_audio("hello.wav"), language="English")  # doctest: +SKIP
    ['Peter sometimes washes the black knife.']
    """

    def __init__(self, released: ReleasedSpeechLlama, *, device: torch.device | str = "cpu") -> None:
        self.released, self.device = released, find_device(str(device))
        self.model = released.model.eval().to(self.device)
        self.frames = released.frames.eval().to(self.device) if released.frames is not None else None

    @classmethod
    def from_pretrained(cls, path: str | Path, *, device: torch.device | str = "cpu") -> Transcriber:
        """The speech-llama in a released folder, a trainer's folder, or a checkpoint."""
        return cls(load_speech_llama(Path(path)), device=device)

    def transcribe(
        self,
        wav: Recording | Sequence[Recording],
        sample_rate: int,
        *,
        language: str = "English",
        by: By | None = None,
        draft_tokens: int = 0,
    ) -> list[str]:
        """What is said in recordings; ``language`` counts if the model was trained with a prompt that names it.

        ``by`` ``llama`` is the text LM, ``ctc`` the encoder alone, frame by frame, ``text`` the text LM after its prompt, without the
        recording, as a control; not given, the LM if it has learned to read speech.  ``draft_tokens`` makes the LM faster by as many of
        its draft heads, and changes no text.
        """
        way = by or (LLAMA if LLAMA in self.released.learned else CTC)
        rows, transcripts = as_rows(wav), self.released.transcripts
        if way not in WAYS:
            raise UserError(f"expected {', '.join(WAYS)} as what transcribes, found {way!r}")
        if way != "text" and way not in self.released.learned:
            raise UserError(f"this model has learned {', '.join(self.released.learned)}, not {way}; train it with --train-stage all")
        with torch.inference_mode():
            if way == CTC:
                states, frames = self._hear(rows, sample_rate)
                return [transcripts.heard(pieces) for pieces in ctc_greedy(self.model.ctc_head(states), frames)]
            speech = self._embedded(*self._hear(rows, sample_rate)) if way == LLAMA else [self._nothing()] * len(rows)
            prompts = [transcripts.before(language)] * len(rows)
            found = write_down(self.model, speech, prompts, max_new=MOST_PIECES, draft_tokens=draft_tokens)
        return [transcripts.written(pieces) for pieces in found]

    def similarity(self, wav: Recording, sample_rate: int, *, text: str) -> NDArray[np.float32]:
        """Cosines ``(pieces, A)`` of the text's embeddings, piece by piece, with those of the speech, in time."""
        with torch.inference_mode():
            [speech] = self._embedded(*self._hear(as_rows(wav), sample_rate))
            pieces = torch.tensor(self.released.transcripts.text.encode(text), device=self.device)
            embedded = self.model.embed(pieces)
            cosines = torch.nn.functional.normalize(embedded, dim=-1) @ torch.nn.functional.normalize(speech, dim=-1).T
        found: NDArray[np.float32] = cosines.float().cpu().numpy()
        return found

    def pieces(self, text: str) -> list[str]:
        """The text of each piece that the LM makes of ``text``."""
        pieces = self.released.transcripts.text.encode(text)
        return [self.released.transcripts.text.decode([piece]) for piece in pieces]

    def _nothing(self) -> Tensor:
        return torch.zeros(0, self.model.config.lm.d_model, device=self.device)

    def _embedded(self, states: Tensor, frames: Tensor) -> list[Tensor]:
        speech, counts = self.model.embed_speech(states, frames)
        return [row[:count] for row, count in zip(speech, counts.tolist(), strict=True)]

    def _hear(self, rows: Sequence[Waveform], rate: int) -> tuple[Tensor, Tensor]:
        """Frames ``(B, F, D)`` of recordings, and how many each has."""
        most = LONGER * self.released.longest_seconds
        for row in rows:
            if not 0.1 <= len(row) / rate <= most:
                raise PromptError(
                    f"expected a recording of 0.1 to {most:.1f} s, as long as the model has heard in training, "
                    f"found {len(row) / rate:.1f} s; cut it"
                )
        sample_rate = self.released.sample_rate
        audio = [torch.from_numpy(heard(row, rate, sample_rate)) for row in rows]
        wav = torch.nn.utils.rnn.pad_sequence(audio, batch_first=True).to(self.device)
        lengths = torch.tensor([len(row) for row in audio], device=self.device)
        return self.model.hear(wav, lengths) if self.frames is None else frames_of(self.frames, wav, lengths)


def load_listener(path: Path, *, device: str = "cpu") -> Transcriber | TextSpeech:
    """Whatever transcribes at ``path``: a speech-llama or a joint-lm, in a released folder, a trainer's folder, or a checkpoint."""
    if path.is_dir() and (path / "config.yaml").is_file():
        model = read_model_config(path)["model"]
        is_llama = isinstance(model, dict) and NAME in model
        return Transcriber(load_speech_llama(path), device=device) if is_llama else TextSpeech(load_joint(path), device=device)
    state = load_checkpoint(path) if path.is_file() else choose_checkpoint(path)
    if KEY in state:
        return Transcriber(speech_llama_from_checkpoint(state), device=device)
    return TextSpeech(joint_from_checkpoint(state), device=device)
