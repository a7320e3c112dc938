"""Random models of the released architectures, few channels wide, in the formats in which they are released."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import DacConfig, DacModel, MimiConfig, MimiModel

from valle.tokenizers.base import AcousticTokenizer

DAC_RATES = {"dac-16khz": (16000, [2, 4, 5, 8], 12), "dac-24khz": (24000, [2, 4, 5, 8], 32), "dac-44khz": (44100, [2, 4, 8, 8], 9)}


def tiny_dac(name: str = "dac-16khz", *, seed: int = 0, **changes: object) -> DacModel:
    """Of the released strides and number of codebooks."""
    torch.manual_seed(seed)
    rate, ratios, levels = DAC_RATES[name]
    sizes = {"encoder_hidden_size": 4, "decoder_hidden_size": 32, "codebook_dim": 4, "codebook_size": 32}
    config = {**sizes, "sampling_rate": rate, "downsampling_ratios": ratios, "n_codebooks": levels, **changes}
    model = DacModel(DacConfig(**config)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn_like(weight) * (0.6 if weight.dim() > 1 else 0.1))
        for part in model.modules():
            if hasattr(part, "alpha"):
                part.alpha.copy_(1 + 0.2 * torch.rand_like(part.alpha))
            if isinstance(part, torch.nn.Conv1d | torch.nn.ConvTranspose1d):
                part.weight.div_(part.weight[0].numel() ** 0.5)
    return model


def tiny_mimi(*, seed: int = 0, **changes: object) -> MimiModel:
    """Of the released strides and number of codebooks; its transformers have two layers that look back four steps."""
    torch.manual_seed(seed)
    sizes = {
        "num_filters": 2, "hidden_size": 16, "codebook_dim": 8, "vector_quantization_hidden_dimension": 8, "codebook_size": 32,
        "upsample_groups": 16, "num_hidden_layers": 2, "intermediate_size": 16, "num_attention_heads": 2, "num_key_value_heads": 2,
        "head_dim": 8, "sliding_window": 4, "layer_scale_initial_scale": 0.5, "num_quantizers": 32, "upsampling_ratios": [8, 6, 5, 4],
        "frame_rate": 12.5,
    }  # fmt: skip
    model = MimiModel(MimiConfig(**{**sizes, **changes})).eval()
    with torch.no_grad():
        latent = model.encoder(torch.randn(1, 1, 1920 * 40)).latents
        for half in (model.quantizer.semantic_residual_vector_quantizer, model.quantizer.acoustic_residual_vector_quantizer):
            inner = half.input_proj(latent)[0]  # (D, T)
            centre, spread = inner.mean(1), inner.std(1)
            for level in half.layers:
                level.codebook.embed_sum.copy_(2 * (centre + spread * torch.randn_like(level.codebook.embed_sum)))
                level.codebook.cluster_usage.fill_(2.0)
                centre, spread = torch.zeros_like(centre), 0.7 * spread
    return model


ENCODER_TYPES = {  # of each released name: the class whose weights are released
    "hubert-base": "HubertModel",
    "hubert-large": "HubertModel",
    "wavlm-base-plus": "WavLMModel",
    "wavlm-large": "WavLMModel",
    "wav2vec2-base": "Wav2Vec2ForPreTraining",
    "wav2vec2-large": "Wav2Vec2ForPreTraining",
    "w2v-bert-2.0": "Wav2Vec2BertModel",
    "mert-95m": "HubertModel",
    "mert-330m": "HubertModel",
    "whisper-tiny.en": "WhisperForConditionalGeneration",
    "whisper-base": "WhisperForConditionalGeneration",
    "whisper-small": "WhisperForConditionalGeneration",
}
_LARGE = {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True}


def tiny_released_encoder(name: str, *, seed: int = 0, num_layers: int = 4, **changes: object) -> Any:
    """Of the released convolutions, norms and normalisation; with weights so large that every input shows."""
    torch.manual_seed(seed)
    sizes: dict[str, Any] = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32, "num_hidden_layers": num_layers}
    if name.startswith("whisper"):
        heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
        depths = {"encoder_layers": num_layers, "decoder_layers": 1}
        sizes = {**heads, **depths, "d_model": 16, "vocab_size": 60, "pad_token_id": 0, "init_std": 0.3}
    elif name == "w2v-bert-2.0":
        sizes |= {"conv_depthwise_kernel_size": 5}
    else:
        sizes |= {"conv_dim": [16] * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}
    if name.startswith("wav2vec2"):
        sizes |= {"num_codevectors_per_group": 4, "codevector_dim": 8, "proj_codevector_dim": 8}
    if name.endswith("large"):
        sizes |= _LARGE
    elif name == "mert-330m":
        sizes |= {"do_stable_layer_norm": True}
    model_class = getattr(transformers, ENCODER_TYPES[name])
    model = model_class(model_class.config_class(**{**sizes, **changes})).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.mul_(1.5).add_(0.05 * torch.randn_like(weight))
    return model


def base_model(model: Any) -> Any:
    """The encoder within a model with heads."""
    return getattr(model, model.base_model_prefix, model)


def write_released(name: str, model: Any, folder: Path, *, old: bool = False, **settings: object) -> Path:
    """As it is released: ``config.json``, ``preprocessor_config.json`` and weights, which ``old`` repositories have in another file."""
    model.save_pretrained(folder)
    bert = name == "w2v-bert-2.0"
    extractor = transformers.SeamlessM4TFeatureExtractor() if bert else transformers.Wav2Vec2FeatureExtractor(sampling_rate=rate_of(name))
    if name.startswith("whisper"):
        extractor = transformers.WhisperFeatureExtractor()
    extractor.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    if name.startswith("mert"):
        code = {"AutoModel": "modeling_MERT.MERTModel"}
        config |= {"model_type": "mert_model", "auto_map": code, "architectures": ["MERTModel"], "feature_extractor_cqt": False}
        (folder / "modeling_MERT.py").write_text("raise SystemExit('code that came with a model was run')\n")
    (folder / "config.json").write_text(json.dumps({**config, **settings}))
    if old:
        weights = {  # in the names of torch's older weight norm
            key.replace("parametrizations.weight.original0", "weight_g").replace("parametrizations.weight.original1", "weight_v"): value
            for key, value in model.state_dict().items()
        }
        torch.save(weights, folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
    return folder


def rate_of(name: str) -> int:
    return 24000 if name.startswith("mert") else 16000


class Payload:
    """What a pickle can do."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.path,))


def check_codes_in_a_padded_batch(codec: AcousticTokenizer, clips: Sequence[torch.Tensor]) -> None:
    """Codes and sound of each clip ``(1, T)`` alone are those that it has in a batch with the others, whatever stands in the padding."""
    hop = codec.hop_length
    lengths = torch.tensor([clip.shape[1] for clip in clips])
    batch = torch.full((len(clips), int(lengths.max()) + 50), 0.9)
    for row, clip in zip(batch, clips, strict=True):
        row[: clip.shape[1]] = clip
    codes, frames = codec.encode(batch, lengths)
    wav = codec.decode(codes, frames)
    for index, clip in enumerate(clips):
        alone, count = codec.encode(clip, lengths[index : index + 1])
        assert torch.equal(codes[index, : count[0]], alone[0])
        torch.testing.assert_close(wav[index, : count[0] * hop], codec.decode(alone, count)[0])
        assert not wav[index, count[0] * hop :].any()
