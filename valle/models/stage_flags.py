"""Settings that each stage has of its own, as fields of a dataclass of flags: ``--coarse-seconds``, ``--fine-temperature``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from typing import Any, TypeVar

from valle.models.registry import all_stages
from valle.models.stage import Stage

Options = TypeVar("Options")


def a_flag_per_stage(
    suffix: str,
    hint: Any,
    default: Callable[[type[Stage]], Any],
    text: Callable[[type[Stage]], str],
    *,
    only: Callable[[type[Stage]], bool] = lambda stage: True,
) -> Callable[[type[Options]], type[Options]]:
    """Declares ``<stage>_<suffix>`` for every stage, or for those that ``only`` takes.

    Stands under ``@dataclass``, whose own fields come first.  ``of_stage(options, stage, suffix)`` reads one.
    """

    def declare(options: type[Options]) -> type[Options]:
        for name, stage in all_stages().items():
            if not only(stage):
                continue
            options.__annotations__[f"{name}_{suffix}"] = hint
            setattr(options, f"{name}_{suffix}", field(default=default(stage), metadata={"help": text(stage)}))
        return options

    return declare


def of_stage(options: Any, stage: str, suffix: str) -> Any:
    """The value of a stage's own flag; the stage's default where it was registered after the flags were declared."""
    return getattr(options, f"{stage}_{suffix}", None)
