"""docs/bad-input.md, written from the cases: `python tests/bad_input/table.py` runs them all and writes the page anew.

On a machine without a GPU, as one of the mistakes is to ask for one that is not there.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

import cases_alignment
import cases_checkpoints
import cases_corpora
import cases_encoding
import cases_flags
import cases_manifests
import cases_prompts
import cases_released
import cases_runs
import cases_tokenizers
import cases_tokens
import cases_unit_sequences
from bad_house import Case, End, build_house, commit

PAGE = Path(__file__).parents[2] / "docs" / "bad-input.md"
LONGEST = 60  # of what stands in brackets, mostly a library's own words

SECTIONS: dict[str, list[Case]] = {
    "Flags and settings": cases_flags.CASES,
    "Audio prompts": cases_prompts.AUDIO,
    "Output folders": cases_prompts.OUTPUT,
    "Checkpoints": cases_checkpoints.CASES,
    "Released folders": cases_released.CASES,
    "Tokenizers": cases_tokenizers.CASES,
    "Encoding and decoding": cases_encoding.CASES,
    "Tokenized cuts": cases_tokens.CASES,
    "Unit sequences": cases_unit_sequences.CASES,
    "Runs": cases_runs.CASES,
    "Manifests of audio": cases_manifests.CASES,
    "Corpora": cases_corpora.CASES,
    "Phone times": cases_alignment.CASES,
}
CASES = [case for cases in SECTIONS.values() for case in cases]

HEAD = """# What bad input gets

A mistake of yours is answered by one line on stderr that begins with the program's name and says what was expected, what was
found and what to do; no traceback, exit status 2, and no file is left half. A program that finds the mistake before its work
begins writes nothing at all; one that finds it on its way keeps what was whole, such as a log or finished shards. A traceback is
always a mistake of ours: please report it.

**Nothing from elsewhere is ever run.** Checkpoints are read as tensors and plain values, and one that holds more is refused
before it is opened as such; released models are safetensors and plain YAML; a manifest whose audio is a command or an address,
or whose arrays lie in another storage than HDF5, is refused. Names from files are shown escaped, in pages and on the terminal.

| how a program ends | what it says | exit status |
|---|---|---|
| it did its work | its result, on stdout | 0 |
| a mistake of the user's | one line, `PROGRAM: error: ...` | 2 |
| a full disk | `cannot write PATH: no space left on device; free some space, then run the same command again` | 2 |
| Ctrl-C | `interrupted; what was finished is kept, and the same command goes on` | 130 |
| the reader of its output left (`... \\| head -1`) | nothing | 141 |
| a mistake of ours | a traceback | 1 |

The tables below are written by `python tests/bad_input/table.py`, which makes every one of these mistakes; the tests make them
again and compare. Long reasons in brackets are left out here. `good/` stands for things that are as they should be.
"""


def sentence(case: Case, end: End, folder: Path, house: Path) -> str:
    """What the program said, without its name and without this machine's paths."""
    line = said(end)[-1].removeprefix(f"{case.program}.py: error: ")
    line = re.sub(r"\b[0-9a-f]{12}\b", "...", line)  # hashes of weights, which machines draw with other roundings
    return line.replace(f"{house}/", "good/").replace(f"{folder}/", "").replace(f"{house.resolve()}/", "good/")


def said(end: End) -> list[str]:
    """Lines of stderr but those of the log and of progress bars."""
    lines = [line for line in end.err.replace("\r", "\n").splitlines() if line.strip()]
    return [line for line in lines if " INFO [" not in line and "%|" not in line]


def row(case: Case, text: str) -> str:
    """A line of the table."""
    return f"| {_cell(case.given)} | {_cell(shortened(text))} | 2 |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("a" * 250, "a...a")


def shortened(text: str) -> str:
    """Long remarks in brackets as (...), and one neighbour of several."""
    kept, remark, depth = "", "", 0
    for letter in text:
        depth += letter == "("
        if depth:
            remark += letter
        else:
            kept += letter
        depth -= letter == ")" and depth > 0
        if remark and not depth:
            kept += remark if len(remark) <= LONGEST else "(...)"
            remark = ""
    return re.sub(r"(did you mean [-\w]+)( or [-\w]+)+\?", r"\1 ...?", kept + remark)


def write_page() -> None:
    """Make every mistake and write what it gets."""
    with tempfile.TemporaryDirectory() as name:
        top = Path(name).resolve()
        (top / "house").mkdir()
        house = build_house(top / "house")
        parts = [HEAD]
        for title, cases in SECTIONS.items():
            parts.append(f"\n## {title}\n\n| given | what it says | exit status |\n|---|---|---|\n")
            for case in cases:
                folder = Path(tempfile.mkdtemp(dir=top))
                parts.append(row(case, sentence(case, commit(case, folder, house), folder, house)) + "\n")
    PAGE.write_text("".join(parts), encoding="utf-8")


if __name__ == "__main__":
    write_page()
