"""A speech-llama to train, with its tokenizers: new, or of parts that have learned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from valle.errors import UserError
from valle.models.checkpoint import choose_checkpoint, load_checkpoint
from valle.models.joint_lm import JointLM
from valle.models.speech_llama import SpeechLlama
from valle.models.speech_llama_config import FRAME_MS, SpeechLlamaConfig
from valle.models.text_lm import TextLm, load_text_lm
from valle.tokenizers.frames import FrameTokenizer, frame_ms, load_frames
from valle.tokenizers.speech_encoder import SpeechEncoderConfig
from valle.tokenizers.text_pieces import TextTokenizer, load_text_tokenizer, text_tokenizer_from_state
from valle.training.speech_encoder_fit import load_encoder
from valle.training.speech_llama_options import SpeechLlamaOptions


@dataclass(frozen=True)
class Built:
    """The model, the pieces that the LM and CTC write in, and what gives frames where the model has no encoder of its own."""

    model: SpeechLlama
    text: TextTokenizer
    ctc_text: TextTokenizer
    frames: FrameTokenizer | None
    encoder_is_new: bool
    has_ctc: bool  # whether the CTC head has learned, or does


@dataclass(frozen=True)
class _Encoder:
    """An encoder that has learned to hear: its sizes, its weights, and, where it has learned by CTC, its head's and its pieces."""

    config: SpeechEncoderConfig
    weights: dict[str, Tensor]
    ctc_text: TextTokenizer | None = None


def build_speech_llama(options: SpeechLlamaOptions) -> Built:
    """What the options name, in training mode."""
    learned = None if options.encoder_from is None else _learned_encoder(options.encoder_from)
    if options.train_stage == "llama" and learned is not None and learned.ctc_text is None and not options.tune_encoder:
        raise UserError(
            f"expected an encoder that was trained by CTC in {options.encoder_from}, found one that was not; train it with "
            "--train-stage ctc --encoder-from first, or add --tune-encoder true"
        )
    ctc_text = load_text_tokenizer(options.text) if learned is None or learned.ctc_text is None else learned.ctc_text
    frames = None if options.has_own_encoder else load_frames(options.encoder, layer=options.encoder_layer)
    torch.manual_seed(options.seed)
    lm = _text_lm(options)
    encoder = None if frames is not None else learned.config if learned is not None else options.encoder_config()
    if encoder is not None:
        encoder = replace(encoder, dropout=options.encoder_dropout)
    config = SpeechLlamaConfig(
        lm=lm.model.config, bos=lm.bos, eos=lm.eos, encoder=encoder,
        frame_dim=len(frames.mean) if frames is not None else encoder.d_model if encoder is not None else 0,
        frame_ms=FRAME_MS if frames is None else frame_ms(frames), stride_ms=options.stride, ctc_pieces=ctc_text.num_pieces,
        lm_training="full" if options.train_stage == "ctc" else options.lm_training,  # of which nothing is trained then
        lora_rank=options.lora_rank, lora_alpha=options.lora_alpha, drafts=options.drafts, chained_drafts=options.chained_drafts,
    )  # fmt: skip
    model = SpeechLlama(config, lm.model)
    if learned is not None:
        model.load_state_dict({**model.state_dict(), **learned.weights})
    if model.encoder is not None:
        model.encoder.voice_change = options.voice_change
    model.ctc_weight, model.draft_weight = options.ctc_weight, options.draft_weight
    model.train_only(options.train_stage, tunes_encoder=options.tune_encoder)
    has_ctc = options.train_stage != "llama" or (learned is not None and learned.ctc_text is not None)
    return Built(
        model=model, text=lm.text, ctc_text=ctc_text, frames=frames, encoder_is_new=learned is None and frames is None, has_ctc=has_ctc
    )  # fmt: skip


def _text_lm(options: SpeechLlamaOptions) -> TextLm:
    if options.lm is None:
        text = load_text_tokenizer(options.text)
        model = JointLM(options.lm_config(text.num_pieces))
        return TextLm(model, text, model.bos, model.eos)
    lm = load_text_lm(options.lm)
    lm.model.train()
    return lm


def _learned_encoder(path: Path) -> _Encoder:
    state = load_checkpoint(path) if path.is_file() else choose_checkpoint(path)
    if "speech_llama" in state:
        return _of_speech_llama(state, path)
    if path.is_file():
        raise UserError(f"expected a checkpoint of --model-name speech-llama in {path}, found another; of an encoder's run name the folder")
    encoder = load_encoder(path)
    if encoder.bottleneck is not None or encoder.config.causal:
        raise UserError(f"expected an encoder that hears both ways and without a quantizer in {path}, found another")
    return _Encoder(encoder.config, {f"encoder.{name}": tensor for name, tensor in encoder.state_dict().items()})


def _of_speech_llama(state: Mapping[str, Any], path: Path) -> _Encoder:
    config = SpeechLlamaConfig.from_fields(state["speech_llama"])
    if config.encoder is None:
        raise UserError(f"expected a speech-llama with an encoder of its own in {path}, found one that takes frames of a tokenizer")
    ctc_text = text_tokenizer_from_state(state["tokenizers"]["ctc_text"]) if state["has_ctc"] else None
    kept = ("encoder.",) if ctc_text is None else ("encoder.", "ctc_head.")
    weights = {name: tensor for name, tensor in state["model"].items() if name.startswith(kept)}
    return _Encoder(config.encoder, weights, ctc_text)
