"""A recogniser that is asked about every sound once: what it heard is kept in a file, so that a long run can go on where it ended."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from valle.audio import Waveform
from valle.evaluation.recogniser import Heard, Recogniser, Segment
from valle.files import keep_whole_lines


class RememberingRecogniser:
    """``recogniser``, with a line of JSON in ``path`` for each sound that it has heard."""

    def __init__(self, recogniser: Recogniser, path: Path) -> None:
        self.recogniser, self.path = recogniser, path
        self.name, self.language = recogniser.name, recogniser.language
        self.known: dict[str, Heard] = {}
        if path.is_file():
            keep_whole_lines(path)
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    row = json.loads(line)
                    self.known[row["key"]] = Heard(tuple(Segment(**segment) for segment in row["segments"]))
                except (json.JSONDecodeError, KeyError, TypeError):  # that sound is heard again
                    continue

    def hear(self, wav: Waveform, sample_rate: int) -> Heard:
        """What was heard in the same samples before, or is heard now."""
        key = hashlib.sha256(f"{self.name} {self.language} {sample_rate} ".encode() + wav.tobytes()).hexdigest()
        if key not in self.known:
            self.known[key] = self.recogniser.hear(wav, sample_rate)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps({"key": key, **asdict(self.known[key])}) + "\n")
        return self.known[key]
