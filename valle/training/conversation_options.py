"""Settings of a run that trains ``conversation``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from valle.errors import UserError
from valle.models.conversation_config import ConversationConfig
from valle.settings import require_at_least, setting
from valle.training.options import LoopOptions


@dataclass(frozen=True)
class ConversationOptions(LoopOptions):
    """A run that trains the next turn of a conversation; ``bin/trainer_audiolm.py --model-name conversation``."""

    model_name: Literal["conversation"] = setting("conversation", "model to train")
    exp_dir: Path = setting(Path("exp/conversation"), "where checkpoints, logs and curves go; a run found there is resumed")
    text: Path = setting(Path("data/tokenizers/text"), "the text tokenizer that stage 2 left, or the folder of another")
    body: Literal["transformer", "gated"] = setting("transformer", "this project's transformers, or CSM's, which are Llama's (gated)")
    decoder_dim: int = setting(256, "width of the transformer over time")
    nhead: int = setting(4, "attention heads")
    num_decoder_layers: int = setting(6, "layers")
    dim_feedforward: int | None = setting(None, "width inside the feed-forward layers; 4 times --decoder-dim if not given")
    dropout: float = setting(0.0, "dropout")
    num_kv_heads: int | None = setting(None, "of a gated body: heads of keys and values; as many as --nhead if not given")
    rotary_base: float = setting(10000.0, "of a gated body: base of its rotary positions")
    depth_dim: int | None = setting(None, "width of the transformer over levels; half of --decoder-dim if not given")
    depth_nhead: int | None = setting(None, "its attention heads; as wide as --nhead's if not given")
    depth_num_layers: int = setting(2, "its layers")
    depth_dim_feedforward: int | None = setting(None, "of a gated body: its feed-forward width; 4 times --depth-dim if not given")
    depth_num_kv_heads: int | None = setting(None, "of a gated body: its heads of keys and values; as many as its heads if not given")
    depth_share: float = setting(0.25, "share of a turn's frames on which the levels above 0 are trained, drawn at random (CSM: 0.0625)")
    num_quantizers: int = setting(8, "codebooks of the codec that are modelled")
    codebook_init: bool = setting(True, "start from the codec's own vectors, where it has some")
    context_seconds: float = setting(12.0, "sound of earlier turns before a turn, at most; how many of them is drawn for each turn")
    manifest_dir: Path = setting(Path("data/tokenized"), "where prepare.sh left cuts_train.jsonl.gz, cuts_dev.jsonl.gz and info.json")
    max_tokens: int = setting(4000, "text pieces and frames per batch, padding among them")
    num_workers: int = setting(0, "processes that make batches; 0 makes them in the trainer")
    valid_max_turns: int = setting(100, "dev turns at a validation")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 1, "max_tokens", "valid_max_turns", "decoder_dim", "nhead", "num_decoder_layers", "depth_num_layers")
        require_at_least(self, 0, "num_workers", "context_seconds")
        require_at_least(self, 2, "num_quantizers")
        if not 0 < self.depth_share <= 1:
            raise UserError(f"--depth-share must lie above 0 and be at most 1 (every frame), found {self.depth_share}")

    def config(self, *, num_pieces: int, codebook_size: int) -> ConversationConfig:
        """The sizes asked for."""
        depth_dim = self.depth_dim or max(1, self.decoder_dim // 2)
        return ConversationConfig(
            d_model=self.decoder_dim, nhead=self.nhead, num_layers=self.num_decoder_layers,
            dim_feedforward=4 * self.decoder_dim if self.dim_feedforward is None else self.dim_feedforward, dropout=self.dropout,
            depth_dim=depth_dim, depth_nhead=self.depth_nhead or max(1, depth_dim // (self.decoder_dim // self.nhead)),
            depth_num_layers=self.depth_num_layers, num_pieces=num_pieces, num_levels=self.num_quantizers, codebook_size=codebook_size,
            body=self.body, num_kv_heads=self.num_kv_heads or 0, rotary_base=self.rotary_base,
            depth_dim_feedforward=self.depth_dim_feedforward or 0, depth_num_kv_heads=self.depth_num_kv_heads or 0,
        )  # fmt: skip
