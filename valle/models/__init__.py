"""What is learned, as torch modules."""

from valle.models.audio_lm import AudioLM
from valle.models.config import AudioLMConfig
from valle.models.loss import LossTerm

__all__ = ["AudioLM", "AudioLMConfig", "LossTerm"]
