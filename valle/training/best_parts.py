"""The best weights of a run, kept for each part by its own dev loss: a part of many loss terms does not outvote the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn

from valle.models.checkpoint import CheckpointError, load_checkpoint
from valle.training.logs import Sums, means, own


def losses_by_part(valid: Sums, part_of: Callable[[str], str]) -> dict[str, float]:
    """The dev loss of each part: its terms' means, added up."""
    losses: dict[str, float] = {}
    for name, value in means(own(valid)).items():
        losses[part_of(name)] = losses.get(part_of(name), 0.0) + value
    return losses


def owners(model: nn.Module, parts: Mapping[str, Sequence[nn.Parameter]]) -> dict[str, str]:
    """The part that each entry of the model's state dict belongs to; what belongs to none is left out.

    A buffer, or what is not trained, goes with the part whose parameters share the longest beginning of its name.
    """
    part_of = {id(parameter): part for part, parameters in parts.items() for parameter in parameters}
    found = {name: part_of[id(parameter)] for name, parameter in model.named_parameters() if id(parameter) in part_of}
    folders: dict[str, set[str]] = {}
    for name, part in found.items():
        words = name.split(".")
        for length in range(len(words)):
            folders.setdefault(".".join(words[:length]), set()).add(part)
    for name in model.state_dict():
        words = name.split(".")
        for length in range(len(words) - 1, -1, -1):
            here = folders.get(".".join(words[:length]))
            if name in found or here is None:
                continue
            if len(here) == 1:
                found[name] = next(iter(here))
            break
    return found


def assembled(
    model: nn.Module, now: Mapping[str, Tensor], parts: Mapping[str, Sequence[nn.Parameter]], improved: set[str], path: Path
) -> dict[str, Tensor]:
    """The weights ``now`` of the parts that ``improved``, and of what belongs to no part; of the others those kept in ``path``."""
    try:
        kept = load_checkpoint(path)["model"] if path.is_file() and improved != set(parts) else {}
    except CheckpointError:
        kept = {}
    owner = owners(model, parts)
    return {
        name: kept[name] if name in kept and kept[name].shape == tensor.shape and owner.get(name, "") in set(parts) - improved else tensor
        for name, tensor in now.items()
    }
