"""What ``joint-lm`` is asked for: tasks and chains of them, their tags, and their sequences (AudioPaLM, Rubenstein et al. 2023, 3.3).

A tag is plain text: ``[ASR English]``, ``[AST English Spanish]``, ``[ASR AST S2ST English Spanish]``.  A chain's outputs follow one
another in one decoding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from valle.errors import UserError
from valle.models.joint_config import JointLMConfig
from valle.tokenizers.text_pieces import TextTokenizer

Kind = Literal["text", "units"]


@dataclass(frozen=True)
class _Step:
    """One link: what it hears or reads, what it gives, and whether that is in the other language."""

    takes: Kind | None
    gives: Kind
    is_translation: bool


STEPS: dict[str, _Step] = {
    "LM": _Step(None, "text", False),
    "ASR": _Step("units", "text", False),
    "TTS": _Step("text", "units", False),
    "MT": _Step("text", "text", True),
    "AST": _Step("units", "text", True),
    "S2ST": _Step("units", "units", True),
}


@dataclass(frozen=True)
class JointTask:
    """A task or a chain.

    >>> JointTask.parse("ASR+AST").tag("English", "Spanish")
    '[ASR AST English Spanish]'
    """

    steps: tuple[str, ...]

    def __post_init__(self) -> None:
        unknown = [step for step in self.steps if step not in STEPS]
        if unknown or not self.steps:
            raise UserError(f"expected tasks of {', '.join(STEPS)}, chained by +, found {self.name!r}; write ASR or ASR+AST+S2ST")
        if len({STEPS[step].takes for step in self.steps}) > 1 or len(set(self.steps)) < len(self.steps):
            raise UserError(f"a chain's tasks are different and hear or read one input, found {self.name}; split it")

    @classmethod
    def parse(cls, text: str) -> JointTask:
        """``ASR+AST+S2ST`` as a chain."""
        return cls(tuple(text.strip().upper().split("+")))

    @property
    def name(self) -> str:
        return "+".join(self.steps)

    @property
    def takes(self) -> Kind | None:
        """What stands before the outputs; None for text alone."""
        return STEPS[self.steps[0]].takes

    @property
    def gives(self) -> tuple[Kind, ...]:
        """The kinds of the outputs, in order."""
        return tuple(STEPS[step].gives for step in self.steps)

    @property
    def translates(self) -> bool:
        return any(STEPS[step].is_translation for step in self.steps)

    @property
    def needs_units(self) -> bool:
        return self.takes == "units" or "units" in self.gives

    def tag(self, source: str, target: str | None = None) -> str:
        """The tag of a task from ``source`` to ``target``, languages by their English names."""
        if self.translates and not target:
            raise UserError(f"expected a language to translate to for {self.name}, found none; name one")
        languages = [source, target] if self.translates and target else [source]
        return f"[{' '.join([*self.steps, *languages])}]"


@dataclass(frozen=True)
class Side:
    """A sentence in one language, as text pieces and as units; either may be missing."""

    language: str
    pieces: Sequence[int] | None = None
    units: Sequence[int] | None = None

    def tokens(self, kind: Kind, first_unit: int) -> list[int]:
        """Its numbers in the vocabulary."""
        given = self.pieces if kind == "text" else self.units
        if given is None:
            raise ValueError(f"expected {kind} of a side in {self.language}, found none")
        return [int(token) for token in given] if kind == "text" else [first_unit + int(unit) for unit in given]


class Sequences:
    """Makes sequences of a model's vocabulary."""

    def __init__(self, config: JointLMConfig, text: TextTokenizer) -> None:
        vocabulary = config.vocabulary
        self.text, self._tags = text, dict[str, list[int]]()
        self.bos, self.eos, self.then, self.first_unit = (vocabulary.first(name) for name in ("bos", "eos", "then", "units"))

    def prompt(self, task: JointTask, source: Side, target: str | None = None) -> list[int]:
        """BOS, tag, input, THEN: all that stands before the outputs."""
        if task.takes is None:
            return [self.bos]
        tag = task.tag(source.language, target)
        if tag not in self._tags:
            self._tags[tag] = self.text.encode(tag)
        return [self.bos, *self._tags[tag], *source.tokens(task.takes, self.first_unit), self.then]

    def example(self, task: JointTask, source: Side, target: Side | None = None) -> tuple[list[int], int]:
        """The whole sequence with EOS, and the place where its outputs begin."""
        tokens = self.prompt(task, source, target.language if target else None)
        start = len(tokens)
        for number, step in enumerate(task.steps):
            side = target if STEPS[step].is_translation else source
            assert side is not None
            tokens += [self.then] * (number > 0) + side.tokens(STEPS[step].gives, self.first_unit)
        return [*tokens, self.eos], start
