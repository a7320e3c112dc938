"""How tables of the documents say figures: Markdown, intervals, and where something was measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from valle.inference.listening_page import PageTable

Results = Mapping[str, Any]  # name of a file in benchmarks/results: its content


def written_from(name: str, write: Callable[[Mapping[str, Any]], str]) -> Callable[[Results], str | None]:
    """A block that ``write`` makes of one file of results, and none where there is no such file."""
    return lambda results: write(results[name]) if name in results else None


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]], note: str = "", *, align: str = "---:") -> str:
    """A table; what stands in all columns but the first is set to the right, or as ``align`` says."""
    head = [f"| {' | '.join(columns)} |", f"|---|{f'{align}|' * (len(columns) - 1)}"]
    return "\n".join([*head, *(f"| {' | '.join(row)} |" for row in rows), *(["", note] if note else [])]) + "\n"


def page_table(table: PageTable, *, titled: bool = False) -> str:
    columns = table.columns if any(table.columns) else ("", *("value" for _ in table.columns[1:]))
    text = markdown(columns, table.rows, table.note)
    return f"**{table.title}**\n\n{text}" if titled else text


def where(values: Mapping[str, Any], command: str = "") -> str:
    """The machine, the command (or what stands for it) and the day of a benchmark."""
    machine = values["machine"]
    told = command or f"`{values['command']}`"
    return f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB; {told}, {values['date'][:10]}."


def command_block(values: Mapping[str, Any], width: int = 130) -> str:
    """A benchmark's command, to copy: one program, in lines of at most ``width`` characters."""
    words = values["command"].replace("python -m", "python3 -m", 1).split(" ")
    lines = [words[0]]
    for word in words[1:]:
        if len(lines[-1]) + len(word) + 3 > width:
            lines.append("  " + word)
        else:
            lines[-1] += " " + word
    return "```bash\n" + " \\\n".join(lines) + "\n```\n"


def run_note(values: Mapping[str, Any]) -> str:
    """How much a recipe's run has learned from, and how long."""
    training = values["training"]
    hours = ", ".join(f"{part} {amount:.2f} h" for part, amount in values["hours"].items())
    return f"{hours}; {training['steps']} steps in {training['seconds'] / 60:.0f} minutes, {training['dtype']}."


def text(value: float) -> str:
    """A number as a cell says it: three digits that matter, at most."""
    if isinstance(value, float):
        return f"{value:,.0f}".replace(",", " ") if abs(value) >= 1000 else f"{value:.3g}"
    return str(value)


def estimate(value: Mapping[str, float], digits: int) -> str:
    return f"{value['mean']:.{digits}f} ({value['low']:.{digits}f} to {value['high']:.{digits}f})"


def percent(value: Mapping[str, float] | None) -> str:
    """An estimated share, such as an error rate, with its interval."""
    if not value or "mean" not in value:
        return ""
    mean, low, high = (100 * value[name] for name in ("mean", "low", "high"))
    return f"{mean:.1f} ({low:.1f} to {high:.1f})"


def interval(value: Mapping[str, float]) -> str:
    """A share in percent with its 95 % interval."""
    return f"{100 * value['mean']:.0f} % ({100 * value['low']:.0f} to {100 * value['high']:.0f})"


def with_interval(row: Mapping[str, Any], name: str, digits: int) -> str:
    """A mean with its interval; nothing where it is undefined, as PESQ of silence is."""
    if name not in row:
        return ""
    low, high = row["intervals"][name]
    mean = f"{row[name]:.{digits}f}"
    return mean if f"{low:.{digits}f}" == f"{high:.{digits}f}" else f"{mean} ({low:.{digits}f} to {high:.{digits}f})"
