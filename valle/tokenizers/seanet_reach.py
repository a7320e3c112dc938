"""How far the convolutions of a released SEANet hear (EnCodec and Mimi), from the configuration that ``transformers`` keeps of it.

Bounds to both sides together: of a causal model all of it lies in the past.
"""

from __future__ import annotations

from typing import Any


def residual_reach(config: Any) -> int:
    """Steps, at a block's own rate, beside a step's own that the residual units of the block hear."""
    return sum((config.residual_kernel_size - 1) * config.dilation_growth_rate**layer for layer in range(config.num_residual_layers))


def encoder_reach(config: Any) -> int:
    """Samples beside its own that a step hears after the strided blocks, before what follows them."""
    reach, step = config.kernel_size - 1, 1
    for ratio in reversed(config.upsampling_ratios):
        reach += step * (residual_reach(config) + ratio)  # a strided kernel of twice the ratio exceeds a step by the ratio
        step *= ratio
    return reach


def decoder_reach(config: Any) -> int:
    """Steps beside its own, before the strided blocks, that a sample hears."""
    reach = config.last_kernel_size
    for ratio in reversed(config.upsampling_ratios):
        reach = -(-(reach + residual_reach(config)) // ratio) + 1
    return reach
