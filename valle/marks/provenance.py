"""Where a file comes from, in the file's own comment, bound to its samples by a hash and, if the user wishes, signed.

An unsigned record says what honest software says of itself; anyone can write or remove it.  A signature by Ed25519 (RFC 8032) shows
that whoever holds the key wrote this record of these samples, and nothing else.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import soundfile

from valle.audio import Waveform, to_int16
from valle.audio_source import check_file
from valle.errors import UserError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

KIND = "valle-provenance-1"
READ_AT_ONCE = 2**20  # samples
Marked = Literal["public", "own", "none"]


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What a record says of a sound of 16 bits."""

    samples_sha256: str  # of the samples as little-endian int16
    num_samples: int
    sample_rate: int  # Hz
    generated_from: int  # the first sample that is not the recording's own
    mode: str  # what infer.py was told to do
    watermark: Marked  # by which key

    @classmethod
    def of(cls, wav: Waveform, sample_rate: int, *, generated_from: int, mode: str, watermark: Marked) -> Provenance:
        """Of ``wav (T,)`` as ``write_wav`` rounds it."""
        sha256 = hashlib.sha256(to_int16(wav).astype("<i2").tobytes()).hexdigest()
        return cls(
            samples_sha256=sha256, num_samples=len(wav), sample_rate=sample_rate, generated_from=generated_from, mode=mode,
            watermark=watermark,
        )  # fmt: skip

    def to_comment(self, sign_key: Ed25519PrivateKey | None = None) -> str:
        """What is written into a file, signed where there is a key."""
        record: dict[str, Any] = {"kind": KIND, **asdict(self)}
        if sign_key is not None:
            public = sign_key.public_key().public_bytes_raw().hex()
            record.update(public_key=public, signature=sign_key.sign(_signed_bytes({**record, "public_key": public})).hex())
        return json.dumps(record)


@dataclass(frozen=True)
class Verified:
    """``verdict``: unchanged (record and samples agree), signed (and the signature is right), changed, or none (no record)."""

    verdict: Literal["unchanged", "signed", "changed", "none"]
    detail: str
    record: dict[str, Any]


def verify(path: Path, *, public_key: str | None = None) -> Verified:
    """Whether the samples of the file are those of its record; with ``public_key`` (64 hexadecimal digits) only its signature counts.

    Raises ``UserError`` for a signed record where the package ``cryptography`` is missing.
    """
    check_file(path)
    record = read_record(path)
    if record is None:
        return Verified("none", "no record of provenance", {})
    if _hash_of(path) != record.get("samples_sha256"):
        return Verified("changed", "the samples are not those of the record", record)
    if "signature" not in record:
        unsigned = Verified("unchanged", "the samples are those of the record, which nobody signed", record)
        return unsigned if public_key is None else Verified("changed", "nobody signed the record", record)
    if public_key is not None and record.get("public_key") != public_key.strip().lower():
        return Verified("changed", "signed by another key", record)
    if not _signature_is_right(record):
        return Verified("changed", "the signature is not of this record", record)
    return Verified("signed", f"signed by {record['public_key']}", record)


def read_record(path: Path) -> dict[str, Any] | None:
    """The record in a file's comment; None where there is none, or a comment of someone else's."""
    try:
        with soundfile.SoundFile(path) as file:
            record = json.loads(file.comment)
    except (soundfile.LibsndfileError, ValueError):
        return None
    return record if isinstance(record, dict) and record.get("kind") == KIND else None


def read_sign_key(path: Path) -> Ed25519PrivateKey:
    """An Ed25519 private key in PEM without a password, as ``openssl genpkey -algorithm ed25519`` writes it."""
    serialization, ed25519 = _cryptography()
    if not path.is_file():
        raise UserError(f"expected a private key at {path}, found none; make one by: openssl genpkey -algorithm ed25519 -out {path}")
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError) as error:
        raise UserError(f"expected an Ed25519 private key in PEM without a password in {path}, found something else") from error
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise UserError(f"expected an Ed25519 private key in {path}, found one of another kind; use openssl genpkey -algorithm ed25519")
    return key


def _signature_is_right(record: dict[str, Any]) -> bool:
    _, ed25519 = _cryptography()
    from cryptography.exceptions import InvalidSignature

    try:
        key: Ed25519PublicKey = ed25519.Ed25519PublicKey.from_public_bytes(bytes.fromhex(record["public_key"]))
        key.verify(bytes.fromhex(record["signature"]), _signed_bytes(record))
    except (InvalidSignature, KeyError, TypeError, ValueError):
        return False
    return True


def _signed_bytes(record: dict[str, Any]) -> bytes:
    unsigned = {name: value for name, value in record.items() if name != "signature"}
    return json.dumps(unsigned, sort_keys=True, separators=(",", ":")).encode()


def _hash_of(path: Path) -> str:
    digest = hashlib.sha256()
    with soundfile.SoundFile(path) as file:
        while len(block := file.read(READ_AT_ONCE, dtype="int16")):
            digest.update(block.astype("<i2").tobytes())
    return digest.hexdigest()


def _cryptography() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise UserError('expected the package cryptography for signatures, found none; install it: pip install "valle[sign]"') from error
    return serialization, ed25519
