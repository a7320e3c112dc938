"""The trainer from the command line, in a recipe's folder."""

import os
import socket
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest
import yaml
from tiny_training import TINY, tiny_manifests

from valle.config import FlagError, parse_flags
from valle.models.checkpoint import load_checkpoint
from valle.models.config import AudioLMConfig
from valle.models.conversation_config import CSM_1B
from valle.models.speech_llama_config import SPEECH_LLAMA_7B
from valle.training.codec_task import CodecOptions
from valle.training.conversation_options import ConversationOptions
from valle.training.joint_options import JointOptions
from valle.training.model_names import chosen_model
from valle.training.options import AudioLMOptions
from valle.training.speech_llama_options import SpeechLlamaOptions

EGS = Path(__file__).parents[2] / "egs"
RECIPES = ["atepp", "espeak", "espeak_dialogue", "espeak_text", "folder", "librispeech", "mixed", "synthetic"]
COMMAND = """--model-name audio-lm --decoder-dim 1024 --nhead 16 --num-decoder-layers 12 --num-quantizers 4 --base-lr 0.05
    --warmup-steps 200 --num-epochs 20 --exp-dir exp/audio-lm --max-duration 150 --filter-min-duration 5
    --filter-max-duration 15 --train-stage 0 --manifest-dir data/tokenized""".split()


def test_the_command_of_the_design_parses_in_atepp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(EGS / "atepp")
    assert Path("bin/trainer_audiolm.py").is_file()
    options = parse_flags(AudioLMOptions, COMMAND, config_files=[Path("conf/trainer_audiolm.yaml")])
    expected = {
        "model_name": "audio-lm", "decoder_dim": 1024, "nhead": 16, "num_decoder_layers": 12, "num_quantizers": 4, "base_lr": 0.05,
        "warmup_steps": 200, "num_epochs": 20, "exp_dir": Path("exp/audio-lm"), "max_duration": 150.0, "filter_min_duration": 5.0,
        "filter_max_duration": 15.0, "manifest_dir": Path("data/tokenized"),
    }  # fmt: skip
    assert {name: getattr(options, name) for name in expected} == expected
    assert (
        options.stages() == ("semantic", "coarse", "fine") and options.optimizer_name == "ScaledAdam" and options.scheduler_name == "Eden"
    )
    recipe = yaml.safe_load(Path("conf/trainer_audiolm.yaml").read_text())
    for name, value in recipe.items():
        if name not in expected and name != "preset":
            assert getattr(options, name) == value, name


def test_every_flag_that_the_family_knows_is_there() -> None:
    known = """world-size master-port num-epochs start-epoch start-batch exp-dir optimizer-name scheduler-name base-lr warmup-steps seed
        dtype train-stage save-every-n keep-last-k valid-interval average-period accumulate-grad-steps inf-check oom-check visualize
        tensorboard model-name decoder-dim nhead num-decoder-layers norm-first num-quantizers prefix-mode manifest-dir max-duration
        num-buckets buffer-size shuffle-buffer-size num-workers drop-last filter-min-duration filter-max-duration""".split()
    names = {entry.name.replace("_", "-") for entry in fields(AudioLMOptions)}
    assert set(known) <= names


@pytest.mark.parametrize("options", [AudioLMOptions, CodecOptions])
def test_every_setting_says_what_it_is(options: type) -> None:
    assert all(entry.metadata.get("help") for entry in fields(options))


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipes_settings_are_settings(recipe: str) -> None:
    paths = sorted((EGS / recipe / "conf").glob("trainer_audiolm*.yaml"))
    assert paths
    for path in paths:
        options, written = parse_flags(AudioLMOptions, [], config_files=[path]), yaml.safe_load(path.read_text())
        written.pop("preset", None)
        assert {name: getattr(options, name) for name in written} == written


def test_the_model_name_chooses_the_flags_and_the_recipes_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(EGS / "espeak_text")
    for arguments in (["--model-name", "joint-lm"], ["--model-name=joint-lm"], ["--model_name", "joint-lm"]):
        model = chosen_model(arguments)
        options = parse_flags(model.options, arguments, config_files=[model.config_file])
        assert isinstance(options, JointOptions)
        written = yaml.safe_load(model.config_file.read_text())
        assert written["more_texts"] == str(options.more_texts)
        assert {name: getattr(options, name) for name in written} == {**written, "more_texts": options.more_texts}
    assert isinstance(parse_flags(JointOptions, ["--config", "conf/joint_lm_7b.yaml"]), JointOptions)
    model = chosen_model(["--model-name", "speech-llama"])
    options = parse_flags(model.options, ["--lm", "exp/text-lm"], config_files=[model.config_file])
    written = yaml.safe_load(model.config_file.read_text())
    assert isinstance(options, SpeechLlamaOptions) and {name: getattr(options, name) for name in written} == written
    papers = parse_flags(SpeechLlamaOptions, ["--lm", "llama-7b", "--config", "conf/speech_llama_7b.yaml"])
    assert SPEECH_LLAMA_7B.encoder is not None
    assert papers.encoder_config() == replace(SPEECH_LLAMA_7B.encoder, dropout=papers.encoder_dropout)
    monkeypatch.chdir(EGS / "espeak_dialogue")
    model = chosen_model(["--model-name", "conversation"])
    options = parse_flags(model.options, [], config_files=[model.config_file])
    written = yaml.safe_load(model.config_file.read_text())
    assert isinstance(options, ConversationOptions) and {name: getattr(options, name) for name in written} == written
    papers = parse_flags(ConversationOptions, ["--config", "conf/conversation_1b.yaml"])
    sizes = papers.config(num_pieces=CSM_1B.num_pieces, codebook_size=CSM_1B.codebook_size)
    assert replace(sizes, spare_codes=CSM_1B.spare_codes) == CSM_1B
    assert chosen_model([]).options is AudioLMOptions
    with pytest.raises(FlagError, match="expected audio-lm, joint-lm, speech-llama or conversation for --model-name, found moshi"):
        chosen_model(["--model-name", "moshi"])


def test_help_shows_the_recipes_values(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(EGS / "espeak")
    with pytest.raises(SystemExit):
        parse_flags(AudioLMOptions, ["--help"], config_files=[Path("conf/trainer_audiolm.yaml")])
    said = " ".join(capsys.readouterr().out.split())
    written = yaml.safe_load(Path("conf/trainer_audiolm.yaml").read_text())
    preset = yaml.safe_load((AudioLMOptions.preset_folder / f"{written['preset']}.yaml").read_text())
    for flag, value in {"--max-duration": written["max_duration"], "--decoder-dim": preset["decoder_dim"]}.items():
        assert f"default: {value})" in said[said.index(f"{flag} {flag[2:].upper()}") :][:200], flag


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_preset_given_as_a_flag_sizes_every_recipes_model(recipe: str) -> None:
    """A recipe's file names a preset and no sizes, which would win over the flag."""
    conf = EGS / recipe / "conf" / "trainer_audiolm.yaml"
    options = parse_flags(AudioLMOptions, ["--preset", "base"], config_files=[conf])
    assert (options.decoder_dim, options.nhead, options.num_decoder_layers, options.dim_feedforward) == (1024, 16, 12, None)
    assert options.max_duration == yaml.safe_load(conf.read_text())["max_duration"]


def test_the_base_preset_is_the_papers_size_and_the_tiny_one_the_bundled_models() -> None:
    bundled = yaml.safe_load((EGS.parent / "valle" / "assets" / "audio-lm" / "config.yaml").read_text())["model"]
    for preset, sizes in {"base": {}, "tiny": bundled}.items():
        options = parse_flags(AudioLMOptions, ["--preset", preset])
        expected = [sizes.get(name, getattr(AudioLMConfig, name)) for name in ("d_model", "nhead", "num_layers", "dim_feedforward")]
        assert [options.decoder_dim, options.nhead, options.num_decoder_layers, options.dim_feedforward] == expected, preset


def trainer(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    program = EGS / "espeak" / "bin" / "trainer_audiolm.py"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, str(program), *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_two_processes_started_by_world_size_train(tmp_path: Path) -> None:
    tiny_manifests(tmp_path / "data")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    flags = {**TINY, "manifest_dir": "data/tokenized", "exp_dir": "exp/a", "world_size": 2, "master_port": port, "max_steps": 2}
    arguments = [word for name, value in flags.items() for word in (f"--{name.replace('_', '-')}", str(value).lower())]
    done = trainer(*arguments, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert load_checkpoint(tmp_path / "exp/a/checkpoint-2.pt")["sampler"]["batches_done"] == [2, 2]
    assert (tmp_path / "exp/a/summary.json").is_file() and len(list((tmp_path / "exp/a/log").iterdir())) == 2
    one = trainer(*arguments, "--world-size", "1", folder=tmp_path)
    assert one.returncode == 2 and one.stderr.strip().splitlines()[-1].startswith("trainer_audiolm.py: error: ")
    assert "was trained with 2 processes; resuming with 1 would change the batches" in one.stderr and "Traceback" not in one.stderr
