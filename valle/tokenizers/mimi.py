"""Mimi (Defossez et al. 2024, Moshi): 24 kHz, 12.5 Hz, 32 codebooks of 2048, of which the first is distilled from WavLM.

Weights come from a hub's name or a local folder in ``transformers``' format. The model is causal: a code depends on nothing
after its frame, and on the past as far as its transformer remembers (250 steps of 40 ms a layer), 80 s in all.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from valle.tokenizers.pretrained import PretrainedError, architecture, check_grid, entry_of, load_model
from valle.tokenizers.pretrained_codec import PretrainedCodec, decoder_reach, encoder_reach

DECODE_SECONDS = 10.0


class Mimi(PretrainedCodec):
    """One ``transformers`` Mimi model; streams go on from the caches that it keeps of convolutions and attention."""

    def __init__(self, model: nn.Module, *, name: str, num_codebooks: int) -> None:
        config: Any = model.config
        if config.audio_channels != 1 or not config.use_causal_conv or config.latent_stride != 2:
            raise PretrainedError(f"{name} is stereo, not causal or without its step of two, as no released Mimi is; use kyutai/mimi")
        super().__init__(
            model, name=name, sample_rate=config.sampling_rate, hop_length=2 * prod(config.upsampling_ratios),
            codebook_size=config.codebook_size, num_codebooks=num_codebooks,
        )  # fmt: skip
        self.left_context, self.right_context = _memory(config), 0
        self.decode_window = int(DECODE_SECONDS * self.sample_rate / self.hop_length)  # frames
        self.sound_steps = decoder_reach(config) + config.kernel_size  # of the transformer, before a step's own, on which its sound depends
        self.register_load_state_dict_post_hook(_forget_codebooks)

    def config(self) -> dict[str, Any]:
        settings = {**architecture(self.model.config, _ARCHITECTURE), "frame_rate": float(self.model.config.frame_rate)}
        return {"type": "mimi", "name": self.name, "num_codebooks": self.num_codebooks, "settings": settings}

    @torch.no_grad()
    def codebook_vectors(self) -> Tensor:
        """A level's vectors after its half's projection, ``(Q, K, D)``: what is summed over levels into the decoder's input."""
        vectors = []
        quantizer = self.model.quantizer
        for half in (quantizer.semantic_residual_vector_quantizer, quantizer.acoustic_residual_vector_quantizer):
            for level in half.layers:
                embed = level.codebook.embed
                vectors.append(embed if half.output_proj is None else half.output_proj(embed.T[None])[0].T)
        return torch.stack(vectors[: self.num_codebooks])

    def _encode(self, clip: Tensor) -> Tensor:
        return self.model.encode(clip, num_quantizers=self.num_codebooks).audio_codes[0]

    @torch.no_grad()
    def encode_piece(self, wav: Tensor, state: Any | None = None) -> tuple[Tensor, Any]:
        """The next ``wav (B, n * hop_length)`` of a stream -> codes ``(B, n, Q)`` and the state to go on from, which is used up by that."""
        if wav.shape[1] % self.hop_length:
            raise ValueError(f"expected whole frames of {self.hop_length} samples, found {wav.shape[1]}")
        attention, convolutions = state or (None, None)
        heard = self.model.encoder(wav[:, None], past_key_values=attention, padding_cache=convolutions, use_streaming=True)
        codes = self.model.quantizer.encode(heard.latents, self.num_codebooks)  # (Q, B, n)
        return codes.permute(1, 2, 0), (heard.past_key_values, heard.padding_cache)

    def _decode(self, codes: Tensor) -> Iterator[Tensor]:
        """A window at a time, just as all at once."""
        vectors = self.model.quantizer.decode(codes[None])  # (1, D, T_f)
        decoder, attention, heard = self.model.decoder, None, None
        for first in range(0, vectors.shape[2], self.decode_window):
            start = max(0, first - 1)  # a step hears the frame before its own
            steps = decoder.upsample(vectors[..., start : first + self.decode_window])[..., 2 * (first - start) :]
            known = decoder.decoder_transformer(steps.transpose(1, 2), past_key_values=attention, use_cache=True)
            attention, hidden = known.past_key_values, known.last_hidden_state.transpose(1, 2)
            before = hidden[..., :0] if heard is None else heard
            whole = torch.cat([before, hidden], -1)
            yield decoder.decoder_seanet(whole)[0, 0, before.shape[2] * self.hop_length // 2 :]
            heard = whole[..., -self.sound_steps :]

    def _apply(self, fn: Any, recurse: bool = True) -> Mimi:
        result = super()._apply(fn, recurse)
        _forget_codebooks(self)
        return result


def load_mimi(name: str, path: Path | None) -> Mimi:
    """The published model ``name`` from a hub's cache or network, or from the folder ``path``."""
    from transformers import MimiModel

    entry = entry_of(name)
    model = load_model(MimiModel, name, path)
    if entry.num_codebooks != model.config.num_quantizers:
        raise PretrainedError(
            f"expected {entry.num_codebooks} codebooks in {name}, found {model.config.num_quantizers}; is it another model?"
        )
    codec = Mimi(model, name=name, num_codebooks=entry.num_codebooks).eval().requires_grad_(False)
    check_grid(name, path, sample_rate=codec.sample_rate, hop_length=codec.hop_length)
    return codec


def build_mimi(config: dict[str, Any]) -> Mimi:
    """An untrained model of the saved architecture, for weights to be loaded into."""
    from transformers import MimiConfig, MimiModel

    return Mimi(MimiModel(MimiConfig(**config["settings"])), name=config["name"], num_codebooks=config["num_codebooks"])


def _forget_codebooks(module: nn.Module, *_: object) -> None:
    """The model keeps its codebooks' means from their first use; they are stale once its weights have changed or moved."""
    for part in module.modules():
        if hasattr(part, "embed_sum"):
            part._embed = None  # type: ignore[assignment]


def _memory(config: Any) -> int:
    """Samples before a frame's own on which its codes depend: convolutions, a window of attention a layer, the step of two."""
    steps = config.last_kernel_size - 1 + config.num_hidden_layers * (config.sliding_window - 1) + 2
    return encoder_reach(config) + prod(config.upsampling_ratios) * steps


_ARCHITECTURE = (
    "sampling_rate", "audio_channels", "hidden_size", "num_filters", "num_residual_layers", "upsampling_ratios", "kernel_size",
    "last_kernel_size", "residual_kernel_size", "dilation_growth_rate", "use_causal_conv", "pad_mode", "compress", "trim_right_ratio",
    "codebook_size", "codebook_dim", "num_quantizers", "use_conv_shortcut", "vector_quantization_hidden_dimension",
    "num_semantic_quantizers", "upsample_groups", "num_hidden_layers", "intermediate_size", "num_attention_heads",
    "num_key_value_heads", "head_dim", "hidden_act", "max_position_embeddings", "norm_eps", "rope_parameters", "sliding_window",
    "layer_scale_initial_scale", "attention_bias",
)  # fmt: skip
