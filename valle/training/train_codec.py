"""Trains a codec from its options: what ``bin/trainer_codec.py`` calls in every process."""

from __future__ import annotations

import torch

from valle.tokenizers.convnext_codec import ConvNeXtCodec
from valle.tokenizers.registry import save_tokenizer
from valle.training.codec_task import CodecOptions, CodecTask
from valle.training.distributed import World, launch, pick_device
from valle.training.logs import setup_logging
from valle.training.loop import Loop


def train_codec(options: CodecOptions) -> None:
    """Train on as many processes as asked for; ends with the tokenizer's folder ``exp_dir/codec``, in half precision."""
    launch(_train, options.world_size, options.master_port, options, device=options.device)


def _train(world: World, options: CodecOptions) -> None:
    pick_device(options.device, world)
    task = CodecTask(options)  # first, so that what is refused leaves no folder behind
    setup_logging(options.exp_dir, world.rank)
    loop = Loop(task, options, world)
    loop.run()
    if world.is_first:
        save_tokenizer(rounded_to_half(task.codec.cpu()), options.exp_dir / "codec")
    loop.recorder.close()


def rounded_to_half(codec: ConvNeXtCodec) -> ConvNeXtCodec:
    """Every number to the nearest that float16 holds, so that the file in half precision is the very tokenizer."""
    with torch.no_grad():
        for tensor in (*codec.parameters(), *codec.buffers()):
            if tensor.is_floating_point():
                tensor.copy_(tensor.half().float())
    return codec
