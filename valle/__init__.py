"""AudioLM: audio goes in, and the same voice goes on.

    from valle import Pipeline, read_audio

    wav, sample_rate = read_audio("hello.wav")
    [continuation] = Pipeline.from_pretrained().continue_audio(wav, sample_rate, prompt_seconds=3, max_seconds=10)

The names of ``__all__`` are the public surface.  Each is imported when it is first asked for, so that ``import valle`` takes no time.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from valle.audio import read_audio, write_wav
    from valle.decoding.sampling import Sampling
    from valle.errors import UserError
    from valle.inference.continuation import Continuation, ContinueSettings
    from valle.inference.pipeline import Pipeline
    from valle.models.audio_lm import AudioLM
    from valle.models.config import AudioLMConfig
    from valle.tokenizers.registry import load_tokenizer

__all__ = [
    "AudioLM",
    "AudioLMConfig",
    "Continuation",
    "ContinueSettings",
    "Pipeline",
    "Sampling",
    "UserError",
    "load_tokenizer",
    "read_audio",
    "write_wav",
]

_HOMES = {
    "AudioLM": "valle.models.audio_lm",
    "AudioLMConfig": "valle.models.config",
    "Continuation": "valle.inference.continuation",
    "ContinueSettings": "valle.inference.continuation",
    "Pipeline": "valle.inference.pipeline",
    "Sampling": "valle.decoding.sampling",
    "UserError": "valle.errors",
    "load_tokenizer": "valle.tokenizers.registry",
    "read_audio": "valle.audio",
    "write_wav": "valle.audio",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'valle' has no attribute {name!r}; its public names are {', '.join(__all__)}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
