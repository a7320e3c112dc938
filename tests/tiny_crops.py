"""What is cropped for the stages of a tiny model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tiny_corpus import CODEBOOKS, CODES, UNITS

from valle.data.dataset import CropSettings
from valle.models.config import AudioLMConfig
from valle.models.registry import all_stages
from valle.training.audio_lm_task import crop_settings

STAGES = ("semantic", "coarse", "fine")


def tiny_crops(
    *,
    seconds: Mapping[str, float],
    stages: Sequence[str] = STAGES,
    units: bool = True,
    num_quantizers: int = CODEBOOKS,
    prefix_mode: int = 1,
    prompt_share: float = 0.4,
    prompt_share_to: float = 0.4,
    seed: int = 5,
    crops: Mapping[str, int] | None = None,
) -> CropSettings:
    config = AudioLMConfig(
        d_model=16, nhead=2, num_quantizers=num_quantizers, codebook_size=CODES, num_units=UNITS if units else None,
        prefix_mode=prefix_mode, prompt_share=prompt_share,
    )  # fmt: skip
    types = [all_stages()[stage] for stage in stages if units or stage != "semantic"]
    return crop_settings(config, types, seconds=seconds, seed=seed, prompt_share_to=prompt_share_to, crops=crops)
