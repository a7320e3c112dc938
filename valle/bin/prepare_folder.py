"""Stage 1 of egs/folder: manifests of the recordings in a folder, and a report of what was left out and why.

python3 bin/prepare_folder.py --audio-dir DIR --max-seconds 15 --split-by file
"""

from __future__ import annotations

from valle.errors import end_on_ctrl_c

if __name__ == "__main__":
    end_on_ctrl_c()  # also while what follows is imported

from valle.bin.terminal import progress_bar
from valle.config import parse_flags
from valle.corpora.report import corpus_being_written, summary_lines, write_report
from valle.corpora.spoken_folder import SpokenFolderConfig, prepare_spoken_folder
from valle.errors import run_program


def main() -> None:
    config = parse_flags(SpokenFolderConfig, usage=__doc__ or "")
    with corpus_being_written(config.output_dir, config.report, config.scan_log):
        with progress_bar("manifests", "files") as progress:
            report = prepare_spoken_folder(config, progress=progress)
        title = f"Recordings in {config.audio_dir}"
        write_report(config.report, title=title, left_out=config.output_dir / "left_out.jsonl", sizes=report.sizes)
    print("\n".join([*summary_lines(config.output_dir, report.sizes), *report.notes]))


if __name__ == "__main__":
    run_program(main)
