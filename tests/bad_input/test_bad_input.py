"""Whatever a user gives a program, a mistake is one sentence; README.md beside this file lists the same mistakes and sentences."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from bad_house import Case, build_house, commit, tree
from table import CASES, EXAMPLES, PAGE, SECTIONS, TABLES, row, said, sentence, with_examples

from valle.outputs import RECORD


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = build_house(tmp_path_factory.mktemp("house"))
    before = tree(folder)
    yield folder
    assert tree(folder) == before  # no mistake changed what was good


@pytest.fixture(scope="module")
def rows() -> dict[str, list[str]]:
    """Lines of each of the page's tables."""
    sections = re.split(r"^## ", TABLES.read_text(encoding="utf-8"), flags=re.M)[1:]
    return {part.partition("\n")[0]: [line for line in part.splitlines() if line.startswith("| ")][1:] for part in sections}


@pytest.mark.parametrize("case", CASES, ids=[f"{case.program}: {case.given}" for case in CASES])
def test_a_mistake_gets_one_sentence_status_2_and_leaves_nothing_half(
    case: Case, house: Path, rows: dict[str, list[str]], tmp_path: Path
) -> None:
    if not case.needs():
        pytest.skip("this machine has what the case must lack")
    end = commit(case, tmp_path, house)
    assert end.status == 2, (end.out, end.err)
    assert "Traceback" not in end.err
    [line] = said(end)
    assert line.startswith(f"{case.program}.py: error: ")
    assert all(phrase in line for phrase in case.says), line
    paths = {name.rpartition(" ")[0] or name for name in end.new}
    assert not [path for path in paths if ".tmp" in path or path.split("/")[0] == "ran"], "half a file, or code that ran"
    allowed = tuple(f"{path}/" for path in case.leaves)
    if case.leaves:
        paths.discard(RECORD)  # of what is left here
    assert not [path for path in paths if path not in case.leaves and not path.startswith(allowed or ("/",))], end.new
    assert row(case, sentence(case, end, tmp_path, house)) in {line for lines in rows.values() for line in lines}


def test_the_examples_of_the_docs_are_rows_of_the_tables() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert with_examples(page, TABLES.read_text(encoding="utf-8")) == page, "run python tests/bad_input/table.py"
    assert len(EXAMPLES) == 10 and all(f"\n| {given} | " in page for given in EXAMPLES)


def test_the_page_lists_the_tested_mistakes_and_no_others(rows: dict[str, list[str]]) -> None:
    listed = {title: [line.split(" | ")[0] for line in lines] for title, lines in rows.items()}
    assert listed == {title: [row(case, "").split(" | ")[0] for case in cases] for title, cases in SECTIONS.items()}


def test_no_mistake_is_listed_twice() -> None:
    for title, cases in SECTIONS.items():
        given = [case.given for case in cases]
        assert len(given) == len(set(given)), (title, sorted({item for item in given if given.count(item) > 1}))


def test_every_program_names_the_neighbours_of_an_unknown_flag() -> None:
    programs = {path.stem for path in (PAGE.parents[1] / "valle" / "bin").glob("*.py") if "run_program(main)" in path.read_text()}
    tested = {case.program for case in CASES if any("did you mean" in phrase for phrase in case.says)}
    assert programs - tested == set()
