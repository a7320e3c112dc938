"""A released speech-llama: a folder of ``config.yaml``, ``model.safetensors`` and ``tokenizers/{text,ctc_text}``, perhaps ``frames``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from valle.errors import UserError
from valle.models.checkpoint import CheckpointError, choose_checkpoint, load_checkpoint
from valle.models.folder import (
    ReleasedModelError,
    read_model_config,
    read_released_weights,
    refuse_other_content,
    replacing_folder,
    write_model,
)
from valle.models.speech_llama import CTC, LLAMA, SpeechLlama
from valle.tokenizers.frames import FrameTokenizer, expect_frames
from valle.tokenizers.registry import expect_semantic, load_semantic, save_tokenizer, tokenizer_from_state
from valle.tokenizers.text_pieces import load_text_tokenizer, save_text_tokenizer, text_tokenizer_from_state
from valle.tokenizers.transcripts import Transcripts

KEY = "speech_llama"  # of its settings in a checkpoint
NAME = "speech-llama"


@dataclass(frozen=True)
class ReleasedSpeechLlama:
    """All that writes down what it hears; LoRA's changes are in the weights."""

    model: SpeechLlama
    transcripts: Transcripts
    frames: FrameTokenizer | None  # where the model has no encoder of its own
    longest_seconds: float  # of what it has learned from
    learned: tuple[str, ...]  # of ctc and llama

    @property
    def sample_rate(self) -> int:
        """Of what is heard, in Hz."""
        return self.model.sample_rate if self.frames is None else self.frames.sample_rate

    def __post_init__(self) -> None:
        config = self.model.config
        if (self.frames is None) != (config.encoder is not None) or self.transcripts.ctc_text.num_pieces != config.ctc_pieces:
            raise ReleasedModelError(
                f"expected a tokenizer of {config.ctc_pieces} pieces for CTC, and one of frames unless the model has an encoder, found "
                f"{self.transcripts.ctc_text.num_pieces} pieces and {'no ' if self.frames is None else ''}frames; export the model again"
            )
        if self.transcripts.text.num_pieces > config.lm.num_pieces:
            raise ReleasedModelError(
                f"expected at most {config.lm.num_pieces} text pieces, as the model has, found {self.transcripts.text.num_pieces}; "
                "export the model again"
            )


def save_speech_llama(released: ReleasedSpeechLlama, folder: Path, *, dtype: torch.dtype = torch.float16) -> None:
    """Write the folder under a temporary name, then rename it; an older released model there is replaced."""
    refuse_other_content(folder)
    transcripts, frames = released.transcripts, released.frames
    config = {
        "model": {NAME: released.model.config.to_dict()}, "prompt": transcripts.prompt, "longest_seconds": released.longest_seconds,
        "learned": list(released.learned),
        "identities": {
            "text": transcripts.text.identity.to_dict(), "ctc_text": transcripts.ctc_text.identity.to_dict(),
            "frames": None if frames is None else frames.identity.to_dict(),
        },
    }  # fmt: skip
    with replacing_folder(folder) as temporary:
        write_model(temporary, config, released.model.state_dict(), dtype=dtype)
        save_text_tokenizer(transcripts.text, temporary / "tokenizers" / "text")
        save_text_tokenizer(transcripts.ctc_text, temporary / "tokenizers" / "ctc_text")
        if frames is not None:
            save_tokenizer(frames, temporary / "tokenizers" / "frames")


def load_speech_llama(path: Path) -> ReleasedSpeechLlama:
    """A released folder, a trainer's folder (its best weights on dev), or a checkpoint; in evaluation mode and fp32."""
    if path.is_file():
        return speech_llama_from_checkpoint(load_checkpoint(path))
    if not (path / "config.yaml").is_file():
        return speech_llama_from_checkpoint(choose_checkpoint(path))
    config = read_model_config(path)
    try:
        model = SpeechLlama.from_weights(config["model"][NAME], read_released_weights(path))
        text, ctc_text = (load_text_tokenizer(path / "tokenizers" / name) for name in ("text", "ctc_text"))
        frames = None if model.encoder is not None else expect_frames(load_semantic(str(path / "tokenizers" / "frames")))
        identities = {name: (config["identities"][name] or {}).get("sha256") for name in ("text", "ctc_text", "frames")}
        prompt, longest, learned = str(config["prompt"]), float(config["longest_seconds"]), tuple(map(str, config["learned"]))
    except ReleasedModelError:
        raise
    except (UserError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise ReleasedModelError(f"expected a speech-llama in {path}, found none or a damaged one ({error}); export it again") from error
    for name, found in (("text", text), ("ctc_text", ctc_text), ("frames", frames)):
        if found is not None and found.identity.sha256 != identities[name]:
            raise ReleasedModelError(
                f"the model in {path} was trained with the tokenizer {str(identities[name])[:12]} as {name} and its folder holds "
                f"{found.identity}; export it again"
            )
    transcripts = Transcripts(text, ctc_text, bos=model.config.bos, prompt=prompt)
    return ReleasedSpeechLlama(model=model, transcripts=transcripts, frames=frames, longest_seconds=longest, learned=learned)


def speech_llama_from_checkpoint(state: Mapping[str, Any]) -> ReleasedSpeechLlama:
    """A trainer's checkpoint as what transcribes, with LoRA's changes added to the weights."""
    missing = [key for key in (KEY, "tokenizers", "prompt", "longest_seconds", "train_stage", "has_ctc") if key not in state]
    if missing:
        raise CheckpointError(
            f"expected a speech-llama's checkpoint, found one without {', '.join(missing)}; use a file that --model-name speech-llama wrote"
        )
    try:
        model = SpeechLlama.from_weights(state[KEY], state["model"]).merge_lora().eval()
        tokenizers = state["tokenizers"]
        frames = expect_frames(expect_semantic(tokenizer_from_state(tokenizers["frames"]))) if tokenizers["frames"] else None
        text, ctc_text = (text_tokenizer_from_state(tokenizers[name]) for name in ("text", "ctc_text"))
        transcripts = Transcripts(text, ctc_text, bos=model.config.bos, prompt=str(state["prompt"]))
        return ReleasedSpeechLlama(
            model=model, transcripts=transcripts, frames=frames, longest_seconds=float(state["longest_seconds"]), learned=_learned(state)
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError("the checkpoint's tokenizers are not as the trainer writes them; use another checkpoint") from error


def _learned(state: Mapping[str, Any]) -> tuple[str, ...]:
    """What the run, and the one that its encoder came from, have trained."""
    return tuple(name for name, is_learned in ((CTC, state["has_ctc"]), (LLAMA, state["train_stage"] != CTC)) if is_learned)
