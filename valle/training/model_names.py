"""Which models ``bin/trainer_audiolm.py`` trains, by ``--model-name``: the flags of each, and what trains it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from valle.config import FlagError
from valle.training.conversation_options import ConversationOptions
from valle.training.joint_options import JointOptions
from valle.training.options import AudioLMOptions
from valle.training.speech_llama_options import SpeechLlamaOptions
from valle.training.train import train_audio_lm
from valle.training.train_conversation import train_conversation
from valle.training.train_joint_lm import train_joint_lm
from valle.training.train_speech_llama import train_speech_llama


@dataclass(frozen=True)
class TrainedModel:
    """Its settings, the recipe's file of them, and its training."""

    options: type[Any]
    config_file: Path
    train: Callable[[Any], None]


MODELS = {
    "audio-lm": TrainedModel(AudioLMOptions, Path("conf/trainer_audiolm.yaml"), train_audio_lm),
    "joint-lm": TrainedModel(JointOptions, Path("conf/trainer_joint_lm.yaml"), train_joint_lm),
    "speech-llama": TrainedModel(SpeechLlamaOptions, Path("conf/trainer_speech_llama.yaml"), train_speech_llama),
    "conversation": TrainedModel(ConversationOptions, Path("conf/trainer_conversation.yaml"), train_conversation),
}


def chosen_model(arguments: Sequence[str]) -> TrainedModel:
    """The model that ``--model-name`` names among a command's arguments; ``audio-lm`` without it."""
    name = "audio-lm"
    for place, argument in enumerate(arguments):
        flag, equals, value = argument.replace("_", "-").partition("=")
        if flag == "--model-name":
            name = value if equals else arguments[place + 1] if place + 1 < len(arguments) else ""
    if name not in MODELS:
        *names, last = MODELS
        known = f"{', '.join(names)} or {last}"
        raise FlagError(f"expected {known} for --model-name, found {name or 'nothing'}; --help lists every flag")
    return MODELS[name]
