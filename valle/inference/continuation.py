"""How audio is continued, and what comes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from valle.audio import Waveform
from valle.decoding.sampling import Drafts, Sampling
from valle.errors import UserError
from valle.marks.embed import Marking, NoMark, Watermark
from valle.marks.pattern import PUBLIC_KEY, MarkKey
from valle.measures.level import Level

MIN_PROMPT_SECONDS = 0.2

Mode = Literal["continue", "resynthesize", "acoustic"]


@dataclass(frozen=True)
class ContinueSettings:
    """How audio is continued; times in seconds, of new audio for ``min_seconds`` and ``max_seconds``.

    ``continue``: new units, then their sound.  ``acoustic``: the sound of the recording's own units after the prompt, whose
    voice it takes (a prompt of 0 s leaves the voice to the model).  ``resynthesize``: the codec's round trip of all of it.

    ``level``: with ``speech``, the stages hear the prompt at the level of the speech that models are trained on, and what they
    generate is given the prompt's level back. The prompt's own samples stay as they are. None: ``speech`` for a model with
    units, ``none`` for one without, which music is the use of. The codec's round trip is always at the level that is given.

    >>> from valle import ContinueSettings, Pipeline, Sampling, read_audio
    >>> settings = ContinueSettings(max_seconds=1, sampling={"semantic": Sampling(temperature=0.6)})
    >>> [continuation] = Pipeline.from_pretrained().continue_audio(*read_audio("hello.wav"), settings=settings)
    """

    mode: Mode = "continue"
    prompt_seconds: float = 3.0
    max_seconds: float = 10.0
    min_seconds: float | None = None  # no end is drawn before it; None: 1, or all of a shorter max_seconds
    sampling: Mapping[str, Sampling] = field(default_factory=dict)  # by stage; of a stage that is not named, its own default
    level: Level | None = None
    drafts: Drafts | None = None  # of the stages that have draft heads; None draws one token a step
    block_seconds: float | None = None  # new audio at once of stages that look ahead; None: a stage's window, in a stream half a second
    first_block_seconds: Sequence[float] = ()  # of the first blocks, before those of block_seconds
    watermark: bool = True  # in all that is generated; the prompt's own samples stay as they are
    watermark_key: MarkKey = PUBLIC_KEY

    def __post_init__(self) -> None:
        if self.mode not in ("continue", "resynthesize", "acoustic"):
            raise UserError(f"the mode must be continue, resynthesize or acoustic, found {self.mode!r}")
        if self.level not in ("speech", "none", None):
            raise UserError(f"the level must be speech or none, found {self.level!r}")
        if not 0 < self.max_seconds < float("inf"):
            raise UserError(f"the new audio must be longer than 0 seconds, found {self.max_seconds:g}; raise --max-seconds")
        if not 0 <= self.least_seconds <= self.max_seconds:
            raise UserError(f"--min-seconds must lie between 0 and --max-seconds ({self.max_seconds:g}), found {self.min_seconds:g}")
        if self.block_seconds is not None and not 0 < self.block_seconds < float("inf"):
            raise UserError(f"a block must last more than 0 seconds, found {self.block_seconds:g}; raise --block-seconds")
        for seconds in self.first_block_seconds:
            if not 0 < seconds < float("inf"):
                raise UserError(f"a block must last more than 0 seconds, found {seconds:g}; raise --first-block-seconds")
            if self.block_seconds is None:
                raise UserError("expected --block-seconds, of all later blocks, beside --first-block-seconds; add it")
        if not MIN_PROMPT_SECONDS <= self.prompt_seconds < float("inf") and not (self.mode == "acoustic" and self.prompt_seconds == 0):
            raise UserError(f"the prompt must last at least {MIN_PROMPT_SECONDS} s, found {self.prompt_seconds:g}; raise --prompt-seconds")

    @property
    def least_seconds(self) -> float:
        """New audio before which no end is drawn."""
        return min(1.0, self.max_seconds) if self.min_seconds is None else self.min_seconds

    def marking(self, sample_rate: int) -> Marking:
        """What marks one row's generated sound, from its first sample on."""
        return Watermark(sample_rate, self.watermark_key) if self.watermark else NoMark()


@dataclass(frozen=True, kw_only=True)
class Continuation:
    """One result: the prompt's own samples, then what was generated.

    >>> from valle import Pipeline, read_audio, write_wav
    >>> wav, sample_rate = read_audio("hello.wav")
    >>> [continuation] = Pipeline.from_pretrained().continue_audio(wav, sample_rate, prompt_seconds=2, max_seconds=1)
    >>> print(f"{continuation.prompt_seconds:g} s, then {continuation.generated_seconds:g} s of new audio")
    2 s, then 1 s of new audio
    >>> write_wav("new.wav", continuation.wav[continuation.prompt_samples :], continuation.sample_rate)
    """

    wav: Waveform  # (T,) float32 at sample_rate
    sample_rate: int  # Hz, the codec's
    prompt_samples: int  # length of the prompt; what follows is new
    own_samples: int  # up to here the samples are the prompt's own; its last tokens are generated anew
    seed: int
    codes: Tensor  # (T_f, Q) int64, of prompt and continuation
    units: Tensor | None  # (T_u,) int64, of prompt and continuation
    gain_db: float = 0.0  # at which the stages heard the prompt; taken back from what was generated

    @property
    def seconds(self) -> float:
        return len(self.wav) / self.sample_rate

    @property
    def prompt_seconds(self) -> float:
        return self.prompt_samples / self.sample_rate

    @property
    def generated_seconds(self) -> float:
        return (len(self.wav) - self.prompt_samples) / self.sample_rate
