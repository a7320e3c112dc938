"""Stage 0 of egs/librispeech: find the corpus, or download parts of it from openslr.org by lhotse.

python3 bin/download_librispeech.py --output-dir download --parts train-clean-100 dev-clean
"""

from __future__ import annotations

from valle.errors import end_on_ctrl_c

if __name__ == "__main__":
    end_on_ctrl_c()  # also while what follows is imported

from dataclasses import dataclass, field
from pathlib import Path

from valle.config import parse_flags
from valle.corpora.librispeech import download_parts
from valle.errors import run_program


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to download, and where to."""

    parts: list[str] = field(metadata={"help": "names such as train-clean-100"})
    output_dir: Path = field(default=Path("download"), metadata={"help": "LibriSpeech/ is made there"})


def main() -> None:
    settings = parse_flags(Settings, usage=__doc__ or "")
    print(download_parts(settings.parts, settings.output_dir))


if __name__ == "__main__":
    run_program(main)
