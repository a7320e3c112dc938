"""What the documents hold: fences, the commands in them, links; and the programs' own parsers to check them by."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from valle.config import parse_flags

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^```(?P<info>[^\n]*)\n(?P<body>.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"!?\[[^\]]*\]\((?P<target>[^)\s]+)\)")
VARIABLES = {"LIBRISPEECH", "PIANO", "RECORDINGS", "ENCODEC", "HUBERT_KM100"}  # folders of the user's


def documents() -> list[Path]:
    """Everything that is written for people."""
    found = [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("egs/*.md"),
        *ROOT.glob("egs/*/*.md"),
        *ROOT.glob("valle/assets/**/*.md"),
    ]
    return sorted(found)


def name_of(document: Path) -> str:
    return document.relative_to(ROOT).as_posix()


@dataclass(frozen=True)
class Fence:
    """A block of code; ``info`` is what stands behind the opening marks."""

    document: Path
    info: str
    body: str

    @property
    def name(self) -> str:
        first = next(iter(self.body.strip().splitlines()), "")
        return f"{name_of(self.document)}: {first[:60]}"


def fences(kind: str) -> list[Fence]:
    """All blocks of one kind, such as ``bash`` or ``python run``."""
    return [
        Fence(document, match["info"].strip(), match["body"])
        for document in documents()
        for match in FENCE.finditer(document.read_text(encoding="utf-8"))
        if match["info"].strip() == kind
    ]


@dataclass(frozen=True)
class Command:
    """One command in words, and the folder in which it is given."""

    words: list[str]
    folder: Path


def commands(fence: Fence) -> Iterator[Command]:
    """The commands of a shell block, in the folder that its document names: a recipe's own, else the top; ``cd`` is followed."""
    folder = fence.document.parent if fence.document.match("egs/*/README.md") else ROOT
    for line in fence.body.replace("\\\n", " ").splitlines():
        for words in split(line):
            if words[0] == "cd":
                assert len(words) == 2, f"cd takes one folder: {line}"
                folder = (folder / words[1]).resolve()
                assert folder.is_dir(), f"there is no folder {words[1]}: {line}"
            else:
                yield Command(words, folder)


def split(line: str) -> list[list[str]]:
    """A line as commands in words, without comments; ``&&``, ``;`` and ``|`` divide."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    found: list[list[str]] = [[]]
    for word in lexer:
        if word in ("&&", ";", "|"):
            found.append([])
        else:
            found[-1].append(word)
    return [words for words in found if words]


@cache
def program(name: str) -> tuple[type, list[Path]]:
    """The settings of ``bin/NAME.py`` and its files of defaults, as its own call of ``parse_flags`` names them."""
    module = importlib.import_module(f"valle.bin.{name}")
    tree = ast.parse((ROOT / "valle" / "bin" / f"{name}.py").read_text(encoding="utf-8"))
    call = next(node for node in ast.walk(tree) if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "parse_flags")
    files = next((keyword.value for keyword in call.keywords if keyword.arg == "config_files"), None)
    names = [node.value for node in ast.walk(files) if isinstance(node, ast.Constant)] if files else []
    return getattr(module, call.args[0].id), [Path(name) for name in names]


def parse_program(name: str, flags: list[str], folder: Path) -> Any:
    """The settings that a program would run with in ``folder``; raises as it would.

    A file of settings that an earlier command makes is left out, since it is not there yet.
    """
    module = importlib.import_module(f"valle.bin.{name}")
    if hasattr(module, "COMMANDS"):  # several programs in one
        assert flags and flags[0] in module.COMMANDS, f"{name}.py has no command {flags[:1]}"
        return parse_flags(module.COMMANDS[flags[0]][0], flags[1:], prog=name)
    if hasattr(module, "chosen_model"):  # a program whose settings depend on the model that it is asked to train
        model = module.chosen_model(flags)
        settings, files = model.options, [model.config_file]
    else:
        settings, files = program(name)
    if "--config" in flags:
        at = flags.index("--config")
        made_by_then = flags[at + 1].startswith("exp/")
        flags = flags[:at] + ([] if made_by_then else ["--config", str(folder / flags[at + 1])]) + flags[at + 2 :]
    return parse_flags(settings, flags, prog=name, config_files=[folder / file for file in files])


@cache
def script_options(script: Path) -> frozenset[str]:
    """Options of a recipe's script, as its own ``--help`` lists them."""
    finished = subprocess.run(["bash", script.name, "--help"], cwd=script.parent, capture_output=True, text=True, check=True)
    return frozenset(re.findall(r"^\s+(--[a-z0-9-]+)", finished.stdout, re.MULTILINE))


@cache
def make_targets() -> tuple[frozenset[str], frozenset[str]]:
    """Targets of the Makefile, and the variables that it reads."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    return frozenset(re.findall(r"^([a-z-]+):", text, re.MULTILINE)), frozenset(re.findall(r"\$\((?:if \$\()?([A-Z_]+)\)?", text))


def anchors(document: Path) -> set[str]:
    """What ``#...`` may name in a document: its headings as GitHub writes them."""
    text = FENCE.sub("", document.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}
