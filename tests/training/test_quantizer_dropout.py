"""Quantizer dropout is a setting: published by default, 0.3 where a recipe says so, and in a run from before there was a choice."""

from pathlib import Path

import pytest
from tiny_codec import audio_manifest, codec_loop, codec_options

from valle.config import parse_flags
from valle.errors import UserError
from valle.models.checkpoint import load_checkpoint, save_checkpoint
from valle.training.codec_options import CodecOptions
from valle.training.codec_task import CodecTask
from valle.training.errors import OtherRunError

EGS = Path(__file__).parents[2] / "egs"


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return audio_manifest(tmp_path_factory.mktemp("audio"))


@pytest.mark.parametrize("codec", ["convnext", "soundstream"])
def test_the_setting_is_what_the_quantizer_drops_by(codec: str, manifest: Path, tmp_path: Path) -> None:
    for share in (0.0, 0.25):
        task = CodecTask(codec_options(manifest, tmp_path, codec=codec, quantizer_dropout=share))
        assert task.codec.quantizer.dropout == share and task.checkpoint_fields()["quantizer_dropout"] == share
    assert CodecTask(codec_options(manifest, tmp_path, codec=codec)).codec.quantizer.dropout == 1


def test_configurations_say_what_they_drop() -> None:
    found = {
        path.parent.parent.name: (
            parse_flags(CodecOptions, ["--config", str(path), "--manifests", "cuts.jsonl.gz"]).quantizer_dropout,
            "quantizer_dropout" in path.read_text(),
        )
        for path in EGS.glob("*/conf/soundstream*.yaml")
    }
    assert found == {"espeak": (0.3, True), "librispeech": (1.0, True), "folder": (1.0, True), "atepp": (1.0, True)}


def test_a_run_from_before_there_was_a_choice_resumes_with_what_it_had(manifest: Path, tmp_path: Path) -> None:
    begun = codec_options(manifest, tmp_path, quantizer_dropout=0.3, num_epochs=1, batches_per_epoch=2, save_every_n=2)
    codec_loop(begun).run()
    for path in tmp_path.glob("*.pt"):
        state = load_checkpoint(path)
        del state["quantizer_dropout"]
        save_checkpoint(path, state)
    with pytest.raises(OtherRunError, match=r"--quantizer-dropout was 0.3, now 1.0"):
        codec_loop(codec_options(manifest, tmp_path, num_epochs=2, batches_per_epoch=2))
    assert codec_loop(begun).progress.step == 2


def test_a_share_is_within_one() -> None:
    with pytest.raises(UserError, match=r"--quantizer-dropout must lie in 0..1, found 1.5"):
        codec_options(Path("none"), Path("none"), quantizer_dropout=1.5)
