"""Settings of a run that trains a speech encoder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from valle.errors import UserError
from valle.modules.product_quantizer import QuantizerConfig
from valle.settings import require_at_least, setting
from valle.tokenizers.speech_encoder import SpeechEncoderConfig
from valle.training.options import AudioOptions

OBJECTIVES = ("hubert", "wav2vec", "vq-wav2vec", "wav2vec2", "w2v-bert")
PREDICTIVE = ("wav2vec", "vq-wav2vec")  # which tell the future from the past
QUANTIZED = ("vq-wav2vec", "wav2vec2", "w2v-bert")


@dataclass(frozen=True)
class SpeechEncoderOptions(AudioOptions):
    """A run that trains a speech encoder; ``targets_from``, ``target_layer`` and ``num_clusters`` go together, one a target set."""

    exp_dir: Path = setting(Path("exp/hubert"), "where checkpoints, targets, logs and curves go; a run found there is resumed")
    objective: Literal["hubert", "wav2vec", "vq-wav2vec", "wav2vec2", "w2v-bert"] = setting("hubert", "what the encoder learns to do")
    manifests: list[Path] = setting([Path("data/manifests/cuts_train.jsonl.gz")], "manifests of cuts to learn from")
    valid_manifest: Path = setting(Path("data/manifests/cuts_dev.jsonl.gz"), "manifest of cuts to validate on")
    targets_from: list[str] = setting(
        ["mfcc"], "hubert: whose clusters to predict: mfcc, an --exp-dir of this trainer, or a tokenizer; several make an ensemble"
    )
    target_layer: list[int] = setting([0], "hubert: the layer of an --exp-dir that is clustered, from 1; 0 for mfcc and tokenizers")
    num_clusters: list[int] = setting([100], "hubert: clusters of each target set that is fitted")
    fit_hours: float = setting(5.0, "hubert: hours of audio to fit clusters on, at most")
    standardise_targets: Literal["corpus", "cut"] = setting(
        "corpus", "hubert: by whose mean and deviation features are standardised before they are clustered; cut: each cut's own, which "
        "leaves out much of the voice"
    )  # fmt: skip
    voice_change: float = setting(0.0, "mel: hear each crop with frequencies scaled by up to this share, another loudness and tilt")
    init_encoder: Path | None = setting(None, "an --exp-dir of this trainer whose encoder to go on from, of the same sizes")
    crop_seconds: float = setting(4.0, "longest crop; shorter cuts are taken whole")
    filter_min_duration: float = setting(0.5, "leave out shorter cuts, seconds")
    front_end: Literal["mel", "wave"] = setting("mel", "log-mel bands (for CPUs), or convolutions over the waveform (for GPUs)")
    encoder_dim: int = setting(256, "width of the encoder (the papers': 768)")
    nhead: int = setting(4, "attention heads (12)")
    num_encoder_layers: int = setting(6, "layers (12)")
    dim_feedforward: int | None = setting(None, "width inside the feed-forward layers; 4 times --encoder-dim if not given")
    dropout: float = setting(0.1, "dropout")
    positional_kernel: int = setting(15, "frames under the positional convolution, odd; 0 for none")
    causal: bool = setting(False, "hear no future, for units of live audio; always so for wav2vec and vq-wav2vec")
    left_reach: int | None = setting(None, "frames before its own that attention sees in a layer; all if not given")
    right_reach: int | None = setting(None, "frames after its own that attention sees in a layer; all if not given")
    masked_weight: float = setting(1.0, "hubert: weight of the loss on masked frames (alpha); unmasked frames have the rest")
    hubert_head: Literal["linear", "cosine"] = setting(
        "linear", "hubert: how states become logits: a linear layer, or as published the cosine with code embeddings of --code-dim over 0.1"
    )  # fmt: skip
    mask_share: float = setting(0.08, "share of frames at which a masked span begins")
    mask_span: int = setting(10, "frames in a masked span")
    num_negatives: int = setting(0, "distractors of a contrast; 0 for the papers': 10 for wav2vec and vq-wav2vec, 100 for the others")
    prediction_steps: int = setting(12, "wav2vec, vq-wav2vec: frames ahead that are told")
    quantizer: Literal["gumbel", "kmeans"] = setting("gumbel", "how vq-wav2vec, wav2vec2 and w2v-bert quantize frames")
    quantizer_groups: int = setting(2, "codes that make up a frame's vector")
    quantizer_codes: int = setting(320, "codes in a group")
    gumbel_decay: float = setting(0.9995, "factor a step by which the Gumbel softmax cools, from 2 to 0.5; wav2vec 2.0 has 0.999995")
    gumbel_share: float = setting(
        0.0, "share of the run over which the Gumbel softmax cools from 2 to 0.5, such as 0.7; 0: by --gumbel-decay, for runs of thousands"
    )  # fmt: skip
    code_dim: int = setting(256, "width of quantized vectors, and of --hubert-head cosine's embeddings")
    penalty_weight: float | None = setting(None, "of the quantizer's penalty; 0.1 for gumbel's diversity, 1 for kmeans if not given")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.objective in PREDICTIVE:
            object.__setattr__(self, "causal", True)
        require_at_least(self, 1, "mask_span", "prediction_steps", "quantizer_groups", "code_dim")
        for name in ("crop_seconds", "fit_hours", "mask_share"):
            if not getattr(self, name) > 0:
                raise UserError(f"--{name.replace('_', '-')} must be above 0, found {getattr(self, name)}")
        if not 0 <= self.voice_change <= 0.5:
            raise UserError(f"--voice-change must lie within 0..0.5, found {self.voice_change:g}")
        if not 0 <= self.gumbel_share <= 1:
            raise UserError(f"--gumbel-share must lie in 0..1, found {self.gumbel_share:g}")
        for name in ("masked_weight", "gumbel_decay"):
            if not 0 < getattr(self, name) <= 1:
                raise UserError(f"--{name.replace('_', '-')} must be above 0 and at most 1, found {getattr(self, name):g}")
        if self.voice_change and self.front_end != "mel":
            raise UserError(f"--voice-change is for --front-end mel, found {self.front_end}; leave one of the two out")
        if self.quantizer_codes < 2 or self.code_dim % self.quantizer_groups:
            raise UserError(
                f"expected 2 or more --quantizer-codes and a --code-dim that --quantizer-groups divides, found {self.quantizer_codes}, "
                f"{self.code_dim} and {self.quantizer_groups}"
            )
        self._match_target_sets()

    def _match_target_sets(self) -> None:
        count = len(self.targets_from)
        if self.objective == "hubert" and not count:
            raise UserError("expected someone's clusters to predict after --targets-from, found none; leave it out for mfcc")
        for name in ("target_layer", "num_clusters"):
            values = getattr(self, name)
            if len(values) == 1:
                object.__setattr__(self, name, values * count)
            elif len(values) != count:
                raise UserError(
                    f"expected a --{name.replace('_', '-')} for each of {count} --targets-from, found {len(values)}; give as many, or one"
                )
        for clusters in self.num_clusters:
            if not 2 <= clusters <= 2**15:
                raise UserError(f"--num-clusters must lie within 2..{2**15}, found {clusters}")

    @property
    def is_per_cut(self) -> bool:
        return self.standardise_targets == "cut"

    def encoder_config(self) -> SpeechEncoderConfig:
        """The sizes asked for."""
        return SpeechEncoderConfig(
            front_end=self.front_end, d_model=self.encoder_dim, nhead=self.nhead, num_layers=self.num_encoder_layers,
            dim_feedforward=self.dim_feedforward or 4 * self.encoder_dim, dropout=self.dropout, positional_kernel=self.positional_kernel,
            causal=self.causal, left_reach=self.left_reach, right_reach=self.right_reach,
        )  # fmt: skip

    def quantizer_config(self) -> QuantizerConfig:
        """The sizes of the quantizer asked for."""
        return QuantizerConfig(kind=self.quantizer, groups=self.quantizer_groups, size=self.quantizer_codes, out_dim=self.code_dim)

    def negatives(self) -> int:
        """Distractors of a contrast."""
        return self.num_negatives or (10 if self.objective in PREDICTIVE else 100)

    def penalty(self) -> float:
        """Weight of the quantizer's penalty."""
        if self.penalty_weight is not None:
            return self.penalty_weight
        return 0.1 if self.quantizer == "gumbel" else 1.0
