"""A setting is declared once, as a field of a dataclass; its flag, its help and its bounds are read from there.

    d_model: int = setting(1024, "width of every stage", flag="decoder_dim", size=True, least=1)
"""

from __future__ import annotations

from dataclasses import MISSING, Field, field, fields, make_dataclass
from typing import Any, get_type_hints

from valle.errors import UserError


def setting(default: Any, text: str, *, flag: str = "", size: bool = False, least: float | None = None) -> Any:
    """A field with its help ``text``; a list is copied for each instance.

    ``flag`` is the setting's name on the command line where that is not the field's; a ``size`` is taken over by a model that is
    tuned from another; a number below ``least`` is refused by ``refuse_small``.
    """
    metadata = {"help": text, "flag": flag, "size": size, "least": least}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def require_at_least(settings: Any, least: float, *names: str) -> None:
    """Refuse the first of these settings that is below ``least``, or no number."""
    for name in names:
        if not getattr(settings, name) >= least:
            raise UserError(f"--{name.replace('_', '-')} must be {least} or more, found {getattr(settings, name)}")


def refuse_small(settings: Any) -> None:
    """Refuse the first setting that is below its own ``least``; None is none."""
    for entry in fields(settings):
        least = entry.metadata.get("least")
        if least is not None and getattr(settings, entry.name) is not None:
            require_at_least(settings, least, entry.name)


def flag_of(entry: Field[Any]) -> str:
    """The name of a field on the command line, with underscores."""
    return entry.metadata.get("flag") or entry.name


def flags_of(config: type, name: str) -> Any:
    """A frozen dataclass ``name`` of those fields of ``config`` that have a help, under their flags' names, to inherit from."""
    hints = get_type_hints(config)
    flags = []
    for entry in _with_help(config):
        default: Any = {"default": entry.default} if entry.default is not MISSING else {"default_factory": entry.default_factory}
        flags.append((flag_of(entry), hints[entry.name], field(**default, metadata={**entry.metadata, "flag": ""})))
    return make_dataclass(name, flags, frozen=True)


def fields_from_flags(config: type, settings: Any) -> dict[str, Any]:
    """The fields of ``config`` that have a help, with the values that ``settings`` holds under their flags' names."""
    return {entry.name: getattr(settings, flag_of(entry)) for entry in _with_help(config)}


def sizes_of(config: type) -> dict[str, str]:
    """Fields of ``config`` that a tuned model takes over from its source, with their flags."""
    return {entry.name: flag_of(entry) for entry in _with_help(config) if entry.metadata.get("size")}


def _with_help(config: type) -> list[Field[Any]]:
    return [entry for entry in fields(config) if entry.metadata.get("help")]
