"""EnCodec (Defossez et al. 2022), 24 kHz and the 32 kHz model of MusicGen, behind the acoustic protocol.

Weights come from a hub's name, a local folder in ``transformers``' format, or the original package's ``.th`` file.
The 48 kHz model speaks another protocol (stereo, scaled, in chunks) and is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from valle.timeline import ceil_division
from valle.tokenizers.pretrained import PretrainedError, architecture, check_grid, entry_of, load_model, read_tensors
from valle.tokenizers.pretrained_codec import PretrainedCodec, decoder_reach, encoder_reach

WHOLE_CLIP = 2**31 - 1  # the encoder's LSTM remembers without bound
WINDOW_SECONDS = 10.0


class Encodec(PretrainedCodec):
    """One ``transformers`` EnCodec model, a clip at a time, in windows between which its LSTMs keep their state.

    The model's convolutions pad by reflection at the right end, so that in a padded batch a clip's last frames would
    depend on its mates.
    """

    encodes_in_windows = True

    def __init__(self, model: nn.Module, *, name: str, num_codebooks: int) -> None:
        config: Any = model.config
        if config.audio_channels != 1 or config.normalize or config.chunk_length_s is not None:
            raise PretrainedError(
                f"{name} is stereo, scaled or chunked (as EnCodec at 48 kHz), which this protocol does not carry; "
                "use encodec-24khz or encodec-32khz"
            )
        super().__init__(
            model, name=name, sample_rate=config.sampling_rate, hop_length=int(torch.tensor(config.upsampling_ratios).prod()),
            codebook_size=config.codebook_size, num_codebooks=num_codebooks,
        )  # fmt: skip
        self.left_context = WHOLE_CLIP
        # The causal model pads by reflection at the left, so a clip's first 6 frames look up to 6 frames ahead; no later one does.
        self.right_context = 0 if config.use_causal_conv else _lookahead(config)
        self.lstm_window = int(WINDOW_SECONDS * self.sample_rate / self.hop_length)  # frames
        # Frames to a side that a step of the LSTM hears, and that what follows hears of the LSTM.
        self.frames_of_encoder = ceil_division(encoder_reach(config), self.hop_length), config.last_kernel_size
        self.frames_of_decoder = config.kernel_size, decoder_reach(config)

    def config(self) -> dict[str, Any]:
        settings = architecture(self.model.config, _ARCHITECTURE)
        return {"type": "encodec", "name": self.name, "num_codebooks": self.num_codebooks, "settings": settings}

    def codebook_vectors(self) -> Tensor:
        return torch.stack([layer.codebook.embed for layer in list(self.model.quantizer.layers)[: self.num_codebooks]])

    def _encode(self, clip: Tensor) -> Tensor:
        latents = self._through_lstm(self.model.encoder.layers, clip, step=(self.hop_length, 1), reaches=self.frames_of_encoder)
        return torch.cat([self._quantize(latent) for latent in latents], 1)

    def _quantize(self, residual: Tensor) -> Tensor:
        """``residual (1, D, T)`` -> codes ``(Q, T)``."""
        codes = []
        for layer in list(self.model.quantizer.layers)[: self.num_codebooks]:
            chosen = layer.encode(residual)
            residual = residual - layer.decode(chosen)
            codes.append(chosen[0])
        return torch.stack(codes)

    def _decode(self, codes: Tensor) -> Iterator[Tensor]:
        vectors = self.model.quantizer.decode(codes[:, None])  # (1, D, T_f)
        sound = self._through_lstm(self.model.decoder.layers, vectors, step=(1, self.hop_length), reaches=self.frames_of_decoder)
        for piece in sound:
            yield piece[0, 0]

    def _through_lstm(self, layers: Sequence[Any], x: Tensor, *, step: tuple[int, int], reaches: tuple[int, int]) -> Iterator[Tensor]:
        """``layers``, an LSTM among them, over ``x (1, C, T_f * step[0])`` -> pieces of ``(1, C', T_f * step[1])``, just as of all at once.

        ``reaches`` are the frames to a side that convolutions before and after the LSTM hear.  What comes after a window
        is heard by its last frames where the model is not causal, and then leaves no trace in the state.
        """
        place = next(index for index, layer in enumerate(layers) if hasattr(layer, "lstm"))
        lstm, count = layers[place].lstm, x.shape[2] // step[0]
        before, after = reaches
        ahead = 0 if self.right_context == 0 else after
        state, heard = None, None  # of the LSTM, and its last outputs
        for first in range(0, count, self.lstm_window):
            last = min(count, first + self.lstm_window)
            beyond = min(count, last + ahead)
            start, stop = max(0, first - before), min(count, beyond + (before if ahead else 0))
            local = _run(layers[:place], x[..., start * step[0] : stop * step[0]])[..., first - start : beyond - start]
            sequence = local.permute(2, 0, 1)  # (T, 1, C)
            now, state = lstm(sequence[: last - first], state)
            outputs = [now, lstm(sequence[last - first :], state)[0]] if beyond > last else [now]
            remembered = (torch.cat(outputs) + sequence).permute(1, 2, 0)
            known = remembered if heard is None else torch.cat([heard, remembered], -1)
            skipped = known.shape[2] - remembered.shape[2]
            end = skipped + last - first
            yield _run(layers[place + 1 :], known)[..., skipped * step[1] : end * step[1]]
            heard = known[..., max(0, end - after) : end]


def load_encodec(name: str, path: Path | None) -> Encodec:
    """The published model ``name`` from a hub's cache or network, or from ``path``: a folder, or the package's ``.th`` file."""
    from transformers import EncodecModel

    entry = entry_of(name)
    model = _from_package_file(name, path) if path is not None and path.is_file() else load_model(EncodecModel, name, path)
    if entry.num_codebooks > len(model.quantizer.layers):
        raise PretrainedError(
            f"expected at least {entry.num_codebooks} codebooks in {name}, found {len(model.quantizer.layers)}; is it another model?"
        )
    codec = Encodec(model, name=name, num_codebooks=entry.num_codebooks).eval().requires_grad_(False)
    check_grid(name, path, sample_rate=codec.sample_rate, hop_length=codec.hop_length)
    return codec


def build_encodec(config: dict[str, Any]) -> Encodec:
    """An untrained model of the saved architecture, for weights to be loaded into."""
    from transformers import EncodecConfig, EncodecModel

    model = EncodecModel(EncodecConfig(**config["settings"]))
    return Encodec(model, name=config["name"], num_codebooks=config["num_codebooks"])


def _from_package_file(name: str, path: Path) -> Any:
    """The weights alone are read, so the package itself is not needed."""
    from transformers import EncodecConfig, EncodecModel

    if name != "encodec-24khz":
        raise PretrainedError(f"the package encodec holds no {name}; use a folder in transformers' format: {name}=FOLDER")
    model = EncodecModel(EncodecConfig())
    model.load_state_dict(rename_package_weights(read_tensors(path, "encodec"), model.state_dict()))
    return model


def rename_package_weights(weights: Any, wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    """The package's weights under the names of ``transformers``; raises ``PretrainedError`` unless they are just the ``wanted``."""
    renamed = {}
    for key, tensor in weights.items() if isinstance(weights, dict) else ():
        for theirs, ours in _PACKAGE_NAMES:
            key = str(key).replace(theirs, ours)
        renamed[key] = tensor
    odd = [key for key in sorted({*renamed, *wanted}) if getattr(renamed.get(key), "shape", None) != getattr(wanted.get(key), "shape", 0)]
    if odd:
        raise PretrainedError(
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


def _run(layers: Sequence[Any], x: Tensor) -> Tensor:
    for layer in layers:
        x = layer(x)
    return x


def _lookahead(config: Any) -> int:
    """Samples to the right of a frame that its convolutions reach: half of each kernel, at the rate where it runs."""
    reach, step = config.kernel_size // 2, 1
    for ratio in reversed(config.upsampling_ratios):
        for layer in range(config.num_residual_layers):
            reach += step * (config.residual_kernel_size // 2) * config.dilation_growth_rate**layer
        reach += step * (ratio // 2)  # of a kernel of twice the ratio, half of what exceeds a step
        step *= ratio
    return reach + step * (config.last_kernel_size // 2)
