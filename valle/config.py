"""Configuration of every program: dataclass default < preset < ``conf/*.yaml`` < flag, flat and in icefall's style.

A program's settings are one dataclass; a field ``max_duration: float = field(default=80, metadata={"help": ...})``
is the flag ``--max-duration`` and the key ``max_duration`` of a YAML file.  Settings with presets name the folder that holds
them, ``preset_folder: ClassVar[Path]``: ``--preset small``, or ``preset: small`` in a YAML file, reads ``small.yaml`` there.
Settings whose ``first_words: ClassVar[str]`` names a field take words before the first flag for it: ``detect.py a.wav b.wav``.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, Field, fields
from difflib import get_close_matches
from enum import Enum
from math import isnan
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar, get_args, get_origin, get_type_hints

import jsonargparse
import yaml

from valle.errors import UserError

Settings = TypeVar("Settings")


class FlagError(UserError):
    """A flag or a configuration key that cannot be used."""


class _Parser(jsonargparse.ArgumentParser):
    """jsonargparse, with errors as ours: raised, one sentence."""

    hints: dict[str, Any]

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        text = " ".join(str(message).split()).rstrip(".")
        named = re.match(r'Parser key "(\w+)"(?: element \d+)?:(?:.*(?:Got|Given) value: (.*))?', text)
        if named and named[1] in self.hints:
            text = f"expected {_described(self.hints[named[1]])} for {_dashed(named[1])}, found {named[2] or 'something else'}"
        text = re.sub(r"--\w+", lambda match: match[0].replace("_", "-"), text)
        raise FlagError(f"{text}; --help lists every flag") from ex


def parse_flags(
    settings: type[Settings],
    argv: Sequence[str] | None = None,
    *,
    prog: str | None = None,
    usage: str = "",
    config_files: Sequence[Path] = (),
) -> Settings:
    """An instance of ``settings`` (a dataclass) from flags, from ``--config FILE`` and from those ``config_files`` that exist.

    Later sources win: the dataclass's defaults, the preset, ``config_files`` in order, ``--config``, flags.  Of several presets
    the one of the last source counts alone.  Raises ``FlagError`` for an unknown flag, key or preset, naming its neighbours, and
    for values of the wrong type.
    """
    arguments = [_underscored(argument) for argument in (sys.argv[1:] if argv is None else argv)]
    known = {entry.name: entry for entry in fields(settings)}  # type: ignore[arg-type]
    first_words: str | None = getattr(settings, "first_words", None)
    if first_words is not None and arguments and not arguments[0].startswith("-"):
        arguments = [f"--{first_words}", *arguments]
    presets: Path | None = getattr(settings, "preset_folder", None)
    own = {"config": "a YAML file of these settings"}
    if presets is not None:
        own["preset"] = f"settings by name: {', '.join(_preset_names(presets))}; a configuration file and flags win over it"
    _refuse_unknown_flags(arguments, [*known, *own])
    types = _build_parser(settings, known, {}, own, prog=prog, usage=usage)
    overrides = _from_files(types, known, arguments, config_files, presets)
    parser = _build_parser(settings, known, overrides, own, prog=prog, usage=usage)
    values = parser.parse_args(arguments).as_dict()
    for name in own:
        values.pop(name, None)
    for name, value in values.items():
        if isinstance(value, float) and isnan(value):
            raise FlagError(f"expected a number for {_dashed(name)}, found nan; give another value")
        if isinstance(value, int) and parser.hints[name] is float:
            values[name] = float(value)  # as a flag would be, where a file says 80 for 80.0
    missing = [name for name, entry in known.items() if values.get(name) is None and _required(entry) and name not in overrides]
    if missing:
        raise FlagError(f"expected {', '.join('--' + name.replace('_', '-') for name in missing)}, found no value; --help lists every flag")
    return settings(**values)


def _from_files(
    types: _Parser, known: dict[str, Field[Any]], arguments: Sequence[str], config_files: Sequence[Path], presets: Path | None
) -> dict[str, Any]:
    """What the preset and the YAML files set."""
    named = _value_of("config", arguments)
    preset: str | None = None
    found: dict[str, Any] = {}
    for path in [path for path in config_files if path.is_file()] + ([_existing(Path(named))] if named else []):
        values = _read_yaml(path, known if presets is None else [*known, "preset"])
        if presets is not None and "preset" in values:
            preset = values.pop("preset")
        _check_values(types, values, path)
        found.update(values)
    if presets is None or (preset := _value_of("preset", arguments) or preset) is None:
        return found
    path = _preset(presets, str(preset))
    values = _read_yaml(path, known)
    _check_values(types, values, path)
    return {**values, **found}


def _preset_names(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.yaml"))


def _preset(folder: Path, name: str) -> Path:
    names = _preset_names(folder)
    if name not in names:
        near = get_close_matches(name, names, n=3, cutoff=0.5)
        raise FlagError(f"unknown preset {name!r}; did you mean {' or '.join(near) if near else ' or '.join(names)}?")
    return folder / f"{name}.yaml"


def _build_parser(
    settings: type, known: dict[str, Field[Any]], overrides: dict[str, Any], own: dict[str, str], *, prog: str | None, usage: str
) -> _Parser:
    parser = _Parser(prog=prog, description=usage, exit_on_error=True, formatter_class=_HelpFormatter, env_prefix=False)
    parser.hints = hints = get_type_hints(settings)
    for name, text in own.items():
        parser.add_argument(f"--{name}", type=str | None, default=None, help=text)
    for name, entry in known.items():
        hint = hints[name]
        options: dict[str, Any] = {"help": entry.metadata.get("help", ""), "default": overrides.get(name, _default(entry))}
        if get_origin(hint) in (list, tuple):
            options.update(nargs="+", type=get_args(hint)[0])
        else:
            options["type"] = hint | None if _required(entry) else hint
        parser.add_argument(f"--{name}", **options)
    return parser


class _HelpFormatter(jsonargparse.DefaultHelpFormatter):
    """Flags with dashes, as users of the family type them."""

    def _format_action_invocation(self, action: Any) -> str:
        return super()._format_action_invocation(action).replace("_", "-")

    def add_usage(self, usage: Any, actions: Any, groups: Any, prefix: Any = None) -> None:
        super().add_usage("%(prog)s [flags]", actions, groups, prefix)


def _underscored(argument: str) -> str:
    if not argument.startswith("--"):
        return argument
    flag, equals, value = argument.partition("=")
    return "--" + flag[2:].replace("-", "_") + equals + value


def _value_of(name: str, arguments: Sequence[str]) -> str | None:
    for index, argument in enumerate(arguments):
        if argument == f"--{name}" and index + 1 < len(arguments):
            return arguments[index + 1]
        if argument.startswith(f"--{name}="):
            return argument.partition("=")[2]
    return None


def _refuse_unknown_flags(arguments: Sequence[str], known: Sequence[str]) -> None:
    for argument in arguments:
        if not argument.isascii() and any("\ud800" <= letter <= "\udfff" for letter in argument):  # bytes that are no text
            raise FlagError(f"expected flags and names in UTF-8, found {argument!a}; rename the file")
        name = argument.partition("=")[0]
        if name.startswith("-") and not name.startswith("--") and name not in ("-", "-h") and not _is_number(name):
            raise FlagError(f"unknown flag {name}; write ./{name} for a file of that name, and --help lists every flag")
        if name.startswith("--") and name[2:] not in (*known, "help"):
            raise FlagError(f"unknown flag {_dashed(name[2:])}{_neighbours(name[2:], known, flags=True)}; --help lists every flag")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _neighbours(name: str, known: Iterable[str], *, flags: bool) -> str:
    near = get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(_dashed(other) if flags else other for other in near)}?" if near else ""


def _dashed(name: str) -> str:
    return "--" + name.replace("_", "-")


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise FlagError(f"expected a YAML file of settings at {path}, found nothing there; check the path given to --config")
    return path


def _read_yaml(path: Path, known: Iterable[str]) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise FlagError(f"expected YAML in {path}, found what cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise FlagError(f"expected settings as `name: value` lines in {path}, found a {type(values).__name__}")
    values = {str(key).replace("-", "_"): value for key, value in values.items()}
    for key in values:
        if key not in known:
            raise FlagError(f"unknown setting {key!r} in {path}{_neighbours(key, known, flags=False)}")
    return values


def _check_values(parser: _Parser, values: dict[str, Any], path: Path) -> None:
    """Refuse in a file what would be refused as a flag: its values become defaults, at which the parser does not look."""
    for name, value in values.items():
        if "\0" in str(value):
            raise FlagError(f"expected text for {name} in {path}, found a null character in it; remove that")
        try:
            if value is None and type(None) not in get_args(parser.hints[name]):
                parser.error(f'Parser key "{name}": Got value: nothing')
            parser.parse_object({name: value})
        except FlagError as error:
            raise FlagError(f"{path}: {error}") from error


def _described(hint: Any) -> str:
    """A type in a user's words."""
    choices = [choice for choice in get_args(hint) if choice is not type(None)]
    if get_origin(hint) is Literal:
        return " or ".join(", ".join(map(str, choices)).rsplit(", ", 1))
    if get_origin(hint) in (list, tuple):
        return f"values, each {_described(choices[0])},"
    if choices:
        return _described(choices[0])
    if issubclass(hint, Enum):
        return " or ".join(", ".join(member.name for member in hint).rsplit(", ", 1))
    return {float: "a number", int: "a whole number", bool: "true or false", Path: "a path"}.get(hint, "text")


def _required(entry: Field[Any]) -> bool:
    return entry.default is MISSING and entry.default_factory is MISSING


def _default(entry: Field[Any]) -> Any:
    if entry.default is not MISSING:
        return entry.default
    return entry.default_factory() if entry.default_factory is not MISSING else None
