"""A stage: one language model of the chain, and all that the rest asks of it.

Its name, how long its crops are, which tensors it needs of them, its loss, how it is validated and how it draws by default stand
in its class; the loop, logs, curves, reports and flags ask the class.  Adding a stage is a file with such a class and a line in
``registry.py``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from valle.crops import CroppedTokens, pad
from valle.decoding.read_ahead import Ahead, ReadAhead
from valle.decoding.sampling import DrawnNoise, Sampling
from valle.models.config import AudioLMConfig
from valle.models.dropping import dropped
from valle.models.loss import LossTerm


@dataclass(frozen=True)
class ExampleSettings:
    """What examples depend on beside the crop."""

    config: AudioLMConfig
    prompt_share_to: float = 0.0  # above the config's prompt_share: the share is drawn between the two


class Stage(nn.Module, ABC):
    """The base class of stages; ``cls(config)`` makes one with fresh weights.

    The keyword arguments of ``loss``, ``validation_terms``, ``histograms`` and ``frames_predicted`` are the tensors of ``collate``.
    Stages share no parameter, so that each may be trained, taken and released alone.
    """

    name: ClassVar[str]
    crop_seconds: ClassVar[float]  # of the longest crop, by default
    sampling: Sampling  # by default: of a kind of stage, and of a released model's own
    takes_guidance: ClassVar[bool] = False  # whether it has conditions, which it learns to do without
    repetition_window: ClassVar[int] = 0  # tokens by which repetition-aware sampling judges; 0 for a stage that never draws so

    @classmethod
    @abstractmethod
    def collate(cls, crops: Sequence[CroppedTokens], settings: ExampleSettings) -> dict[str, Tensor]:
        """The tensors of a batch; what is drawn for an example is ``crop.chance(what)``."""

    @classmethod
    def means_the_same(cls, ours: AudioLMConfig, theirs: Mapping[str, Any]) -> bool:
        """Whether weights trained under the fields ``theirs`` predict the same kind of tokens, if they have the same shapes."""
        return True

    @classmethod
    def knows_no_conditions(cls, config: AudioLMConfig) -> bool:
        """Whether weights trained under ``config`` have learned of examples without units and prompt, as guidance needs."""
        return config.drop_conditions > 0

    @classmethod
    def needs_neighbours(cls, config: AudioLMConfig) -> bool:
        """Whether examples are made of another utterance by the same voice too, which is then read."""
        return False

    @abstractmethod
    def loss(self, *args: Any, **tensors: Any) -> LossTerm:
        """What training descends."""

    def validation_terms(self, *args: Any, **tensors: Any) -> dict[str, LossTerm]:
        """The loss by what is predicted, named as the stage or ``<stage>_<what>``; deterministic, nothing is drawn."""
        return {self.name: self.loss(**tensors)}

    @abstractmethod
    def histograms(self, *args: Any, **tensors: Any) -> dict[str, list[Tensor]]:
        """How often each token stands among the targets, ``(V,)`` float64 each, by term of validation; a term may have several levels."""

    def frames_predicted(self, *args: Any, **tensors: Any) -> int | None:
        """Frames of the unit grid that the targets cover, where losses by the second of audio are of interest."""
        return None

    @property
    def num_drafts(self) -> int:
        """Tokens beyond the next one that it has heads for."""
        return 0

    def token_nats(self, *args: Any, **tensors: Any) -> Tensor | None:
        """Nats of every token of the rows ``(B, N)`` given those before it, NaN where nothing is predicted; their sum is the loss's.

        None for a stage that does not predict one token after another, and so gives a recording no likelihood.
        """
        return None

    def token_ends(self, *args: Any, **tensors: Any) -> Tensor | None:
        """Where each token of ``token_nats`` ends ``(B, N)``, as a share 0..1 of its row; None where ``token_nats`` is."""
        return None

    def read_ahead(self, ahead: Ahead, codes: Tensor, units: Tensor) -> None:
        """Of one row whose prompt still comes in, read what is known: ``codes (T, Q)``, ``units (T_u,)``, empty without units.

        Called again with more of them.  A stage that does not say how reads the prompt when it has ended.
        """

    def draw_ahead(self, noise: DrawnNoise, seed: int, window: int) -> None:
        """Draw the noise that the first frames of a row of ``seed`` need; of a stage that does not say which, none."""

    def start_from_codebooks(self, codebooks: Tensor) -> None:
        """Before training: start from the codec's ``codebooks (Q, K, D)``, if the stage knows codes."""


class SemanticStage(Stage):
    """The base class of stages that continue units."""

    @abstractmethod
    def generate(
        self,
        prompts: Sequence[Tensor],
        *,
        max_new: Sequence[int],
        min_new: Sequence[int],
        sampling: Sampling,
        seeds: Sequence[int],
        window: int,
        at_once: int | None = None,
    ) -> list[Tensor]:
        """Continue ``prompts`` (units ``(n_b,)``, each from its utterance's start) -> new units of each, until an end is drawn.

        ``max_new``, ``min_new`` and ``window`` count units, whatever the stage's own tokens last.  ``at_once`` rows are decoded
        together, and one that ends makes room for the next; all, if None.
        """

    def stream(
        self, prompt: Tensor, *, max_new: int, min_new: int, sampling: Sampling, seed: int, window: int, ahead: ReadAhead | None = None
    ) -> Iterator[Tensor]:
        """As ``generate`` of one row -> its new units ``(n,)`` as soon as they are drawn; ``ahead`` is what was read by ``read_ahead``.

        Those of a stage that does not say how come all at once.
        """
        [units] = self.generate([prompt], max_new=[max_new], min_new=[min_new], sampling=sampling, seeds=[seed], window=window)
        yield units


def streams(crops: Sequence[CroppedTokens], config: AudioLMConfig) -> dict[str, Tensor]:
    """``codes (B, T, Q)``, ``lengths (B,)`` and, of a model with units, ``units (B, T_u)``, ``unit_lengths (B,)``.

    An example from which units are left out (``dropping.py``) has 0 of them.
    """
    codes, lengths = pad([crop.codes for crop in crops])
    batch = {"codes": codes, "lengths": lengths}
    if config.num_units is not None:
        batch["units"], unit_lengths = pad([crop.units for crop in crops])
        without = torch.tensor([dropped(crop, config).units for crop in crops])
        batch["unit_lengths"] = unit_lengths.masked_fill(without, 0)
    return batch


def code_counts(codes: Tensor, valid: Tensor, *, level: int, size: int) -> Tensor:
    """How often each code of ``level`` stands in ``codes (B, T, Q)`` where ``valid (B, T)``: ``(size,)`` float64."""
    return codes[..., level][valid].bincount(minlength=size).double()
