"""Stage 1 of egs/espeak_dialogue: manifests of a synthesised corpus.

python3 bin/prepare_espeak_dialogue.py --corpus-dir download/espeak_dialogue --output-dir data/manifests
"""

from __future__ import annotations

from valle.errors import end_on_ctrl_c

if __name__ == "__main__":
    end_on_ctrl_c()  # also while what follows is imported

from dataclasses import dataclass, field
from pathlib import Path

from valle.bin.terminal import progress_bar
from valle.config import parse_flags
from valle.corpora.espeak_dialogue import prepare_espeak_dialogue
from valle.corpora.report import corpus_being_written, part_sizes, summary_lines, write_left_out, write_report
from valle.errors import run_program


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Where the corpus is and where its manifests go."""

    corpus_dir: Path = field(default=Path("download/espeak_dialogue"), metadata={"help": "what stage 0 left"})
    output_dir: Path = field(default=Path("data/manifests"), metadata={"help": "where the manifests go"})
    report: Path = field(default=Path("data/report.html"), metadata={"help": "page of what was kept"})


def main() -> None:
    settings = parse_flags(Settings, usage=__doc__ or "")
    with corpus_being_written(settings.output_dir, settings.report):
        with progress_bar("manifests", "parts") as progress:
            sizes = part_sizes(prepare_espeak_dialogue(settings.corpus_dir, settings.output_dir))
            progress(len(sizes), len(sizes))
        write_left_out([], settings.output_dir / "left_out.jsonl")
        write_report(settings.report, title="eSpeak, dialogues", left_out=settings.output_dir / "left_out.jsonl", sizes=sizes)
    print("\n".join(summary_lines(settings.output_dir, sizes)))


if __name__ == "__main__":
    run_program(main)
