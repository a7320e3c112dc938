"""How programs end when nobody's flags are to blame: Ctrl-C, a reader that leaves, a full disk, a mistake of the program's own."""

import ast
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from bad_house import TRAIN, build_house, run, tree
from table import PAGE

from valle.errors import one_line, run_program

ROOT = Path(__file__).parents[2]
INTERRUPTED = "interrupted; finished work is kept, and the same command continues it"
PROGRAMS = sorted(path.stem for path in (ROOT / "valle" / "bin").glob("*.py") if "run_program(main)" in path.read_text())


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_house(tmp_path_factory.mktemp("house"))


def start(program: str, flags: str, folder: Path, **options: object) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "valle" / "bin" / f"{program}.py"), *flags.split()]
    return subprocess.Popen(  # type: ignore[call-overload]
        command, cwd=folder, env=environment, stderr=subprocess.PIPE, preexec_fn=hear_ctrl_c, **options
    )


def hear_ctrl_c() -> None:
    """As in a terminal: what a shell starts in the background inherits that SIGINT is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize(
    ("program", "flags", "sign"),
    [
        ("synthesize_espeak", "--output-dir out --num-hours 9", b"%|"),
        ("trainer_audiolm", TRAIN.replace("--num-workers 0", "--num-workers 1 --num-epochs 9999 --log-interval 1"), b"loss["),
    ],
)
def test_ctrl_c_is_one_line_and_130_while_helpers_work(house: Path, tmp_path: Path, program: str, flags: str, sign: bytes) -> None:
    (tmp_path / "good").symlink_to(house)
    process = start(program, flags, tmp_path, start_new_session=True)
    assert process.stderr is not None
    seen = b""
    while sign not in seen:  # it is at work
        seen += (some := os.read(process.stderr.fileno(), 4096))
        assert some, seen
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the program and to its helpers
    rest = seen + process.communicate()[1]
    assert process.returncode == 130
    assert b"Traceback" not in rest
    assert rest.decode().endswith(f"{program}.py: {INTERRUPTED}\n")  # after the bar, where that was just being drawn
    assert INTERRUPTED in PAGE.read_text()


@pytest.mark.parametrize("program", ["infer", "tokenizer"])
def test_ctrl_c_while_a_program_imports_is_one_line_and_130(program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")  # a line for every module that has been imported
    process = start(program, "--help", tmp_path, start_new_session=True, stdout=subprocess.DEVNULL)
    assert process.stderr is not None
    seen = b""
    while b" torch._utils" not in seen:  # in the middle of the longest import
        seen += (some := os.read(process.stderr.fileno(), 4096))
        assert some, seen
    os.killpg(process.pid, signal.SIGINT)
    rest = process.communicate()[1]
    assert process.returncode == 130
    assert b"Traceback" not in rest and rest.decode().splitlines()[-1] == f"{program}.py: {INTERRUPTED}"


def test_ctrl_c_while_the_processes_of_a_training_import_is_one_line_and_130(
    house: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")
    (tmp_path / "good").symlink_to(house)
    process = start("trainer_audiolm", f"{TRAIN} --world-size 2 --master-port 29717", tmp_path, start_new_session=True)
    assert process.stderr is not None
    seen = b""
    while seen.count(b" torch._utils\n") < 2:  # a second process is in the middle of its imports
        seen += (some := os.read(process.stderr.fileno(), 4096))
        assert some, seen
    os.killpg(process.pid, signal.SIGINT)
    rest = process.communicate()[1]
    assert process.returncode == 130
    assert b"Traceback" not in rest and rest.count(INTERRUPTED.encode()) == 1


@pytest.mark.parametrize("moment", [b" dataclasses\n", b" numpy\n", b" valle.config\n"])
def test_ctrl_c_at_any_moment_of_the_imports_is_one_line_and_130(
    moment: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")
    process = start("tokenizer", "--help", tmp_path, start_new_session=True, stdout=subprocess.DEVNULL)
    assert process.stderr is not None
    seen = b""
    while moment not in seen:
        seen += (some := os.read(process.stderr.fileno(), 4096))
        assert some, seen
    os.killpg(process.pid, signal.SIGINT)
    rest = seen + process.communicate()[1]
    assert process.returncode == 130 and b"Traceback" not in rest and rest.count(INTERRUPTED.encode()) == 1


def test_ctrl_c_while_python_ends_is_quiet(tmp_path: Path) -> None:
    for _ in range(3):
        process = start("tokenizer", "--help", tmp_path, start_new_session=True, stdout=subprocess.PIPE)
        assert process.stdout is not None
        while b"lists a command's flags" not in process.stdout.readline():
            pass
        os.killpg(process.pid, signal.SIGINT)
        rest = process.communicate()[1]
        assert process.returncode in (0, 130) and b"Traceback" not in rest and len(rest.splitlines()) <= 1


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_program_hears_ctrl_c_before_it_imports_anything_else(program: str) -> None:
    lines = [
        ast.unparse(node)
        for node in ast.parse((ROOT / "valle" / "bin" / f"{program}.py").read_text()).body
        if not isinstance(node, ast.Expr) and getattr(node, "module", "") != "__future__"
    ]
    assert lines[:2] == ["from valle.errors import end_on_ctrl_c", "if __name__ == '__main__':\n    end_on_ctrl_c()"]


SETTINGS = "--init-from good/model --output {}.yaml"
CONTINUE = "--model good/model --audio-prompts good/a.wav --output-dir out --prompt-seconds 1 --max-seconds 0.2"
TOKENIZE = "--manifest-dir good/data/manifests --tokenizer-dir good/data/tokenizers --output-dir out"
PREPARE = "--audio-dir good/recordings --output-dir out --cache-dir c --scan-log s --report r"


def test_a_reader_that_leaves_ends_a_program_quietly(house: Path, tmp_path: Path) -> None:
    (tmp_path / "good").symlink_to(house)
    reader, writer = os.pipe()
    process = start("settings_of_model", SETTINGS.format("a"), tmp_path, stdout=writer)
    os.close(writer)
    os.close(reader)
    assert (process.communicate()[1], process.returncode) == (b"", 141)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_behind_stdout_is_one_sentence(house: Path, tmp_path: Path) -> None:
    (tmp_path / "good").symlink_to(house)
    with open("/dev/full", "w") as full:
        process = start("settings_of_model", SETTINGS.format("b"), tmp_path, stdout=full)
        said = process.communicate()[1].decode()
    assert process.returncode == 2
    assert said == "settings_of_model.py: error: cannot write: no space left on device; free some space, then run the same command again\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize(
    ("program", "flags", "temporary"),
    [
        ("infer", CONTINUE, "out/.a.wav.tmp"),
        ("infer", CONTINUE, "out/.index.html.tmp"),
        ("tokenize_cuts", TOKENIZE, "out/shards/.train.json.tmp"),
        ("prepare_folder", PREPARE, "out/.cuts_dev.jsonl.gz.tmp"),
        ("trainer_audiolm", f"{TRAIN} --max-steps 1", "exp/.checkpoint-1.pt.tmp"),
    ],
)  # fmt: skip
def test_a_full_disk_is_one_sentence_and_leaves_no_half_file(house: Path, tmp_path: Path, program: str, flags: str, temporary: str) -> None:
    (tmp_path / "good").symlink_to(house)
    (tmp_path / temporary).parent.mkdir(parents=True)
    (tmp_path / temporary).symlink_to("/dev/full")
    end = run(program, flags.split(), tmp_path)
    final = temporary.replace("/.", "/").removesuffix(".tmp")
    sentence = f"{program}.py: error: cannot write {final}: no space left on device; free some space, then run the same command again"
    assert end.status == 2 and end.err.rstrip().splitlines()[-1].lower().startswith(sentence.lower())
    assert not (tmp_path / final).exists() and not [name for name in tree(tmp_path) if ".tmp" in name]


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_program_explains_itself(program: str, tmp_path: Path) -> None:
    end = run(program, ["--help"], tmp_path)
    assert end.status == 0 and end.err == "" and "--help" in end.out and end.new == frozenset()


def test_a_mistake_of_the_programs_own_keeps_its_traceback() -> None:
    def main() -> None:
        raise ZeroDivisionError("ours")

    with pytest.raises(ZeroDivisionError):
        run_program(main)


def test_what_a_terminal_is_shown_stays_on_one_line_and_moves_no_cursor() -> None:
    assert one_line("a\nb\r\nc\x1b[2J\x07 größe 漢字\udce9\u202e") == "a b c\\x1b[2J\\x07 größe 漢字\\udce9\\u202e"
