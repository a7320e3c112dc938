"""Tokenizers by name, by folder, and as plain state inside a checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from valle.errors import UserError
from valle.files import replacing
from valle.tokenizers.base import AcousticTokenizer, SemanticTokenizer, Tokenizer
from valle.tokenizers.code_units import build_code_units
from valle.tokenizers.convnext_codec import ConvNeXtCodec, ConvNeXtCodecConfig
from valle.tokenizers.dac import build_dac, load_dac
from valle.tokenizers.encodec import build_encodec, load_encodec
from valle.tokenizers.hubert import build_hubert
from valle.tokenizers.mfcc import MfccConfig, MfccKMeans
from valle.tokenizers.mimi import build_mimi, load_mimi
from valle.tokenizers.pretrained_units import ENCODERS, PretrainedUnits, build_pretrained_units, load_encoder
from valle.tokenizers.released_clusters import CLUSTERED, load_clustered
from valle.tokenizers.soundstream import SoundStream, SoundStreamConfig
from valle.tokenizers.weights import packed, unpacked

BUNDLED_FOLDER = Path(__file__).parent.parent / "assets" / "tokenizers"
BUNDLED = ("valle-convnext", "valle-16khz", "valle-whisper", "valle-hubert", "mfcc-kmeans")
BUNDLED_ACOUSTIC, BUNDLED_SEMANTIC = "valle-convnext", "valle-whisper"  # what recipes mean by bundled; egs/shared/stages.sh names them too
CONFIG_FILE, WEIGHTS_FILE = "config.yaml", "model.safetensors"
REFERENCE_BYTES = 100 * 2**20  # of weights, above which checkpoints name a tokenizer's folder instead of holding a copy each


class TokenizerError(UserError):
    """A tokenizer that cannot be found, read or used here."""


class TokenizerAwayError(TokenizerError):
    """A tokenizer that a checkpoint names and that is not where it was."""


def known_names() -> list[str]:
    """Every name that ``load_tokenizer`` takes."""
    return [*BUNDLED, *_CODECS, *ENCODERS, *CLUSTERED]


def load_tokenizer(name: str) -> Tokenizer:
    """``NAME`` (bundled, or a hub's), ``NAME=FILE_OR_FOLDER``, or the folder of a saved tokenizer; in evaluation mode, fp32.

    >>> import torch
    >>> from valle import load_tokenizer, read_audio
    >>> codec = load_tokenizer("valle-convnext")
    >>> wav, _ = read_audio("hello.wav", sample_rate=codec.sample_rate)
    >>> codes, lengths = codec.encode(torch.from_numpy(wav)[None], torch.tensor([len(wav)]))  # (B, T, Q), (B,)
    >>> codec.decode(codes, lengths).shape
    torch.Size([1, 56000])
    """
    label, _, path = name.partition("=")
    if label in _CODECS and not (path and (Path(path) / CONFIG_FILE).is_file()):
        return _CODECS[label](label, Path(path) if path else None)
    if label in CLUSTERED and not (path and (Path(path) / CONFIG_FILE).is_file()):
        return load_clustered(label, Path(path) if path else None)
    if label in ENCODERS and not (path and (Path(path) / CONFIG_FILE).is_file()):
        raise TokenizerError(
            f"expected the units of {label}, found its encoder alone, of which no clusters are fitted; fit them with "
            f"`bin/tokenizer.py fit --encoder {name}` and give the folder that it writes"
        )
    if path:
        tokenizer = _load_folder(Path(path))
        if tokenizer.name != label:
            raise TokenizerError(
                f"expected the tokenizer {label} in {path}, found {tokenizer.name}; give the folder alone, or another name"
            )
        return tokenizer
    if label in BUNDLED:
        return _load_folder(BUNDLED_FOLDER / label)
    if label and Path(label).is_dir():
        return _load_folder(Path(label))
    raise TokenizerError(f"expected a tokenizer's name ({', '.join(known_names())}) or the folder of a saved one, found {name!r}")


def load_unfitted(name: str, **settings: Any) -> PretrainedUnits:
    """``NAME`` or ``NAME=FOLDER`` of a released encoder up to a layer, with ``layer``, ``num_units`` and the like; not yet fitted."""
    label, _, path = name.partition("=")
    if label not in ENCODERS:
        raise TokenizerError(f"expected the name of a released encoder ({', '.join(ENCODERS)}), found {label!r}")
    return load_encoder(label, Path(path) if path else None, **settings)


def load_acoustic(name: str) -> AcousticTokenizer:
    """Like ``load_tokenizer``, where only a codec will do."""
    return expect_acoustic(load_tokenizer(name))


def load_semantic(name: str) -> SemanticTokenizer:
    """Like ``load_tokenizer``, where only units will do."""
    return expect_semantic(load_tokenizer(name))


def expect_acoustic(tokenizer: Tokenizer) -> AcousticTokenizer:
    if not isinstance(tokenizer, AcousticTokenizer):
        raise TokenizerError(f"expected a codec, found {tokenizer.name}, which makes units; try {BUNDLED_ACOUSTIC}")
    return tokenizer


def expect_semantic(tokenizer: Tokenizer) -> SemanticTokenizer:
    if not isinstance(tokenizer, SemanticTokenizer):
        raise TokenizerError(f"expected a tokenizer that makes units, found {tokenizer.name}, which is a codec; try {BUNDLED_SEMANTIC}")
    return tokenizer


def tokenizer_to_state(tokenizer: Tokenizer) -> dict[str, Any]:
    """``{"config": plain values, "tensors": name -> tensor}``, fit for a checkpoint that is read with ``weights_only=True``."""
    return {"config": tokenizer.config(), "tensors": packed(tokenizer.state_dict())}


def tokenizer_to_checkpoint(tokenizer: Tokenizer) -> dict[str, Any]:
    """The same, but of a large tokenizer out of a folder only the folder and the hash: a checkpoint must not become 1 GB."""
    size = sum(tensor.numel() * tensor.element_size() for tensor in tokenizer.state_dict().values())
    if tokenizer.folder is None or size <= REFERENCE_BYTES:
        return tokenizer_to_state(tokenizer)
    places = [str(tokenizer.folder), str(tokenizer.folder.resolve())]  # the first also if the recipe has moved
    return {"config": tokenizer.config(), "reference": {"folders": places, "sha256": tokenizer.content_hash()}}


def tokenizer_from_state(state: dict[str, Any]) -> Tokenizer:
    """The inverse of ``tokenizer_to_state`` and ``tokenizer_to_checkpoint``: same identity, fp32, evaluation mode."""
    if isinstance(state, dict) and "reference" in state:
        return _from_reference(state)
    try:
        config, weights = dict(state["config"]), unpacked(dict(state["tensors"]))
    except (KeyError, TypeError, ValueError) as error:
        raise TokenizerError("expected the configuration and the tensors of a tokenizer, found something else; make it again") from error
    kind = config.pop("type", None)
    if kind not in _BUILDERS:
        raise TokenizerError(f"expected a tokenizer of type {', '.join(_BUILDERS)}, found {kind!r}; it may come from a newer version")
    try:
        tokenizer = _BUILDERS[kind](config)
        wanted = tokenizer.state_dict()
        tokenizer.load_state_dict({name: tensor.to(wanted[name].dtype) if name in wanted else tensor for name, tensor in weights.items()})
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise TokenizerError(
            f"the weights of tokenizer {config.get('name')!r} do not fit its configuration ({reason}); make it again"
        ) from error
    broken = [name for name, tensor in tokenizer.state_dict().items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    if broken:
        raise TokenizerError(f"the weights {broken[0]} of tokenizer {config.get('name')!r} are not finite; make it again")
    return tokenizer.eval().requires_grad_(False)


def _from_reference(state: dict[str, Any]) -> Tokenizer:
    try:
        name, sha256 = str(state["config"]["name"]), str(state["reference"]["sha256"])
        folders = [Path(folder) for folder in state["reference"]["folders"]]
        first = folders[0]
    except (KeyError, TypeError, IndexError) as error:
        raise TokenizerError("expected the folder and the hash of a tokenizer, found something else; use another checkpoint") from error
    found = "none there"
    for folder in folders:
        if (folder / CONFIG_FILE).is_file():
            tokenizer = _load_folder(folder)
            if tokenizer.content_hash() == sha256:
                return tokenizer
            found = str(tokenizer.identity)
    raise TokenizerAwayError(
        f"expected the tokenizer {name} ({sha256[:12]}) in {first}, which the checkpoint names because it is large, found {found}; "
        "put it back there, or run in the folder from which the model was trained"
    )


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write ``config.yaml`` and ``model.safetensors``; each under a temporary name, then renamed."""
    state = tokenizer_to_state(tokenizer)
    with replacing(folder / WEIGHTS_FILE) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in state["tensors"].items()}, temporary)
    with replacing(folder / CONFIG_FILE) as temporary:
        temporary.write_text(yaml.safe_dump(state["config"], sort_keys=False), encoding="utf-8")


def _load_folder(folder: Path) -> Tokenizer:
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise TokenizerError(f"expected a saved tokenizer in {folder}, found no {name} there; name another folder or make it again")
    try:
        config = yaml.safe_load((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        tensors = load_file(folder / WEIGHTS_FILE)
    except (SafetensorError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise TokenizerError(f"the tokenizer in {folder} cannot be read ({' '.join(str(error).split())}); copy or make it again") from error
    if not isinstance(config, dict):
        raise TokenizerError(f"expected settings in {folder / CONFIG_FILE}, found {type(config).__name__}; copy or make it again")
    tokenizer = tokenizer_from_state({"config": config, "tensors": tensors})
    tokenizer.folder = folder
    return tokenizer


def _build_convnext(config: dict[str, Any]) -> Tokenizer:
    return ConvNeXtCodec(ConvNeXtCodecConfig(**config))


def _build_soundstream(config: dict[str, Any]) -> Tokenizer:
    return SoundStream(SoundStreamConfig(**config))


def _build_mfcc(config: dict[str, Any]) -> Tokenizer:
    return MfccKMeans(MfccConfig(**config))


_BUILDERS: dict[str, Callable[[dict[str, Any]], Tokenizer]] = {
    "convnext": _build_convnext,
    "soundstream": _build_soundstream,
    "mfcc-kmeans": _build_mfcc,
    "encodec": build_encodec,
    "dac": build_dac,
    "mimi": build_mimi,
    "hubert": build_hubert,
    "code-units": build_code_units,
    "pretrained-units": build_pretrained_units,
}

_CODECS: dict[str, Callable[[str, Path | None], Tokenizer]] = {
    "encodec-24khz": load_encodec,
    "encodec-32khz": load_encodec,
    "dac-16khz": load_dac,
    "dac-24khz": load_dac,
    "dac-44khz": load_dac,
    "mimi": load_mimi,
}
