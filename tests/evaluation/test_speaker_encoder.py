from pathlib import Path

import numpy as np
import pytest
import torch
from spoken_corpus import write_corpus
from tiny_pipeline import tiny_released
from transformers import Wav2Vec2FeatureExtractor, WavLMConfig, WavLMForXVector

from valle.evaluation.evaluate import EvaluateOptions, evaluate, left_out
from valle.evaluation.speaker_encoder import GE2E, ResemblyzerEncoder, SpeakerEncoderError, cosines, partial_starts, speaker_encoder
from valle.models.released import save_released

RATE = 16000


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of the judge's name with random weights in its place."""
    torch.manual_seed(0)
    folder = tmp_path / "site" / "resemblyzer"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('the package is read, never run')\n")
    torch.save({"step": 1, "model_state": {**GE2E().state_dict(), "similarity_weight": torch.ones(1)}}, folder / "pretrained.pt")
    monkeypatch.syspath_prepend(str(folder.parent))
    return folder


def tone(hertz: float, seconds: float, rate: int = RATE, loud: float = 0.1) -> np.ndarray:
    return (loud * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def test_the_weights_of_the_package_are_read_and_none_of_its_code_is_run(package: Path) -> None:
    encoder = speaker_encoder("resemblyzer")
    vector = encoder.embed(tone(200, 4), RATE)
    assert vector is not None and vector.shape == (256,) and np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)


def test_loudness_and_rate_say_nothing_of_the_voice(package: Path) -> None:
    encoder = speaker_encoder("resemblyzer")
    wav, other = tone(200, 4) + tone(430, 4), tone(1900, 4)
    first, again = encoder.embed(wav, RATE), encoder.embed(tone(200, 4, 24000) + tone(430, 4, 24000), 24000)
    assert first is not None and again is not None and first @ again > 1 - 1e-4
    [quieter, another] = cosines(encoder, [wav, wav], [wav * 0.1, other], RATE)
    assert quieter == pytest.approx(1, abs=1e-4) and another < 1 - 2e-4


def test_no_voice_is_like_none(package: Path) -> None:
    encoder = speaker_encoder("resemblyzer")
    assert encoder.embed(tone(200, 0.4), RATE) is None and encoder.embed(np.zeros(RATE * 2, np.float32), RATE) is None
    assert cosines(encoder, [tone(200, 0.4)], [tone(200, 4)], RATE) == [0.0]


@pytest.mark.parametrize(("seconds", "starts"), [(0.5, [0]), (1.6, [0]), (2.7, [0, 77]), (2.8, [0, 77, 154]), (3.6, [0, 77, 154, 231])])
def test_windows_cover_a_clip_and_the_last_is_filled_by_three_quarters(seconds: float, starts: list[int]) -> None:
    assert partial_starts(int(seconds * RATE)) == starts


def test_a_wavlm_with_an_x_vector_head_is_read_from_a_folder(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = WavLMConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, conv_dim=(8, 8), conv_kernel=(10, 8),
        conv_stride=(10, 32), num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2, tdnn_dim=(8, 8), tdnn_kernel=(3, 1),
        tdnn_dilation=(1, 1), xvector_output_dim=6, num_feat_extract_layers=2,
    )  # fmt: skip
    WavLMForXVector(config).save_pretrained(tmp_path / "sv")
    Wav2Vec2FeatureExtractor().save_pretrained(tmp_path / "sv")
    encoder = speaker_encoder(str(tmp_path / "sv"))
    vector = encoder.embed(tone(200, 2), RATE)
    assert encoder.name == "sv" and vector is not None and vector.shape == (6,) and np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)


def test_what_is_missing_is_said_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("valle.evaluation.speaker_encoder.find_spec", lambda name: None)
    with pytest.raises(SpeakerEncoderError, match="pip install --no-deps resemblyzer"):
        speaker_encoder("resemblyzer")
    with pytest.raises(SpeakerEncoderError, match="wavlm-base-plus-sv"):
        speaker_encoder(str(tmp_path / "none"))
    (tmp_path / "other.pt").write_bytes(b"no weights")
    with pytest.raises(SpeakerEncoderError, match="install it again"):
        ResemblyzerEncoder(tmp_path / "other.pt")


def test_the_report_has_the_likeness_of_voices_beside_its_controls(package: Path, tmp_path: Path) -> None:
    released = tiny_released()
    save_released(released, tmp_path / "model", dtype=torch.float32)
    options = EvaluateOptions(
        corpus=write_corpus(tmp_path / "corpus", released, num_train=3, num_test=1), model=tmp_path / "model", output_dir=tmp_path / "out",
        suite="continuation", max_items=3, prompt_seconds=1.0, max_seconds=1.5, speaker="resemblyzer",
    )  # fmt: skip
    row = evaluate(options)["voice_cosine"]
    assert row["controls"].keys() == {"real speech", "through the codec", "another's prompt"} and -1 <= row["value"] <= 1
    assert not any(reason.startswith("voice_cosine") for reason in left_out(options))
