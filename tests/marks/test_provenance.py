"""Records of provenance: bound to the samples, signed by who wants to, and told apart from changed ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tiny_pipeline import RATE, recording

from valle.audio import write_wav
from valle.errors import UserError
from valle.marks.provenance import Provenance, read_record, read_sign_key, verify


def record_of(wav: np.ndarray) -> Provenance:
    return Provenance.of(wav, RATE, generated_from=100, mode="continue", watermark="public")


def test_a_record_is_of_its_samples_and_outlives_lossless_formats(tmp_path: Path) -> None:
    wav = recording(1)
    write_wav(tmp_path / "a.wav", wav, RATE, comment=record_of(wav).to_comment())
    assert verify(tmp_path / "a.wav").verdict == "unchanged"
    samples, _ = soundfile.read(tmp_path / "a.wav", dtype="int16")
    with soundfile.SoundFile(tmp_path / "a.flac", "w", RATE, 1) as file:
        file.comment = record_of(wav).to_comment()
        file.write(samples)
    assert verify(tmp_path / "a.flac").verdict == "unchanged"
    samples[777] += 1
    with soundfile.SoundFile(tmp_path / "b.wav", "w", RATE, 1) as file:
        file.comment = record_of(wav).to_comment()
        file.write(samples)
    assert verify(tmp_path / "b.wav").verdict == "changed"


def test_files_without_a_record_and_with_other_comments_have_none(tmp_path: Path) -> None:
    for name, comment in (("plain", ""), ("words", "recorded at home"), ("other", json.dumps({"kind": "x"})), ("list", "[1]")):
        write_wav(tmp_path / f"{name}.wav", recording(0.3), RATE, comment=comment)
        assert verify(tmp_path / f"{name}.wav").verdict == "none" and read_record(tmp_path / f"{name}.wav") is None


def test_a_signature_is_of_one_key_and_one_record(tmp_path: Path) -> None:
    ed25519 = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ed25519")
    from cryptography.hazmat.primitives import serialization as form

    key = ed25519.Ed25519PrivateKey.generate()
    pem = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    (tmp_path / "key.pem").write_bytes(pem)
    wav, public = recording(0.5), key.public_key().public_bytes_raw().hex()
    comment = record_of(wav).to_comment(read_sign_key(tmp_path / "key.pem"))
    write_wav(tmp_path / "a.wav", wav, RATE, comment=comment)
    assert verify(tmp_path / "a.wav").verdict == verify(tmp_path / "a.wav", public_key=public).verdict == "signed"
    assert verify(tmp_path / "a.wav", public_key="00" * 32).verdict == "changed"
    write_wav(tmp_path / "forged.wav", wav, RATE, comment=json.dumps({**json.loads(comment), "watermark": "none"}))
    assert verify(tmp_path / "forged.wav").verdict == "changed"
    write_wav(tmp_path / "unsigned.wav", wav, RATE, comment=record_of(wav).to_comment())
    assert verify(tmp_path / "unsigned.wav", public_key=public).verdict == "changed"


def test_what_is_no_private_key_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    (tmp_path / "words").write_text("secret")
    for name in ("words", "missing"):
        with pytest.raises(UserError, match="private key"):
            read_sign_key(tmp_path / name)
