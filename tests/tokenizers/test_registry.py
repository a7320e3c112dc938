"""Tokenizers by name, by folder and from plain state; damaged ones are refused, and nothing is ever executed."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from tiny_pipeline import tiny_codec, tiny_kmeans

from valle.errors import UserError
from valle.tokenizers.convnext_codec import ConvNeXtCodec
from valle.tokenizers.mfcc import MfccKMeans
from valle.tokenizers.registry import (
    TokenizerError,
    known_names,
    load_acoustic,
    load_semantic,
    load_tokenizer,
    save_tokenizer,
    tokenizer_from_state,
    tokenizer_to_state,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_tokenizer(tiny_codec(), tmp_path / "codec")
    return tmp_path / "codec"


def refusal(name: str) -> str:
    """The one sentence that refuses a tokenizer."""
    with pytest.raises(UserError) as refused:
        load_tokenizer(name)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 500
    return str(refused.value)


def test_bundled_tokenizers_come_by_name_and_say_what_they_are() -> None:
    codec, units = load_acoustic("valle-16khz"), load_semantic("mfcc-kmeans")
    assert isinstance(codec, ConvNeXtCodec) and isinstance(units, MfccKMeans)
    assert (codec.identity.grid.rate, codec.num_codebooks, codec.codebook_size) == (50, 8, 256)
    assert units.identity.grid.rate == 25 and 100 <= units.num_units <= 200
    assert {parameter.dtype for parameter in codec.parameters()} == {torch.float32} and not codec.training
    assert {"valle-16khz", "mfcc-kmeans", "encodec-24khz", "encodec-32khz"} <= set(known_names())


def test_a_saved_tokenizer_comes_by_its_folder_alone_or_after_its_name(folder: Path) -> None:
    expected = tiny_codec().identity
    assert load_tokenizer(str(folder)).identity == load_tokenizer(f"tiny-codec={folder}").identity == expected


def test_a_folder_that_holds_another_tokenizer_than_named_is_refused(folder: Path) -> None:
    assert refusal(f"tiny-units={folder}").startswith(f"expected the tokenizer tiny-units in {folder}, found tiny-codec")


@pytest.mark.parametrize("name", ["", "valle-24khz", "no/such/folder", "facebook/encodec_24khz"])
def test_an_unknown_name_lists_those_that_are_known(name: str) -> None:
    said = refusal(name)
    assert all(known in said for known in known_names()) and said.endswith(f"found {name!r}")


def test_codecs_and_units_are_not_taken_for_one_another(folder: Path) -> None:
    with pytest.raises(TokenizerError, match="a tokenizer that makes units, found tiny-codec, which is a codec; try valle-whisper"):
        load_semantic(str(folder))
    with pytest.raises(TokenizerError, match="expected a codec, found mfcc-kmeans, which makes units; try valle-convnext"):
        load_acoustic("mfcc-kmeans")


@pytest.mark.parametrize("lacking", ["config.yaml", "model.safetensors"])
def test_a_folder_without_one_of_its_files_is_refused(folder: Path, lacking: str) -> None:
    (folder / lacking).unlink()
    assert refusal(str(folder)).startswith(f"expected a saved tokenizer in {folder}, found no {lacking} there")


@pytest.mark.parametrize(
    "text", ["", "- a\n- b", "{", "a: b: c", "type: convnext\ndim: [", "\t:", "type: nothing-known", "name: no-type", "7"]
)  # fmt: skip
def test_damaged_settings_are_refused(folder: Path, text: str) -> None:
    (folder / "config.yaml").write_text(text)
    assert "make it again" in (said := refusal(str(folder))) or "newer version" in said


WRONG_SETTINGS = [
    *({"dim": 12}, {"dim": "wide"}, {"dim": -4}, {"num_codebooks": 2}, {"hop_length": 0}, {"hop_length": 300}),
    *({"n_fft": None}, {"colour": "blue"}, {"lookahead": 9}, {"lookahead": -1}),
]


@pytest.mark.parametrize("change", WRONG_SETTINGS, ids=str)
def test_settings_that_do_not_fit_the_weights_are_refused(folder: Path, change: dict) -> None:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **change}))
    assert "tiny-codec" in refusal(str(folder))


@pytest.mark.parametrize("damage", ["cut short", "empty", "a pickle", "one tensor gone", "one too many", "another shape", "not finite"])
def test_damaged_weights_are_refused(folder: Path, damage: str) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    name = "encoder_input.weight"
    if damage in ("cut short", "empty", "a pickle"):
        content = {"cut short": path.read_bytes()[:-100], "empty": b"", "a pickle": pickle.dumps({name: [1.0]})}
        path.write_bytes(content[damage])
    else:
        if damage == "one tensor gone":
            del tensors[name]
        elif damage == "one too many":
            tensors["extra"] = torch.zeros(1)
        else:
            tensors[name] = tensors[name].T.contiguous() if damage == "another shape" else tensors[name] / 0
        save_file(tensors, path)
    assert "again" in refusal(str(folder))


class Payload:
    """What a pickle can do."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.path,))


def test_nothing_is_ever_executed(folder: Path, tmp_path: Path) -> None:
    executed = tmp_path / "executed"
    (folder / "model.safetensors").write_bytes(pickle.dumps(Payload(executed)))
    refusal(str(folder))
    torch.save(Payload(executed), folder / "model.safetensors")
    refusal(str(folder))
    save_tokenizer(tiny_codec(), folder)
    (folder / "config.yaml").write_text(f"!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ['{executed}']]\n")
    refusal(str(folder))
    assert not executed.exists()


@pytest.mark.parametrize("make", [tiny_codec, tiny_kmeans])
def test_plain_state_holds_a_tokenizer_and_is_read_as_weights_alone(make, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    tokenizer = make()
    torch.save(tokenizer_to_state(tokenizer), tmp_path / "state.pt")
    again = tokenizer_from_state(torch.load(tmp_path / "state.pt", weights_only=True))
    assert again.identity == tokenizer.identity


def test_half_precision_is_used_where_it_loses_nothing_and_only_there() -> None:
    codec = tiny_codec()
    codec.encoder_output.weight.data = codec.encoder_output.weight.data.half().float()
    state = tokenizer_to_state(codec)["tensors"]
    assert state["encoder_output.weight"].dtype == torch.float16 and state["encoder_input.weight"].dtype == torch.float32
    assert tokenizer_from_state({"config": codec.config(), "tensors": state}).identity == codec.identity


def test_saving_over_another_leaves_no_mixture(folder: Path) -> None:
    save_tokenizer(tiny_kmeans(), folder)
    assert load_tokenizer(str(folder)).identity == tiny_kmeans().identity
    assert sorted(path.name for path in folder.iterdir()) == ["config.yaml", "model.safetensors"]
