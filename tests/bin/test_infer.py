"""``bin/infer.py`` as a user meets it: flags in, files or one sentence out."""

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from tiny_pipeline import RATE, checkpoint_state, recording, tiny_released

from valle.audio import read_audio
from valle.bin import infer
from valle.errors import run_program
from valle.inference.infer import InferOptions
from valle.inference.pipeline import BUNDLED_MODEL
from valle.models.checkpoint import save_checkpoint
from valle.models.released import save_released


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prompts of several kinds, a released model and a checkpoint of it."""
    folder = tmp_path_factory.mktemp("infer")
    soundfile.write(folder / "a.wav", recording(2.5), RATE)
    soundfile.write(folder / "b.flac", np.stack([recording(2, seed=1)] * 8, 1), RATE)
    released = tiny_released()
    save_released(released, folder / "model", dtype=torch.float32)
    save_checkpoint(folder / "exp" / "epoch-1.pt", checkpoint_state(released))
    return folder


class Run:
    """One run of the program: exit status, what it printed, its output folder."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.monkeypatch, self.capsys = folder, monkeypatch, capsys

    def __call__(self, flags: str, output: Path) -> tuple[int, str]:
        argv = [argument.replace("FOLDER", str(self.folder)) for argument in flags.split()]
        self.monkeypatch.setattr(sys, "argv", ["infer.py", "--output-dir", str(output), *argv])
        status = 0
        try:
            run_program(infer.main)
        except SystemExit as end:
            status = int(end.code or 0)
        printed = self.capsys.readouterr()
        return status, printed.err if status else printed.out


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(folder)
    return Run(folder, monkeypatch, capsys)


SHORT = "--model FOLDER/model --prompt-seconds 1 --max-seconds 1"


def test_prompts_become_wavs_pictures_a_page_and_a_summary(run: Run, tmp_path: Path) -> None:
    status, printed = run(f"{SHORT} --audio-prompts FOLDER/a.wav FOLDER/b.flac --num-samples 2 --seed 3", tmp_path / "out")
    assert status == 0 and "index.html" in printed
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    names = [item["wav"] for item in summary["items"]]
    assert names == ["a-sample1.wav", "a-sample2.wav", "b-sample1.wav", "b-sample2.wav"]
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {*names, *[name.replace(".wav", ".png") for name in names], "index.html", "summary.json", ".valle-outputs.json"}
    assert summary["rtf"] > 0 and summary["settings"]["seed"] == 3
    for item in summary["items"]:
        assert set(item) >= {"prompt", "wav", "prompt_seconds", "seconds", "generated_seconds", "seed"}
        wav, rate = read_audio(tmp_path / "out" / item["wav"])
        assert len(wav) / rate == item["seconds"] == item["prompt_seconds"] + item["generated_seconds"]
        assert item["prompt_seconds"] == 1
    assert len({item["seed"] for item in summary["items"]}) == 2


def test_a_written_wav_begins_with_the_prompts_own_samples(run: Run, tmp_path: Path) -> None:
    run(f"{SHORT} --audio-prompts FOLDER/a.wav", tmp_path)
    before, after = soundfile.read(run.folder / "a.wav", dtype="int16")[0], soundfile.read(tmp_path / "a.wav", dtype="int16")[0]
    own = round(json.loads((tmp_path / "summary.json").read_text())["items"][0]["own_seconds"] * RATE)
    assert own > 0.7 * RATE and np.array_equal(after[:own], before[:own])


def test_a_prompt_alone_and_among_others_is_written_the_same(run: Run, tmp_path: Path) -> None:
    run(f"{SHORT} --audio-prompts FOLDER/a.wav FOLDER/b.flac", tmp_path / "both")
    run(f"{SHORT} --audio-prompts FOLDER/b.flac", tmp_path / "alone")
    run(f"{SHORT} --audio-prompts FOLDER/a.wav FOLDER/b.flac --batch-size 1", tmp_path / "singly")
    both = soundfile.read(tmp_path / "both" / "b.wav", dtype="int16")[0]
    for name in ("alone", "singly"):
        assert np.abs(both - soundfile.read(tmp_path / name / "b.wav", dtype="int16")[0].astype(int)).max() <= 1


def test_a_checkpoint_an_exp_dir_and_a_released_folder_speak_alike(run: Run, tmp_path: Path) -> None:
    short = SHORT.replace("--model FOLDER/model", "")
    wavs = []
    choices = ["--model FOLDER/model", "--checkpoint FOLDER/exp/epoch-1.pt", "--exp-dir FOLDER/exp --epoch 1 --avg 1"]
    for number, choice in enumerate(choices):
        status, printed = run(f"{short} {choice} --audio-prompts FOLDER/a.wav", tmp_path / str(number))
        assert status == 0, printed
        wavs.append((tmp_path / str(number) / "a.wav").read_bytes())
    assert wavs[0] == wavs[1] == wavs[2]


@pytest.mark.parametrize(("mode", "prompt", "seconds"), [("resynthesize", 0, 2.5), ("acoustic", 1, 2)])
def test_other_modes_write_the_same_files(run: Run, tmp_path: Path, mode: str, prompt: float, seconds: float) -> None:
    status, printed = run(f"{SHORT} --audio-prompts FOLDER/a.wav --mode {mode}", tmp_path)
    [item] = json.loads((tmp_path / "summary.json").read_text())["items"]
    assert status == 0, printed
    assert item["prompt_seconds"] == prompt and item["seconds"] == seconds


def test_prompts_of_one_name_do_not_overwrite_each_other(run: Run, tmp_path: Path) -> None:
    for part in ("x", "y"):
        (tmp_path / part).mkdir()
        soundfile.write(tmp_path / part / "a.wav", recording(2), RATE)
    soundfile.write(tmp_path / "a-2.wav", recording(2), RATE)
    run(f"{SHORT} --audio-prompts {tmp_path}/x/a.wav {tmp_path}/y/a.wav {tmp_path}/a-2.wav", tmp_path / "out")
    items = json.loads((tmp_path / "out" / "summary.json").read_text())["items"]
    assert [item["wav"] for item in items] == ["a.wav", "a-2.wav", "a-2-2.wav"]


class Links(HTMLParser):
    """What a page asks for, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_asks_for_nothing_but_its_own_files_and_escapes_names(run: Run, tmp_path: Path) -> None:
    prompt = tmp_path / "<script>alert(1)<'&#?%.wav"
    soundfile.write(prompt, recording(2), RATE)
    options = f"{SHORT} --audio-prompts {prompt}"
    assert run(options, tmp_path / "out")[0] == 0
    page = Links()
    page.feed((tmp_path / "out" / "index.html").read_text())
    from urllib.parse import unquote

    assert page.tags.count("script") == 1 and prompt.name in page.text  # the page's own
    files = [source for source in page.sources if not source.startswith("data:")]
    assert len(page.sources) == 4 and files and all((tmp_path / "out" / unquote(file)).is_file() for file in files)
    assert page.tags.count("audio") == page.tags.count("img") == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--audio-prompts FOLDER/no.wav", "no.wav, found nothing there"),
        ("--audio-prompts FOLDER", "found the folder"),
        ("--audio-prompts FOLDER/a.wav --prompt-seconds 0", "prompt must last at least"),
        ("--audio-prompts FOLDER/a.wav --max-seconds 0", "longer than 0 seconds"),
        ("--audio-prompts FOLDER/a.wav --min-seconds 3", "between 0 and --max-seconds"),
        ("--audio-prompts FOLDER/a.wav --max-seconds none", "max-seconds"),
        ("--audio-prompts FOLDER/a.wav --temperature -1", "temperature"),
        ("--audio-prompts FOLDER/a.wav --top-p 0", "top-p"),
        ("--audio-prompts FOLDER/a.wav --guidance -1", "guidance"),
        ("--audio-prompts FOLDER/a.wav --guidance 2", "train with --drop-conditions 0.1 --drop-prompt 0.05, or use --guidance 1"),
        ("--audio-prompts FOLDER/a.wav --top-k -100", "top-k"),
        ("--audio-prompts FOLDER/a.wav --num-samples 0", "--num-samples"),
        ("--audio-prompts FOLDER/a.wav --mode sing", "mode"),
        ("--audio-prompts FOLDER/a.wav --max-second 3", "did you mean --max-seconds"),
        ("--audio-prompts FOLDER/a.wav --device tpu", "--device tpu"),
        ("--audio-prompts FOLDER/a.wav --epoch 3", "--exp-dir"),
        ("--audio-prompts FOLDER/a.wav --checkpoint FOLDER/exp/epoch-1.pt", "one of --checkpoint, --exp-dir and --model"),
        ("--audio-prompts", "audio"),
        ("", "--audio-prompts"),
    ],
)
def test_wrong_flags_and_prompts_get_one_sentence_and_nothing_is_written(run: Run, tmp_path: Path, flags: str, message: str) -> None:
    status, printed = run(f"--model FOLDER/model {'--max-seconds 1 ' if '--max' not in flags else ''}{flags}", tmp_path / "out")
    assert status == 2 and message in printed
    assert re.fullmatch(r"infer\.py: error: [^\n]+\n", printed), printed
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [("text.wav", "cannot be decoded"), ("empty.wav", "0 bytes"), ("nan.wav", "NaN"), ("short.wav", "at least 0.2 s, found 0.10 s")],
)
def test_bad_prompts_get_one_sentence_and_stop_before_any_is_continued(run: Run, tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "text.wav").write_text("not audio")
    (tmp_path / "empty.wav").touch()
    soundfile.write(tmp_path / "nan.wav", np.full(RATE, np.nan), RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "short.wav", recording(0.1), RATE)
    status, printed = run(f"{SHORT} --audio-prompts FOLDER/a.wav {tmp_path / name}", tmp_path / "out")
    assert status == 2 and message in printed and printed.count("\n") == 1
    assert not (tmp_path / "out").exists()


class Payload:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.path), "w")


def test_a_checkpoint_that_carries_code_is_refused_and_never_executed(run: Run, tmp_path: Path) -> None:
    torch.save({"model": {}, "payload": Payload(tmp_path / "executed")}, tmp_path / "evil.pt")
    status, printed = run(f"--checkpoint {tmp_path}/evil.pt --audio-prompts FOLDER/a.wav", tmp_path / "out")
    assert status == 2 and "could run code" in printed and printed.count("\n") == 1
    assert not (tmp_path / "executed").exists() and not (tmp_path / "out").exists()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_checkpoint_cut_short_is_refused(run: Run, tmp_path: Path, share: float) -> None:
    whole = (run.folder / "exp" / "epoch-1.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: int(len(whole) * share)])
    status, printed = run(f"--checkpoint {tmp_path}/cut.pt --audio-prompts FOLDER/a.wav", tmp_path / "out")
    assert status == 2 and "cut.pt" in printed and printed.count("\n") == 1


@pytest.mark.parametrize("missing", ["timeline", "tokenizers", "num_quantizers", "coarse_seconds"])
def test_a_checkpoint_of_something_else_is_refused(run: Run, tmp_path: Path, missing: str) -> None:
    state = torch.load(run.folder / "exp" / "epoch-1.pt", weights_only=True)
    del state[missing]
    torch.save(state, tmp_path / "other.pt")
    status, printed = run(f"--checkpoint {tmp_path}/other.pt --audio-prompts FOLDER/a.wav", tmp_path / "out")
    assert status == 2 and missing in printed and printed.count("\n") == 1


@pytest.mark.parametrize(
    "choice", ["--checkpoint {}/no.pt", "--exp-dir {}/no", "--exp-dir {}", "--model {}", "--exp-dir FOLDER/exp --epoch 9"]
)
def test_a_model_that_is_not_there_is_refused(run: Run, tmp_path: Path, choice: str) -> None:
    status, printed = run(f"{choice.format(tmp_path)} --audio-prompts FOLDER/a.wav", tmp_path / "out")
    assert status == 2 and "expected" in printed and printed.count("\n") == 1


def test_an_output_dir_that_is_a_file_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    status, printed = run(f"{SHORT} --audio-prompts FOLDER/a.wav", tmp_path / "out")
    assert status == 2 and "found the file" in printed and (tmp_path / "out").read_text() == "mine"


def test_the_engine_is_chosen_by_a_flag_and_said(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("numba")
    said = {"native": "native (float32, 1 thread)", "torch": "torch (as asked for)"}
    for engine, words in said.items():
        status, printed = run(f"{SHORT} --audio-prompts FOLDER/a.wav FOLDER/b.flac --engine {engine}", tmp_path / engine)
        assert status == 0 and f"steps of the coarse stage: {words}" in printed
        summary = json.loads((tmp_path / engine / "summary.json").read_text())
        assert summary["steps_taken_by"] == {"semantic": words, "coarse": words}
    for name in ("a.wav", "b.wav"):
        assert (tmp_path / "native" / name).read_bytes() == (tmp_path / "torch" / name).read_bytes()
    status, printed = run(f"{SHORT} --audio-prompts FOLDER/a.wav --dtype int8", tmp_path / "int8")
    assert status == 0 and "steps of the semantic stage: native (int8, 1 thread)" in printed


def test_an_engine_that_cannot_read_the_weights_is_refused(run: Run, tmp_path: Path) -> None:
    status, printed = run(f"{SHORT} --audio-prompts FOLDER/a.wav --dtype int8 --engine torch", tmp_path / "out")
    assert status == 2 and "int8 weights are read by the native step alone" in printed and printed.count("\n") == 1
    assert not (tmp_path / "out" / "summary.json").exists()


def options(**values: object) -> InferOptions:
    return InferOptions(audio_prompts=[Path("a.wav")], output_dir=Path("out"), **values)  # type: ignore[arg-type]


def test_a_stages_own_temperature_wins_over_the_common_one() -> None:
    def temperatures(**values: float) -> tuple[float, float, float]:
        settings = options(**values).settings()
        return tuple(settings.sampling[stage].temperature for stage in ("semantic", "coarse", "fine"))

    assert temperatures() == (0.9, 0.8, 0.6)
    assert temperatures(temperature=0.5) == (0.5, 0.5, 0.5)
    assert temperatures(temperature=0.5, coarse_temperature=0.9) == (0.5, 0.9, 0.5)


def test_guidance_reaches_the_stages_of_codes_and_one_stage_alone() -> None:
    def guidance(**values: float) -> tuple[float, float, float]:
        settings = options(**values).settings()
        return tuple(settings.sampling[stage].guidance for stage in ("semantic", "coarse", "fine"))

    assert guidance() == (1, 1, 1)
    assert guidance(guidance=2) == (1, 2, 2)
    assert guidance(guidance=2, fine_guidance=1) == (1, 2, 1)
    assert guidance(coarse_guidance=3) == (1, 3, 1)


def test_repetition_awareness_reaches_the_coarse_stage() -> None:
    assert options(repetition_aware=True).settings().sampling["coarse"].repetition_window == 10
    assert options().settings().sampling["coarse"].repetition_window == 0


def test_the_program_itself_starts_from_a_recipes_folder_and_stays_small(run: Run, tmp_path: Path) -> None:
    """With the bundled model where it is there; `bin` is a link in every recipe.  Peak memory at most 1.5 GiB."""
    root = Path(__file__).parents[2]
    model = [] if BUNDLED_MODEL.is_dir() else ["--model", str(run.folder / "model")]
    command = [sys.executable, "bin/infer.py", "--audio-prompts", str(run.folder / "a.wav"), "--output-dir", str(tmp_path), *model]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    child = subprocess.Popen(command, cwd=root / "egs" / "espeak", env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0 and (tmp_path / "index.html").is_file()
    assert usage.ru_maxrss < 1.5 * 2**20  # KiB
