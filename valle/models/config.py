"""The fields of an AudioLM, from which the same model can be built again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from difflib import get_close_matches
from math import inf
from typing import Any, Literal, get_args, get_origin, get_type_hints

from valle.decoding.sampling import MOST_DRAFTS
from valle.errors import UserError
from valle.modules.code_pattern import PATTERNS
from valle.modules.transformer import TransformerConfig
from valle.settings import setting
from valle.timeline import Periods, ceil_division

MOST, MOST_LAYERS = 2**20, 1000  # no model is larger
ALWAYS_THERE = ("d_model", "nhead", "num_layers", "num_quantizers")  # in any model's file; of later fields, it may have the default


def _size(default: Any, text: str, *, flag: str = "", least: float | None = None) -> Any:
    """A field that is a flag of the trainer, and that a model which is tuned takes over."""
    return setting(default, text, flag=flag, size=True, least=least)


@dataclass(frozen=True)
class AudioLMConfig:
    """Sizes and choices of all stages; the defaults of the sizes are those of the papers.

    A field with a help is a flag of the trainer and declared nowhere else: flags, the sizes that fine-tuning takes over and the
    keys of checkpoints derive from here.  A new field needs a default with which older models are as they were.
    ``num_units=None`` is the VALL-E variant: no semantic stage, acoustic models conditioned on a prompt of codes.

    >>> from valle import AudioLM, AudioLMConfig
    >>> config = AudioLMConfig(d_model=64, nhead=4, num_layers=2, num_units=200)
    >>> AudioLM.from_config(config).config == config
    True
    """

    d_model: int = _size(1024, "width of every stage", flag="decoder_dim", least=1)
    nhead: int = _size(16, "attention heads", least=1)
    num_layers: int = _size(12, "layers of every stage", flag="num_decoder_layers", least=1)
    semantic_num_layers: int | None = _size(None, "layers of the semantic stage, if different", least=1)
    coarse_num_layers: int | None = _size(None, "layers of the coarse stage, if different", least=1)
    fine_num_layers: int | None = _size(None, "layers of the fine stage, if different", least=1)
    delay_num_layers: int | None = _size(None, "layers of the delay stage, if different", least=1)
    soundstorm_num_layers: int | None = _size(None, "layers of the soundstorm stage, if different", least=1)
    dim_feedforward: int | None = _size(None, "width inside the feed-forward layers; 4 times --decoder-dim if not given", least=1)
    dropout: float = setting(0.1, "dropout")
    norm_first: bool = _size(True, "norms before attention and feed-forward (false: after)")
    num_quantizers: int = _size(8, "codebooks to model, of those in the manifests", least=1)
    acoustic_model: str = _size("ar-nar", "how units become codes")  # a name of valle/models/registry.py
    num_coarse: int = _size(1, "codebooks of the coarse stage", least=1)
    flat_coarse: int = _size(0, "codebooks of the coarse stage of the acoustic model flat; 0 for half of them", least=0)
    coarse_conditioning: Literal["aligned", "prefix"] = _size("aligned", "units beside each frame (aligned), or before all codes")
    delay_pattern: Literal["parallel", "delay", "partial-delay", "partial-flatten", "flatten"] = _size(
        "delay", "which level of which frame the delay stage predicts when"
    )
    unit_window: int = _size(4, "units on each side that a frame sees", least=0)
    unit_sequence: str = _size(  # a name of valle/models/registry.py
        "frames", "what the semantic stage predicts: a unit a frame (frames), runs with durations (runs), or byte pairs of units (bpe)"
    )
    longest_run: int = _size(32, "longest run in frames; a longer run becomes several", least=1)
    fine_units: bool = _size(True, "condition the fine stage on units")
    soundstorm_kernel: int = _size(5, "soundstorm: frames of the convolution's kernel, an odd number", least=1)
    soundstorm_levels: Literal["uniform", "linear"] = _size(
        "uniform", "soundstorm: train all levels alike (uniform), or level q in proportion to the levels from q on (linear, MaskGCT)"
    )
    rq_num_layers: int | None = _size(None, "layers of rq's temporal transformer, if different", least=1)
    rq_first_level: Literal["temporal", "depth"] = _size(
        "temporal", "rq: level 0 by the temporal transformer's own head (temporal), or by the depth transformer too (depth)"
    )
    acoustic_delay: int = _size(0, "rq: frames by which the levels above 0 come later, 0 to 2", least=0)
    depth_num_layers: int = _size(6, "rq: layers of the depth transformer", least=1)
    depth_dim: int | None = _size(None, "rq: width of the depth transformer; half of --decoder-dim if not given", least=1)
    depth_nhead: int | None = _size(None, "rq: its attention heads; as wide as --nhead's if not given", least=1)
    depth_weights: Literal["per-level", "shared"] = _size("per-level", "rq: a level's own blocks of the depth transformer, or all levels'")
    depth_share: float = setting(1.0, "rq: share of frames on which the levels above 0 are trained, drawn at random (CSM: 0.0625)")
    level_weights: list[float] = setting(
        [], "rq: weights of the levels in the loss, which is a weighted mean; the last holds for all further levels; 1 each if not given"
    )
    prefix_mode: int = _size(
        1,
        "acoustic prompt with which the fine stage trains: 0 none, 1 the crop's beginning, 2 a segment from elsewhere in the utterance, "
        "4 a segment of a neighbour, an utterance by the same voice",
    )
    prompt_share: float = _size(0.4, "share of a crop that is prompt, without units")
    pooled_voice: bool = _size(False, "add to every frame of the coarse and fine stages an embedding pooled from the prompt's codes")
    drop_conditions: float = setting(0.0, "share of examples that train without units and prompt, for --guidance (0.1 is usual)", least=0)
    drop_prompt: float = setting(0.0, "share of examples that train without the prompt alone (0.05 is usual)", least=0)
    drop_voice: float = setting(0.1, "least share of examples that train without the pooled voice", least=0)
    semantic_drafts: int = _size(0, "heads of the semantic stage that predict units after the next one, for --draft-tokens", least=0)
    coarse_drafts: int = _size(0, "heads of the coarse stage that predict codes after the next one, for --draft-tokens", least=0)
    chained_drafts: bool = _size(False, "draft heads also see the drafted token before theirs")
    draft_weight: float = setting(0.3, "weight of the draft heads' mean loss beside that of the next token", least=0)
    # What tokenized the data decides the rest.
    codebook_size: int = 1024
    num_units: int | None = None
    unit_bpe_model: str | None = None  # of bpe, as UnitBpe.text
    unit_bpe_sha256: str | None = None
    frames_per_token: float = 1.0  # of the unit grid, on average: turns trained seconds into tokens
    units_per_period: int = 1
    frames_per_period: int = 2
    trained_frames: dict | None = None  # by stage, the longest crop of frames that was learned from; None: not known

    def __post_init__(self) -> None:
        self._refuse_impossible()
        if not 1 <= self.num_coarse <= self.num_quantizers:
            raise UserError(f"the coarse codebooks must be 1 to all {self.num_quantizers}, found {self.num_coarse}")
        if not 0 <= self.flat_coarse <= self.num_quantizers:
            raise UserError(f"the coarse codebooks of flat must be 0 (half) to all {self.num_quantizers}, found {self.flat_coarse}")
        if self.coarse_conditioning not in ("aligned", "prefix"):
            raise UserError(f"the coarse conditioning must be aligned or prefix, found {self.coarse_conditioning!r}")
        if self.delay_pattern not in PATTERNS:
            raise UserError(f"the delay pattern must be one of {', '.join(PATTERNS)}, found {self.delay_pattern!r}")
        if self.soundstorm_kernel < 1 or self.soundstorm_kernel % 2 == 0:
            raise UserError(f"the kernel of soundstorm must be an odd number of frames, found {self.soundstorm_kernel}")
        if self.soundstorm_levels not in ("uniform", "linear"):
            raise UserError(f"the levels of soundstorm must be drawn uniform or linear, found {self.soundstorm_levels!r}")
        if self.prefix_mode not in (0, 1, 2, 4):
            raise UserError(
                "the prefix mode must be 0 (no acoustic prompt), 1 (the crop's beginning), 2 (from elsewhere in the utterance) or "
                f"4 (a neighbour's), found {self.prefix_mode}"
            )
        shares = (self.drop_conditions, self.drop_prompt, self.drop_voice)
        if not all(0 <= share <= 1 for share in shares) or self.drop_conditions + self.drop_prompt > 1:
            raise UserError(
                "expected shares of examples without units and prompt, without prompt and without voice in 0..1, the first two together "
                f"too, found {', '.join(f'{share:g}' for share in shares)}"
            )
        if self.codebook_size < 1 or (self.num_units is not None and self.num_units < 1):
            raise UserError(f"codebooks need at least one token, found {self.codebook_size} codes and {self.num_units} units")
        if not all(isinstance(frames, int) and frames >= 1 for frames in (self.trained_frames or {}).values()):
            raise UserError(f"expected trained lengths of 1 frame or more, found {self.trained_frames}")
        if not 0 < self.prompt_share < 1:
            raise UserError(f"the prompt's share must lie between 0 and 1, found {self.prompt_share}")
        if self.num_units is not None and (self.unit_window < 0 or self.units_per_period < 1 or self.frames_per_period < 1):
            raise UserError(
                "expected 0 units or more on each side of a frame, and 1 unit and 1 frame or more in a period, "
                f"found {self.unit_window}, {self.units_per_period} and {self.frames_per_period}"
            )

        self._refuse_impossible_sequence()
        self._refuse_impossible_depth()
        self._refuse_impossible_drafts()

    def _refuse_impossible_drafts(self) -> None:
        if not 0 <= self.semantic_drafts <= MOST_DRAFTS or not 0 <= self.coarse_drafts <= MOST_DRAFTS:
            raise UserError(f"a stage may have 0 to {MOST_DRAFTS} draft heads, found {self.semantic_drafts} and {self.coarse_drafts}")
        if self.semantic_drafts and (self.num_units is None or self.unit_sequence != "frames"):
            found = "a model without units" if self.num_units is None else f"the unit sequence {self.unit_sequence}"
            raise UserError(f"the semantic stage has draft heads for a unit a frame only, found {found}; leave out --semantic-drafts")

    def _refuse_impossible_sequence(self) -> None:
        if self.unit_sequence != "frames" and self.num_units is None:
            raise UserError(f"expected units for a unit sequence of {self.unit_sequence}, found a model without units")
        if self.longest_run < 1:
            raise UserError(f"the longest run must be 1 frame or more, found {self.longest_run}")
        if not 1 <= self.frames_per_token <= MOST:
            raise UserError(f"expected 1 frame or more in a token, found {self.frames_per_token}")
        if (self.unit_sequence == "bpe") != (self.unit_bpe_model is not None) or (self.unit_bpe_model is None) != (
            self.unit_bpe_sha256 is None
        ):
            raise UserError("expected a unit BPE and its hash with the unit sequence bpe, and none with another; export the model again")

    def _refuse_impossible_depth(self) -> None:
        if self.rq_first_level not in ("temporal", "depth"):
            raise UserError(f"rq's first level must be temporal or depth, found {self.rq_first_level!r}")
        if self.depth_weights not in ("per-level", "shared"):
            raise UserError(f"the depth transformer's weights must be per-level or shared, found {self.depth_weights!r}")
        if not 0 <= self.acoustic_delay <= 2:
            raise UserError(f"the acoustic delay must be 0, 1 or 2 frames, found {self.acoustic_delay}")
        if not 0 < self.depth_share <= 1:
            raise UserError(f"the depth share must lie above 0 and be at most 1 (every frame), found {self.depth_share}")
        if self.depth_share < 1 and self.rq_first_level == "depth":
            raise UserError(
                "--depth-share below 1 trains level 0 on every frame by the temporal transformer's head, "
                "found --rq-first-level depth; use temporal"
            )
        weights = self.level_weights
        if len(weights) > self.num_quantizers or (weights and not (min(weights) >= 0 and 0 < sum(weights) < inf)):
            raise UserError(f"expected at most {self.num_quantizers} level weights of 0 or more, some above 0, found {weights}")

    def _refuse_impossible(self) -> None:
        """Values of another type, and numbers with which a damaged or hostile file would fill the memory."""
        for name, hint in get_type_hints(type(self)).items():
            value = getattr(self, name)
            if get_origin(hint) is list:
                if not (isinstance(value, list) and all(isinstance(each, (int, float)) and not isinstance(each, bool) for each in value)):
                    raise UserError(f"expected {name} of numbers in a list, found {value!r}")
                continue
            kinds = tuple(kind for kind in (get_args(hint) or (hint,)) if isinstance(kind, type))  # none for a choice of words
            if kinds and (
                not isinstance(value, (*kinds, int) if float in kinds else kinds) or (isinstance(value, bool) and bool not in kinds)
            ):
                raise UserError(f"expected {name} of type {hint if get_args(hint) else hint.__name__}, found {value!r}")
            most = MOST_LAYERS if name.endswith(("num_layers", "num_quantizers")) else MOST
            if isinstance(value, int) and abs(value) > most:
                raise UserError(f"expected {name} of at most {most}, found {value}")

    @classmethod
    def refuse_unknown(cls, names: Iterable[str]) -> None:
        """Raises ``UserError`` for a name that is no field, with its neighbours."""
        known = [field.name for field in fields(cls)]
        for name in names:
            if name not in known:
                near = get_close_matches(name, known, n=3, cutoff=0.5)
                advice = f"did you mean {' or '.join(near)}?" if near else f"the fields are {', '.join(known)}"
                raise UserError(f"expected fields of AudioLMConfig, found {name!r}; {advice}")

    @property
    def has_fine(self) -> bool:
        return self.num_coarse < self.num_quantizers

    @property
    def flat_coarse_levels(self) -> int:
        """Levels of the coarse stage of ``flat``, the larger half where they are not given."""
        return self.flat_coarse or ceil_division(self.num_quantizers, 2)

    @property
    def periods(self) -> Periods:
        """Of the grids of units and codes."""
        return Periods(units=self.units_per_period, frames=self.frames_per_period)

    def transformer(self, num_layers: int | None, *, num_levels: int = 0) -> TransformerConfig:
        """Sizes of one stage's stack; ``num_layers`` None takes the common number."""
        return TransformerConfig(
            d_model=self.d_model,
            nhead=self.nhead,
            num_layers=self.num_layers if num_layers is None else num_layers,
            dim_feedforward=4 * self.d_model if self.dim_feedforward is None else self.dim_feedforward,
            dropout=self.dropout,
            norm_first=self.norm_first,
            num_levels=num_levels,
        )
