"""Units of released speech and music encoders: HuBERT, WavLM, wav2vec 2.0, w2v-BERT 2.0, MERT, Whisper (see ``clustered_units.py``).

One layer's states are clustered, layers above it are neither read nor computed, and encoder, layer, statistics and centroids
are saved together under one hash. Code that comes with a model (MERT's) is never run: its weights are HuBERT's.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass, field
from importlib import import_module
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.nn import functional

from valle.errors import UserError
from valle.tokenizers.clustered_units import ClusteredUnits, UnitsConfig
from valle.tokenizers.pretrained import (
    PretrainedError,
    architecture,
    check_grid,
    entry_of,
    load_model,
    read_json,
    released_folder,
    unreadable,
)
from valle.tokenizers.pretrained_front_ends import StackedFbank, WhisperMels, normalised

_WAVE = (
    "hidden_size", "num_attention_heads", "intermediate_size", "hidden_act", "layer_norm_eps", "feat_extract_norm",
    "feat_extract_activation", "conv_dim", "conv_stride", "conv_kernel", "conv_bias", "num_conv_pos_embeddings",
    "num_conv_pos_embedding_groups", "do_stable_layer_norm",
)  # fmt: skip


class _Family(NamedTuple):
    """Names of ``transformers``: the model, its configuration, the settings that its weights depend on, its depth and its width."""

    model: str
    config: str
    settings: tuple[str, ...]
    depth: str = "num_hidden_layers"
    width: str = "hidden_size"
    within: str = ""  # where released weights have the encoder, a pattern of the beginning of their names


_FAMILIES = {
    "hubert": _Family("HubertModel", "HubertConfig", (*_WAVE, "feat_proj_layer_norm", "conv_pos_batch_norm")),
    "wavlm": _Family("WavLMModel", "WavLMConfig", (*_WAVE, "num_buckets", "max_bucket_distance")),
    "wav2vec2": _Family("Wav2Vec2Model", "Wav2Vec2Config", _WAVE),
    "wav2vec2-bert": _Family(
        "Wav2Vec2BertModel", "Wav2Vec2BertConfig",
        ("hidden_size", "num_attention_heads", "intermediate_size", "feature_projection_input_dim", "hidden_act", "layer_norm_eps",
         "position_embeddings_type", "rotary_embedding_base", "max_source_positions", "left_max_position_embeddings",
         "right_max_position_embeddings", "conv_depthwise_kernel_size"),
    ),
    "whisper": _Family(
        "models.whisper.modeling_whisper.WhisperEncoder", "WhisperConfig",
        ("d_model", "encoder_attention_heads", "encoder_ffn_dim", "num_mel_bins", "activation_function", "max_source_positions",
         "scale_embedding"), depth="encoder_layers", width="d_model", within=r"^(model\.)?encoder\.",
    ),
}  # fmt: skip
_SAME_WEIGHTS = {"mert_model": "hubert"}  # another program's name for the same tensors
_OTHERWISE = {"feature_extractor_cqt": "a constant-Q transform", "deepnorm": "DeepNorm"}  # what MERT may have and HuBERT has not

# What a released model's config.json calls itself.
ENCODERS = {
    "hubert-base": "hubert",
    "hubert-large": "hubert",
    "wavlm-base-plus": "wavlm",
    "wavlm-large": "wavlm",
    "wav2vec2-base": "wav2vec2",
    "wav2vec2-large": "wav2vec2",
    "w2v-bert-2.0": "wav2vec2-bert",
    "mert-95m": "mert_model",
    "mert-330m": "mert_model",
    "whisper-tiny.en": "whisper",
    "whisper-base": "whisper",
    "whisper-small": "whisper",
}


@dataclass(frozen=True)
class PretrainedUnitsConfig(UnitsConfig):
    """``layer`` counts from 1; ``normalise`` is whether the released feature extractor normalises the waveform."""

    name: str = "hubert-base"
    family: str = "hubert"
    layer: int = 1
    sample_rate: int = 16000
    normalise: bool = True
    settings: dict[str, Any] = field(default_factory=dict)


class PretrainedUnits(ClusteredUnits):
    """A released encoder up to one layer; ``T_u = ceil(samples / hop_length)``.

    A frame hears its own samples and a few more, as in the released model, which gives one frame less, for want of those
    few at the end; here silence stands for them.
    """

    batch_seconds = 15.0  # the first convolution of these models makes 6.5 MB of a second, several times

    def __init__(self, config: PretrainedUnitsConfig, encoder: Any = None) -> None:
        if encoder is None:
            encoder = _model_class(config.family)(_truncated(config))
        bands: StackedFbank | WhisperMels | None = None
        if config.family == "wav2vec2-bert":
            bands = StackedFbank()
        elif config.family == "whisper":
            bands = WhisperMels(config.settings["num_mel_bins"])
        kernels, strides = config.settings.get("conv_kernel", ()), config.settings.get("conv_stride", ())
        hop = prod(strides) if bands is None else bands.stack * bands.frame_hop
        self.overhang = _receptive_field(kernels, strides) - hop if bands is None else bands.overhang
        super().__init__(config, sample_rate=config.sample_rate, frame_hop=hop, dim=config.settings[_FAMILIES[config.family].width])
        self.settings = config
        self.bands = bands
        self.encoder = encoder
        if config.settings.get("do_stable_layer_norm"):
            self.encoder.encoder.layer_norm = nn.Identity()  # the states are taken before the last norm
        elif config.family == "whisper":
            self.encoder.layer_norm = nn.Identity()

    def config(self) -> dict[str, Any]:
        return {"type": "pretrained-units", **asdict(self.settings)}

    def states(self, pieces: Tensor, sizes: Tensor, heard: Tensor) -> Tensor:
        """Pieces of one size go together, for no norm or attention of these models knows of padding (HuBERT base: its group norm)."""
        alike: dict[tuple[int, int], list[int]] = defaultdict(list)
        for row, key in enumerate(zip(sizes.tolist(), heard.tolist(), strict=True)):
            alike[key].append(row)
        frame_hop = self.hop_length // self.frames_per_unit
        states = pieces.new_zeros(len(pieces), (pieces.shape[1] - self.overhang) // frame_hop, len(self.mean))
        for (size, audio), rows in alike.items():
            found = self._states_alike(pieces[rows, :size], audio)
            states[rows, : found.shape[1]] = found.to(states.dtype)
        return states

    def _states_alike(self, wav: Tensor, heard: int) -> Tensor:
        if isinstance(self.bands, WhisperMels):
            return whisper_states(self.encoder, self.bands(wav, heard))
        if self.bands is not None:
            return self.encoder(self.bands(wav, heard)).last_hidden_state
        return self.encoder(normalised(wav, heard) if self.settings.normalise else wav).last_hidden_state


def load_encoder(
    release: str, path: Path | None, *, layer: int, num_units: int, label: str = "", frames_per_unit: int = 1,
    window: int = UnitsConfig.window, left: int = UnitsConfig.left, right: int = UnitsConfig.right, normalise: bool | None = None,
) -> PretrainedUnits:  # fmt: skip
    """The released encoder up to ``layer`` (from 1), from a hub's cache or network or the folder ``path``; not yet fitted.

    ``label`` is the tokenizer's name, made of the release, the layer and the number of units if not given.  ``normalise`` is
    whether the waveform is, if not as the released feature extractor says.
    """
    folder = released_folder(release, path)
    released, extractor = read_json(folder / "config.json"), read_json(folder / "preprocessor_config.json")
    family = _family(release, released, folder)
    depth = released.get(_FAMILIES[family].depth, 0)
    if not 1 <= layer <= depth:
        raise UserError(f"expected a layer of {release} within 1..{depth}, found {layer}")
    try:
        config = PretrainedUnitsConfig(
            name=label or f"{release}-layer{layer}-{num_units}", family=family, layer=layer, num_units=num_units,
            frames_per_unit=frames_per_unit, window=window, left=left, right=right,
            sample_rate=extractor.get("sampling_rate", entry_of(release).sample_rate),
            normalise=bool(extractor.get("do_normalize", True)) if normalise is None else normalise, settings=_settings(family, released),
        )  # fmt: skip
        truncated = _truncated(config)
    except unreadable() as error:
        raise PretrainedError(
            f"expected settings of {release} in {folder}/config.json, found others ({type(error).__name__}); get it again"
        ) from error
    encoder = load_model(_model_class(family), release, folder, config=truncated, within=_FAMILIES[family].within)
    tokenizer = PretrainedUnits(config, encoder).eval().requires_grad_(False)
    check_grid(release, path, sample_rate=tokenizer.sample_rate, hop_length=tokenizer.hop_length // frames_per_unit)
    return tokenizer


def build_pretrained_units(config: dict[str, Any]) -> PretrainedUnits:
    """An untrained encoder of the saved architecture, for weights to be loaded into."""
    return PretrainedUnits(PretrainedUnitsConfig(**config))


def _family(release: str, released: dict[str, Any], folder: Path) -> str:
    kind, expected = released.get("model_type"), ENCODERS[release]
    if kind != expected:
        raise PretrainedError(f"expected {release}, a model of type {expected}, in {folder}, found the type {kind!r}; is it another model?")
    for flag, words in _OTHERWISE.items():
        if released.get(flag):
            raise PretrainedError(f"expected the parts of HuBERT in {folder}, found {words} too ({flag}); use mert-95m or mert-330m")
    return _SAME_WEIGHTS.get(kind, kind)


def _settings(family: str, released: dict[str, Any]) -> dict[str, Any]:
    names = _FAMILIES[family].settings
    return architecture(_config_class(family)(**{name: released[name] for name in names if name in released}), names)


def _truncated(config: PretrainedUnitsConfig) -> Any:
    """The configuration of the model's first layers, without the parts that only training has."""
    return _config_class(config.family)(
        **config.settings,
        **{_FAMILIES[config.family].depth: config.layer},
        mask_time_prob=0.0,
        mask_feature_prob=0.0,
        apply_spec_augment=False,
        layerdrop=0.0,
    )


def whisper_states(encoder: Any, mels: Tensor) -> Tensor:
    """States ``(B, T, D)`` of ``mels (B, 2 T, num_mels)``: of what is there alone, where the released model fills 30 s with silence."""
    x = functional.gelu(encoder.conv1(mels.transpose(1, 2)))
    x = functional.gelu(encoder.conv2(x)).transpose(1, 2)
    x = x + encoder.embed_positions.weight[: x.shape[1]]
    for layer in encoder.layers:
        x = layer(x, None)
    states: Tensor = encoder.layer_norm(x)
    return states


def _model_class(family: str) -> Any:
    import transformers

    if family not in _FAMILIES:
        raise ValueError(f"the family {family!r}")
    module, _, name = _FAMILIES[family].model.rpartition(".")
    return getattr(import_module(f"transformers.{module}") if module else transformers, name)


def _config_class(family: str) -> Any:
    import transformers

    return getattr(transformers, _FAMILIES[family].config)


def _receptive_field(kernels: list[int], strides: list[int]) -> int:
    """Samples that a frame hears."""
    samples = 1
    for kernel, stride in zip(reversed(kernels), reversed(strides), strict=True):
        samples = (samples - 1) * stride + kernel
    return samples
