"""EnCodec (Defossez et al. 2022), 24 kHz and the 32 kHz model of MusicGen, behind the acoustic protocol.

Weights come from a hub's name, a local folder in ``transformers``' format, or the original package's ``.th`` file.
The 48 kHz model speaks another protocol (stereo, scaled, in chunks) and is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional as F

from valle.errors import UserError
from valle.tokenizers.base import AcousticTokenizer, padding_mask

WHOLE_CLIP = 2**31 - 1  # the encoder's LSTM remembers without bound


class EncodecError(UserError):
    """EnCodec weights that cannot be had or used."""


@dataclass(frozen=True)
class EncodecRelease:
    """A published model: where it is, and how many of its codebooks VALL-E and MusicGen use."""

    hub: str
    num_codebooks: int


PRETRAINED_ENCODEC = {
    "encodec-24khz": EncodecRelease(hub="facebook/encodec_24khz", num_codebooks=8),
    "encodec-32khz": EncodecRelease(hub="facebook/encodec_32khz", num_codebooks=4),
}


class Encodec(AcousticTokenizer):
    """One ``transformers`` EnCodec model; ``T_f = ceil(samples / hop_length)``.

    Clips are encoded one by one: the model's convolutions pad by reflection at the right end, so that in a padded
    batch a clip's last frames would depend on its mates.
    """

    def __init__(self, model: nn.Module, *, name: str, num_codebooks: int) -> None:
        super().__init__()
        config: Any = model.config
        if config.audio_channels != 1 or config.normalize or config.chunk_length_s is not None:
            raise EncodecError(
                f"{name} is stereo, scaled or chunked (as EnCodec at 48 kHz), which this protocol does not carry; "
                "use encodec-24khz or encodec-32khz"
            )
        self.model: Any = model
        self.name = name
        self.sample_rate = config.sampling_rate
        self.hop_length = int(torch.tensor(config.upsampling_ratios).prod())
        self.codebook_size = config.codebook_size
        self.num_codebooks = num_codebooks
        self.left_context = WHOLE_CLIP
        # The causal model pads by reflection at the left, so a clip's first 6 frames look up to 6 frames ahead; no later one does.
        self.right_context = 0 if config.use_causal_conv else _lookahead(config)

    def config(self) -> dict[str, Any]:
        settings = {key: getattr(self.model.config, key) for key in _ARCHITECTURE}
        return {"type": "encodec", "name": self.name, "num_codebooks": self.num_codebooks, "settings": _plain(settings)}

    def codebook_vectors(self) -> Tensor:
        return torch.stack([layer.codebook.embed for layer in list(self.model.quantizer.layers)[: self.num_codebooks]])

    @torch.no_grad()
    def encode(self, wav: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        frames = torch.div(lengths + self.hop_length - 1, self.hop_length, rounding_mode="floor")
        codes = wav.new_zeros(len(wav), int(frames.max()), self.num_codebooks, dtype=torch.int64)
        for row, (length, count) in enumerate(zip(lengths.tolist(), frames.tolist(), strict=True)):
            clip = F.pad(wav[row, :length], (0, count * self.hop_length - length))
            latent = self.model.encoder(clip[None, None])  # (1, D, T_f)
            chosen = self._levels(latent)  # (Q, 1, T_f)
            codes[row, :count] = chosen[: self.num_codebooks, 0, :count].T
        return codes, frames

    @torch.no_grad()
    def decode(self, codes: Tensor, lengths: Tensor) -> Tensor:
        wav = codes.new_zeros(len(codes), codes.shape[1] * self.hop_length, dtype=torch.float32)
        for row, count in enumerate(lengths.tolist()):
            vectors = self.model.quantizer.decode(codes[row, :count].T[:, None])  # (1, D, T_f)
            audio = self.model.decoder(vectors)[0, 0]
            wav[row, : count * self.hop_length] = audio[: count * self.hop_length]
        return wav * padding_mask(lengths * self.hop_length, wav.shape[1])

    def _levels(self, latent: Tensor) -> Tensor:
        residual, codes = latent, []
        for layer in list(self.model.quantizer.layers)[: self.num_codebooks]:
            chosen = layer.encode(residual)
            residual = residual - layer.decode(chosen)
            codes.append(chosen)
        return torch.stack(codes)


def load_encodec(name: str, path: Path | None) -> Encodec:
    """The published model ``name`` from a hub's cache or network, or from ``path``: a folder, or the package's ``.th`` file."""
    release = PRETRAINED_ENCODEC[name]
    if path is not None and not path.exists():
        raise EncodecError(
            f"expected the weights of {name} in {path}, found nothing there; name a folder with config.json and model.safetensors"
        )
    model = _from_package_file(name, path) if path is not None and path.is_file() else _from_pretrained(name, path, release)
    if release.num_codebooks > len(model.quantizer.layers):
        raise EncodecError(
            f"expected at least {release.num_codebooks} codebooks in {name}, found {len(model.quantizer.layers)}; is it another model?"
        )
    return Encodec(model, name=name, num_codebooks=release.num_codebooks).eval().requires_grad_(False)


def build_encodec(config: dict[str, Any]) -> Encodec:
    """An untrained model of the saved architecture, for weights to be loaded into."""
    from transformers import EncodecConfig, EncodecModel

    model = EncodecModel(EncodecConfig(**config["settings"]))
    return Encodec(model, name=config["name"], num_codebooks=config["num_codebooks"])


def _from_pretrained(name: str, path: Path | None, release: EncodecRelease) -> Any:
    from transformers import EncodecModel

    try:
        loaded: Any = EncodecModel.from_pretrained(str(path or release.hub), use_safetensors=True, output_loading_info=True)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        where = f"in {path}" if path else f"from the hub ({release.hub})"
        raise EncodecError(
            f"expected the weights of {name} {where}, found none that can be read; put config.json and model.safetensors of {release.hub} "
            f"into a folder and name it: {name}=FOLDER ({type(error).__name__})"
        ) from error
    model, found = loaded
    lacking = sorted(found["missing_keys"])
    if lacking:  # which transformers fills with random numbers
        raise EncodecError(f"expected all weights of {name} in {path or release.hub}, found no {lacking[0]}; is it another model?")
    return model


def _from_package_file(name: str, path: Path) -> Any:
    """The weights alone are read, so the package itself is not needed."""
    from transformers import EncodecConfig, EncodecModel

    if name != "encodec-24khz":
        raise EncodecError(f"the package encodec holds no {name}; use a folder in transformers' format: {name}=FOLDER")
    try:
        weights = torch.load(path, weights_only=True, map_location="cpu")
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, UnpicklingError) as error:
        raise EncodecError(
            f"expected {path} to be a file of weights alone, as the package encodec has them, found what cannot be read as such "
            f"({type(error).__name__}); get it anew"
        ) from error
    model = EncodecModel(EncodecConfig())
    model.load_state_dict(rename_package_weights(weights, model.state_dict()))
    return model


def rename_package_weights(weights: Any, wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of the package's model under the names of ``transformers``; raises ``EncodecError`` unless they are just the ``wanted``."""
    renamed = {}
    for key, tensor in weights.items() if isinstance(weights, dict) else ():
        for theirs, ours in _PACKAGE_NAMES:
            key = str(key).replace(theirs, ours)
        renamed[key] = tensor
    odd = [key for key in sorted({*renamed, *wanted}) if getattr(renamed.get(key), "shape", None) != getattr(wanted.get(key), "shape", 0)]
    if odd:
        raise EncodecError(
            f"expected the {len(wanted)} tensors of EnCodec at 24 kHz, found {len(renamed)}, of which {odd[0]} does not fit; "
            "is it another model?"
        )
    return renamed


_PACKAGE_NAMES = (
    ("encoder.model.", "encoder.layers."), ("decoder.model.", "decoder.layers."), ("convtr.convtr.", "conv."), ("conv.conv.", "conv."),
    ("quantizer.vq.layers.", "quantizer.layers."), ("._codebook.", ".codebook."),
    ("weight_g", "parametrizations.weight.original0"), ("weight_v", "parametrizations.weight.original1"),
)  # fmt: skip

_ARCHITECTURE = (
    "target_bandwidths", "sampling_rate", "audio_channels", "normalize", "chunk_length_s", "overlap", "hidden_size", "num_filters",
    "num_residual_layers", "upsampling_ratios", "norm_type", "kernel_size", "last_kernel_size", "residual_kernel_size",
    "dilation_growth_rate", "use_causal_conv", "pad_mode", "compress", "num_lstm_layers", "trim_right_ratio", "codebook_size",
    "codebook_dim", "use_conv_shortcut",
)  # fmt: skip


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _lookahead(config: Any) -> int:
    """Samples to the right of a frame that its convolutions reach: half of each kernel, at the rate where it runs."""
    reach, step = config.kernel_size // 2, 1
    for ratio in reversed(config.upsampling_ratios):
        for layer in range(config.num_residual_layers):
            reach += step * (config.residual_kernel_size // 2) * config.dilation_growth_rate**layer
        reach += step * (ratio // 2)  # of a kernel of twice the ratio, half of what exceeds a step
        step *= ratio
    return reach + step * (config.last_kernel_size // 2)
