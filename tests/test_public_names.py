"""``from valle import ...``: what is public, quick to import, and shown by an example that runs."""

from __future__ import annotations

import doctest
import importlib
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_audio import write_sound

import valle

ROOT = Path(__file__).parents[1]


def test_importing_the_package_imports_nothing_of_weight() -> None:
    code = "import sys, valle; print([name for name in ('torch', 'numpy', 'yaml', 'lhotse') if name in sys.modules], valle.__doc__[:7])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "[] AudioLM\n"


def test_all_public_names_together_import_no_lhotse_transformers_or_hub() -> None:
    code = "import sys; from valle import *; print([name for name in ('lhotse', 'transformers', 'huggingface_hub') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("name", valle.__all__)
def test_a_public_name_is_the_thing_at_its_home(name: str) -> None:
    found = getattr(valle, name)
    home = importlib.import_module(valle._HOMES[name])
    assert found is getattr(home, name) and found.__module__ == home.__name__ and name in dir(valle)


def test_the_public_names_are_those_with_a_home_and_others_are_refused() -> None:
    assert sorted(valle.__all__) == valle.__all__ == list(valle._HOMES)
    with pytest.raises(AttributeError, match="module 'valle' has no attribute 'Pipelin'; its public names are AudioLM, "):
        valle.Pipelin  # noqa: B018
    with pytest.raises(ImportError):
        exec("from valle import nothing")
    from valle import errors  # modules stay importable by their names

    assert errors.UserError is valle.UserError


@pytest.mark.parametrize("name", valle.__all__)
def test_every_public_name_has_an_example_and_it_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_sound(tmp_path / "hello.wav", 3.5)
    monkeypatch.chdir(tmp_path)
    [test] = doctest.DocTestFinder(recurse=False).find(getattr(valle, name), name, globs={"__name__": "example"})
    assert any(name.lower() in example.source.lower() for example in test.examples), "an example that does not use the name"
    said: list[str] = []
    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=said.append)
    assert result.failed == 0 and result.attempted > 1, "".join(said)
