"""What every benchmark shares: figures with their spread and their goals, the machine, files, child processes.

Imports nothing heavy: a child's peak memory counts what its parent held when it was started.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = ROOT / "valle" / "bin"
RESULTS = ROOT / "benchmarks" / "results"
AUDIO_ENDINGS = {".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a"}


def recordings(folder: Path) -> list[Path]:
    """All audio files below a folder, in order of their names."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in AUDIO_ENDINGS)


def figure(
    values: Sequence[float], *, at_least: float | None = None, at_most: float | None = None, digits: int = 3, means: str = ""
) -> dict[str, Any]:
    """The median of repeated measurements with the least and the most of them, and beside it its goal and whether it is met."""
    value = statistics.median(values)
    result: dict[str, Any] = {"value": round(value, digits), "spread": [round(min(values), digits), round(max(values), digits)]}
    result["repeats"] = len(values)
    if means:
        result["means"] = means
    if at_least is not None:
        result.update(goal=f"at least {at_least:g}", met=value >= at_least)
    if at_most is not None:
        result.update(goal=f"at most {at_most:g}", met=value <= at_most)
    return result


def goals_of(results: Any, name: str = "") -> list[dict[str, Any]]:
    """Every figure within ``results`` that has a goal, by its path, in order."""
    if isinstance(results, Mapping):
        if "met" in results:
            return [{"figure": name, **{key: results[key] for key in ("value", "goal", "met")}}]
        return [goal for key, value in results.items() for goal in goals_of(value, f"{name}.{key}" if name else str(key))]
    return []


def header(command: Sequence[str]) -> dict[str, Any]:
    """Where, when and how a benchmark ran; a file for the results that ``--output`` names at the end is no part of how."""
    words = list(command)
    if len(words) > 1 and words[-2] == "--output":
        del words[-2:]
    return {
        "command": " ".join(words),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in ("torch", "transformers", "lhotse")}},
        "load_at_start": round(os.getloadavg()[0], 2),  # of other programs: figures on a busy machine are lower
    }


def machine() -> dict[str, Any]:
    """Processor and memory, as far as they say."""
    model = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {"processor": model, "cores": os.cpu_count(), "memory_gib": round(gigabytes, 1), "system": platform.system()}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def write_results(path: Path, results: dict[str, Any]) -> None:
    """All of it or nothing; ``goals`` lists every goal once more, for a quick look."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps({**results, "goals": goals_of(results)}, indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)


def merge_results(path: Path, results: dict[str, Any]) -> None:
    """``write_results`` of what the file holds already with ``results`` in place of, or beside, what had their names."""
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    write_results(path, {name: value for name, value in {**before, **results}.items() if name != "goals"})


def goal_lines(results: dict[str, Any]) -> list[str]:
    """One line a goal, for the terminal."""
    goals = goals_of(results)
    width = max((len(goal["figure"]) for goal in goals), default=0)
    return [f"{'met   ' if goal['met'] else 'MISSED'} {goal['figure']:{width}} {goal['value']:>9g} ({goal['goal']})" for goal in goals]


@dataclass(frozen=True)
class Finished:
    """What a child process used."""

    seconds: float
    peak_bytes: int  # resident, of the child or the largest of its own children


def run_child(command: Sequence[str | Path], *, cwd: Path, environment: Mapping[str, str] | None = None) -> Finished:
    """Run to its end, as GNU time does; raises ``RuntimeError`` with the end of what it printed if it fails."""
    started = time.perf_counter()
    with subprocess.Popen(
        [str(word) for word in command], cwd=cwd, env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as child:  # fmt: skip
        assert child.stdout is not None
        printed = child.stdout.read()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))} ended with {child.returncode}:\n{printed[-2000:]}")
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
    return Finished(seconds=time.perf_counter() - started, peak_bytes=usage.ru_maxrss * unit)
