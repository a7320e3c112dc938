"""Random models of the released architectures, few channels wide, in the formats in which they are released."""

from __future__ import annotations

import torch
from transformers import DacConfig, DacModel, MimiConfig, MimiModel

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
