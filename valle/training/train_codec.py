"""Trains a codec from its options: what ``bin/trainer_codec.py`` calls in every process."""

from __future__ import annotations

from torch import Tensor

from valle.models.checkpoint import averaged_between, load_checkpoint
from valle.tokenizers.registry import save_tokenizer
from valle.tokenizers.weights import rounded
from valle.training.codec_task import CodecOptions, CodecTask
from valle.training.distributed import World, launch, pick_device
from valle.training.exp_lock import exp_dir_locked
from valle.training.logs import setup_logging
from valle.training.loop import Loop
from valle.training.run_folder import run_folder


def train_codec(options: CodecOptions) -> None:
    """Train on as many processes as asked for; ends with the tokenizer's folder ``exp_dir/codec``, in half precision."""
    with exp_dir_locked(options.exp_dir), run_folder(options.exp_dir, folders=["codec"]):
        launch(_train, options.world_size, options.master_port, options, device=options.device)


def _train(world: World, options: CodecOptions) -> None:
    pick_device(options.device, world)
    task = CodecTask(options)  # first, so that what is refused leaves no folder behind
    setup_logging(options.exp_dir, world.rank)
    loop = Loop(task, options, world)
    loop.run()
    if world.is_first:
        load_exported(task, loop)
        codec = task.codec.cpu()
        fixed = codec.encoder_parameters() if options.freeze_encoder else []  # or rounding would change some codes
        save_tokenizer(rounded(codec, exact=fixed), options.exp_dir / "codec")
    loop.recorder.close()


def load_exported(task: CodecTask, loop: Loop) -> None:
    """Leave in the codec the weights that ``--export`` asks for."""
    options = task.options
    choice = options.export
    if choice == "auto":  # an adversary moves sounds away from the dev set's mel distance, to where they sound better
        choice = "last" if options.is_adversarial else "best"
    if choice == "best":
        weights = load_checkpoint(options.exp_dir / "best-valid-loss.pt")["model"]
    elif choice == "averaged":
        weights = _averaged(loop, options)
    else:
        return
    own = {name.removeprefix("codec."): tensor for name, tensor in weights.items() if name.startswith("codec.")}
    task.codec.load_state_dict(own)


def _averaged(loop: Loop, options: CodecOptions) -> dict[str, Tensor]:
    """The mean over the steps since ``--export-avg`` epochs ago (or the start)."""
    assert loop.state.average is not None  # the first process has it
    step = loop.progress.step
    last = {"model_avg": loop.state.average, "counters": {"step": step}, "average_period": options.average_period}
    epoch = loop.progress.epoch - 1 - options.export_avg
    path = options.exp_dir / f"epoch-{epoch}.pt"
    return averaged_between(load_checkpoint(path) if path.is_file() else None, last)
