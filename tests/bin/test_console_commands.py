"""``valle-infer`` and its like: the console commands that installing the package makes."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoints, PathDistribution
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = {
    "valle-infer": "infer", "valle-train": "trainer_audiolm", "valle-tokenize": "tokenizer", "valle-evaluate": "evaluate",
    "valle-serve": "serve",
    "valle-detect": "detect",
}  # fmt: skip


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> EntryPoints:
    """As setuptools writes them from setup.py."""
    folder = tmp_path_factory.mktemp("metadata")
    subprocess.run([sys.executable, "setup.py", "-q", "egg_info", "--egg-base", str(folder)], cwd=ROOT, check=True, capture_output=True)
    return PathDistribution(folder / "valle.egg-info").entry_points.select(group="console_scripts")


def run(command: str, target: str, *flags: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """What pip's script of that name does."""
    module, _, function = target.partition(":")
    code = f"import sys; sys.argv[0] = '/somewhere/bin/{command}'; sys.path.insert(0, {str(ROOT)!r})\nfrom {module} import {function}\n"
    return subprocess.run([sys.executable, "-c", f"{code}sys.exit({function}())", *flags], cwd=folder, capture_output=True, text=True)


def test_the_commands_are_those_that_the_documents_name(commands: EntryPoints) -> None:
    assert commands.names == PROGRAMS.keys()


def test_a_command_shows_its_programs_help_under_its_own_name(commands: EntryPoints, tmp_path: Path) -> None:
    shown = run("valle-tokenize", commands["valle-tokenize"].value, "encode", "--help", folder=tmp_path)
    assert shown.returncode == 0 and shown.stdout.startswith("usage: valle-tokenize encode [flags]"), shown.stderr


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_command_refuses_in_one_line_under_its_own_name(name: str, commands: EntryPoints, tmp_path: Path) -> None:
    flags = ["list"] if name == "valle-tokenize" else []
    wrong = run(name, commands[name].value, *flags, "--no-such", "3", folder=tmp_path)
    [line] = wrong.stderr.splitlines()
    assert wrong.returncode == 2 and line.startswith(f"{name}: error: unknown flag --no-such")


def test_everything_that_the_package_reads_is_installed_with_it(tmp_path: Path) -> None:
    build = [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", str(tmp_path), "build_py", "--build-lib", str(tmp_path / "lib")]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    for path in sorted((ROOT / "valle").rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            assert (tmp_path / "lib" / path.relative_to(ROOT)).is_file(), path.relative_to(ROOT)


def test_every_program_has_a_main_that_a_command_can_call() -> None:
    for path in sorted((ROOT / "valle" / "bin").glob("*.py")):
        if path.read_text().startswith("#!"):
            assert "\ndef main() -> None:\n" in path.read_text() and path.read_text().endswith("    run_program(main)\n"), path.name
