#!/usr/bin/env python3
"""Ask people: a page on which they say which speech is real, or which of two models they prefer; then read their answers.

  python3 bin/listening_test.py --reports exp/report --output-dir exp/listening
  python3 bin/listening_test.py --reports exp/report-a exp/report-b --output-dir exp/preference
  python3 bin/listening_test.py --answers answers-ann.json answers-bob.json --output-dir exp/listening

Give raters the folder page/ alone: key.json says what is what.
"""

from __future__ import annotations

from valle.errors import end_on_ctrl_c

if __name__ == "__main__":
    end_on_ctrl_c()  # also while what follows is imported

from valle.config import parse_flags
from valle.errors import run_program
from valle.evaluation.demo_summary import as_text
from valle.evaluation.listening_answers import caution, read_listening_test, result_table
from valle.evaluation.listening_test import PAGE, ListeningTestOptions, make_listening_test


def main() -> None:
    options = parse_flags(ListeningTestOptions, usage=__doc__ or "")
    if options.answers:
        result = read_listening_test(options)
        print(as_text(result_table(result)))
        print(caution(result))
        return
    key = make_listening_test(options)
    print(f"{len(key['trials'])} trials ({key['kind']}): {(options.output_dir / PAGE).resolve()}")


if __name__ == "__main__":
    run_program(main)
