"""Stage 1 of egs/librispeech: manifests of a folder in LibriSpeech's layout, and a report of what was left out.

python3 bin/prepare_librispeech.py --corpus-dir DIR --train-parts train-clean-100 --dev-parts dev-clean
"""

from __future__ import annotations

from valle.errors import end_on_ctrl_c

if __name__ == "__main__":
    end_on_ctrl_c()  # also while what follows is imported

from valle.bin.terminal import progress_bar
from valle.config import parse_flags
from valle.corpora.librispeech import LibriSpeechConfig, prepare_librispeech
from valle.corpora.report import corpus_being_written, summary_lines, write_report
from valle.errors import run_program


def main() -> None:
    config = parse_flags(LibriSpeechConfig, usage=__doc__ or "")
    with corpus_being_written(config.output_dir, config.report):
        with progress_bar("manifests", "speakers") as progress:
            sizes = prepare_librispeech(config, progress=progress)
        write_report(config.report, title="LibriSpeech", left_out=config.output_dir / "left_out.jsonl", sizes=sizes)
    print("\n".join(summary_lines(config.output_dir, sizes)))


if __name__ == "__main__":
    run_program(main)
