"""Settings of a run that trains ``speech-llama``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from valle.errors import UserError
from valle.models.joint_config import JointLMConfig
from valle.settings import require_at_least, setting
from valle.tokenizers.speech_encoder import SpeechEncoderConfig
from valle.training.options import LoopOptions

OWN_ENCODER = "ctc"


@dataclass(frozen=True)
class SpeechLlamaOptions(LoopOptions):
    """A run that lets a text LM read speech; ``bin/trainer_audiolm.py --model-name speech-llama``."""

    model_name: Literal["speech-llama"] = setting("speech-llama", "model to train")
    exp_dir: Path = setting(Path("exp/speech-llama"), "where checkpoints, logs and curves go; a run found there is resumed")
    train_stage: Literal["all", "ctc", "llama"] = setting(
        "all", "ctc: the speech encoder alone, on text pieces; llama: the text LM with what leads speech into it; all: both at once"
    )
    encoder: str = setting(
        OWN_ENCODER, "ctc: an encoder of this project's, trained by CTC; or frames as they are: bundled, a unit tokenizer by name or "
        "folder, or a released encoder (hubert-base=FOLDER, whisper-base=FOLDER)",
    )  # fmt: skip
    encoder_from: Path | None = setting(
        None, "run or checkpoint whose encoder to begin with, of the sizes that it has: of speech-llama, or a folder of "
        "trainer_speech_encoder.py",
    )  # fmt: skip
    encoder_layer: int = setting(9, "layer of a released encoder that gives frames, from 1")
    encoder_dim: int = setting(256, "width of the encoder")
    encoder_nhead: int = setting(4, "attention heads of the encoder")
    num_encoder_layers: int = setting(6, "layers of the encoder")
    encoder_dropout: float = setting(0.1, "dropout in the encoder")
    voice_change: float = setting(0.1, "hear each recording with frequencies scaled by up to this share, another loudness and tilt")
    tune_encoder: bool = setting(False, "let the LM's loss train the encoder too")
    ctc_weight: float = setting(1.0, "weight of CTC's loss beside the LM's, where both are trained")
    stride: int = setting(80, "milliseconds of speech in an embedding, 80 to 960 in the paper; a multiple of the encoder's 20")
    lm: Path | None = setting(
        None, "text LM that reads the speech: a run or checkpoint of --model-name joint-lm --tasks LM, or the folder of a released one "
        "(Llama, SmolLM, Mistral, Qwen2); none: a new one, trained from nothing",
    )  # fmt: skip
    lm_training: Literal["lora", "frozen", "full"] = setting("lora", "how the text LM is trained: lora on q, k, v and o, frozen, or full")
    lora_rank: int = setting(8, "rank of LoRA's changes")
    lora_alpha: float = setting(16.0, "changes count by this over their rank")
    prompt: str = setting("", "text between the speech and its transcript, in which {language} stands for its language")
    drafts: int = setting(0, "heads that predict tokens after the next one, for bin/transcribe.py --draft-tokens")
    chained_drafts: bool = setting(False, "draft heads also see the drafted token before theirs")
    draft_weight: float = setting(0.3, "weight of the draft heads' mean loss beside that of the next token")
    text: Path = setting(Path("data/tokenizers/text"), "text tokenizer of CTC, and of an LM that is new; stage 2 left it")
    decoder_dim: int = setting(256, "width of an LM that is new")
    nhead: int = setting(4, "its attention heads")
    num_decoder_layers: int = setting(4, "its layers")
    dim_feedforward: int | None = setting(None, "width inside its feed-forward layers; 4 times --decoder-dim if not given")
    dropout: float = setting(0.0, "its dropout")
    manifest_dir: Path = setting(Path("data/manifests"), "where prepare.sh left cuts_train.jsonl.gz and cuts_dev.jsonl.gz")
    max_duration: float = setting(120.0, "seconds of audio per batch, padding among them")
    num_workers: int = setting(1, "processes that read batches; 0 reads in the trainer")
    filter_min_duration: float = setting(0.3, "leave out shorter cuts, seconds")
    filter_max_duration: float = setting(30.0, "leave out longer cuts, seconds")
    valid_max_cuts: int = setting(200, "dev cuts at a validation")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(
            self, 1, "stride", "encoder_layer", "encoder_dim", "encoder_nhead", "num_encoder_layers", "lora_rank", "valid_max_cuts",
            "decoder_dim", "nhead", "num_decoder_layers",
        )  # fmt: skip
        require_at_least(self, 0, "drafts", "num_workers", "ctc_weight", "draft_weight", "filter_min_duration")
        for name in ("encoder_dropout", "dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"--{name.replace('_', '-')} must lie in 0..1, found {getattr(self, name)}")
        if not self.lora_alpha > 0 or not self.max_duration > 0:
            raise UserError(f"--lora-alpha and --max-duration must be above 0, found {self.lora_alpha:g} and {self.max_duration:g}")
        if not 0 <= self.voice_change <= 0.5:
            raise UserError(f"--voice-change must lie within 0..0.5, found {self.voice_change:g}")
        if not self.filter_min_duration < self.filter_max_duration:
            raise UserError(
                f"--filter-min-duration {self.filter_min_duration:g} leaves nothing below "
                f"--filter-max-duration {self.filter_max_duration:g}"
            )
        self._refuse_what_does_not_go_together()

    def _refuse_what_does_not_go_together(self) -> None:
        if self.lm is None and self.lm_training != "full" and self.train_stage != "ctc":
            raise UserError(
                f"--lm-training {self.lm_training} needs a text LM that has learned something: name one after --lm, "
                "or use --lm-training full"
            )
        if self.encoder == OWN_ENCODER:
            if self.train_stage == "llama" and self.encoder_from is None and not self.tune_encoder:
                raise UserError("--train-stage llama needs an encoder that has learned to hear: name one after --encoder-from")
            return
        if self.encoder_from is not None or self.tune_encoder:
            raise UserError(f"--encoder-from and --tune-encoder are for --encoder ctc, found {self.encoder}; leave them out")

    @property
    def has_own_encoder(self) -> bool:
        return self.encoder == OWN_ENCODER

    def encoder_config(self) -> SpeechEncoderConfig:
        """The sizes of a new encoder."""
        return SpeechEncoderConfig(
            d_model=self.encoder_dim, nhead=self.encoder_nhead, num_layers=self.num_encoder_layers, dim_feedforward=4 * self.encoder_dim,
            dropout=self.encoder_dropout,
        )  # fmt: skip

    def lm_config(self, num_pieces: int) -> JointLMConfig:
        """The sizes of a new LM."""
        return JointLMConfig(
            d_model=self.decoder_dim, nhead=self.nhead, num_layers=self.num_decoder_layers,
            dim_feedforward=4 * self.decoder_dim if self.dim_feedforward is None else self.dim_feedforward, dropout=self.dropout,
            num_pieces=num_pieces,
        )  # fmt: skip
