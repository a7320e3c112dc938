#!/usr/bin/env python3
"""Make the items of the language suites: pairs of synthesised recordings, of which one is right.

  python3 bin/make_language_suites.py --output-dir data/language --max-items 1000
  python3 bin/evaluate.py --corpus data/tokenized --suite language --language-items data/language --output-dir exp/report

What is there already is kept; the same command goes on where it was stopped.
"""

from __future__ import annotations

from valle.errors import end_on_ctrl_c

if __name__ == "__main__":
    end_on_ctrl_c()  # also while what follows is imported

from valle.bin.terminal import progress_bar
from valle.config import parse_flags
from valle.errors import run_program
from valle.evaluation.language.make import LanguageItemOptions, make_language_items


def main() -> None:
    options = parse_flags(LanguageItemOptions, usage=__doc__ or "")
    with progress_bar("items", "quadruples") as progress:
        pairs = make_language_items(options, progress=progress)
    for suite in options.suites:
        groups: dict[str, int] = {}
        for pair in pairs:
            if pair.suite == suite:
                groups[pair.group] = groups.get(pair.group, 0) + 1
        print(f"{suite}: {sum(groups.values())} pairs ({', '.join(f'{name} {count}' for name, count in groups.items())})")


if __name__ == "__main__":
    run_program(main)
