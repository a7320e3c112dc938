"""Patterns: which code of which frame stands in which step of a sequence (MusicGen, Copet et al. 2023, 2.2).

Frames 0, 1, 2 of four levels, a row a level and a column a step; a dot is the special id::

    parallel      delay           partial-delay   partial-flatten   flatten
    0 1 2         0 1 2 . . .     0 1 2 .         0 . 1 . 2 .       0 . . . 1 . . . 2 . . .
    0 1 2         . 0 1 2 . .     . 0 1 2         . 0 . 1 . 2       . 0 . . . 1 . . . 2 . .
    0 1 2         . . 0 1 2 .     . 0 1 2         . 0 . 1 . 2       . . 0 . . . 1 . . . 2 .
    0 1 2         . . . 0 1 2     . 0 1 2         . 0 . 1 . 2       . . . 0 . . . 1 . . . 2

AudioCraft lists the coordinates of every step.  Here level ``q`` of frame ``t`` stands in step ``steps_per_frame * t + offsets[q]``,
which gives the same steps and leaves no room for two frames of a level in one step, or for frames out of order.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from valle.errors import UserError

NOTHING = -1  # the frame of a level that a step does not hold
PATTERNS = ("parallel", "delay", "partial-delay", "partial-flatten", "flatten")


@dataclass(frozen=True)
class CodePattern:
    """Level ``q`` of frame ``t`` stands in step ``steps_per_frame * t + offsets[q]``; the special id stands wherever no code does.

    >>> CodePattern.named("delay", 4)
    CodePattern(offsets=(0, 1, 2, 3), steps_per_frame=1)
    """

    offsets: tuple[int, ...]  # steps from the frame's first one, by level
    steps_per_frame: int

    def __post_init__(self) -> None:
        if not self.offsets or self.offsets[0] != 0:
            raise UserError(f"expected a pattern whose first level stands in its frame's first step, found offsets {self.offsets}")
        if list(self.offsets) != sorted(self.offsets):
            raise UserError(f"expected a pattern in which no level comes before the level that it refines, found offsets {self.offsets}")
        if self.steps_per_frame < 1:
            raise UserError(f"expected a pattern of 1 step or more a frame, found {self.steps_per_frame}")
        if {offset % self.steps_per_frame for offset in self.offsets} != set(range(self.steps_per_frame)):
            raise UserError(
                f"expected a pattern with a code in each of its {self.steps_per_frame} steps a frame, found offsets {self.offsets}"
            )

    @classmethod
    def named(cls, name: str, num_levels: int) -> CodePattern:
        """One of ``PATTERNS`` for ``num_levels`` levels."""
        each, rest = tuple(range(num_levels)), (0,) + (1,) * (num_levels - 1)
        found = {
            "parallel": ((0,) * num_levels, 1),
            "delay": (each, 1),
            "partial-delay": (rest, 1),
            "partial-flatten": (rest, min(2, num_levels)),
            "flatten": (each, num_levels),
        }
        if name not in found:
            raise UserError(f"the pattern must be one of {', '.join(PATTERNS)}, found {name!r}")
        return cls(*found[name])

    @property
    def num_levels(self) -> int:
        return len(self.offsets)

    @property
    def delays(self) -> tuple[int, ...]:
        """Whole frames by which each level comes later than its frame's first step."""
        return tuple(offset // self.steps_per_frame for offset in self.offsets)

    @property
    def tail(self) -> int:
        """Steps after those that begin a frame, until all levels of the last frame are there."""
        return self.offsets[-1] + 1 - self.steps_per_frame

    def num_steps(self, num_frames: int) -> int:
        """Steps that hold every code of ``num_frames`` frames, the tail included."""
        return self.steps_per_frame * num_frames + self.tail if num_frames else 0

    def frames_at(self, steps: Tensor) -> Tensor:
        """Which frame's code each level has at ``steps (...)`` -> ``(..., Q)``, -1 for none; it may lie past a row's last frame."""
        since = steps[..., None] - torch.tensor(self.offsets, device=steps.device)
        frames = torch.div(since, self.steps_per_frame, rounding_mode="floor")
        return torch.where((since >= 0) & (since % self.steps_per_frame == 0), frames, NOTHING)

    def build(self, codes: Tensor, *, special: int, num_steps: int | None = None) -> Tensor:
        """Codes ``(B, T, Q)`` -> steps ``(B, S, Q)`` with ``special`` where no code stands; by default all steps, tail included."""
        batch, length, _ = codes.shape
        steps = torch.arange(self.num_steps(length) if num_steps is None else num_steps, device=codes.device)
        frames = self.frames_at(steps)  # (S, Q)
        padded = torch.cat([codes, codes.new_full((batch, 1, self.num_levels), special)], 1)
        index = torch.where((frames >= 0) & (frames < length), frames, length)
        return padded.gather(1, index.expand(batch, -1, -1))

    def revert(self, steps: Tensor, num_frames: int) -> Tensor:
        """Steps ``(B, S, Q)`` that hold ``num_frames`` frames wholly -> their codes ``(B, T, Q)``, the inverse of ``build``."""
        if steps.shape[1] < self.num_steps(num_frames):
            raise ValueError(f"{num_frames} frames stand in {self.num_steps(num_frames)} steps, found {steps.shape[1]}")
        first = self.steps_per_frame * torch.arange(num_frames, device=steps.device)
        index = first[:, None] + torch.tensor(self.offsets, device=steps.device)  # (T, Q)
        return steps.gather(1, index.expand(len(steps), -1, -1))


class FramesOfSteps:
    """The frames of a row whose steps come one after another: each as soon as all its levels are there.

    All that ``push`` returns, end to end, is what ``revert`` makes of all steps.
    """

    def __init__(self, pattern: CodePattern) -> None:
        self.pattern = pattern
        self._steps: list[Tensor] = []  # from the first step of the next frame on, (Q,) each

    def push(self, steps: Tensor) -> Tensor:
        """The next steps ``(n, Q)``, the first of all that of a frame -> the frames that are whole now ``(m, Q)``."""
        self._steps += steps.clone().unbind(0)
        frames, levels = list[Tensor](), torch.arange(self.pattern.num_levels, device=steps.device)
        while len(self._steps) > self.pattern.offsets[-1]:
            frames.append(torch.stack([self._steps[offset] for offset in self.pattern.offsets])[levels, levels])
            del self._steps[: self.pattern.steps_per_frame]
        return torch.stack(frames) if frames else steps[:0]
