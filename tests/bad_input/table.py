"""The tables in README.md beside this file, and the examples of docs/bad-input.md: `python tests/bad_input/table.py` writes both.

It makes every mistake.

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

TABLES = Path(__file__).with_name("README.md")
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

HEAD = """# What bad input gets, in full

Every mistake that the tests make, with the sentence that the program answers. `python tests/bad_input/table.py` makes all of
them and writes this page; the tests make them again and compare. Long remarks in brackets are shortened to (...). `good/` stands
for files without mistakes. Principles and ten examples: [what bad input gets](../../docs/bad-input.md).
"""

EXAMPLES = (  # of the given mistakes, those that docs/bad-input.md shows
    "`infer.py --audio-prompt ...`",
    "`infer.py --max-seconds ten`",
    "`trainer_audiolm.py --nhead 3`",
    "`trainer_audiolm.py --scheduler-name cosine`",
    "a text renamed to .wav",
    "a wav shorter than a frame of the codec",
    "`export.py`: an output folder that holds something else",
    "a checkpoint that is a pickled model, not its weights",
    "units and codes that never meet",
    "--config that is a folder",
)
EXAMPLES_BLOCK = re.compile(r"(?<=<!-- examples -->\n).*?(?=<!-- end -->)", re.DOTALL)
COLUMNS = "| given | what it says | exit status |\n|---|---|---|\n"


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
            parts.append(f"\n## {title}\n\n{COLUMNS}")
            for case in cases:
                folder = Path(tempfile.mkdtemp(dir=top))
                parts.append(row(case, sentence(case, commit(case, folder, house), folder, house)) + "\n")
    TABLES.write_text("".join(parts), encoding="utf-8")
    PAGE.write_text(with_examples(PAGE.read_text(encoding="utf-8"), "".join(parts)), encoding="utf-8")


def with_examples(page: str, tables: str) -> str:
    """The page with its examples as the tables have them now."""
    lines = [line for line in tables.splitlines() if line.split(" | ")[0].removeprefix("| ") in EXAMPLES]
    return EXAMPLES_BLOCK.sub(lambda _: COLUMNS + "".join(f"{line}\n" for line in lines), page)


if __name__ == "__main__":
    write_page()
