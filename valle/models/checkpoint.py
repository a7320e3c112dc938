"""Checkpoints with icefall's names and keys, that hold all that a model needs and never any code.

Top level: ``model optimizer scheduler grad_scaler sampler model_avg``, every hyper-parameter flat, and
``tokenizers``, ``identities``, ``timeline``, ``dtype``, ``counters``.  Tensors and plain Python values only.  Beside each
numbered checkpoint lie its counters in a small file, ``epoch-3.json``.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from valle.errors import UserError
from valle.files import replacing
from valle.models import AudioLM, AudioLMConfig
from valle.timeline import Timeline
from valle.tokenizers.base import AcousticTokenizer, SemanticTokenizer
from valle.tokenizers.registry import TokenizerAwayError, expect_acoustic, expect_semantic, tokenizer_from_state


class CheckpointError(UserError):
    """A checkpoint that is missing, damaged, or not ours."""


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write ``state`` so that a reader sees the old file or the whole new one, even after a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as stream:
            torch.save(plain(state), stream)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
        _write_counters(path, state)
    except (OSError, RuntimeError) as error:
        reason = _why_not_written(error)
        if reason is None:
            raise
        raise CheckpointError(f"cannot write {path}: {reason}; free some space, then run the same command again to continue") from error
    finally:
        temporary.unlink(missing_ok=True)


def _write_counters(path: Path, state: Mapping[str, Any]) -> None:
    """How far the run had come at ``path``, beside it, with the file's size, by which a file that was replaced since is told."""
    if "counters" in state and _NUMBERED.fullmatch(path.stem):
        counters = {"bytes": path.stat().st_size, **{name: state["counters"].get(name, 0) for name in ("step", "epoch")}}
        with replacing(counters_path(path)) as temporary:
            temporary.write_text(json.dumps(counters) + "\n", encoding="utf-8")


def counters_path(path: Path) -> Path:
    """Where the counters of a numbered checkpoint are."""
    return path.with_suffix(".json")


_NUMBERED = re.compile(r"(?:checkpoint|epoch)-\d+")


def _why_not_written(error: BaseException) -> str | None:
    """What the system said; torch hides it behind an error of its own archive's end."""
    found: BaseException | None = error
    while found is not None and not isinstance(found, OSError):
        found = found.__context__
    return found.strerror if found is not None else None


def _sync_folder(folder: Path) -> None:
    """Make a rename last through a power cut, where the system allows it."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows cannot open folders
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU; a file that carries code is refused, never run."""
    if not path.is_file():
        near = sorted(other.name for other in path.parent.glob("*.pt"))[:5] if path.parent.is_dir() else []
        found = f"; beside it are {', '.join(near)}" if near else ""
        raise CheckpointError(f"expected a checkpoint at {path}, found no file{found}; check the name, or train first")
    if not zipfile.is_zipfile(path):  # torch would take any other file for an old pickle
        raise CheckpointError(f"{path} is damaged or not a checkpoint (it is not a zip archive of torch); use another checkpoint")
    try:
        with zipfile.ZipFile(path) as archive:
            if (broken := archive.testzip()) is not None:  # torch does not look at the sums that it writes
                raise CheckpointError(f"{path} is damaged ({broken} has changed); use another checkpoint")
        # Mapped: a tensor is read when it is used, and processes on one machine share it.
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=os.name != "nt")
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds more than tensors and plain values, so it could run code when opened, and is refused; "
            "use a checkpoint of this project"
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
        raise CheckpointError(
            f"{path} is damaged or not a checkpoint ({type(error).__name__}); use another checkpoint"
        ) from error
    if not isinstance(state, dict) or "model" not in state:
        raise CheckpointError(
            f"expected a checkpoint with the key 'model' in {path}, found something else; use a file that the trainer wrote"
        )
    return state


def model_from_checkpoint(state: Mapping[str, Any]) -> tuple[AudioLM, Timeline, AcousticTokenizer, SemanticTokenizer | None]:
    """The model, its timeline and its tokenizers, from the checkpoint alone, in evaluation mode and fp32."""
    missing = [key for key in ("model", "timeline", "tokenizers", "d_model", "num_quantizers") if key not in state]
    if missing:
        raise CheckpointError(
            f"expected an AudioLM's checkpoint, found one without {', '.join(missing)}; use a file that trainer_audiolm.py wrote"
        )
    fields = {name: state[name] for name in AudioLMConfig.__dataclass_fields__ if name in state}
    try:
        model = AudioLM.from_weights(fields, state["model"])
        timeline = Timeline.from_dict(state["timeline"])
        acoustic = expect_acoustic(tokenizer_from_state(state["tokenizers"]["acoustic"]))
        semantic = state["tokenizers"].get("semantic")
        return model, timeline, acoustic, expect_semantic(tokenizer_from_state(semantic)) if semantic else None
    except TokenizerAwayError:
        raise
    except UserError as error:
        raise CheckpointError(f"the checkpoint is damaged: {error}; use another checkpoint") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            "the checkpoint's timeline or tokenizers are not as the trainer writes them; use another checkpoint"
        ) from error


def choose_checkpoint(exp_dir: Path, *, epoch: int = 0, avg: int = 1, use_averaged_model: bool = False) -> dict[str, Any]:
    """The state for inference: ``epoch-N.pt`` (0: the best on dev), averaged over the last ``avg`` epochs.

    With ``use_averaged_model`` the average runs over every step between the two ends, from their running averages
    (as in icefall); without, over the weights of the epoch files.
    """
    if epoch == 0:
        path = exp_dir / "best-valid-loss.pt"
        return load_checkpoint(path if path.is_file() else newest_checkpoint(exp_dir) or path)
    last = load_checkpoint(exp_dir / f"epoch-{epoch}.pt")
    if use_averaged_model:
        if "model_avg" not in last:
            raise CheckpointError(f"{exp_dir}/epoch-{epoch}.pt holds no averaged model; leave out --use-averaged-model")
        first_epoch = epoch - avg
        first = load_checkpoint(exp_dir / f"epoch-{first_epoch}.pt") if first_epoch > 0 else None
        last["model"] = averaged_between(first, last)
    elif avg > 1:
        states = [last] + [load_checkpoint(exp_dir / f"epoch-{number}.pt") for number in range(max(1, epoch - avg + 1), epoch)]
        last["model"] = average_weights([state["model"] for state in states])
    return last


def averaged_between(first: Mapping[str, Any] | None, last: Mapping[str, Any]) -> dict[str, Tensor]:
    """Mean weights over the steps after ``first`` up to ``last``, from two running means since step 0.

    A mean reaches to the last step that ``average_period`` divides.
    """
    end, start = (state["counters"]["step"] // state["average_period"] * state["average_period"] if state else 0 for state in (last, first))
    if end <= start:
        raise CheckpointError(
            f"expected at least one average after step {start}, found none up to step {last['counters']['step']}, as they are taken "
            f"every {last['average_period']} steps; leave out --use-averaged-model, or train with a smaller --average-period"
        )
    mean = {}
    for name, value in last["model_avg"].items():
        before = first["model_avg"][name].double() if first else 0.0
        mean[name] = ((value.double() * end - before * start) / (end - start)).float()
    return mean


def average_weights(states: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of several checkpoints' weights."""
    return {name: torch.stack([state[name].double() for state in states]).mean(0).float() for name in states[0]}


def newest_checkpoint(exp_dir: Path) -> Path | None:
    """Of the last ``epoch-N.pt`` and the last ``checkpoint-N.pt`` the one that went further, by its own counters."""
    last = [files[-1] for kind in ("checkpoint", "epoch") if (files := _numbered(exp_dir, kind))]
    if len(last) < 2:
        return last[0] if last else None
    return max(last, key=_steps)  # the times of files change when they are copied


def remove_old(exp_dir: Path, keep: int) -> None:
    """Leave the ``keep`` newest ``checkpoint-N.pt`` files, at least one."""
    for path in _numbered(exp_dir, "checkpoint")[: -max(keep, 1)]:
        path.unlink()
        counters_path(path).unlink(missing_ok=True)


def _numbered(exp_dir: Path, kind: str) -> list[Path]:
    """``<kind>-N.pt`` in the order of N."""
    found = [path for path in exp_dir.glob(f"{kind}-*.pt") if re.fullmatch(rf"{kind}-\d+", path.stem)]
    return sorted(found, key=lambda path: int(path.stem.split("-")[1]))


def _steps(path: Path) -> tuple[int, int]:
    """Steps and epochs of a checkpoint: by the small file beside it, or, of one that has none, by its own counters."""
    try:
        counters = json.loads(counters_path(path).read_text(encoding="utf-8"))
        if counters["bytes"] == path.stat().st_size:
            return int(counters["step"]), int(counters["epoch"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    counters = load_checkpoint(path).get("counters", {})
    return counters.get("step", 0), counters.get("epoch", 0)


def hyper_parameters(options: Any) -> dict[str, Any]:
    """A dataclass of settings as flat plain values."""
    values: dict[str, Any] = plain(asdict(options))
    return values


def plain(value: Any) -> Any:
    """Paths as strings, tuples as lists: only what ``weights_only=True`` reads back."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    return value
