"""The task of training a codec: which codec, on which audio, with which state in a checkpoint."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from valle.data.segments import PairedDataset, SegmentDataset, Source, segment_batches
from valle.errors import UserError
from valle.models.checkpoint import hyper_parameters
from valle.models.loss import LossTerm
from valle.tokenizers.convnext_codec import ConvNeXtCodec, ConvNeXtCodecConfig
from valle.tokenizers.registry import load_acoustic, tokenizer_to_state
from valle.tokenizers.residual_codec import ResidualCodec
from valle.tokenizers.soundstream import SoundStream, SoundStreamConfig
from valle.training.codec_model import TrainedCodec
from valle.training.codec_options import CodecOptions
from valle.training.distributed import World

__all__ = ["CodecOptions", "CodecTask"]

GAIN = 10.0  # of a new SoundStream: brings speech, about 0.06 in size, near one, where biases do not drown it
REVIVE_EVERY = 20  # steps between looks for codes that nobody uses


class CodecTask:
    """Binds a codec, and its discriminators if it has any, to pieces of audio."""

    def __init__(self, options: CodecOptions) -> None:
        self.options = options
        torch.manual_seed(options.seed)
        self.codec, has_codebooks = build_codec(options)
        self.codec.quantizer.dropout = options.quantizer_dropout
        if options.freeze_encoder:
            self.codec.quantizer.is_fixed = True
            for parameter in self.codec.encoder_parameters():
                parameter.requires_grad_(False)
        self.model = TrainedCodec(self.codec, options)
        self.num_samples = round(options.segment_seconds * self.codec.sample_rate) // self.codec.hop_length * self.codec.hop_length
        if self.num_samples == 0:
            raise UserError(
                f"expected --segment-seconds of at least one frame ({self.codec.hop_length} samples), found {options.segment_seconds:g} s"
            )
        shares = options.shares or [1.0] * len(options.manifests)
        self.sources = [
            Source.read(path, share, min_seconds=options.segment_seconds) for path, share in zip(options.manifests, shares, strict=True)
        ]
        valid = options.valid_manifest or options.manifests[0]
        self.valid_sources = [Source.read(valid, 1.0, min_seconds=options.segment_seconds)]
        self.noise_sources = [Source.read(path, 1.0, min_seconds=options.segment_seconds) for path in options.noise_manifests]
        if not has_codebooks:
            self._start_codebooks()

    @torch.no_grad()
    def _start_codebooks(self) -> None:
        """K-means on six batches' worth of latents, before the first step."""
        wav = torch.cat([self._dataset(0, self.sources, 6)[index] for index in range(6)])
        frames = torch.full((len(wav),), self.num_samples // self.codec.hop_length)
        latent = self.codec.condition(self.codec.analyse(wav, frames), None)
        self.codec.quantizer.start_from(latent.flatten(0, 1))

    def _dataset(self, epoch: int, sources: list[Source], num_batches: int) -> SegmentDataset:
        options = self.options
        return SegmentDataset(
            sources, sample_rate=self.codec.sample_rate, num_samples=self.num_samples, batch_size=options.batch_size,
            num_batches=num_batches, seed=options.seed, epoch=epoch,
        )  # fmt: skip

    def part_parameters(self) -> dict[str, list[nn.Parameter]]:
        parts = {"codec": [parameter for parameter in self.codec.parameters() if parameter.requires_grad]}
        if self.model.discriminators is not None:
            parts["discriminator"] = list(self.model.discriminators.parameters())
        return parts

    def batches(self, *, epoch: int, skip: int, world: World) -> Iterator[Tensor]:
        number, size = epoch * world.size + world.rank, self.options.batches_per_epoch
        dataset = self._dataset(number, self.sources, size)
        if not self.noise_sources:
            return segment_batches(dataset, skip=skip, num_workers=self.options.num_workers)
        pairs = PairedDataset(dataset, self._dataset(-number, self.noise_sources, size))
        return segment_batches(pairs, skip=skip, num_workers=self.options.num_workers)

    def validation_batches(self, world: World, *, of_train: bool = False) -> Iterator[Tensor]:
        dataset = self._dataset(0, self.sources if of_train else self.valid_sources, 8)
        return (dataset[index] for index in range(world.rank, 8, world.size))

    def validation_loss(self, batch: Tensor) -> dict[str, LossTerm]:
        return self.model(batch)

    def to_device(self, batch: Tensor, device: torch.device) -> Tensor:
        return batch.to(device)

    def part_of(self, valid_name: str) -> str:
        return valid_name

    def cuts_of(self, batch: Tensor, *, epoch: int, number: int, world: World) -> list[str]:
        dataset = self._dataset(epoch * world.size + world.rank, self.sources, self.options.batches_per_epoch)
        return dataset.cut_ids(number)

    def seen_seconds(self, batch: Tensor) -> dict[str, float]:
        return {}  # every piece is as long

    def longest_batches(self) -> Iterator[Tensor]:
        return iter(())

    def describe(self, batch: Tensor) -> dict[str, float]:
        frames = len(batch) * batch.shape[-1] / self.codec.hop_length
        return {"batch_size": len(batch), "frames": frames, "padding": 0.0, **self.model.report()}

    def after_step(self, step: int, share_done: float) -> None:
        """Every so often, the next pass moves unused codes; in the last fifth of a run never, as codebooks should settle."""
        self.model.is_judged = step >= self.options.adversarial_start_step
        self.model.revive = step % REVIVE_EVERY == REVIVE_EVERY - 1 and share_done <= 0.8

    def checkpoint_fields(self, seen: Mapping[str, float] | None = None) -> dict[str, Any]:
        return {
            **hyper_parameters(self.options),
            "tokenizers": {"acoustic": tokenizer_to_state(self.codec), "semantic": None},
            "identities": None,
            "timeline": None,
        }

    def samples(self, step: int) -> list[tuple[str, Tensor, int]]:
        """The first validation piece, as it is and as the codec renders it."""
        wav = next(self.validation_batches(World()))[:1]
        with torch.inference_mode():
            output, _ = self.codec.reconstruct(wav.to(next(self.codec.parameters()).device))
        return [("valid/original", wav[0], self.codec.sample_rate), ("valid/codec", output[0].float().cpu(), self.codec.sample_rate)]


def build_codec(options: CodecOptions) -> tuple[ResidualCodec, bool]:
    """The codec that the settings name, new or to go on from, and whether its codebooks have learned something already."""
    if options.init_codec is not None:
        codec = load_acoustic(options.init_codec)
        if not isinstance(codec, ResidualCodec):
            raise UserError(
                f"expected a codec that this trainer made after --init-codec, found {codec.name}, which is another's; "
                "leave it out to train a new codec"
            )
        if options.denoise and not (isinstance(codec, SoundStream) and codec.settings.denoise):
            raise UserError(f"--denoise true needs a codec that was trained with it, found {codec.name}; leave one of them out")
        return codec.requires_grad_(True), True
    codec = _new_codec(options)
    if options.init_blocks is None:
        return codec, False
    return codec, _take_what_fits(codec, load_acoustic(options.init_blocks), options.init_blocks)


def _new_codec(options: CodecOptions) -> ResidualCodec:
    sizes: dict[str, Any] = {
        "sample_rate": options.sample_rate, "dim": options.dim, "num_codebooks": options.num_quantizers,
        "codebook_size": options.codebook_size,
    }  # fmt: skip
    if options.codec == "soundstream":
        name = f"soundstream-{options.sample_rate / 1000:g}khz"
        sizes.update(strides=tuple(options.strides), channels=options.channels, denoise=options.denoise, gain=GAIN)
        return SoundStream(SoundStreamConfig(name=name, **sizes))
    return ConvNeXtCodec(
        ConvNeXtCodecConfig(
            name="convnext", num_blocks=options.num_blocks, refine_blocks=options.refine_blocks, stft_frames=options.stft_frames,
            n_fft=options.n_fft, **sizes,
        )
    )  # fmt: skip


def _take_what_fits(codec: ResidualCodec, other: nn.Module, name: str) -> bool:
    """Every tensor of ``other`` that has its name and shape in ``codec`` too -> whether all codebooks are among them.

    A part of them is of no use: each level quantizes what those before it leave.
    """
    own, theirs = codec.state_dict(), other.state_dict()
    fitting = {key: tensor for key, tensor in theirs.items() if key in own and own[key].shape == tensor.shape}
    codebooks = {key for key in own if key.startswith("quantizer.")}
    if not any(tensor.ndim > 1 for key, tensor in fitting.items() if key not in codebooks):
        raise UserError(
            f"expected weights in --init-blocks {name} that fit the new codec, found none; choose its design and --dim as that one's, "
            "or leave it out"
        )
    has_codebooks = codebooks <= fitting.keys()
    if not has_codebooks:
        fitting = {key: tensor for key, tensor in fitting.items() if key not in codebooks}
    new = ", ".join(sorted(own.keys() - fitting.keys())) or "none"
    logging.info("%d of %d tensors begin as those of %s; new are %s", len(fitting), len(own), name, new)
    codec.load_state_dict({**own, **fitting})
    return has_codebooks
