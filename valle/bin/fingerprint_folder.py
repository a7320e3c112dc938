"""Print a hash of the names, sizes and times of all audio files in a folder.

python3 bin/fingerprint_folder.py --audio-dir DIR
"""

from __future__ import annotations

from valle.errors import end_on_ctrl_c

if __name__ == "__main__":
    end_on_ctrl_c()  # also while what follows is imported

from dataclasses import dataclass, field
from pathlib import Path

from valle.config import parse_flags
from valle.corpora.folder_walk import FolderError, fingerprint
from valle.errors import run_program


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Which folder."""

    audio_dir: Path = field(metadata={"help": "folder of recordings"})


def main() -> None:
    folder = parse_flags(Settings, usage=__doc__ or "").audio_dir
    if not folder.is_dir():
        raise FolderError(f"expected a folder of audio, found {'a file' if folder.exists() else 'nothing'} at {folder}; check --audio-dir")
    print(fingerprint(folder))


if __name__ == "__main__":
    run_program(main)
