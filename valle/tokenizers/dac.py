"""DAC (Kumar et al. 2023) at 16, 24 and 44.1 kHz behind the acoustic protocol; the first has AudioLM's own layout, 50 Hz x 12 x 1024.

Weights come from a hub's name, a local folder in ``transformers``' format, or the original package's ``weights_*.pth`` file.
The model is convolutions alone, so a code depends on a stated stretch of audio and long clips are encoded in windows.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from valle.timeline import ceil_division
from valle.tokenizers.pretrained import PretrainedError, architecture, check_grid, entry_of, load_model, read_tensors
from valle.tokenizers.pretrained_codec import PretrainedCodec

WINDOW_SECONDS = 10.0
RESIDUAL_REACH = 3 * (1 + 3 + 9)  # steps on each side: three convolutions of 7 taps, 1, 3 and 9 apart


class Dac(PretrainedCodec):
    """One ``transformers`` DAC model."""

    encodes_in_windows = True

    def __init__(self, model: nn.Module, *, name: str, num_codebooks: int) -> None:
        config: Any = model.config
        super().__init__(
            model, name=name, sample_rate=config.sampling_rate, hop_length=prod(config.downsampling_ratios),
            codebook_size=config.codebook_size, num_codebooks=num_codebooks,
        )  # fmt: skip
        self.left_context, self.right_context = _reach(config.downsampling_ratios)
        self.sound_reach = _sound_reach(config.upsampling_ratios)
        self.window = int(WINDOW_SECONDS * self.sample_rate / self.hop_length)
        for block in self.model.decoder.block:
            # An odd stride leaves a sample to be wished for at the end, 8 in all at 16 and 24 kHz; this appends it.
            block.conv_t1.output_padding = (block.conv_t1.stride[0] % 2,)

    def config(self) -> dict[str, Any]:
        settings = architecture(self.model.config, _ARCHITECTURE)
        return {"type": "dac", "name": self.name, "num_codebooks": self.num_codebooks, "settings": settings}

    @torch.no_grad()
    def codebook_vectors(self) -> Tensor:
        """A level's vectors after its projection, ``(Q, K, D)``: what is summed over levels into the decoder's input."""
        levels = list(self.model.quantizer.quantizers)[: self.num_codebooks]
        return torch.stack([level.out_proj(level.codebook.weight.T[None])[0].T for level in levels])

    def _encode(self, clip: Tensor) -> Tensor:
        return self.model.quantizer(self.model.encoder(clip), self.num_codebooks)[1][0]

    def _decode(self, codes: Tensor) -> Iterator[Tensor]:
        yield self.model.decoder(self.model.quantizer.from_codes(codes[None])[0])[0, 0]


def load_dac(name: str, path: Path | None) -> Dac:
    """The published model ``name`` from a hub's cache or network, or from ``path``: a folder, or the package's ``.pth`` file."""
    from transformers import DacModel

    entry = entry_of(name)
    model = _from_package_file(name, path) if path is not None and path.is_file() else load_model(DacModel, name, path)
    if entry.num_codebooks != model.config.n_codebooks:
        raise PretrainedError(f"expected {entry.num_codebooks} codebooks in {name}, found {model.config.n_codebooks}; is it another model?")
    codec = Dac(model, name=name, num_codebooks=entry.num_codebooks).eval().requires_grad_(False)
    check_grid(name, path, sample_rate=codec.sample_rate, hop_length=codec.hop_length)
    return codec


def build_dac(config: dict[str, Any]) -> Dac:
    """An untrained model of the saved architecture, for weights to be loaded into."""
    from transformers import DacConfig, DacModel

    return Dac(DacModel(DacConfig(**config["settings"])), name=config["name"], num_codebooks=config["num_codebooks"])


def _from_package_file(name: str, path: Path) -> Any:
    """The file's own settings and weights are read, so the package itself is not needed."""
    from transformers import DacConfig, DacModel

    state = read_tensors(path, "descript-audio-codec")
    try:
        settings, weights = dict(state["metadata"]["kwargs"]), dict(state["state_dict"])
        config = DacConfig(**{ours: settings[theirs] for theirs, ours in _PACKAGE_SETTINGS.items()})
        model = DacModel(config)
    except (KeyError, TypeError, ValueError) as error:
        raise PretrainedError(
            f"expected settings and weights in {path}, as the package descript-audio-codec writes them, found others; get it again"
        ) from error
    model.load_state_dict(rename_package_weights(weights, model.state_dict(), name))
    return model


def rename_package_weights(weights: dict[str, Tensor], wanted: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """Weights of the package's model under the names of ``transformers``, each ``weight_g`` and ``weight_v`` made one.

    Raises ``PretrainedError`` unless they are just the ``wanted``.
    """
    renamed = {}
    for key in wanted:
        theirs = _package_name(key)
        magnitude, direction = weights.get(f"{theirs}_g"), weights.get(f"{theirs}_v")
        if magnitude is not None and direction is not None:  # weight norm, over all but the first dimension
            renamed[key] = magnitude * direction / torch.linalg.vector_norm(direction, dim=(1, 2), keepdim=True)
        elif theirs in weights:
            renamed[key] = weights[theirs]
    odd = [key for key in sorted(wanted) if getattr(renamed.get(key), "shape", None) != wanted[key].shape]
    if odd:
        raise PretrainedError(
            f"expected the {len(wanted)} tensors of {name}, found no {_package_name(odd[0])} that fits; is it another model?"
        )
    return renamed


def _package_name(key: str) -> str:
    """``encoder.block.0.res_unit1.snake1.alpha`` -> ``encoder.block.1.block.0.block.0.alpha``."""
    part, *rest = key.split(".")
    if part == "quantizer":
        return key
    stem = f"{part}.{'block' if part == 'encoder' else 'model'}"
    blocks, inner = _PLACES[part]
    if rest[0] != "block":
        return ".".join([stem, str(blocks[rest[0]]), *rest[1:]])
    words = [stem, str(int(rest[1]) + 1), "block", str(inner[rest[2]])]
    if rest[2].startswith("res_unit"):
        words += ["block", str(_RESIDUAL_PLACES[rest[3]]), *rest[4:]]
    else:
        words += rest[3:]
    return ".".join(words)


_RESIDUAL_PLACES = {"snake1": 0, "conv1": 1, "snake2": 2, "conv2": 3}
_PLACES: dict[str, tuple[dict[str, int], dict[str, int]]] = {
    "encoder": ({"conv1": 0, "snake1": 5, "conv2": 6}, {"res_unit1": 0, "res_unit2": 1, "res_unit3": 2, "snake1": 3, "conv1": 4}),
    "decoder": ({"conv1": 0, "snake1": 5, "conv2": 6}, {"snake1": 0, "conv_t1": 1, "res_unit1": 2, "res_unit2": 3, "res_unit3": 4}),
}
_PACKAGE_SETTINGS = {
    "encoder_dim": "encoder_hidden_size", "encoder_rates": "downsampling_ratios", "decoder_dim": "decoder_hidden_size",
    "n_codebooks": "n_codebooks", "codebook_size": "codebook_size", "codebook_dim": "codebook_dim", "sample_rate": "sampling_rate",
}  # fmt: skip
_ARCHITECTURE = (
    "encoder_hidden_size", "downsampling_ratios", "decoder_hidden_size", "n_codebooks", "codebook_size", "codebook_dim", "sampling_rate",
)  # fmt: skip


def _reach(ratios: list[int]) -> tuple[int, int]:
    """Samples before and after a frame's own on which its code depends."""
    left = right = 3  # of the first convolution's 7 taps
    step = 1
    for ratio in ratios:
        left += step * (RESIDUAL_REACH + (ratio + 1) // 2)
        right += step * (RESIDUAL_REACH + ratio // 2)
        step *= ratio
    return left + step, right + step


def _sound_reach(ratios: list[int]) -> int:
    """Frames on each side of a frame on which its sound depends, at most."""
    reach = 3  # samples
    for ratio in reversed(ratios):
        reach = ceil_division(reach + RESIDUAL_REACH, ratio) + 1
    return reach + 3
