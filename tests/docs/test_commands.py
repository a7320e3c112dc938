"""Every command in the documents is one that its program takes."""

import ast
import re
import subprocess
from dataclasses import fields
from pathlib import Path

import pytest
from doc_commands import ROOT, VARIABLES, Command, Fence, commands, fences, make_targets, parse_program, script_options, split
from tiny_audio import write_sound
from tiny_pipeline import tiny_released
from torch import Tensor

from valle.errors import UserError
from valle.inference.continuation import Continuation
from valle.inference.infer import InferOptions
from valle.inference.live import LiveContinuation
from valle.models.released import save_released
from valle.training.options import AudioLMOptions

SHELL = fences("bash")
KNOWN = {  # programs of others, and what they may be given
    "source": [".venv/bin/activate"], "tensorboard": ["--logdir"], "ffplay": ["-nodisp"], "openssl": ["genpkey"],
}  # fmt: skip
COMMANDS = {
    "valle-infer": "infer", "valle-train": "trainer_audiolm", "valle-tokenize": "tokenizer", "valle-evaluate": "evaluate",
    "valle-detect": "detect", "valle-serve": "serve",
}  # fmt: skip
NESTED = {"--train-options": "trainer_audiolm", "--infer-options": "infer"}


def check(command: Command) -> None:
    """Raises unless the command is one that would begin to run."""
    words, folder = command.words, command.folder
    for name in re.findall(r"\$\{?(\w+)", " ".join(words)):
        assert name in VARIABLES, f"${name} is no variable that the documents explain"
    if words[0] == "make":
        targets, variables = make_targets()
        for word in words[1:]:
            assert word.partition("=")[0] in (variables if "=" in word else targets), f"make has no {word}"
    elif words[0] == "python3" and words[1].startswith("bin/"):
        check_program(words[1], words[2:], folder)
    elif words == ["python3", "-m", "venv", ".venv"]:
        assert folder == ROOT, "the environment is at the top of the repository"
    elif words[:2] == ["pip", "install"]:
        assert words[-2] == "-e" and all((ROOT / word).is_file() for word in words[2:-2] if not word.startswith("-"))
    elif words[:3] == ["python3", "-m", "pytest"]:
        assert any((folder / word).is_dir() for word in words[3:])
    elif words[:2] == ["python3", "tests/golden/write.py"]:
        assert words[2:] and all((ROOT / "tests" / "golden" / "values" / f"{word}.json").is_file() for word in words[2:])
    elif words == ["python3", "docs/samples/make.py"]:
        assert (folder / words[1]).is_file()
    elif words[0] == "python3" and words[1:2] == ["-m"]:
        check_module(words[2], words[3:])
    elif words[0] == "torchrun":
        from torch.distributed.run import parse_args

        options = parse_args(words[1:])
        check_program(options.training_script, options.training_script_args, folder)
    elif words[0] in COMMANDS:
        parse_program(COMMANDS[words[0]], words[1:], folder)
    elif words[0].startswith("./"):
        check_script(folder / words[0], words[1:], folder)
    else:
        assert words[0] in KNOWN and words[1] in KNOWN[words[0]], f"nothing checks {' '.join(words)}"
        if words[0] == "source":
            assert folder == ROOT, "the environment is at the top of the repository"


def check_program(path: str, flags: list[str], folder: Path) -> None:
    assert (folder / path).is_file(), f"there is no {path} in {folder}"
    parse_program(Path(path).stem, flags, folder)


def check_module(module: str, flags: list[str]) -> None:
    source = ROOT / f"{module.replace('.', '/')}.py"
    assert source.is_file(), f"there is no module {module}"
    names = set(re.findall(r"[\"'](--[a-z-]+)[\"']", source.read_text(encoding="utf-8")))
    names |= {
        "--" + name.replace("_", "-") for name in re.findall(r"^    (\w+):[^=\n]*= field\(", source.read_text(encoding="utf-8"), re.M)
    }
    for flag in flags:
        assert not flag.startswith("--") or flag in names, f"{module} has no flag {flag}"


def check_script(script: Path, words: list[str], folder: Path) -> None:
    assert script.is_file(), f"there is no {script}"
    options = script_options(script)
    assert len(words) % 2 == 0 or words == ["--help"], f"every option has a value: {words}"
    for flag, value in zip(words[::2], words[1::2], strict=False):
        assert flag in options, f"{script.name} in {folder.name} has no option {flag}"
        if flag == "--prepare-options":
            check_script(folder / "prepare.sh", value.split(), folder)
        elif flag in NESTED:
            needed = ["--audio-prompts", "a.wav", "--output-dir", "out"] if NESTED[flag] == "infer" else []
            parse_program(NESTED[flag], [*needed, *value.split()], folder)


@pytest.mark.parametrize("fence", SHELL, ids=lambda fence: fence.name)
def test_every_command_is_one_that_its_program_takes(fence: Fence) -> None:
    found = list(commands(fence))
    assert found, "a block of commands without any"
    for command in found:
        check(command)


def test_options_named_in_tables_and_text_are_options_of_some_program() -> None:
    known = set().union(*(script_options(script) for script in sorted(ROOT.glob("egs/*/*.sh"))))
    source = "\n".join(path.read_text(encoding="utf-8") for path in [*ROOT.glob("valle/**/*.py"), *ROOT.glob("benchmarks/*.py")])
    known |= {"--" + name.replace("_", "-") for name in re.findall(r"^    (\w+): [^\n]*= (?:field|setting|_flag)\(", source, re.M)}
    declared_elsewhere = [*fields(AudioLMOptions), *fields(InferOptions)]  # by the model's configuration, and by its stages
    known |= {"--" + entry.name.replace("_", "-") for entry in declared_elsewhere}
    known |= set(re.findall(r"[\"'](--[a-z-]+)[\"']", source)) | {"--help", "--config", "--preset"}
    known |= {"--nnodes", "--nproc-per-node", "--no-deps"}  # of torchrun and pip
    for document in {fence.document for fence in SHELL}:
        for flag in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", re.sub(r"<!--.*?-->", "", document.read_text(encoding="utf-8"))):
            assert flag in known or flag == "--logdir", f"{document.name} names {flag}, which nothing has"


@pytest.mark.parametrize("fence", fences("bash script"), ids=lambda fence: fence.name)
def test_every_script_is_bash(fence: Fence) -> None:
    assert subprocess.run(["bash", "-n"], input=fence.body, text=True, capture_output=True).stderr == ""


@pytest.mark.parametrize("fence", fences("python"), ids=lambda fence: fence.name)
def test_python_that_is_shown_compiles(fence: Fence) -> None:
    compile(fence.body, fence.name, "exec")
    for node in ast.walk(ast.parse(fence.body)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("valle"):
            module = __import__(node.module, fromlist=["_"])
            assert all(hasattr(module, alias.name) for alias in node.names), ast.unparse(node)


@pytest.mark.parametrize("fence", fences("python run"), ids=lambda fence: fence.name)
def test_python_that_is_shown_runs(fence: Fence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_released(tiny_released(), tmp_path / "released")
    write_sound(tmp_path / "hello.wav", 3.5)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "document"}
    exec(compile(fence.body, fence.name, "exec"), names)
    made = [value for value in names.values() if isinstance(value, Continuation | LiveContinuation | Tensor)]
    assert made and all(value.numel() > 0 if isinstance(value, Tensor) else value.generated_seconds > 0 for value in made)


def test_no_block_goes_unchecked() -> None:
    from doc_commands import FENCE, documents

    kinds = {match["info"].strip() for document in documents() for match in FENCE.finditer(document.read_text(encoding="utf-8"))}
    assert kinds <= {"bash", "bash script", "python", "python run", "text"}
    assert all(document.read_text(encoding="utf-8").count("```") % 2 == 0 for document in documents())


@pytest.mark.parametrize(
    "line",
    [
        "python3 bin/infer.py --audio-prompts a.wav --output-dir out --temprature 1",
        "python3 bin/infer.py --audio-prompts a.wav",
        "python3 bin/nothing.py",
        "python3 bin/trainer_audiolm.py --decoder-dim many",
        "python3 bin/trainer_audiolm.py --scheduler-name cosine",
        "torchrun --nproc-per-node 2 bin/trainer_audiolm.py --nheads 4",
        "valle-train --preset huge",
        "valle-tokenize guess --audio a.wav",
        "./run.sh --minute 3",
        "./run.sh --train-options '--no-such 3'",
        "make tests",
        "python3 -m benchmarks.figures --chek",
        "rm -rf /",
        "./prepare.sh --corpus-dir $NOBODY",
    ],
)
def test_a_wrong_command_is_found(line: str) -> None:
    for words in split(line):
        with pytest.raises((AssertionError, UserError)):
            check(Command(words, ROOT / "egs" / "librispeech"))
