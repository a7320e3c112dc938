"""The task of training an AudioLM: its stages, the crops that each sees, and its validation."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from valle.data.dataset import Batch, CropSettings, TokenDataset, padding_share, read_tokens
from valle.data.indexed import choose_indexed, indexed_batches
from valle.data.loader import SamplerSettings, choose_cuts, epoch_batches, fixed_batches, keep_durations, largest_batches
from valle.data.neighbours import Neighbours
from valle.data.stage_batches import collected, joined
from valle.errors import UserError
from valle.inference.continuing import Continuer
from valle.models import AudioLM, AudioLMConfig
from valle.models.checkpoint import hyper_parameters, load_checkpoint
from valle.models.draft_heads import DRAFT_HEADS
from valle.models.loss import LossTerm
from valle.models.released import read_released_weights
from valle.models.stage import ExampleSettings, Stage
from valle.settings import fields_from_flags
from valle.tokenizers.base import AcousticTokenizer, Tokenizer
from valle.tokenizers.registry import expect_acoustic, load_tokenizer, tokenizer_to_checkpoint
from valle.tokenizing.token_manifests import ManifestError, TokenManifests, read_manifests
from valle.training.distributed import World
from valle.training.options import AudioLMOptions
from valle.training.samples import NUM_SAMPLES, dev_continuations
from valle.training.trained_length import seconds_in, seconds_seen_by, trained_frames, trained_seconds
from valle.training.unit_sequence import model_fields, sequence_fields


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
        self.seen_before: dict[str, float] = {}
        if options.init_from is not None:
            taken = take_stages(self.model, options.init_from)
            anew = [stage for stage in self.stages if stage not in taken]
            logging.info("From %s: %s; at random, as sizes differ: %s", options.init_from, ", ".join(taken), ", ".join(anew) or "none")
            self.seen_before = {stage: seconds for stage, seconds in seconds_seen_by(options.init_from).items() if stage in taken}
        for name, stage in self.model.stages().items():
            stage.requires_grad_(name in self.stages)
        self.sampler = SamplerSettings(
            max_duration=options.max_duration, num_buckets=options.num_buckets, buffer_size=options.buffer_size,
            shuffle_buffer_size=options.shuffle_buffer_size, drop_last=options.drop_last,
            min_cut=options.filter_min_duration, max_cut=options.filter_max_duration, seed=options.seed,
        )  # fmt: skip
        self._fixed: dict[bool, list[Any]] = {}
        trained = [stage for name, stage in self.model.stages().items() if name in self.stages]
        self.neighbours = Neighbours(self.manifests) if any(stage.needs_neighbours(self.config) for stage in trained) else None

    def _start_from_codebooks(self) -> None:
        codec = self.tokenizers["acoustic"]
        vectors = codec.codebook_vectors() if isinstance(codec, AcousticTokenizer) else None
        if vectors is not None:
            self.model.start_from_codebooks(vectors)

    def _stages(self) -> tuple[str, ...]:
        here, wanted = self.model.stages(), self.options.stages()
        absent = [stage for stage in wanted if stage not in here]
        if absent and wanted != self.options.known_stages():
            reason = "the manifests hold no units" if self.manifests.semantic is None else "its sizes leave nothing to them"
            raise UserError(
                f"--train-stage asks for {', '.join(absent)}, which this model does not have ({reason}); choose among {', '.join(here)}"
            )
        return tuple(stage for stage in wanted if stage in here)

    def part_parameters(self) -> dict[str, list[nn.Parameter]]:
        stages = self.model.stages()
        return {stage: list(stages[stage].parameters()) for stage in self.stages}

    def dataset(self, epoch: int) -> TokenDataset:
        """Crops of epoch number ``epoch``; 0 are the fixed ones of validation."""
        options, stages = self.options, self.model.stages()
        crops = crop_settings(
            self.config, [type(stages[name]) for name in self.stages], seconds={name: options.seconds_of(name) for name in self.stages},
            prompt_share_to=options.prompt_share_to if epoch else 0.0, seed=options.seed if epoch else 0,
            crops={name: options.crops_of(name) if epoch else 1 for name in self.stages},
        )  # fmt: skip
        return TokenDataset(self.manifests, crops, epoch=epoch, neighbours=self.neighbours)

    def batches(self, *, epoch: int, skip: int, world: World) -> Iterator[Batch]:
        index = self.manifests.index("train")
        read = partial(epoch_batches, self.manifests.cuts("train")) if index is None else partial(indexed_batches, index)

        def read_from(first: int) -> Iterator[Batch]:
            return read(
                self.dataset(epoch), self.sampler, epoch=epoch, skip=first,
                rank=world.rank, world_size=world.size, num_workers=self.options.num_workers,
            )  # fmt: skip

        return collected(read_from, self._batches_a_step(), skip=skip)

    def _batches_a_step(self) -> dict[str, int]:
        return {stage: self.options.batches_of(stage) for stage in self.stages}

    def validation_batches(self, world: World, *, of_train: bool = False) -> Iterator[Batch]:
        if of_train not in self._fixed:
            part, most = "train" if of_train else "dev", self.options.valid_max_cuts
            index = self.manifests.index(part)
            choose = partial(choose_cuts, self.manifests.cuts(part)) if index is None else partial(choose_indexed, index)
            cuts = choose(self.sampler, most=most)
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
        """The terms of every stage, as it says itself: several of a semantic stage of runs, one a level of the fine stage."""
        stages = self.model.stages()
        return {name: term for stage in self.stages for name, term in stages[stage].validation_terms(**batch[stage]).items()}

    def to_device(self, batch: Batch, device: torch.device) -> Batch:
        moved = {stage: {name: values.to(device, non_blocking=True) for name, values in part.items()} for stage, part in batch.items()}
        return Batch(moved)

    def part_of(self, valid_name: str) -> str:
        named = [stage for stage in self.stages if valid_name == stage or valid_name.startswith(f"{stage}_")]
        return max(named, key=len)

    def cuts_of(self, batch: Batch, *, epoch: int, number: int, world: World) -> list[str]:
        return list(batch.cut_ids)

    def seen_seconds(self, batch: Batch) -> dict[str, float]:
        return seconds_in(batch, self.manifests.timeline)

    def longest_batches(self) -> Iterator[Batch]:
        for batch in largest_batches(self.manifests.cuts("train"), self.dataset(1), self.sampler):
            yield Batch({stage: joined([batch] * number, stage) for stage, number in self._batches_a_step().items()})

    def describe(self, batch: Batch) -> dict[str, float]:
        stage, first = next(iter(batch.items()))
        return {
            "batch_size": len(first["lengths"]) // self.options.crops_of(stage),
            "frames": sum(int(part["lengths"].sum()) for part in batch.values()),
            "padding": padding_share(batch),
        }

    def after_step(self, step: int, share_done: float) -> None:
        """Nothing follows a step of a language model."""

    def checkpoint_fields(self, seen: Mapping[str, float] | None = None) -> dict[str, Any]:
        manifests = self.manifests
        asked = {stage: self.options.seconds_of(stage) for stage in self.model.stages()}
        trained = trained_seconds(seen or {}, before=self.seen_before, asked=asked)
        return {
            **hyper_parameters(self.options),
            **hyper_parameters(self.config),
            **{f"{stage}_seconds": seconds for stage, seconds in asked.items()},
            "trained_seconds": trained,
            "trained_frames": trained_frames(trained, manifests.timeline),
            "timeline": manifests.timeline.to_dict(),
            "tokenizers": {kind: tokenizer_to_checkpoint(tokenizer) if tokenizer else None for kind, tokenizer in self.tokenizers.items()},
            "identities": {
                "acoustic": manifests.acoustic.to_dict(),
                "semantic": manifests.semantic.to_dict() if manifests.semantic else None,
            },
        }

    def samples(self, step: int) -> list[tuple[str, Tensor, int]]:
        """Continuations of the first dev cuts' beginnings, three seconds of prompt and three of continuation."""
        cuts = islice(keep_durations(self.manifests.cuts("dev"), self.sampler), NUM_SAMPLES)
        examples = [read_tokens(cut, self.manifests, self.config.num_quantizers) for cut in cuts]
        trained = {stage: self.options.seconds_of(stage) for stage in self.model.stages()}
        continuer = Continuer(self.model, self.manifests.timeline, trained)
        codec = self.tokenizers["acoustic"]
        assert codec is not None  # manifests always name one
        return dev_continuations(continuer, examples, expect_acoustic(codec))

    def unigram_nll(self) -> dict[str, float]:
        """Nats a token of the dev set under the training cuts' token counts (add-one), by term of validation."""
        train, dev = self._histograms(of_train=True), self._histograms(of_train=False)
        result = {}
        for name, levels in dev.items():
            seen = [counts + 1 for counts in train[name]]  # so that a token that training never saw is not impossible
            nats = [float(-(valid * (counts / counts.sum()).log()).sum() / valid.sum()) for valid, counts in zip(levels, seen, strict=True)]
            result[name] = sum(nats) / len(nats)
        return result

    def _histograms(self, *, of_train: bool) -> dict[str, list[Tensor]]:
        stages, total = self.model.stages(), dict[str, list[Tensor]]()
        for batch in self.validation_batches(World(), of_train=of_train):
            for stage, tensors in batch.items():
                for name, levels in stages[stage].histograms(**tensors).items():
                    before = total.get(name, [torch.zeros_like(counts) for counts in levels])
                    total[name] = [counts + more for counts, more in zip(before, levels, strict=True)]
        return total


def crop_settings(
    config: AudioLMConfig,
    stages: Sequence[type[Stage]],
    *,
    seconds: Mapping[str, float],
    seed: int,
    prompt_share_to: float = 0.0,
    crops: Mapping[str, int] | None = None,
) -> CropSettings:
    """What a dataset crops for ``stages`` of a model of ``config``; mappings are by stage name."""
    examples = ExampleSettings(config, prompt_share_to=prompt_share_to)
    return CropSettings(
        collate={stage.name: partial(stage.collate, settings=examples) for stage in stages},
        seconds=seconds, num_quantizers=config.num_quantizers, seed=seed, crops=crops or {},
    )  # fmt: skip


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
    fields, _ = model_fields(source)
    for stage, part in model.stages().items():
        theirs = {name.removeprefix(f"{stage}."): tensor.float() for name, tensor in weights.items() if name.startswith(f"{stage}.")}
        ours = part.state_dict()
        if not part.means_the_same(model.config, fields):
            continue  # tokens that mean something else, even if they are as many
        fresh = {name for name in ours.keys() - theirs.keys() if name.startswith(DRAFT_HEADS)}  # heads that a trained stage is given
        if theirs.keys() == ours.keys() - fresh and all(tensor.shape == ours[name].shape for name, tensor in theirs.items()):
            part.load_state_dict({**{name: ours[name] for name in fresh}, **theirs})
            taken.append(stage)
    if not taken:
        raise UserError(
            f"no stage of {source} has the shape of this model's ({', '.join(model.stages())}); "
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
