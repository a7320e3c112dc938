"""The task of training an AudioLM: its stages, the crops that each sees, and its validation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from valle.data.dataset import Batch, CropSettings, TokenDataset, padding_share
from valle.data.loader import SamplerSettings, choose_cuts, epoch_batches, fixed_batches
from valle.errors import UserError
from valle.models import AudioLM, AudioLMConfig
from valle.models.checkpoint import hyper_parameters, load_checkpoint
from valle.models.loss import LossTerm
from valle.models.released import read_released_weights
from valle.settings import fields_from_flags
from valle.tokenizers.base import AcousticTokenizer, Tokenizer
from valle.tokenizers.registry import load_tokenizer, tokenizer_to_checkpoint
from valle.tokenizing.token_manifests import ManifestError, TokenManifests, read_manifests
from valle.training.distributed import World
from valle.training.options import AudioLMOptions
from valle.training.unit_sequence import has_same_sequence, sequence_fields


class AudioLMTask:
    """Binds ``AudioLM`` to tokenized manifests."""

    def __init__(self, options: AudioLMOptions) -> None:
        self.options = options
        self.manifests = read_manifests(options.manifest_dir)
        self.manifests.refuse_overlap()
        self.config = model_config(options, self.manifests)
        torch.manual_seed(options.seed)
        self.model = AudioLM.from_config(self.config)
        self.tokenizers = load_own_tokenizers(self.manifests)
        if options.codebook_init:
            self._start_from_codebooks()
        self.stages = self._stages()
        if options.init_from is not None:
            take_stages(self.model, options.init_from)
        for name, part in self.model.parts().items():
            part.requires_grad_(name in self.stages)
        self.sampler = SamplerSettings(
            max_duration=options.max_duration, num_buckets=options.num_buckets, buffer_size=options.buffer_size,
            shuffle_buffer_size=options.shuffle_buffer_size, drop_last=options.drop_last,
            min_cut=options.filter_min_duration, max_cut=options.filter_max_duration, seed=options.seed,
        )  # fmt: skip
        self._fixed: dict[bool, list[Any]] = {}

    def _start_from_codebooks(self) -> None:
        codec = self.tokenizers["acoustic"]
        vectors = codec.codebook_vectors() if isinstance(codec, AcousticTokenizer) else None
        if vectors is not None:
            self.model.start_from_codebooks(vectors)

    def _stages(self) -> tuple[str, ...]:
        here = self.model.parts()
        wanted = self.options.stages()
        absent = [stage for stage in wanted if stage not in here]
        if absent and set(wanted) != {"semantic", "coarse", "fine"}:
            reason = "the manifests hold no units" if "semantic" in absent else "all codebooks are coarse"
            raise UserError(
                f"--train-stage asks for {', '.join(absent)}, which this model does not have ({reason}); choose among {', '.join(here)}"
            )
        return tuple(stage for stage in wanted if stage in here)

    def part_parameters(self) -> dict[str, list[nn.Parameter]]:
        parts = self.model.parts()
        return {stage: list(parts[stage].parameters()) for stage in self.stages}

    def dataset(self, epoch: int) -> TokenDataset:
        """Crops of epoch number ``epoch``; 0 are the fixed ones of validation."""
        options = self.options
        crops = CropSettings(
            stages=self.stages,
            seconds={"semantic": options.semantic_seconds, "coarse": options.coarse_seconds, "fine": options.fine_seconds},
            num_quantizers=options.num_quantizers, num_coarse=options.num_coarse, prefix_mode=options.prefix_mode,
            prompt_share=options.prompt_share, prompt_share_to=options.prompt_share_to if epoch else 0.0, seed=options.seed if epoch else 0,
        )  # fmt: skip
        return TokenDataset(self.manifests, crops, epoch=epoch)

    def batches(self, *, epoch: int, skip: int, world: World) -> Iterator[Batch]:
        return epoch_batches(
            self.manifests.cuts("train"), self.dataset(epoch), self.sampler, epoch=epoch, skip=skip,
            rank=world.rank, world_size=world.size, num_workers=self.options.num_workers,
        )  # fmt: skip

    def validation_batches(self, world: World, *, of_train: bool = False) -> Iterator[Batch]:
        if of_train not in self._fixed:
            cuts = choose_cuts(self.manifests.cuts("train" if of_train else "dev"), self.sampler, most=self.options.valid_max_cuts)
            if not cuts and not of_train:
                raise ManifestError(
                    f"expected dev cuts of {self.sampler.min_cut:g} to {self.sampler.max_cut:g} s in {self.manifests.folder}, found none; "
                    "change the filters or run ./prepare.sh --stage 4 with a larger dev part"
                )
            self._fixed[of_train] = cuts
        return fixed_batches(
            self._fixed[of_train], self.dataset(0), max_duration=self.options.max_duration, rank=world.rank, world_size=world.size
        )

    def validation_loss(self, batch: Batch) -> dict[str, LossTerm]:
        """The parts of training, a semantic one of runs as ``semantic_unit`` and ``semantic_duration``, the fine one as
        ``fine_1``, ``fine_2``, ...: every level of every cut, none drawn."""
        parts = self.model.loss({stage: batch[stage] for stage in self.stages if stage not in ("semantic", "fine")})
        if "semantic" in self.stages:
            assert self.model.semantic is not None
            parts = {**self.model.semantic.loss_terms(**batch["semantic"]), **parts}
        if "fine" in self.stages:
            assert self.model.fine is not None
            for level in range(self.config.num_coarse, self.config.num_quantizers):
                tensors = {**batch["fine"], "levels": torch.full_like(batch["fine"]["levels"], level)}
                parts[f"fine_{level}"] = self.model.fine.loss(**tensors)
        return parts

    def to_device(self, batch: Batch, device: torch.device) -> Batch:
        return {stage: {name: tensor.to(device, non_blocking=True) for name, tensor in tensors.items()} for stage, tensors in batch.items()}

    def describe(self, batch: Batch) -> dict[str, float]:
        first = next(iter(batch.values()))
        return {
            "batch_size": len(first["lengths"]),
            "frames": sum(int(part["lengths"].sum()) for part in batch.values()),
            "padding": padding_share(batch),
        }

    def after_step(self, step: int, share_done: float) -> None:
        """Nothing follows a step of a language model."""

    def checkpoint_fields(self) -> dict[str, Any]:
        manifests = self.manifests
        return {
            **hyper_parameters(self.options),
            **hyper_parameters(self.config),
            "timeline": manifests.timeline.to_dict(),
            "tokenizers": {kind: tokenizer_to_checkpoint(tokenizer) if tokenizer else None for kind, tokenizer in self.tokenizers.items()},
            "identities": {
                "acoustic": manifests.acoustic.to_dict(),
                "semantic": manifests.semantic.to_dict() if manifests.semantic else None,
            },
        }

    def samples(self, step: int) -> list[tuple[str, Tensor, int]]:
        """Continuations of the first dev cuts' beginnings, three seconds of prompt and three of continuation."""
        from valle.training.samples import dev_continuations

        return dev_continuations(self)

    def unigram_nll(self) -> dict[str, float]:
        """Nats a token of the dev set under the training cuts' token counts (add-one), a part or level each."""
        counts: dict[bool, dict[str, Tensor]] = {}
        for of_train in (True, False):
            total: dict[str, Tensor] = {}
            for batch in self.validation_batches(World(), of_train=of_train):
                for name, values in self._histograms(batch).items():
                    total[name] = total.get(name, torch.zeros_like(values)) + values
            counts[of_train] = total
        result = {}
        for name, valid in counts[False].items():
            train = counts[True][name] + 1  # so that a token that training never saw is not impossible
            result[name] = float(-(valid * (train / train.sum()).log()).sum() / valid.sum())
        coarse = [result.pop(f"coarse_{level}") for level in range(self.config.num_coarse) if f"coarse_{level}" in result]
        return {**result, "coarse": sum(coarse) / len(coarse)} if coarse else result

    def _histograms(self, batch: Batch) -> dict[str, Tensor]:
        found = {}
        if "semantic" in batch:
            assert self.model.semantic is not None
            found.update(self.model.semantic.histograms(**batch["semantic"]))
        for stage in ("coarse", "fine"):
            if stage in batch:
                codes = batch[stage]["codes"]
                place = torch.arange(codes.shape[1])
                valid = place < batch[stage]["lengths"][:, None]
                if "prompt_lengths" in batch[stage]:
                    valid &= place >= batch[stage]["prompt_lengths"][:, None]
                levels = range(self.config.num_coarse) if stage == "coarse" else range(self.config.num_coarse, self.config.num_quantizers)
                for level in levels:
                    found[f"{stage}_{level}"] = torch.bincount(codes[..., level][valid], minlength=self.config.codebook_size).double()
        return found


def model_config(options: AudioLMOptions, manifests: TokenManifests) -> AudioLMConfig:
    """The model's fields: sizes from flags, vocabularies and rates from what tokenized the data."""
    if options.num_quantizers > manifests.acoustic.num_codebooks:
        raise UserError(
            f"--num-quantizers {options.num_quantizers} asks for more codebooks than the {manifests.acoustic.num_codebooks} of "
            f"{manifests.acoustic.name} in {manifests.folder}; lower it or tokenize with more"
        )
    return AudioLMConfig(**{
        **fields_from_flags(AudioLMConfig, options), **sequence_fields(options, manifests),
        "codebook_size": manifests.acoustic.codebook_size, "num_units": manifests.semantic.codebook_size if manifests.semantic else None,
        "units_per_period": manifests.timeline.units_per_period, "frames_per_period": manifests.timeline.frames_per_period,
    })  # fmt: skip


def take_stages(model: AudioLM, source: Path) -> list[str]:
    """Copy every stage whose weights fit from a checkpoint or a released folder; returns their names."""
    weights: Mapping[str, Tensor] = read_released_weights(source) if source.is_dir() else load_checkpoint(source)["model"]
    taken = []
    for stage, part in model.parts().items():
        theirs = {name.removeprefix(f"{stage}."): tensor.float() for name, tensor in weights.items() if name.startswith(f"{stage}.")}
        ours = part.state_dict()
        if stage == "semantic" and not has_same_sequence(model.config, source):
            continue  # tokens that mean something else, even if they are as many
        if theirs.keys() == ours.keys() and all(theirs[name].shape == ours[name].shape for name in ours):
            part.load_state_dict(theirs)
            taken.append(stage)
    if not taken:
        raise UserError(
            f"no stage of {source} has the shape of this model's ({', '.join(model.parts())}); "
            "use the sizes that it was trained with, or leave out --init-from"
        )
    return taken


def load_own_tokenizers(manifests: TokenManifests) -> dict[str, Tokenizer | None]:
    """The tokenizers beside the manifests, refused unless they are the ones that made the tokens."""
    loaded: dict[str, Tokenizer | None] = {"acoustic": None, "semantic": None}
    for kind, identity in (("acoustic", manifests.acoustic), ("semantic", manifests.semantic)):
        if identity is None:
            continue
        tokenizer = load_tokenizer(str(manifests.tokenizers_folder / kind))
        if tokenizer.identity.sha256 != identity.sha256:
            raise ManifestError(
                f"the tokens in {manifests.folder} were made by {identity} and {manifests.tokenizers_folder / kind} "
                f"holds {tokenizer.identity}; run ./prepare.sh --stage 3 again, or put the old tokenizer back"
            )
        loaded[kind] = tokenizer
    return loaded
