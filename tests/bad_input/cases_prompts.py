"""Audio prompts and output folders of ``bin/infer.py``."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
from bad_house import Case
from tiny_pipeline import RATE, recording

SHORT = "--model good/model --output-dir out --prompt-seconds 1 --max-seconds 0.5"


def _wav(name: str, samples: np.ndarray, rate: int = RATE, **options: str) -> Callable[[Path], object]:
    return lambda folder: soundfile.write(folder / name, samples, rate, **options)


def _bytes(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


def _head(name: str, size: int, source: str = "a.wav") -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes((folder / "good" / source).read_bytes()[:size])


def _huge_header(folder: Path) -> None:
    """A header that promises four hours and 65535 channels of nothing."""
    head = b"RIFF" + struct.pack("<I", 2**32 - 1) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 65535, 2**31 - 1, 2**31 - 1, 4, 16)
    (folder / "a.wav").write_bytes(head + b"data" + struct.pack("<I", 2**32 - 1) + bytes(100))


def _nan(value: float) -> np.ndarray:
    samples = recording(1.5)
    samples[100] = value
    return samples


def _prompt(given: str, name: str, make: Callable[[Path], object], *says: str, flags: str = "") -> Case:
    return Case(given=given, program="infer", flags=f"{SHORT} --audio-prompts '{name}' {flags}".strip(), make=make, says=says)


AUDIO = [
    _prompt("a prompt that is not there", "no.wav", lambda folder: None, "no.wav", "found nothing there"),
    _prompt("a folder", "good", lambda folder: None, "found the folder good"),
    _prompt("an empty file", "a.wav", _bytes("a.wav", b""), "a.wav", "0 bytes"),
    _prompt("a text renamed to .wav", "a.wav", _bytes("a.wav", b"These are words, not sound.\n" * 99), "a.wav", "cannot be decoded"),
    _prompt("a text renamed to .mp3", "a.mp3", _bytes("a.mp3", b"These are words, not sound.\n" * 99), "a.mp3", "cannot be decoded"),
    _prompt("a text renamed to .m4a", "a.m4a", _bytes("a.m4a", b"These are words, not sound.\n" * 99), "a.m4a", "cannot be decoded"),
    _prompt("a text without a suffix", "a", _bytes("a", b"These are words, not sound.\n" * 99), "cannot be decoded"),
    _prompt("a wav that ends within its header", "a.wav", _head("a.wav", 20), "a.wav", "cannot be decoded"),
    _prompt("a wav that ends after its header", "a.wav", _head("a.wav", 44), "a.wav", "found none"),
    _prompt("a wav whose header promises 65535 channels", "a.wav", _huge_header, "a.wav", "cannot be decoded"),
    _prompt("a wav of 0 samples", "a.wav", _wav("a.wav", np.zeros(0, np.float32)), "a.wav", "found none"),
    _prompt("a wav shorter than a frame of the codec", "a.wav", _wav("a.wav", recording(1.0)[:100]), "at least 0.2 s", "0.01 s"),
    _prompt("a wav of 0.1 s", "a.wav", _wav("a.wav", recording(0.1)), "at least 0.2 s", "0.10 s"),
    _prompt("a float wav with a NaN", "a.wav", _wav("a.wav", _nan(np.nan), subtype="FLOAT"), "a.wav", "NaN"),
    _prompt("a float wav with an infinity", "a.wav", _wav("a.wav", _nan(np.inf), subtype="FLOAT"), "a.wav", "infinity"),
    _prompt("a float wav with samples of 1e30", "a.wav", _wav("a.wav", _nan(1e30), subtype="FLOAT"), "a.wav", "1e+30"),
    _prompt("a link to nothing", "a.wav", lambda folder: (folder / "a.wav").symlink_to("gone.wav"), "a.wav", "found nothing there"),
    _prompt("a link to itself", "a.wav", lambda folder: (folder / "a.wav").symlink_to("a.wav"), "a.wav"),
    _prompt("a named pipe", "a.wav", lambda folder: os.mkfifo(folder / "a.wav"), "a.wav", "expected an audio file"),
    _prompt("a name longer than names can be", "a" * 300 + ".wav", lambda folder: None, "aaaa"),
    _prompt("a name with a line break", "a\nb.wav", lambda folder: None, "a b.wav", "found nothing there"),
    _prompt("a name that would colour the terminal", "\x1b[31mred.wav", lambda folder: None, "\\x1b[31mred.wav"),
    _prompt("a name that is not UTF-8", "caf\udce9.wav", lambda folder: None, "in UTF-8", "caf\\udce9.wav", "rename"),
    _prompt("a name that begins with a dash", "-a.wav", _wav("-a.wav", recording(1.5)), "unknown flag -a.wav", "write ./-a.wav"),
    _prompt("one bad prompt among good ones", "good/a.wav' 'no.wav", lambda folder: None, "no.wav", "found nothing there"),
    _prompt(
        "`--mode acoustic` and a recording no longer than its prompt",
        "a.wav",
        _wav("a.wav", recording(0.9)),
        "longer than its prompt",
        flags="--mode acoustic",
    ),
]


def _output(
    given: str, out: str, make: Callable[[Path], object], *says: str, program: str = "infer", flags: str = "", leaves: tuple[str, ...] = ()
) -> Case:
    flags = flags or "--model good/model --prompt-seconds 1 --max-seconds 0.5 --audio-prompts good/a.wav"
    return Case(given=given, program=program, flags=f"{flags} --output-dir {out}", make=make, says=says, leaves=leaves)


def _write_to(path: str) -> Callable[[Path], object]:
    return _bytes(path, b"mine")


OUTPUT = [
    _output("`infer.py`: an output folder that is a file", "out", _write_to("out"), "found the file out"),
    _output("`infer.py`: an output folder inside a file", "mine/out", _write_to("mine"), "mine"),
    _output("`infer.py`: an output folder with a name that is too long", "a" * 300, lambda folder: None, "aaaa"),
    _output(
        "`export.py`: an output folder that is a file",
        "out",
        _write_to("out"),
        "found the file out",
        program="export",
        flags="--exp-dir good/exp",
    ),
    _output(
        "`export.py`: an output folder that holds something else",
        "out",
        lambda folder: ((folder / "out").mkdir(), (folder / "out" / "thesis.txt").write_text("mine")),
        "out holds files that are not a released model",
        program="export",
        flags="--exp-dir good/exp",
    ),
    _output(
        "`export.py`: an output folder inside a file", "mine/out", _write_to("mine"), "mine", program="export", flags="--exp-dir good/exp"
    ),
    _output(
        "`synthesize_espeak.py`: an output folder that holds something else",
        "out",
        lambda folder: ((folder / "out").mkdir(), (folder / "out" / "thesis.txt").write_text("mine")),
        "out, found other files",
        program="synthesize_espeak",
        flags="--num-hours 0.001",
    ),
    _output(
        "`synthesize_espeak.py`: an output folder that is a file",
        "out",
        _write_to("out"),
        "out",
        program="synthesize_espeak",
        flags="--num-hours 0.001",
    ),
    _output(
        "`tokenize_cuts.py`: an output folder that is a file",
        "out",
        _write_to("out"),
        "out",
        program="tokenize_cuts",
        flags="--manifest-dir good/data/manifests --tokenizer-dir good/data/tokenizers",
    ),
    _output(
        "`prepare_tokenizers.py`: an output folder that is a file",
        "out",
        _write_to("out"),
        "out",
        program="prepare_tokenizers",
        flags=" ",
    ),
    _output(
        "`prepare_folder.py`: an output folder that is a file",
        "out",
        _write_to("out"),
        "out",
        program="prepare_folder",
        flags="--audio-dir good/recordings --cache-dir c --scan-log s --report r",
        leaves=("s",),
    ),
    _output(
        "`write_prompts.py`: an output folder that is a file",
        "out",
        _write_to("out"),
        "out",
        program="write_prompts",
        flags="--manifest-dir good/data/manifests --min-seconds 1",
    ),
]

CASES = [*AUDIO, *OUTPUT]
