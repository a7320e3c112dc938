"""Audio files -> files of tokens, and back: `a.flac` becomes `a.npy`, integers, with `a.json` beside it, which says what they are.

Files are encoded one by one, piece by piece, so a file's tokens depend on nothing but itself, and an hour takes the memory of a
minute.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from valle.audio import AudioFileError, Waveform, audio_info, audio_pieces, write_wav
from valle.device import find_device
from valle.errors import UserError
from valle.files import replacing, shown, write_text
from valle.progress import Progress
from valle.timeline import Grid
from valle.tokenizers.base import AcousticTokenizer, SemanticTokenizer, Tokenizer, TokenizerIdentity
from valle.tokenizers.registry import expect_acoustic, load_tokenizer
from valle.tokenizers.stream import decode_pieces, encode_pieces
from valle.tokenizing.encode_batches import ChangedTokens
from valle.tokenizing.found_files import FoundFile, TokenFileError, claim_made, find_audio, find_codes

FILES_COMPARED = 8  # the first of them, where a lower precision is compared with float32


@dataclass(frozen=True, kw_only=True)
class EncodeConfig:
    """What to encode, by what, and where to."""

    tokenizer: str = field(metadata={"help": "a name of `tokenizer.py list`, NAME=FILE_OR_FOLDER, or a saved tokenizer's folder"})
    audio: list[Path] = field(metadata={"help": "audio files, or folders of them"})
    output_dir: Path = field(metadata={"help": "where NAME.npy and NAME.json go; files keep their place within a given folder"})
    num_quantizers: int = field(default=0, metadata={"help": "keep the first codebooks of a codec; 0 keeps all"})
    device: str = field(default="auto", metadata={"help": "auto, cpu, cuda or mps"})
    dtype: Literal["float32", "bfloat16"] = field(default="float32", metadata={"help": "bfloat16 changes some tokens; it prints how many"})


@dataclass(frozen=True, kw_only=True)
class DecodeConfig:
    """Which codes to make audible."""

    codes: list[Path] = field(metadata={"help": "files of codes (NAME.npy with NAME.json beside it), or folders of them"})
    output_dir: Path = field(metadata={"help": "where NAME.wav goes"})
    tokenizer: str = field(default="", metadata={"help": "the codec, if it is no longer where it was when the codes were made"})
    num_quantizers: int = field(default=0, metadata={"help": "decode the first codebooks alone; 0 decodes all that are there"})
    device: str = field(default="auto", metadata={"help": "auto, cpu, cuda or mps"})


@dataclass(frozen=True)
class EncodedFile:
    """What was written of one file."""

    path: Path  # of the tokens
    shape: tuple[int, ...]  # (T, Q) codes or (T,) units
    seconds: float


@dataclass(frozen=True)
class EncodedFiles:
    """All that was written, and what a lower precision changed in the first of them."""

    files: list[EncodedFile]
    changed: ChangedTokens
    left_out: list[str]  # a line for each file of a folder that gives no tokens


def encode_files(config: EncodeConfig, *, progress: Progress | None = None) -> EncodedFiles:
    """Write the tokens of every file.  Raises ``TokenFileError``, ``AudioFileError`` or what the tokenizer's loader raises.

    A file of a folder that cannot be read is left out and stops no other; of files that are given, one that fails on the
    way is told at the end.  ``progress(seconds_done, seconds_wanted)`` is called after each file.
    """
    found = find_audio(config.audio)
    outputs = claim_made(found.files, config.output_dir, endings=(".npy", ".json"), program="encode")
    seconds = _lengths(found.files, found.left_out)
    if not seconds:
        raise TokenFileError(f"expected a file of audio that can be read, found none: {found.left_out[0]}")
    tokenizer = load_tokenizer(config.tokenizer).to(find_device(config.device))
    assert isinstance(tokenizer, AcousticTokenizer | SemanticTokenizer)
    num_levels = _levels(tokenizer, config.num_quantizers)
    identity, changed, done = tokenizer.identity, ChangedTokens(), 0.0
    written: list[EncodedFile] = []
    failed: list[UserError] = []
    with outputs.being_written():
        for file, length in seconds.items():
            try:
                tokens, num_samples = _encode(tokenizer, file.path, config.dtype)
                if config.dtype != "float32" and len(written) < FILES_COMPARED:
                    changed.compare("units" if tokens.ndim == 1 else "codes", tokens, _encode(tokenizer, file.path, "float32")[0])
            except UserError as error:
                (failed if file.is_given else []).append(error)
                found.left_out.append(f"{shown(file.path)}: {error}")
                continue
            if tokens.ndim == 2:
                tokens = tokens[:, :num_levels]
            target = config.output_dir / f"{file.name}.npy"
            source = {"audio": shown(file.path), "num_samples": num_samples, "dtype": config.dtype, "given": config.tokenizer}
            _write(target, tokens, {**_describe(identity), **source})
            written.append(EncodedFile(path=target, shape=tokens.shape, seconds=num_samples / tokenizer.sample_rate))
            done += length
            if progress:
                progress(done, sum(seconds.values()))
    if failed:
        raise failed[0]
    return EncodedFiles(files=written, changed=changed, left_out=found.left_out)


def _lengths(files: list[FoundFile], left_out: list[str]) -> dict[FoundFile, float]:
    """Seconds of each file that can be opened; one of a folder that cannot goes into ``left_out``."""
    seconds = {}
    for file in files:
        try:
            seconds[file] = audio_info(file.path).seconds
        except AudioFileError as error:
            if file.is_given:
                raise
            left_out.append(f"{shown(file.path)}: {error}")
    return seconds


def decode_files(config: DecodeConfig, *, progress: Progress | None = None) -> list[EncodedFile]:
    """Write the sound of every file of codes, mono, 16 bits, at the codec's own rate; returns wavs with the shapes of their codes."""
    files = find_codes(config.codes)
    beside = [file.path.with_suffix(".json") for file in files]
    outputs = claim_made(files, config.output_dir, endings=(".wav",), program="decode", also_read=beside)
    with outputs.being_written():
        return _decode_all(files, config, progress)


def _decode_all(files: list[FoundFile], config: DecodeConfig, progress: Progress | None) -> list[EncodedFile]:
    device, codecs = find_device(config.device), dict[str, tuple[AcousticTokenizer, TokenizerIdentity]]()
    written = []
    for number, file in enumerate(files):
        path = file.path
        codes, described = read_codes(path)
        given = config.tokenizer or described["given"]
        if given not in codecs:
            loaded = expect_acoustic(load_tokenizer(given)).to(device)
            codecs[given] = loaded, loaded.identity
        (codec, identity), made_by = codecs[given], described["identity"]
        if identity != made_by:
            raise TokenFileError(f"expected {made_by}, which made {path}, found {identity} as {given}; name the codec with --tokenizer")
        codes = codes[:, : _levels(codec, config.num_quantizers, most=codes.shape[1])]
        if codes.size and not 0 <= codes.min() <= codes.max() < codec.codebook_size:
            raise TokenFileError(f"expected codes in 0..{codec.codebook_size - 1} in {path}, found {codes.min()}..{codes.max()}")
        with torch.inference_mode():
            pieces = [piece.cpu().numpy() for piece in decode_pieces(codec, torch.from_numpy(codes.astype(np.int64)).to(device))]
        wav = np.concatenate(pieces)[: described["num_samples"]]
        target = config.output_dir / f"{file.name}.wav"
        write_wav(target, wav, codec.sample_rate)
        written.append(EncodedFile(path=target, shape=codes.shape, seconds=len(wav) / codec.sample_rate))
        if progress:
            progress(number + 1, len(files))
    return written


def read_codes(path: Path) -> tuple[NDArray[np.integer], dict[str, Any]]:
    """Codes ``(T, Q)`` of a file and what is said of them: ``identity`` and ``given``.  Raises ``TokenFileError``."""
    beside = path.with_suffix(".json")
    if not beside.is_file():
        raise TokenFileError(
            f"expected {beside} beside {path}, which says what made the codes, found nothing there; encode the audio again"
        )
    try:
        described = json.loads(beside.read_text(encoding="utf-8"))
        identity = TokenizerIdentity.from_dict(described["tokenizer"])
        given, num_samples = str(described["given"]), int(described["num_samples"])
        values = np.load(path, allow_pickle=False)
        if values.dtype.kind not in "iu" or values.ndim not in (1, 2) or len(values) == 0:
            raise ValueError(f"an array of {values.dtype} of shape {values.shape}")
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        reason = " ".join(str(error).split())[:120]
        raise TokenFileError(f"expected tokens in {path} with {beside}, found what cannot be read ({reason}); encode again") from error
    if identity.kind != "acoustic" or values.ndim != 2:
        raise TokenFileError(f"expected codes of a codec in {path}, found units of {identity}, which no codec decodes; encode with a codec")
    return values, {"identity": identity, "given": given, "num_samples": num_samples}


def _encode(tokenizer: AcousticTokenizer | SemanticTokenizer, path: Path, dtype: str) -> tuple[NDArray[np.integer], int]:
    """Tokens of a file, and of how many samples they are."""
    num_samples = 0

    def pieces() -> Iterator[Waveform]:
        nonlocal num_samples
        for piece in audio_pieces(path, sample_rate=tokenizer.sample_rate):
            num_samples += len(piece)
            yield piece

    tokenizer.precision = getattr(torch, dtype)
    with torch.inference_mode():
        tokens = encode_pieces(tokenizer, pieces())
    size = tokenizer.codebook_size if isinstance(tokenizer, AcousticTokenizer) else tokenizer.num_units
    return tokens.cpu().numpy().astype(np.int16 if size <= 2**15 else np.int32), num_samples


def _levels(tokenizer: Tokenizer, wanted: int, *, most: int | None = None) -> int | None:
    """How many codebooks to keep; None for all."""
    if wanted == 0:
        return None
    if not isinstance(tokenizer, AcousticTokenizer):
        raise TokenFileError(f"--num-quantizers is for codecs, and {tokenizer.name} makes units; leave it out")
    most = tokenizer.num_codebooks if most is None else most
    if not 1 <= wanted <= most:
        raise TokenFileError(f"expected --num-quantizers within 1..{most}, found {wanted}; 0 keeps all")
    return wanted


def _describe(identity: TokenizerIdentity) -> dict[str, Any]:
    grid: Grid = identity.grid
    steps = {"codes": None, "units": None, "codes" if identity.kind == "acoustic" else "units": [grid.sample_rate, grid.hop_length]}
    return {"timeline": steps, "tokenizer": identity.to_dict()}


def _write(path: Path, tokens: NDArray[np.integer], described: dict[str, Any]) -> None:
    """The tokens last, so that they are never there without what says what they are."""
    write_text(path.with_suffix(".json"), json.dumps({"tokens": path.name, "shape": list(tokens.shape), **described}, indent=1) + "\n")
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.save(file, tokens)
