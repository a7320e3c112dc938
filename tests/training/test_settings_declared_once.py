"""A field of ``AudioLMConfig`` is declared in one place: its flag, its place among the sizes and its key in checkpoints follow."""

import os
import subprocess
import sys
from dataclasses import dataclass, fields
from pathlib import Path

import pytest

import valle
from valle.errors import UserError
from valle.models.checkpoint import load_checkpoint
from valle.models.config import AudioLMConfig
from valle.settings import fields_from_flags, flags_of, refuse_small, setting, sizes_of
from valle.training.finetune import trainer_settings
from valle.training.options import AudioLMOptions

PACKAGE = Path(valle.__file__).parent
TESTS = Path(__file__).parents[1]
BEFORE = "    # What tokenized the data decides the rest.\n"
TOY = '    toy_depth: int = _size(3, "a toy", flag="toy_layers", least=2)\n'
PROGRAM = """
from pathlib import Path
from tiny_training import tiny_loop, tiny_manifests, tiny_options
from valle.config import parse_flags
from valle.errors import UserError
from valle.models.config import AudioLMConfig
from valle.settings import sizes_of
from valle.models.checkpoint import load_checkpoint, model_from_checkpoint
from valle.training.finetune import trainer_settings
from valle.training.options import AudioLMOptions

flagged = parse_flags(AudioLMOptions, ["--toy-layers", "5"])
assert flagged.toy_layers == 5 and parse_flags(AudioLMOptions, []).toy_layers == 3
try:
    parse_flags(AudioLMOptions, ["--toy-layers", "1"])
except UserError as error:
    assert str(error) == "--toy-layers must be 2 or more, found 1", error
assert sizes_of(AudioLMConfig)["toy_depth"] == "toy_layers"
options = tiny_options(tiny_manifests(Path("tokens")), Path("exp"), max_steps=1, num_epochs=1, toy_layers=7)
loop = tiny_loop(options)
assert loop.task.config.toy_depth == 7
loop.run()
state = load_checkpoint(Path("exp/checkpoint-1.pt"))
assert (state["toy_depth"], state["toy_layers"]) == (7, 7)
assert model_from_checkpoint(state)[0].config.toy_depth == 7
assert trainer_settings(Path("exp/checkpoint-1.pt"))["toy_layers"] == 7
assert trainer_settings(Path(OLD))["toy_layers"] == 3, "a model from before the field"
assert model_from_checkpoint(load_checkpoint(Path(OLD)))[0].config.toy_depth == 3
"""


def test_a_field_added_in_one_place_is_a_flag_a_size_and_a_checkpoints_key(tmp_path: Path) -> None:
    """In a copy of the package, whose one change is one line in one file."""
    for path in PACKAGE.rglob("*"):
        copy = tmp_path / "valle" / path.relative_to(PACKAGE)
        if path.is_file() and path.suffix != ".pyc":
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.symlink_to(path)
    config = tmp_path / "valle" / "models" / "config.py"
    source = config.read_text()
    assert source.count(BEFORE) == 1
    config.unlink()
    config.write_text(source.replace(BEFORE, TOY + BEFORE))
    old = TESTS / "golden" / "version-0.1" / "checkpoint-3.pt"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(TESTS)]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", f"OLD = {str(old)!r}\n{PROGRAM}"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_every_field_with_a_help_is_a_flag_of_the_same_default_and_help() -> None:
    flags = {entry.name: entry for entry in fields(AudioLMOptions)}
    declared = {entry.metadata.get("flag") or entry.name: entry for entry in fields(AudioLMConfig) if entry.metadata.get("help")}
    assert {"decoder_dim", "num_decoder_layers", "nhead", "dropout"} <= declared.keys() <= flags.keys()
    for flag, entry in declared.items():
        assert (flags[flag].default, flags[flag].metadata["help"]) == (entry.default, entry.metadata["help"]), flag
        assert entry.name == flag or entry.name not in flags


def test_a_tuned_model_takes_over_every_size_and_no_dropout() -> None:
    sizes = sizes_of(AudioLMConfig)
    assert sizes["d_model"] == "decoder_dim" and sizes["num_layers"] == "num_decoder_layers" and sizes["unit_sequence"] == "unit_sequence"
    assert not {"dropout", "num_units", "codebook_size", "unit_bpe_model"} & sizes.keys()


@dataclass(frozen=True)
class Toy:
    width: int = setting(8, "how wide", flag="toy_width", size=True, least=1)
    rates: list[float] = setting([1.0], "how often")
    vocabulary: int = 11  # of the data, no flag


def test_flags_and_fields_are_each_others_inverse() -> None:
    options = flags_of(Toy, "ToyFlags")(toy_width=5)
    assert {entry.name for entry in fields(options)} == {"toy_width", "rates"} and options.rates == [1.0]
    assert Toy(**fields_from_flags(Toy, options)) == Toy(width=5)
    assert options.rates is not flags_of(Toy, "ToyFlags")().rates
    with pytest.raises(UserError, match="--toy-width must be 1 or more, found 0"):
        refuse_small(flags_of(Toy, "ToyFlags")(toy_width=0))


def test_the_committed_checkpoint_of_an_older_version_gives_its_sizes() -> None:
    path = TESTS / "golden" / "version-0.1" / "checkpoint-3.pt"
    state, settings = load_checkpoint(path), trainer_settings(path)
    for name, flag in sizes_of(AudioLMConfig).items():
        assert settings[flag] == state.get(flag, getattr(AudioLMConfig, name)), flag  # later fields have their defaults
