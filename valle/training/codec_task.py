"""The task of training the ConvNeXt codec: multi-scale mel and time-domain L1, commitment; no discriminator."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from valle.data.segments import SegmentDataset, Source, segment_batches
from valle.errors import UserError
from valle.measures.mel import MEL_SCALES, MultiScaleMel
from valle.models.parts import LossPart
from valle.tokenizers.convnext_codec import ConvNeXtCodec, ConvNeXtCodecConfig
from valle.tokenizers.registry import load_acoustic, tokenizer_to_state
from valle.training.checkpoint import hyper_parameters
from valle.training.distributed import World
from valle.training.options import LoopOptions, require_at_least, setting

REVIVE_EVERY = 20  # steps between looks for codes that nobody uses


@dataclass(frozen=True)
class CodecOptions(LoopOptions):
    """A run that trains the codec; ``manifests`` and ``shares`` go together."""

    manifests: list[Path] = setting([], "manifests of cuts to learn from")
    shares: list[float] = setting([], "share of the pieces that each manifest gives; equal if not given")
    valid_manifest: Path | None = setting(None, "manifest of cuts to validate on; the first of --manifests if not given")
    init_codec: str | None = setting(None, "name or folder of a codec to go on from")
    batch_size: int = setting(16, "pieces in a batch")
    segment_seconds: float = setting(1.0, "length of a piece")
    batches_per_epoch: int = setting(1000, "batches that count as an epoch")
    num_workers: int = setting(1, "processes that read audio; 0 reads in the trainer")
    commitment: float = setting(0.25, "weight of the commitment loss")
    dim: int = setting(256, "width of the ConvNeXt blocks")
    num_blocks: int = setting(6, "blocks in the encoder, and in the decoder")
    num_quantizers: int = setting(8, "codebooks")
    codebook_size: int = setting(256, "codes in a codebook")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.manifests:
            raise UserError("expected manifests of cuts after --manifests, found none; stage 1 of a recipe's prepare.sh writes them")
        if self.shares and len(self.shares) != len(self.manifests):
            raise UserError(
                f"expected a share for each of {len(self.manifests)} manifests, found {len(self.shares)}; give as many --shares"
            )
        if self.shares and not (min(self.shares) >= 0 < sum(self.shares) < inf):
            raise UserError(f"expected --shares of 0 or more, some above it, found {', '.join(f'{share:g}' for share in self.shares)}")
        require_at_least(self, 1, "batch_size", "batches_per_epoch", "dim", "num_blocks", "num_quantizers", "codebook_size")
        require_at_least(self, 0, "num_workers", "commitment")
        if not 0.1 <= self.segment_seconds <= 60:
            raise UserError(f"--segment-seconds must lie in 0.1..60, found {self.segment_seconds:g}")


class _TrainedCodec(nn.Module):
    """The codec with its losses, called with a batch ``(B, T)``."""

    def __init__(self, codec: ConvNeXtCodec, commitment: float) -> None:
        super().__init__()
        self.codec, self.commitment = codec, commitment
        self.mel = MultiScaleMel(codec.sample_rate)
        self.revive = False

    def forward(self, wav: Tensor) -> dict[str, LossPart]:
        output, quantized = self.codec.reconstruct(wav, revive=self.revive)
        windows = random_windows() if self.training else tuple(MEL_SCALES)
        loss = self.mel(output, wav, windows=windows) + (output - wav).abs().mean()
        if self.training:
            loss = loss + self.commitment * quantized.commitment
        count = torch.tensor(len(wav), device=wav.device)
        return {"codec": LossPart(loss * count, count, torch.zeros_like(count))}


class CodecTask:
    """Binds the codec to pieces of audio."""

    def __init__(self, options: CodecOptions) -> None:
        self.options = options
        torch.manual_seed(options.seed)
        self.codec = self._codec()
        self.model = _TrainedCodec(self.codec, options.commitment)
        self.num_samples = round(options.segment_seconds * self.codec.sample_rate) // self.codec.hop_length * self.codec.hop_length
        shares = options.shares or [1.0] * len(options.manifests)
        self.sources = [
            Source.read(path, share, min_seconds=options.segment_seconds) for path, share in zip(options.manifests, shares, strict=True)
        ]
        valid = options.valid_manifest or options.manifests[0]
        self.valid_sources = [Source.read(valid, 1.0, min_seconds=options.segment_seconds)]
        if options.init_codec is None:
            self._start_codebooks()

    def _codec(self) -> ConvNeXtCodec:
        options = self.options
        if options.init_codec is None:
            return ConvNeXtCodec(
                ConvNeXtCodecConfig(
                    name="convnext", dim=options.dim, num_blocks=options.num_blocks,
                    num_codebooks=options.num_quantizers, codebook_size=options.codebook_size,
                )
            )  # fmt: skip
        codec = load_acoustic(options.init_codec)
        if not isinstance(codec, ConvNeXtCodec):
            raise UserError(f"expected a codec of this design after --init-codec, found {codec.name}; leave it out to train anew")
        return codec.requires_grad_(True)

    @torch.no_grad()
    def _start_codebooks(self) -> None:
        """K-means on six batches' worth of latents, before the first step."""
        wav = torch.cat([self._dataset(0, self.sources, 6)[index] for index in range(6)])
        frames = torch.full((len(wav),), self.num_samples // self.codec.hop_length)
        self.codec.quantizer.start_from(self.codec.analyse(wav, frames).flatten(0, 1))

    def _dataset(self, epoch: int, sources: list[Source], num_batches: int) -> SegmentDataset:
        options = self.options
        return SegmentDataset(
            sources, sample_rate=self.codec.sample_rate, num_samples=self.num_samples, batch_size=options.batch_size,
            num_batches=num_batches, seed=options.seed, epoch=epoch,
        )  # fmt: skip

    def part_parameters(self) -> dict[str, list[nn.Parameter]]:
        return {"codec": list(self.model.parameters())}

    def batches(self, *, epoch: int, skip: int, world: World) -> Iterator[Tensor]:
        dataset = self._dataset(epoch * world.size + world.rank, self.sources, self.options.batches_per_epoch)
        return segment_batches(dataset, skip=skip, num_workers=self.options.num_workers)

    def validation_batches(self, world: World, *, of_train: bool = False) -> Iterator[Tensor]:
        dataset = self._dataset(0, self.sources if of_train else self.valid_sources, 8)
        return (dataset[index] for index in range(world.rank, 8, world.size))

    def validation_loss(self, batch: Tensor) -> dict[str, LossPart]:
        return self.model(batch)

    def to_device(self, batch: Tensor, device: torch.device) -> Tensor:
        return batch.to(device)

    def describe(self, batch: Tensor) -> dict[str, float]:
        return {"batch_size": len(batch), "frames": batch.numel() / self.codec.hop_length, "padding": 0.0}

    def after_step(self, step: int) -> None:
        """Every so often, the next pass moves unused codes; never in the last fifth, where codebooks should settle."""
        options = self.options
        settled = bool(options.max_steps) and step > 0.8 * options.max_steps
        self.model.revive = step % REVIVE_EVERY == REVIVE_EVERY - 1 and not settled

    def checkpoint_fields(self) -> dict[str, Any]:
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


def random_windows() -> tuple[int, int]:
    """One of the three short mel windows and one of the three long ones: the mean of all, at a third of the cost."""
    sizes = tuple(MEL_SCALES)
    short, long = torch.randint(3, (2,)).tolist()
    return sizes[short], sizes[3 + long]
