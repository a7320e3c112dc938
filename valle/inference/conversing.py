"""What ``bin/converse.py`` does: a script of turns, some with recordings, in; the sound of the others out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from valle.audio import Waveform, read_audio, resample, write_wav
from valle.errors import UserError
from valle.inference.conversation import Conversation, Line
from valle.outputs import claim_outputs
from valle.settings import setting

GAP_SECONDS = 0.3  # between turns of the whole
WHOLE = "conversation.wav"


@dataclass(frozen=True, kw_only=True)
class ConverseOptions:
    """Flags of ``bin/converse.py``."""

    model: Path = setting(Path("exp/conversation"), "a conversation model: a trainer's folder, a checkpoint, or a released folder")
    script: Path = field(metadata={"help": "text file of turns, one a line: speaker, tab, text and, where it is given, tab, its recording"})
    output_dir: Path = setting(Path("conversed"), "folder for the wavs: 0001.wav of turn 1 and so on, and conversation.wav of all")
    device: str = setting("cpu", "cpu, cuda, mps or auto")
    seed: int = setting(0, "seed of what is drawn")


def converse(options: ConverseOptions) -> list[tuple[Path, Line]]:
    """The wav of every turn that was made, and what is said in it."""
    lines = read_script(options.script)
    asked = [number for number, line in enumerate(lines) if line.wav is None]
    if not asked:
        raise UserError(f"expected a turn without a recording in {options.script}, found none; add one to be made")
    names = {number: f"{number + 1:04d}.wav" for number in asked}
    inputs = [options.script, *(recording for _, _, recording in _rows(options.script) if recording is not None)]
    outputs = claim_outputs(options.output_dir, [*names.values(), WHOLE], program="converse", inputs=inputs)
    talk = Conversation.from_pretrained(options.model, device=options.device)
    sounds = dict(zip(asked, talk.perform(lines, seed=options.seed), strict=True))
    with outputs.being_written():
        for number, name in names.items():
            write_wav(options.output_dir / name, sounds[number], talk.sample_rate)
        turns = [sounds[number] if line.wav is None else _at(line, talk.sample_rate) for number, line in enumerate(lines)]
        write_wav(options.output_dir / WHOLE, _with_gaps(turns, talk.sample_rate), talk.sample_rate)
    return [(options.output_dir / name, lines[number]) for number, name in names.items()]


def read_script(path: Path) -> list[Line]:
    """The turns of a script; recordings are named from the folder in which it lies."""
    lines = []
    for speaker, text, recording in _rows(path):
        if recording is None:
            lines.append(Line(speaker=speaker, text=text))
        else:
            wav, rate = read_audio(recording)
            lines.append(Line(speaker=speaker, text=text, wav=wav, sample_rate=rate))
    return lines


def _rows(path: Path) -> list[tuple[str, str, Path | None]]:
    """Speaker, text and recording of every turn."""
    try:
        rows = [row for row in path.read_text(encoding="utf-8").splitlines() if row.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"expected a script in UTF-8 at {path}, found none that can be read; check --script") from error
    found: list[tuple[str, str, Path | None]] = []
    for number, row in enumerate(rows, 1):
        cells = [cell.strip() for cell in row.split("\t")]
        if not 2 <= len(cells) <= 3 or not cells[0] or not cells[1]:
            raise UserError(f"expected speaker, tab, text and perhaps tab, recording in line {number} of {path}, found {row!r}")
        found.append((cells[0], cells[1], path.parent / cells[2] if len(cells) == 3 and cells[2] else None))
    if not found:
        raise UserError(f"expected turns in {path}, one a line, found none; write some")
    return found


def _at(line: Line, sample_rate: int) -> Waveform:
    assert isinstance(line.wav, np.ndarray)  # as read_script reads it
    return resample(line.wav, line.sample_rate, sample_rate)


def _with_gaps(turns: Sequence[Waveform], sample_rate: int) -> Waveform:
    gap = np.zeros(round(GAP_SECONDS * sample_rate), np.float32)
    return np.concatenate([part for turn in turns for part in (gap, turn)][1:])
