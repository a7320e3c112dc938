"""The task of training ``conversation``: turns of dialogues behind what was said before them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from valle.data.conversation_batches import ConversationBatch, ConversationBatches, asked_of_epoch
from valle.data.dialogues import Turn, read_dialogues, turns_that_count
from valle.data.workers import read_batches
from valle.models.checkpoint import hyper_parameters
from valle.models.conversation import PART, ConversationLM
from valle.models.conversation_turns import Positions, SpokenTurn, TurnSequences
from valle.models.loss import LossTerm
from valle.tokenizers.registry import expect_acoustic, tokenizer_to_checkpoint
from valle.tokenizers.text_pieces import load_text_tokenizer, text_tokenizer_to_state
from valle.tokenizing.token_manifests import ManifestError, read_manifests
from valle.training.audio_lm_task import load_own_tokenizers
from valle.training.conversation_options import ConversationOptions
from valle.training.distributed import World


class ConversationTask:
    """Binds ``ConversationLM`` to tokenized dialogues."""

    def __init__(self, options: ConversationOptions) -> None:
        self.options = options
        self.manifests = read_manifests(options.manifest_dir)
        self.manifests.refuse_overlap()
        codec = load_own_tokenizers(self.manifests)["acoustic"]
        assert codec is not None  # every corpus has codes
        self.acoustic = expect_acoustic(codec)
        if self.acoustic.num_codebooks < options.num_quantizers:
            raise ManifestError(
                f"expected at least {options.num_quantizers} codebooks in {options.manifest_dir}, found {self.acoustic.num_codebooks}; "
                "lower --num-quantizers"
            )
        self.text = load_text_tokenizer(options.text)
        torch.manual_seed(options.seed)
        self.model = ConversationLM(options.config(num_pieces=self.text.num_pieces, codebook_size=self.acoustic.codebook_size))
        if options.codebook_init and (vectors := self.acoustic.codebook_vectors()) is not None:
            self.model.start_from_codebooks(vectors)
        self.sequences = TurnSequences(self.model.config, self.text)
        self.train, self.valid = (
            read_dialogues(self.manifests, part, num_quantizers=options.num_quantizers) for part in ("train", "dev")
        )
        self.most_frames = int(options.context_seconds / float(self.manifests.timeline.codes.step))
        self._fixed: dict[bool, list[ConversationBatch]] = {}

    def _build(self, turns: Sequence[Turn]) -> Positions:
        return self.sequences.row([SpokenTurn(turn.speaker, turn.text, turn.codes) for turn in turns])

    def _batches(self, asked: Any, *, depth_share: float, epoch: int) -> ConversationBatches:
        return ConversationBatches(
            asked, self._build, max_tokens=self.options.max_tokens, depth_share=depth_share, seed=self.options.seed, epoch=epoch
        )

    def part_parameters(self) -> dict[str, list[nn.Parameter]]:
        return {PART: list(self.model.parameters())}

    def batches(self, *, epoch: int, skip: int, world: World) -> Iterator[ConversationBatch]:
        asked = asked_of_epoch(self.train, most_frames=self.most_frames, seed=self.options.seed, epoch=epoch)
        dataset = self._batches(asked, depth_share=self.options.depth_share, epoch=epoch)
        order = range(world.rank, len(dataset) // world.size * world.size, world.size)[skip:]
        return read_batches(dataset, order, num_workers=self.options.num_workers)

    def cuts_of(self, batch: ConversationBatch, *, epoch: int, number: int, world: World) -> list[str]:
        return list(batch.cut_ids)

    def to_device(self, batch: ConversationBatch, device: torch.device) -> ConversationBatch:
        moved = ConversationBatch({name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()})
        moved.cut_ids = batch.cut_ids
        return moved

    def describe(self, batch: ConversationBatch) -> dict[str, float]:
        filled = float(batch["lengths"].sum())
        return {"batch_size": len(batch["pieces"]), "frames": filled, "padding": 1 - filled / batch["pieces"].numel()}

    def validation_batches(self, world: World, *, of_train: bool = False) -> Iterator[ConversationBatch]:
        if of_train not in self._fixed:
            asked = asked_of_epoch(self.train if of_train else self.valid, most_frames=self.most_frames, seed=0, epoch=0)
            dataset = self._batches(asked[: self.options.valid_max_turns], depth_share=1.0, epoch=0)
            self._fixed[of_train] = [dataset[index] for index in range(len(dataset))]
        return iter(self._fixed[of_train][world.rank :: world.size])

    def validation_loss(self, batch: ConversationBatch) -> dict[str, LossTerm]:
        return self.model.validation_terms(**batch)

    def part_of(self, valid_name: str) -> str:
        return PART

    def seen_seconds(self, batch: ConversationBatch) -> dict[str, float]:
        return {}

    def longest_batches(self) -> Iterator[ConversationBatch]:
        return iter(())

    def after_step(self, step: int, share_done: float) -> None:
        """Nothing follows a step."""

    def checkpoint_fields(self, seen: Mapping[str, float] | None = None) -> dict[str, Any]:
        step = float(self.manifests.timeline.codes.step)
        longest = max(len(turn.codes) for dialogue in self.train for turn in turns_that_count(dialogue))
        return {
            **hyper_parameters(self.options),
            "conversation": asdict(self.model.config),
            "identities": {"acoustic": self.acoustic.identity.to_dict(), "semantic": None, "text": self.text.identity.to_dict()},
            "timeline": None,
            "tokenizers": {"acoustic": tokenizer_to_checkpoint(self.acoustic), "text": text_tokenizer_to_state(self.text)},
            "longest_seconds": longest * step,
        }  # fmt: skip

    def samples(self, step: int) -> list[tuple[str, Tensor, int]]:
        """None: ``bin/converse.py`` makes sound."""
        return []
