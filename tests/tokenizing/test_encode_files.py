"""Files of audio into files of tokens and back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from test_tokenize_cuts import save_tiny_tokenizers
from tiny_audio import sound, write_sound

from valle.audio import read_audio
from valle.errors import UserError
from valle.tokenizers.registry import load_tokenizer, save_tokenizer
from valle.tokenizing.encode_files import DecodeConfig, EncodeConfig, TokenFileError, decode_files, encode_files


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    save_tiny_tokenizers(tmp_path / "tok")
    monkeypatch.chdir(tmp_path)
    write_sound(Path("in/a.wav"), 1.0, seed=1)
    write_sound(Path("in/deep/b.flac"), 0.71, rate=44100, seed=2)  # no whole number of frames
    soundfile.write("in/deep/stereo.wav", np.stack([sound(0.5, seed=3), sound(0.5, seed=4)], 1), 16000)
    return tmp_path


def encode(*audio: str, tokenizer: str = "tok/acoustic", output: str = "out", **options: object) -> dict[str, np.ndarray]:
    config = EncodeConfig(tokenizer=tokenizer, audio=[Path(name) for name in audio], output_dir=Path(output), device="cpu", **options)
    return {file.path.relative_to(output).as_posix(): np.load(file.path) for file in encode_files(config).files}


def test_tokens_are_those_of_the_mono_audio_at_the_tokenizers_rate() -> None:
    found = encode("in")
    assert set(found) == {"a.npy", "deep/b.npy", "deep/stereo.npy"}
    tokenizer = load_tokenizer("tok/acoustic")
    for name, tokens in found.items():
        path = next(Path("in").rglob(f"{Path(name).stem}.*"))
        wav = torch.from_numpy(read_audio(path, sample_rate=16000)[0])[None]
        expected = tokenizer.encode(wav, torch.tensor([wav.shape[1]]))[0][0].numpy()
        assert tokens.dtype == np.int16 and tokens.shape == expected.shape
        np.testing.assert_array_equal(tokens, expected)


def test_a_files_tokens_depend_on_no_other_file_of_the_call() -> None:
    together = encode("in/a.wav", "in/deep/b.flac", "in/deep/stereo.wav")
    for name in ("in/a.wav", "in/deep/b.flac", "in/deep/stereo.wav"):
        for file, tokens in encode(name, output="alone").items():
            np.testing.assert_array_equal(tokens, together[file])


def test_what_lies_beside_the_tokens_says_what_they_are() -> None:
    encode("in/deep/b.flac", tokenizer="tok/semantic")
    described = json.loads(Path("out/b.json").read_text())
    identity = load_tokenizer("tok/semantic").identity
    assert described["tokenizer"] == identity.to_dict() and described["timeline"] == {"codes": None, "units": [16000, 640]}
    assert described["num_samples"] == 11360 and described["shape"] == [18] and described["given"] == "tok/semantic"


def test_decoded_codes_are_the_codecs_sound_of_the_files_own_length() -> None:
    codes = encode("in/deep/b.flac")["b.npy"]
    [file] = decode_files(DecodeConfig(codes=[Path("out/b.npy")], output_dir=Path("wavs"), device="cpu"))
    wav, rate = read_audio(file.path)
    assert rate == 16000 and len(wav) == 11360
    expected = load_tokenizer("tok/acoustic").decode(torch.from_numpy(codes.astype(np.int64))[None], torch.tensor([len(codes)]))[0].numpy()
    np.testing.assert_allclose(wav, np.clip(expected[:11360], -1, 1), atol=1 / 32768)


def test_fewer_codebooks_are_the_first_of_all() -> None:
    every, two = encode("in/a.wav")["a.npy"], encode("in/a.wav", output="two", num_quantizers=2)["a.npy"]
    np.testing.assert_array_equal(two, every[:, :2])
    wavs = [
        decode_files(DecodeConfig(codes=[Path(name)], output_dir=Path(f"w{index}"), num_quantizers=levels, device="cpu"))[0].path
        for index, (name, levels) in enumerate((("out/a.npy", 2), ("two/a.npy", 0)))
    ]
    assert wavs[0].read_bytes() == wavs[1].read_bytes()


def test_files_that_would_be_one_are_refused_before_anything_is_written() -> None:
    write_sound(Path("other/a.flac"), 0.3)
    with pytest.raises(TokenFileError, match=r"in/a\.wav and other/a\.flac, which would both become a\.npy"):
        encode("in/a.wav", "other/a.flac")
    assert not Path("out").exists()
    assert set(encode("in/a.wav", "in/a.wav")) == {"a.npy"}  # twice the same is no clash


def test_a_lower_precision_is_compared_with_float32() -> None:
    config = EncodeConfig(tokenizer="tok/acoustic", audio=[Path("in")], output_dir=Path("out"), device="cpu", dtype="bfloat16")
    changed = encode_files(config).changed
    assert list(changed.compared) == ["codebook 0", "codebook 1", "codebook 2"]
    exact = encode("in", output="exact")
    lower = {name: np.load(Path("out") / name) for name in exact}
    for level in range(3):
        expected = sum(int((lower[name][:, level] != exact[name][:, level]).sum()) for name in exact)
        assert changed.changed[f"codebook {level}"] == expected and changed.compared[f"codebook {level}"] == 111
    assert sum(changed.changed.values()) > 0


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda: Path("out/a.json").unlink(), "expected out/a.json beside out/a.npy"),
        (lambda: Path("out/a.json").write_text("{"), "found what cannot be read"),
        (lambda: np.save("out/a.npy", np.zeros((4, 3))), "an array of float64"),
        (lambda: np.save("out/a.npy", np.full((4, 3), 999, np.int16)), r"expected codes in 0\.\.15"),
        (lambda: np.save("out/a.npy", np.zeros(4, np.int16)), "which no codec decodes"),
        (lambda: Path("out/a.npy").write_bytes(b""), "found what cannot be read"),
    ],
)
def test_codes_that_are_none_are_refused(damage, says: str) -> None:
    encode("in/a.wav")
    damage()
    with pytest.raises(TokenFileError, match=says):
        decode_files(DecodeConfig(codes=[Path("out/a.npy")], output_dir=Path("wavs"), device="cpu"))
    assert not list(Path(".").glob("wavs/*"))


def test_codes_of_another_codec_are_refused() -> None:
    encode("in/a.wav")
    other = load_tokenizer("tok/acoustic")
    other.quantizer.codebooks[0].embedding.neg_()
    save_tokenizer(other, Path("tok/acoustic"))
    with pytest.raises(TokenFileError, match=r"expected tiny .*, found tiny .*; name the codec with --tokenizer"):
        decode_files(DecodeConfig(codes=[Path("out/a.npy")], output_dir=Path("wavs"), device="cpu"))


@pytest.mark.parametrize(
    ("audio", "options", "says"),
    [
        ("nowhere.wav", {}, "nothing there"),
        ("tok", {}, "found none; name another folder"),
        ("in/a.wav", {"num_quantizers": 9}, r"within 1\.\.3, found 9"),
        ("in/a.wav", {"num_quantizers": 1, "tokenizer": "tok/semantic"}, "is for codecs"),
    ],
)
def test_what_cannot_be_encoded_is_refused(audio: str, options: dict, says: str) -> None:
    with pytest.raises(UserError, match=says):
        encode(audio, **options)
    assert not Path("out").exists()
