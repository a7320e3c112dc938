"""Settings: dataclass default < conf/*.yaml < --config < flag."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from valle.config import FlagError, parse_flags


def flag(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class Example:
    max_duration: float = flag(80.0, "seconds in a batch")
    num_epochs: int = flag(20, "epochs")
    norm_first: bool = flag(True, "where norms stand")
    fine_num_layers: int | None = flag(None, "layers, if other")
    optimizer_name: Literal["ScaledAdam", "AdamW"] = flag("ScaledAdam", "optimizer")
    exp_dir: Path = field(default=Path("exp"), metadata={"help": "folder"})
    shares: list[float] = field(default_factory=list, metadata={"help": "one or more"})


@dataclass(frozen=True)
class Needy:
    output_dir: Path = field(metadata={"help": "folder"})


@settings(max_examples=16, deadline=None, derandomize=True)
@given(given_in=st.sets(st.sampled_from(["conf", "config", "flag"])), equals=st.booleans())
def test_a_flag_wins_over_a_config_over_a_recipe_over_a_default(
    given_in: set[str], equals: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("conf")
    (folder / "conf.yaml").write_text("max_duration: 1\n" if "conf" in given_in else "")
    (folder / "config.yaml").write_text("max_duration: 2\n" if "config" in given_in else "")
    argv = [f"--config={folder / 'config.yaml'}"] if equals else ["--config", str(folder / "config.yaml")]
    argv += ["--max-duration", "3"] if "flag" in given_in else []
    expected = 3 if "flag" in given_in else 2 if "config" in given_in else 1 if "conf" in given_in else 80
    found = parse_flags(Example, argv, config_files=[folder / "conf.yaml"])
    assert found == Example(max_duration=float(expected)) and isinstance(found.max_duration, float)


def test_flags_have_dashes_or_underscores_and_values_of_their_type() -> None:
    found = parse_flags(
        Example,
        ["--norm-first", "false", "--num_epochs=3", "--fine-num-layers", "2", "--optimizer-name", "AdamW", "--exp-dir", "exp/a-b_c"]
        + ["--shares", "0.5", "1"],
    )
    assert found == Example(
        norm_first=False, num_epochs=3, fine_num_layers=2, optimizer_name="AdamW", exp_dir=Path("exp/a-b_c"), shares=[0.5, 1.0]
    )


@pytest.mark.parametrize(("text", "value"), [("true", True), ("false", False), ("True", True), ("False", False)])
def test_booleans_are_given_as_words(text: str, value: bool) -> None:
    """``--norm-first true``, as in icefall."""
    assert parse_flags(Example, ["--norm-first", text]).norm_first is value


def test_an_unknown_flag_names_its_neighbours() -> None:
    with pytest.raises(FlagError, match=r"unknown flag --max-durations; did you mean --max-duration\?; --help lists every flag"):
        parse_flags(Example, ["--max-durations", "3"])
    with pytest.raises(FlagError, match="unknown flag --zzzz; --help"):
        parse_flags(Example, ["--zzzz=3"])


def test_an_abbreviated_flag_is_not_guessed() -> None:
    with pytest.raises(FlagError, match="unknown flag --num-epoch; did you mean --num-epochs"):
        parse_flags(Example, ["--num-epoch", "3"])


def test_an_unknown_key_names_its_neighbours_and_its_file(tmp_path: Path) -> None:
    path = tmp_path / "conf.yaml"
    path.write_text("optimiser-name: AdamW\n")
    for argv, files in (([], [path]), (["--config", str(path)], [])):
        with pytest.raises(FlagError, match=r"unknown setting 'optimiser_name' in .*conf\.yaml; did you mean optimizer_name\?"):
            parse_flags(Example, argv, config_files=files)


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["--num-epochs", "many"], "--num-epochs"), (["--num-epochs", "1.5"], "--num-epochs"),
        (["--norm-first", "perhaps"], "--norm-first"),
        (["--optimizer-name", "Adam"], "--optimizer-name"), (["--max-duration", "nan"], "--max-duration"),
    ],
)  # fmt: skip
def test_a_value_of_another_type_is_refused_by_its_flag(argv: list[str], named: str) -> None:
    with pytest.raises(FlagError) as caught:
        parse_flags(Example, argv)
    assert named in str(caught.value) and argv[1] in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("num_epochs: many\n", "num_epochs|num-epochs"),
        ("- a\n- b\n", "found a list"),
        ("a: [1\n", "cannot be read"),
        ("\xff", "unknown|found"),
    ],
)
def test_a_settings_file_that_cannot_be_used_is_refused_by_name(content: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    with pytest.raises(FlagError, match=words):
        parse_flags(Example, ["--config", str(path)])


def test_a_config_that_is_not_there_is_refused_and_an_absent_recipe_is_not(tmp_path: Path) -> None:
    assert parse_flags(Example, [], config_files=[tmp_path / "none.yaml"]) == Example()
    with pytest.raises(FlagError, match="found nothing there"):
        parse_flags(Example, ["--config", str(tmp_path / "none.yaml")])


def test_what_is_required_is_asked_for_by_its_flag(tmp_path: Path) -> None:
    with pytest.raises(FlagError, match="expected --output-dir, found no value"):
        parse_flags(Needy, [])
    (tmp_path / "conf.yaml").write_text("output_dir: there\n")
    assert parse_flags(Needy, [], config_files=[tmp_path / "conf.yaml"]).output_dir == Path("there")


def test_help_shows_flags_texts_and_the_recipes_values(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "conf.yaml").write_text("max_duration: 123.5\n")
    with pytest.raises(SystemExit) as ended:
        parse_flags(Example, ["--help"], usage="Usage: so and so", config_files=[tmp_path / "conf.yaml"])
    said = capsys.readouterr().out
    assert ended.value.code == 0 and "Usage: so and so" in said
    assert "--max-duration" in said and "seconds in a batch" in said and "123.5" in said and "--max_duration" not in said


def test_two_parses_share_no_list() -> None:
    first, second = parse_flags(Example, []), parse_flags(Example, [])
    assert first.shares == [] and first.shares is not second.shares


PRESETS = {"small": "num_epochs: 5\nmax_duration: 6\n", "large": "num_epochs: 50\n", "broken": "num_epoch: 5\n"}


def with_presets(folder: Path) -> type[Example]:
    """``Example`` with presets in ``folder``."""
    for name, text in PRESETS.items():
        (folder / f"{name}.yaml").write_text(text)

    @dataclass(frozen=True)
    class WithPresets(Example):
        preset_folder: ClassVar[Path] = folder

    return WithPresets


@settings(max_examples=16, deadline=None, derandomize=True)
@given(given_in=st.sets(st.sampled_from(["preset", "conf", "flag"])))
def test_a_flag_wins_over_a_configuration_over_a_preset_over_a_default(
    given_in: set[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("presets")
    example, conf = with_presets(folder), folder / "conf.yml"
    conf.write_text("num_epochs: 6\n" if "conf" in given_in else "")
    argv = (["--preset", "small"] if "preset" in given_in else []) + (["--num-epochs", "7"] if "flag" in given_in else [])
    found = parse_flags(example, argv, config_files=[conf])
    assert found.num_epochs == (7 if "flag" in given_in else 6 if "conf" in given_in else 5 if "preset" in given_in else 20)
    assert found.max_duration == (6.0 if "preset" in given_in else 80.0)


def test_a_preset_of_a_flag_replaces_the_whole_preset_of_a_file(tmp_path: Path) -> None:
    example, conf = with_presets(tmp_path), tmp_path / "conf.yml"
    conf.write_text("preset: small\n")
    assert parse_flags(example, [], config_files=[conf]).max_duration == 6.0
    found = parse_flags(example, ["--preset=large"], config_files=[conf])
    assert (found.num_epochs, found.max_duration) == (50, 80.0)


def test_an_unknown_preset_names_its_neighbours(tmp_path: Path) -> None:
    example = with_presets(tmp_path)
    with pytest.raises(FlagError, match=r"unknown preset 'smal'; did you mean small\?"):
        parse_flags(example, ["--preset", "smal"])
    with pytest.raises(FlagError, match=r"unknown preset 'xyz'; did you mean broken or large or small\?"):
        parse_flags(example, ["--preset", "xyz"])
    (tmp_path / "conf.yml").write_text("preset: 3\n")
    with pytest.raises(FlagError, match="unknown preset '3'"):
        parse_flags(example, [], config_files=[tmp_path / "conf.yml"])


def test_a_preset_is_checked_like_any_file_of_settings(tmp_path: Path) -> None:
    with pytest.raises(FlagError, match=r"unknown setting 'num_epoch' in .*broken\.yaml; did you mean num_epochs"):
        parse_flags(with_presets(tmp_path), ["--preset", "broken"])


def test_settings_without_presets_have_no_such_flag(tmp_path: Path) -> None:
    with pytest.raises(FlagError, match="unknown flag --preset"):
        parse_flags(Example, ["--preset", "small"])
    (tmp_path / "conf.yaml").write_text("preset: small\n")
    with pytest.raises(FlagError, match="unknown setting 'preset'"):
        parse_flags(Example, [], config_files=[tmp_path / "conf.yaml"])


def test_help_lists_the_presets_and_the_values_of_the_chosen_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_flags(with_presets(tmp_path), ["--preset", "small", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "--preset PRESET settings by name: broken, large, small" in said and "(type: int, default: 5)" in said
