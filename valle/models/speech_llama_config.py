"""Sizes of ``speech-llama``: what is heard, how many of its frames make an embedding, and the text LM that reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from valle.decoding.sampling import MOST_DRAFTS
from valle.errors import UserError
from valle.models.joint_config import LLAMA_7B, JointLMConfig
from valle.tokenizers.speech_encoder import SpeechEncoderConfig

LmTraining = Literal["frozen", "lora", "full"]
LM_TRAINING = ("frozen", "lora", "full")
FRAME_MS = 20  # of this project's encoder


@dataclass(frozen=True, kw_only=True)
class SpeechLlamaConfig:
    """``encoder`` None: frames come from a tokenizer of ``frame_dim`` numbers every ``frame_ms``.

    ``bos`` and ``eos`` are the text LM's own numbers; ``ctc_pieces`` counts the pieces that the encoder's CTC tells apart.
    """

    lm: JointLMConfig = field(default_factory=JointLMConfig)
    bos: int = 0
    eos: int = 0
    encoder: SpeechEncoderConfig | None = field(default_factory=SpeechEncoderConfig)
    frame_dim: int = 256
    frame_ms: int = FRAME_MS
    stride_ms: int = 80
    ctc_pieces: int = 1000
    lm_training: LmTraining = "lora"
    lora_rank: int = 8
    lora_alpha: float = 16.0
    drafts: int = 0
    chained_drafts: bool = False

    def __post_init__(self) -> None:
        if self.lm_training not in LM_TRAINING:
            raise UserError(f"expected {', '.join(LM_TRAINING)} as how the text LM is trained, found {self.lm_training!r}")
        if self.frame_ms < 1 or self.stride_ms % self.frame_ms or not self.frame_ms <= self.stride_ms <= 10000:
            raise UserError(f"expected a stride of a multiple of {self.frame_ms} ms, as long as a frame lasts, found {self.stride_ms} ms")
        for name, number in (("bos", self.bos), ("eos", self.eos)):
            if not 0 <= number < self.lm.vocabulary.size:
                raise UserError(f"expected {name} within the text LM's {self.lm.vocabulary.size} tokens, found {number}")
        for name in ("frame_dim", "ctc_pieces", "lora_rank"):
            if getattr(self, name) < 1:
                raise UserError(f"expected {name} of 1 or more in a speech-llama, found {getattr(self, name)}")
        if not 0 <= self.drafts <= MOST_DRAFTS:
            raise UserError(f"a model may have 0 to {MOST_DRAFTS} draft heads, found {self.drafts}")
        if self.encoder is not None and (self.frame_dim, self.frame_ms) != (self.encoder.d_model, FRAME_MS):
            raise UserError(f"expected frames as wide as the encoder's {self.encoder.d_model}, of {FRAME_MS} ms, found {self.frame_dim}")

    @property
    def stacked(self) -> int:
        """Frames in an embedding."""
        return self.stride_ms // self.frame_ms

    @property
    def has_lora(self) -> bool:
        return self.lm_training == "lora"

    def merged(self) -> SpeechLlamaConfig:
        """The same with LoRA's changes in the weights."""
        return replace(self, lm_training="full") if self.has_lora else self

    def to_dict(self) -> dict[str, Any]:
        values = asdict(self)
        if values["encoder"] is not None:
            del values["encoder"]["bottleneck"]
        return values

    @classmethod
    def from_fields(cls, values: Any) -> SpeechLlamaConfig:
        """The configuration that a file holds; raises ``UserError`` for other fields."""
        if not isinstance(values, Mapping) or not {"lm", "encoder"} <= set(values) <= set(cls.__dataclass_fields__):
            raise UserError(f"expected the fields of a speech-llama, found {sorted(values) if isinstance(values, Mapping) else values!r}")
        encoder = values["encoder"]
        try:
            own = None if encoder is None else SpeechEncoderConfig(**encoder)
            return cls(**{**values, "lm": JointLMConfig.from_fields(values["lm"]), "encoder": own})
        except TypeError as error:
            raise UserError(f"expected the sizes of a speech-llama, found no good ones ({error}); use another file") from error


# LLaMA-7B (Touvron et al. 2023, table 2) as Fathullah et al. 2023 adapt it: rank 8, alpha 16, 80 ms.  Their encoder is a Conformer of 18
# layers, 512 wide, of which this project's transformer of the same width and depth takes the place: its shape is ours.
SPEECH_LLAMA_7B = SpeechLlamaConfig(
    lm=replace(LLAMA_7B, num_units=0), bos=1, eos=2, ctc_pieces=32000, frame_dim=512,
    encoder=SpeechEncoderConfig(d_model=512, nhead=8, num_layers=18, dim_feedforward=2048),
)  # fmt: skip
