"""A released model is a folder: ``config.yaml``, ``model.safetensors``, its tokenizers.  Nothing else is needed, nothing is unpickled."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import inf
from pathlib import Path

import torch

from valle.errors import UserError
from valle.models.audio_lm import AudioLM
from valle.models.folder import ReleasedModelError, read_released_config, read_released_weights, replacing_folder, write_model
from valle.models.recommended import recommend, recommended
from valle.timeline import Timeline
from valle.tokenizers.base import AcousticTokenizer, SemanticTokenizer
from valle.tokenizers.registry import expect_acoustic, expect_semantic, load_tokenizer, save_tokenizer

__all__ = ["Released", "ReleasedModelError", "load_released", "read_released_config", "read_released_weights", "save_released"]


@dataclass(frozen=True)
class Released:
    """All that continues audio."""

    model: AudioLM
    timeline: Timeline
    acoustic: AcousticTokenizer
    semantic: SemanticTokenizer | None
    trained_seconds: dict[str, float]  # longest crop of each stage

    def __post_init__(self) -> None:
        config, timeline = self.model.config, self.timeline
        for stage, seconds in self.trained_seconds.items():
            if not 0 < seconds < inf:
                raise ReleasedModelError(
                    f"expected a trained length above 0 s of the {stage} stage, found {seconds:g}; export the model again"
                )
        periods = [(config.units_per_period, config.frames_per_period), (timeline.units_per_period, timeline.frames_per_period)]
        if config.num_units is not None and timeline.units is not None and periods[0] != periods[1]:
            raise ReleasedModelError(
                f"expected {periods[0]} units and frames in a period, as the model has, found {periods[1]} in the timeline; export it again"
            )
        if config.num_quantizers > self.acoustic.num_codebooks or config.codebook_size != self.acoustic.codebook_size:
            raise ReleasedModelError(
                f"expected a codec of {config.num_quantizers} codebooks of {config.codebook_size}, as the model has, found "
                f"{self.acoustic.num_codebooks} of {self.acoustic.codebook_size} in {self.acoustic.identity}; export the model again"
            )


def save_released(released: Released, folder: Path, *, dtype: torch.dtype = torch.float16) -> None:
    """Write the folder under a temporary name, then rename it; an existing one is replaced."""
    config = {
        "model": asdict(released.model.config),
        "timeline": released.timeline.to_dict(),
        "trained_seconds": dict(released.trained_seconds),
        "identities": {
            "acoustic": released.acoustic.identity.to_dict(),
            "semantic": released.semantic.identity.to_dict() if released.semantic else None,
        },
    }
    if recommended(released.model):
        config["sampling"] = recommended(released.model)
    with replacing_folder(folder) as temporary:
        write_model(temporary, config, released.model.state_dict(), dtype=dtype)
        save_tokenizer(released.acoustic, temporary / "tokenizers" / "acoustic")
        if released.semantic is not None:
            save_tokenizer(released.semantic, temporary / "tokenizers" / "semantic")


def load_released(folder: Path) -> Released:
    """Read a released folder, in evaluation mode and fp32."""
    config = read_released_config(folder)
    try:
        model = AudioLM.from_weights(config["model"], read_released_weights(folder))
        timeline = Timeline.from_dict(config["timeline"])
        trained = {stage: float(config["trained_seconds"][stage]) for stage in model.stages()}
        recommend(model, dict(config.get("sampling") or {}))
        identities = {kind: dict(config["identities"][kind] or {}) for kind in ("acoustic", "semantic")}
    except ReleasedModelError:
        raise
    except (UserError, KeyError, TypeError, ValueError) as error:
        reason = str(error) if isinstance(error, UserError) else "its timeline, trained_seconds or identities are not as they were exported"
        raise ReleasedModelError(f"the model in {folder} is damaged ({reason}); copy or export it again") from error
    acoustic = expect_acoustic(load_tokenizer(str(_inside(folder, "acoustic"))))
    semantic = expect_semantic(load_tokenizer(str(_inside(folder, "semantic")))) if timeline.units else None
    for kind, tokenizer in (("acoustic", acoustic), ("semantic", semantic)):
        wanted = identities[kind]
        if tokenizer is not None and wanted.get("sha256") != tokenizer.identity.sha256:
            raise ReleasedModelError(
                f"the model in {folder} was trained on tokens of {wanted.get('name')} ({str(wanted.get('sha256'))[:12]}) "
                f"and its folder holds {tokenizer.identity}; copy or export it again"
            )
    return Released(model=model, timeline=timeline, acoustic=acoustic, semantic=semantic, trained_seconds=trained)


def _inside(folder: Path, kind: str) -> Path:
    path = folder / "tokenizers" / kind
    if not path.is_dir():
        raise ReleasedModelError(f"expected the model's {kind} tokenizer in {path}, found nothing there; copy or export the model again")
    return path
