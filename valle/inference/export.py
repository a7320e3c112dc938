"""From a training run to a released folder."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch

from valle.errors import UserError
from valle.inference.joined_stages import parse_stages_from, with_stages
from valle.inference.trained_model import check_choice, released_from_checkpoint, trained_state
from valle.models.audio_lm import count_parameters
from valle.models.conversation_released import KEY as CONVERSATION
from valle.models.conversation_released import conversation_from_checkpoint, save_conversation
from valle.models.folder import refuse_other_content
from valle.models.joint_released import ReleasedJoint, joint_from_checkpoint, save_joint
from valle.models.recommended import parse_sampling, recommend
from valle.models.released import save_released
from valle.models.speech_llama_released import KEY, save_speech_llama, speech_llama_from_checkpoint
from valle.outputs import claim_file


@dataclass(frozen=True)
class ExportOptions:
    """Flags of ``bin/export.py``."""

    output_dir: Path = field(metadata={"help": "the folder to write; an existing released model there is replaced"})
    checkpoint: Path | None = field(default=None, metadata={"help": "a trainer's checkpoint"})
    exp_dir: Path | None = field(default=None, metadata={"help": "a trainer's folder; with --epoch 0 the weights with best dev loss"})
    epoch: int = field(default=0, metadata={"help": "epoch-N.pt of --exp-dir"})
    avg: int = field(default=1, metadata={"help": "average the weights of this many epochs, up to --epoch"})
    use_averaged_model: bool = field(default=False, metadata={"help": "average over all steps of those epochs"})
    stages_from: list[str] = field(
        default_factory=list,
        metadata={"help": "stages of other runs with the same tokenizers and sizes, STAGE=RUN: a trainer's folder or checkpoint"},
    )
    dtype: Literal["float16", "float32", "int8"] = field(
        default="float16", metadata={"help": "format of weights in the file; int8: of matrices, with one scale a row"}
    )

    sampling: list[str] = field(
        default_factory=list,
        metadata={"help": "how the model is best sampled from, STAGE:FIELD=NUMBER, as in coarse:guidance=2: kept as its default"},
    )

    def __post_init__(self) -> None:
        parse_sampling(self.sampling)
        if (self.checkpoint is None) == (self.exp_dir is None):
            raise UserError("expected either --checkpoint or --exp-dir, so that one run is exported; give one of them")
        parse_stages_from(self.stages_from)  # refuses what cannot be
        check_choice(exp_dir=self.exp_dir, epoch=self.epoch, avg=self.avg, use_averaged_model=self.use_averaged_model)


def export(options: ExportOptions) -> int:
    """Write the folder -> how many parameters it holds."""
    refuse_other_content(options.output_dir)
    outputs = claim_file(options.output_dir, program="export")
    state = trained_state(
        checkpoint=options.checkpoint,
        exp_dir=options.exp_dir,
        epoch=options.epoch,
        avg=options.avg,
        use_averaged_model=options.use_averaged_model,
    )
    if KEY in state:
        llama = speech_llama_from_checkpoint(state)
        with outputs.being_written():
            save_speech_llama(llama, options.output_dir, dtype=getattr(torch, options.dtype))
        return count_parameters(llama.model)
    if CONVERSATION in state:
        talk = conversation_from_checkpoint(state)
        with outputs.being_written():
            save_conversation(talk, options.output_dir, dtype=getattr(torch, options.dtype))
        return count_parameters(talk.model)
    released = joint_from_checkpoint(state) if "joint" in state else released_from_checkpoint(state)
    for flag, words in (("--stages-from", options.stages_from), ("--sampling", options.sampling)):
        if words and isinstance(released, ReleasedJoint):
            raise UserError(f"{flag} is for the stages of an AudioLM, found a joint model of one stage; leave it out")
    if options.stages_from and not isinstance(released, ReleasedJoint):
        released = with_stages(released, parse_stages_from(options.stages_from))
    if options.sampling and not isinstance(released, ReleasedJoint):
        recommend(released.model, parse_sampling(options.sampling))
    with outputs.being_written():
        if isinstance(released, ReleasedJoint):
            save_joint(released, options.output_dir, dtype=getattr(torch, options.dtype))
            return count_parameters(released.model)
        save_released(released, options.output_dir, dtype=getattr(torch, options.dtype))
    return count_parameters(released.model)
