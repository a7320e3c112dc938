"""Whose files lie where a program writes: no input and nothing of anyone else's is written over or deleted.

Before its work a program says what it will write.  Each of these names must be free, or be a file that the same program
wrote before and that nobody has changed since.  A record beside the outputs, :data:`RECORD`, holds their sizes and hashes.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from valle.errors import UserError
from valle.files import shown, write_text

RECORD = ".valle-outputs.json"
PREPARE = "prepare"  # the stages of prepare.sh are one program here: some replace what others left
RECIPE_MARK = ".stages"  # the folder in a recipe's data/ by which prepare.sh knows what it has done

Entry = dict[str, Any] | None  # size and sha256 of a file; None while it is being written
Record = dict[str, dict[str, Entry]]  # program: name relative to the record's folder: entry


class ClashError(UserError):
    """A file where a program would write that is not the program's."""


@dataclass(frozen=True)
class Outputs:
    """What one run of a program writes below ``folder``: files, or folders that it fills alone.

    >>> outputs = claim_outputs(Path("out"), ["a.wav"], program="infer", inputs=[Path("a.wav")])  # doctest: +SKIP
    >>> with outputs.being_written():  # doctest: +SKIP
    ...     write_wav(Path("out/a.wav"), wav, 16000)
    """

    folder: Path
    names: tuple[str, ...]
    program: str

    @contextmanager
    def being_written(self) -> Iterator[None]:
        """Record the names now, and at the end what was written, also where the work fails.

        A program that is killed leaves the names in the record, so that it can go on.
        """
        is_new = not self.folder.exists()
        self.folder.mkdir(parents=True, exist_ok=True)
        _update(self.folder, self.program, dict.fromkeys(self.names))
        try:
            yield
        finally:
            written = [path for name in self.names for path in _files(self.folder / name)]
            entries: dict[str, Entry] = {path.relative_to(self.folder).as_posix(): _entry(path) for path in written}
            _update(self.folder, self.program, entries, forget=set(self.names) - entries.keys())
            if is_new and not written:
                with suppress(OSError):  # something else may be in it
                    self.folder.rmdir()

    def earlier(self) -> list[Path]:
        """Files of the program's earlier runs that are still as they were written, and that this run does not write."""
        record = _read(self.folder).get(self.program, {})
        mine = [name for name in record if not any(name == own or name.startswith(f"{own}/") for own in self.names)]
        return [self.folder / name for name in sorted(mine) if _is_unchanged(self.folder / name, record[name])]

    def delete_earlier(self) -> None:
        """Delete :meth:`earlier`, and nothing else."""
        for path in self.earlier():
            path.unlink()


def claim_outputs(
    folder: Path, names: Iterable[str], *, program: str, inputs: Iterable[Path] = (), also: Iterable[str] = ()
) -> Outputs:
    """Refuse, before any work, a name below ``folder`` that holds an input or what ``program`` did not write.

    ``names`` are relative, of files or of folders; ``also`` names programs whose files this one replaces on purpose.
    Raises :class:`ClashError`, and writes nothing.
    """
    outputs = Outputs(folder, tuple(dict.fromkeys(names)), program)
    record = _read(folder)
    entries: dict[str, Entry] = {name: entry for known in (*also, program) for name, entry in record.get(known, {}).items()}
    given = {identity: path for path in inputs if (identity := _identity(path)) is not None}
    for name in outputs.names:
        target = folder / name
        for path in [target] if os.path.lexists(target) and not target.is_dir() else sorted(_below(target)):
            if (identity := _identity(path)) in given:
                raise ClashError(f"{shown(path)} would be written over, and it is the input {shown(given[identity])}; name another folder")
            relative = path.relative_to(folder).as_posix()
            known = relative in entries and _is_unchanged(path, entries[relative])
            if not (known or _is_inside_claimed(relative, entries) or _is_recipes(path)):
                raise ClashError(
                    f"expected no file at {shown(path)}, or one that this program wrote, found another file; "
                    "move it away or name another place for the output"
                )
    return outputs


def claim_file(path: Path, *, program: str, inputs: Iterable[Path] = (), also: Iterable[str] = ()) -> Outputs:
    """:func:`claim_outputs` of one file."""
    return claim_outputs(path.parent, [path.name], program=program, inputs=inputs, also=also)


@contextmanager
def all_being_written(outputs: Iterable[Outputs]) -> Iterator[None]:
    """:meth:`Outputs.being_written` of outputs in several folders."""
    with ExitStack() as stack:
        for some in outputs:
            stack.enter_context(some.being_written())
        yield


def own_files(folder: Path) -> set[str]:
    """Names below ``folder`` that its record holds and that are as they were written; by any program."""
    found = {name: entry for entries in _read(folder).values() for name, entry in entries.items()}
    return {name for name, entry in found.items() if entry is not None and _is_unchanged(folder / name, entry)}


def is_recipe_data(folder: Path) -> bool:
    """Is this the ``data`` folder of a recipe, which prepare.sh filled?"""
    return (folder / RECIPE_MARK).is_dir()


def _is_recipes(path: Path) -> bool:
    """The report that lies in a recipe's data/, also of a version that kept no record."""
    return path.suffix in (".html", ".jsonl") and is_recipe_data(path.parent) and not path.is_symlink()


def _is_inside_claimed(name: str, entries: dict[str, Entry]) -> bool:
    """A killed run was filling the folder that this file is in."""
    parts = name.split("/")
    return any("/".join(parts[:depth]) in entries and entries["/".join(parts[:depth])] is None for depth in range(1, len(parts)))


def _is_unchanged(path: Path, entry: Entry) -> bool:
    """Is ``path`` the very file that was recorded?  An entry of None was being written by a run that was killed."""
    if path.is_symlink() or not path.is_file():
        return False
    return entry is None or (path.stat().st_size == entry.get("size") and _hash(path) == entry.get("sha256"))


def _identity(path: Path) -> tuple[int, int] | None:
    """What a path leads to, so that links and other spellings of it are the same."""
    with suppress(OSError):
        found = path.stat()
        return found.st_dev, found.st_ino
    return None


def _files(target: Path) -> list[Path]:
    return [target] if target.is_file() else sorted(path for path in _below(target) if path.is_file())


def _below(folder: Path) -> Iterator[Path]:
    """All that is in a folder, at any depth, but for folders and records; links are not followed."""
    for root, _, names in os.walk(folder):
        for name in names:
            if name != RECORD:
                yield Path(root, name)


def _entry(path: Path) -> dict[str, Any]:
    return {"size": path.stat().st_size, "sha256": _hash(path)}


def _hash(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _read(folder: Path) -> Record:
    """The record of a folder; empty where there is none that can be read, so that nothing in it counts as ours."""
    try:
        values = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        return {str(program): dict(entries) for program, entries in values.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _update(folder: Path, program: str, entries: dict[str, Entry], *, forget: Iterable[str] = ()) -> None:
    """Add to the record.  A name belongs to the program that wrote it last."""
    with _locked(folder):
        record = _read(folder)
        for name in (*entries, *forget):
            for known in record.values():
                known.pop(name, None)
        own = {name: entry for name, entry in record.get(program, {}).items() if os.path.lexists(folder / name)}
        record[program] = {**own, **entries}
        if record := {key: value for key, value in record.items() if value}:
            write_text(folder / RECORD, json.dumps(record, indent=1, sort_keys=True) + "\n")
        else:
            (folder / RECORD).unlink(missing_ok=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One writer of the record at a time, where the file system has locks."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
