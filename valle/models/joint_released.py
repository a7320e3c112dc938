"""A released joint-lm: a folder of ``config.yaml``, ``model.safetensors``, ``tokenizers/text`` and, with units, ``tokenizers/semantic``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from valle.errors import UserError
from valle.models.checkpoint import CheckpointError, choose_checkpoint, load_checkpoint
from valle.models.folder import (
    ReleasedModelError,
    read_model_config,
    read_released_weights,
    refuse_other_content,
    replacing_folder,
    write_model,
)
from valle.models.joint_lm import JointLM
from valle.tokenizers.base import SemanticTokenizer
from valle.tokenizers.registry import expect_semantic, load_tokenizer, save_tokenizer, tokenizer_from_state
from valle.tokenizers.text_pieces import TextTokenizer, load_text_tokenizer, save_text_tokenizer, text_tokenizer_from_state


@dataclass(frozen=True)
class ReleasedJoint:
    """All that reads, hears, writes and speaks, but the sound itself."""

    model: JointLM
    text: TextTokenizer
    semantic: SemanticTokenizer | None  # None for a text model
    tasks: tuple[str, ...]  # that it has learned
    longest_seconds: float  # of what it has heard or said, 0 for a text model

    def __post_init__(self) -> None:
        units = self.semantic.num_units if self.semantic is not None else 0
        if units != self.model.config.num_units or self.text.num_pieces > self.model.config.num_pieces:
            raise ReleasedModelError(
                f"expected tokenizers of {self.model.config.num_units} units and at most {self.model.config.num_pieces} text pieces, as "
                f"the model has, found {units} and {self.text.num_pieces}; export the model again"
            )


def save_joint(released: ReleasedJoint, folder: Path, *, dtype: torch.dtype = torch.float16) -> None:
    """Write the folder under a temporary name, then rename it; an older released model there is replaced."""
    refuse_other_content(folder)
    identities = {"text": released.text.identity.to_dict(), "semantic": None}
    if released.semantic is not None:
        identities["semantic"] = released.semantic.identity.to_dict()
    config = {
        "model": {"joint-lm": asdict(released.model.config)}, "tasks": list(released.tasks), "longest_seconds": released.longest_seconds,
        "identities": identities,
    }  # fmt: skip
    with replacing_folder(folder) as temporary:
        write_model(temporary, config, released.model.state_dict(), dtype=dtype)
        save_text_tokenizer(released.text, temporary / "tokenizers" / "text")
        if released.semantic is not None:
            save_tokenizer(released.semantic, temporary / "tokenizers" / "semantic")


def load_joint(path: Path) -> ReleasedJoint:
    """A released folder, a trainer's folder (its best weights on dev), or a checkpoint; in evaluation mode and fp32."""
    if path.is_file():
        return joint_from_checkpoint(load_checkpoint(path))
    if not (path / "config.yaml").is_file():
        return joint_from_checkpoint(choose_checkpoint(path))
    config = read_model_config(path)
    try:
        model = JointLM.from_weights(config["model"]["joint-lm"], read_released_weights(path))
        tasks, longest = tuple(map(str, config["tasks"])), float(config["longest_seconds"])
        identities = {kind: dict(config["identities"][kind] or {}) for kind in ("text", "semantic")}
    except ReleasedModelError:
        raise
    except (UserError, KeyError, TypeError, ValueError) as error:
        raise ReleasedModelError(f"expected a joint-lm in {path}, found none or a damaged one ({error}); export it again") from error
    text = load_text_tokenizer(path / "tokenizers" / "text")
    semantic = expect_semantic(load_tokenizer(str(path / "tokenizers" / "semantic"))) if model.config.num_units else None
    for kind, identity in (("text", text.identity), ("semantic", semantic.identity if semantic else None)):
        if identity is not None and identities[kind].get("sha256") != identity.sha256:
            wanted = f"{identities[kind].get('name')} ({str(identities[kind].get('sha256'))[:12]})"
            raise ReleasedModelError(
                f"the model in {path} was trained on tokens of {wanted} and its folder holds {identity}; export it again"
            )
    return ReleasedJoint(model=model, text=text, semantic=semantic, tasks=tasks, longest_seconds=longest)


def joint_from_checkpoint(state: Mapping[str, Any]) -> ReleasedJoint:
    """A trainer's checkpoint as what transcribes, speaks and translates."""
    missing = [key for key in ("joint", "tokenizers", "tasks", "longest_seconds") if key not in state]
    if missing:
        raise CheckpointError(
            f"expected a joint-lm's checkpoint, found one without {', '.join(missing)}; use a file that --model-name joint-lm wrote"
        )
    try:
        model = JointLM.from_weights(state["joint"], state["model"])
        tokenizers = state["tokenizers"]
        semantic = expect_semantic(tokenizer_from_state(tokenizers["semantic"])) if tokenizers["semantic"] else None
        text = text_tokenizer_from_state(tokenizers["text"])
        return ReleasedJoint(
            model=model, text=text, semantic=semantic, tasks=tuple(state["tasks"]), longest_seconds=float(state["longest_seconds"])
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError("the checkpoint's tokenizers or tasks are not as the trainer writes them; use another checkpoint") from error
