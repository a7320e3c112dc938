"""A released conversation model: a folder of ``config.yaml``, ``model.safetensors`` and ``tokenizers/{text,acoustic}``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from valle.errors import UserError
from valle.models.checkpoint import CheckpointError, choose_checkpoint, load_checkpoint
from valle.models.conversation import ConversationLM
from valle.models.folder import (
    ReleasedModelError,
    read_model_config,
    read_released_weights,
    refuse_other_content,
    replacing_folder,
    write_model,
)
from valle.tokenizers.base import AcousticTokenizer
from valle.tokenizers.registry import expect_acoustic, load_tokenizer, save_tokenizer, tokenizer_from_state
from valle.tokenizers.text_pieces import TextTokenizer, load_text_tokenizer, save_text_tokenizer, text_tokenizer_from_state

KEY = NAME = "conversation"  # of its settings in a checkpoint and in config.yaml


@dataclass(frozen=True)
class ReleasedConversation:
    """All that takes part in a conversation."""

    model: ConversationLM
    text: TextTokenizer
    acoustic: AcousticTokenizer
    longest_seconds: float  # of the turns that it has learned
    context_seconds: float  # of earlier turns that it has learned to look at

    def __post_init__(self) -> None:
        config, codec = self.model.config, self.acoustic
        if (
            codec.codebook_size != config.codebook_size or codec.num_codebooks < config.num_levels
            or self.text.num_pieces > config.num_pieces
        ):  # fmt: skip
            raise ReleasedModelError(
                f"expected a codec of {config.num_levels} codebooks of {config.codebook_size} and at most {config.num_pieces} text pieces, "
                f"as the model has, found {codec.num_codebooks} of {codec.codebook_size} and {self.text.num_pieces}; export the model again"
            )


def save_conversation(released: ReleasedConversation, folder: Path, *, dtype: torch.dtype = torch.float16) -> None:
    """Write the folder under a temporary name, then rename it; an older released model there is replaced."""
    refuse_other_content(folder)
    config = {
        "model": {NAME: asdict(released.model.config)}, "longest_seconds": released.longest_seconds,
        "context_seconds": released.context_seconds,
        "identities": {"text": released.text.identity.to_dict(), "acoustic": released.acoustic.identity.to_dict()},
    }  # fmt: skip
    with replacing_folder(folder) as temporary:
        write_model(temporary, config, released.model.state_dict(), dtype=dtype)
        save_text_tokenizer(released.text, temporary / "tokenizers" / "text")
        save_tokenizer(released.acoustic, temporary / "tokenizers" / "acoustic")


def load_conversation(path: Path) -> ReleasedConversation:
    """A released folder, a trainer's folder (its best weights on dev), or a checkpoint; in evaluation mode and fp32."""
    if path.is_file():
        return conversation_from_checkpoint(load_checkpoint(path))
    if not (path / "config.yaml").is_file():
        return conversation_from_checkpoint(choose_checkpoint(path))
    config = read_model_config(path)
    try:
        model = ConversationLM.from_weights(config["model"][NAME], read_released_weights(path))
        longest, context = float(config["longest_seconds"]), float(config["context_seconds"])
        identities = {kind: dict(config["identities"][kind]) for kind in ("text", "acoustic")}
    except ReleasedModelError:
        raise
    except (UserError, KeyError, TypeError, ValueError) as error:
        raise ReleasedModelError(
            f"expected a conversation model in {path}, found none or a damaged one ({error}); export it again"
        ) from error
    text = load_text_tokenizer(path / "tokenizers" / "text")
    acoustic = expect_acoustic(load_tokenizer(str(path / "tokenizers" / "acoustic")))
    for kind, identity in (("text", text.identity), ("acoustic", acoustic.identity)):
        if identities[kind].get("sha256") != identity.sha256:
            wanted = f"{identities[kind].get('name')} ({str(identities[kind].get('sha256'))[:12]})"
            raise ReleasedModelError(
                f"the model in {path} was trained on tokens of {wanted} and its folder holds {identity}; export it again"
            )
    return ReleasedConversation(model=model, text=text, acoustic=acoustic, longest_seconds=longest, context_seconds=context)


def conversation_from_checkpoint(state: Mapping[str, Any]) -> ReleasedConversation:
    """A trainer's checkpoint as what takes part in a conversation."""
    missing = [key for key in (KEY, "tokenizers", "longest_seconds", "context_seconds") if key not in state]
    if missing:
        raise CheckpointError(
            f"expected a conversation model's checkpoint, found one without {', '.join(missing)}; use a file that "
            "--model-name conversation wrote"
        )
    try:
        tokenizers = state["tokenizers"]
        return ReleasedConversation(
            model=ConversationLM.from_weights(state[KEY], state["model"]), text=text_tokenizer_from_state(tokenizers["text"]),
            acoustic=expect_acoustic(tokenizer_from_state(tokenizers["acoustic"])), longest_seconds=float(state["longest_seconds"]),
            context_seconds=float(state["context_seconds"]),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError("the checkpoint's tokenizers are not as the trainer writes them; use another checkpoint") from error
