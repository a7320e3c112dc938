"""A released model is a folder: ``config.yaml``, ``model.safetensors``, its tokenizers.  Nothing else is needed, nothing is unpickled."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from math import inf
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from valle.errors import UserError
from valle.files import replacing
from valle.models.audio_lm import AudioLM
from valle.timeline import Timeline
from valle.tokenizers.base import AcousticTokenizer, SemanticTokenizer
from valle.tokenizers.registry import expect_acoustic, expect_semantic, load_tokenizer, save_tokenizer

CONFIG_FILE, WEIGHTS_FILE = "config.yaml", "model.safetensors"


class ReleasedModelError(UserError):
    """A released folder that is missing, damaged, or holds tokenizers of another model."""


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
                    f"expected a trained length above 0 s of the {stage} stage, found {seconds:g}; export the model anew"
                )
        periods = [(config.units_per_period, config.frames_per_period), (timeline.units_per_period, timeline.frames_per_period)]
        if config.num_units is not None and timeline.units is not None and periods[0] != periods[1]:
            raise ReleasedModelError(
                f"expected {periods[0]} units and frames in a period, as the model has, found {periods[1]} in the timeline; export it anew"
            )
        if config.num_quantizers > self.acoustic.num_codebooks or config.codebook_size != self.acoustic.codebook_size:
            raise ReleasedModelError(
                f"expected a codec of {config.num_quantizers} codebooks of {config.codebook_size}, as the model has, found "
                f"{self.acoustic.num_codebooks} of {self.acoustic.codebook_size} in {self.acoustic.identity}; export the model anew"
            )


def save_released(released: Released, folder: Path, *, dtype: torch.dtype = torch.float16) -> None:
    """Write the folder under a temporary name, then rename it; an existing one is replaced."""
    weights = {name: tensor.detach().cpu().to(dtype).contiguous() for name, tensor in released.model.state_dict().items()}
    broken = [name for name, tensor in weights.items() if not tensor.isfinite().all()]
    if broken:
        raise ReleasedModelError(f"the weights {broken[0]} are not finite as {dtype}; use an earlier checkpoint, or float32")
    config = {
        "model": asdict(released.model.config),
        "timeline": released.timeline.to_dict(),
        "trained_seconds": dict(released.trained_seconds),
        "identities": {
            "acoustic": released.acoustic.identity.to_dict(),
            "semantic": released.semantic.identity.to_dict() if released.semantic else None,
        },
    }
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(folder.with_name(f".{folder.name}.tmp"), ignore_errors=True)  # of a killed export
    with replacing(folder) as temporary:
        temporary.mkdir()
        save_file(weights, temporary / WEIGHTS_FILE)
        save_tokenizer(released.acoustic, temporary / "tokenizers" / "acoustic")
        if released.semantic is not None:
            save_tokenizer(released.semantic, temporary / "tokenizers" / "semantic")
        (temporary / CONFIG_FILE).write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            folder.rename(old)  # whole at all times, but for the moment between two renames
    shutil.rmtree(old, ignore_errors=True)


def load_released(folder: Path) -> Released:
    """Read a released folder, in evaluation mode and fp32."""
    config = read_released_config(folder)
    try:
        model = AudioLM.from_weights(config["model"], read_released_weights(folder))
        timeline = Timeline.from_dict(config["timeline"])
        trained = {stage: float(config["trained_seconds"][stage]) for stage in model.stages()}
        identities = {kind: dict(config["identities"][kind] or {}) for kind in ("acoustic", "semantic")}
    except ReleasedModelError:
        raise
    except (UserError, KeyError, TypeError, ValueError) as error:
        reason = str(error) if isinstance(error, UserError) else "its timeline, trained_seconds or identities are not as they were exported"
        raise ReleasedModelError(f"the model in {folder} is damaged ({reason}); copy or export it anew") from error
    acoustic = expect_acoustic(load_tokenizer(str(_inside(folder, "acoustic"))))
    semantic = expect_semantic(load_tokenizer(str(_inside(folder, "semantic")))) if timeline.units else None
    for kind, tokenizer in (("acoustic", acoustic), ("semantic", semantic)):
        wanted = identities[kind]
        if tokenizer is not None and wanted.get("sha256") != tokenizer.identity.sha256:
            raise ReleasedModelError(
                f"the model in {folder} was trained on tokens of {wanted.get('name')} ({str(wanted.get('sha256'))[:12]}) "
                f"and its folder holds {tokenizer.identity}; copy or export it anew"
            )
    return Released(model=model, timeline=timeline, acoustic=acoustic, semantic=semantic, trained_seconds=trained)


def read_released_config(folder: Path) -> dict[str, Any]:
    """``config.yaml`` of a released folder."""
    path = folder / CONFIG_FILE
    if not path.is_file() or not (folder / WEIGHTS_FILE).is_file():
        raise ReleasedModelError(
            f"expected a released model ({CONFIG_FILE} and {WEIGHTS_FILE}) in {folder}, found none; "
            "name such a folder, or a checkpoint with --checkpoint"
        )
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ReleasedModelError(f"{path} cannot be read ({' '.join(str(error).split())[:120]}); copy or export the model anew") from error
    if not isinstance(config, dict) or not {"model", "timeline", "trained_seconds"} <= config.keys():
        raise ReleasedModelError(f"expected the keys model, timeline and trained_seconds in {path}; copy or export the model anew")
    return config


def read_released_weights(folder: Path) -> dict[str, Tensor]:
    """The weights of a released folder, fp32."""
    read_released_config(folder)
    try:
        return {name: tensor.float() for name, tensor in load_file(folder / WEIGHTS_FILE).items()}
    except (SafetensorError, OSError) as error:
        raise ReleasedModelError(f"{folder / WEIGHTS_FILE} is damaged ({error}); copy or export the model anew") from error


def _inside(folder: Path, kind: str) -> Path:
    path = folder / "tokenizers" / kind
    if not path.is_dir():
        raise ReleasedModelError(f"expected the model's {kind} tokenizer in {path}, found nothing there; copy or export the model anew")
    return path
