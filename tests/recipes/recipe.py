"""A copy of a recipe's folder beside a link to the package, and its scripts run as a user runs them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
KILL_SWITCH = Path(__file__).parent / "kill_switch"


@dataclass(frozen=True)
class Recipe:
    """``egs/NAME`` of a copy."""

    folder: Path

    @classmethod
    def copy(cls, name: str, where: Path) -> Recipe:
        """``where/egs/NAME`` and ``where/egs/shared``, copied, and ``where/valle``, a link."""
        for part in (name, "shared"):
            if not (where / "egs" / part).exists():
                left = shutil.ignore_patterns("data", "download", "exp")
                shutil.copytree(ROOT / "egs" / part, where / "egs" / part, symlinks=True, ignore=left)
        if not (where / "valle").exists():
            (where / "valle").symlink_to(ROOT / "valle")
        return cls(folder=where / "egs" / name)

    def run(
        self, *words: str, script: str = "./prepare.sh", cwd: Path | None = None, kill_at: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """The script with these options, in a process group of its own; ``kill_at`` is that of the kill switch."""
        environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "KILL_AT")}
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
        if kill_at:
            environment.update(KILL_AT=kill_at, PYTHONPATH=str(KILL_SWITCH))
        return subprocess.run(
            [script, *words], cwd=cwd or self.folder, env=environment, capture_output=True, text=True, timeout=600,
            start_new_session=True, check=False,
        )  # fmt: skip

    def finish(self, *words: str) -> str:
        """The script's output where it must succeed."""
        done = self.run(*words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def kill(self, *words: str, at: str) -> str:
        """The output of a run that is killed at a rename."""
        done = self.run(*words, kill_at=at)
        assert done.returncode == -signal.SIGKILL, f"{at}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def content(self, *parts: str) -> dict[str, bytes]:
        """Bytes of every file below these folders, but for the marks and logs of the stages."""
        found = {}
        for part in parts:
            for path in sorted((self.folder / part).rglob("*")):
                name = path.relative_to(self.folder).as_posix()
                if path.is_file() and not name.startswith("data/.stages") and name != "data/scan.jsonl":
                    found[name] = path.read_bytes()
        return found

    def times(self, *parts: str) -> dict[str, int]:
        """When each of these files was written, ns."""
        return {name: (self.folder / name).stat().st_mtime_ns for name in self.content(*parts)}


def stages(output: str, what: str) -> list[int]:
    """Numbers of the stages of which the log says ``what``: ``run`` or ``skipped``."""
    lines = [line for line in output.splitlines() if ") Stage " in line]
    numbers = {"skipped": [], "run": []}
    for line in lines:
        number = int(line.partition(") Stage ")[2][0])
        kind = "skipped" if line.endswith("already done, skipped") else "run"
        if number not in numbers[kind]:
            numbers[kind].append(number)
    return numbers[what]
