"""The task of training ``speech-llama``: recordings and their transcripts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from valle.data.transcribed_speech import SpeechBatch, SpeechBatches, Transcribed, read_transcribed
from valle.data.workers import read_batches
from valle.models.checkpoint import hyper_parameters
from valle.models.loss import LossTerm
from valle.models.speech_llama import CTC, LLAMA, SpeechLlama
from valle.tokenizers.frames import frames_of
from valle.tokenizers.registry import tokenizer_to_checkpoint
from valle.tokenizers.text_pieces import text_tokenizer_to_state
from valle.tokenizers.transcripts import Transcripts
from valle.training.distributed import World
from valle.training.speech_llama_build import build_speech_llama
from valle.training.speech_llama_options import SpeechLlamaOptions

STATISTICS_BATCHES = 4  # on which a new encoder's front end takes its statistics


class SpeechLlamaTask:
    """Binds ``SpeechLlama`` to cuts with transcripts."""

    def __init__(self, options: SpeechLlamaOptions) -> None:
        self.options = options
        sizes = {"min_seconds": options.filter_min_duration, "max_seconds": options.filter_max_duration}
        self.train_speech, self.valid_speech = (
            read_transcribed(options.manifest_dir / f"cuts_{part}.jsonl.gz", **sizes) for part in ("train", "dev")
        )
        built = build_speech_llama(options)
        self.model: SpeechLlama = built.model
        self.text, self.ctc_text, self.frames = built.text, built.ctc_text, built.frames
        self.has_ctc = built.has_ctc
        self.part = CTC if options.train_stage == CTC else LLAMA
        self.transcripts = Transcripts(self.text, self.ctc_text, bos=self.model.config.bos, prompt=options.prompt)
        if built.encoder_is_new:
            self._take_statistics()

    def _batches(self, speech: list[Transcribed], *, seed: int, epoch: int) -> SpeechBatches:
        rate = self.model.sample_rate if self.frames is None else self.frames.sample_rate
        return SpeechBatches(speech, self.transcripts, sample_rate=rate, max_seconds=self.options.max_duration, seed=seed, epoch=epoch)

    def _take_statistics(self) -> None:
        assert self.model.encoder is not None
        dataset = self._batches(self.train_speech, seed=self.options.seed, epoch=1)
        batches = [dataset[index] for index in range(min(STATISTICS_BATCHES, len(dataset)))]
        longest = max(batch["wav"].shape[1] for batch in batches)
        wav = torch.cat([nn.functional.pad(batch["wav"], (0, longest - batch["wav"].shape[1])) for batch in batches])
        self.model.encoder.front_end.take_statistics(wav, torch.cat([batch["lengths"] for batch in batches]))

    def part_parameters(self) -> dict[str, list[nn.Parameter]]:
        return {self.part: [parameter for parameter in self.model.parameters() if parameter.requires_grad]}

    def batches(self, *, epoch: int, skip: int, world: World) -> Iterator[SpeechBatch]:
        dataset = self._batches(self.train_speech, seed=self.options.seed, epoch=epoch)
        order = range(world.rank, len(dataset) // world.size * world.size, world.size)[skip:]
        return read_batches(dataset, order, num_workers=self.options.num_workers)

    def cuts_of(self, batch: SpeechBatch, *, epoch: int, number: int, world: World) -> list[str]:
        return list(batch.cut_ids)

    def to_device(self, batch: SpeechBatch, device: torch.device) -> SpeechBatch:
        """With a tokenizer's frames in place of the audio, where the model has no encoder of its own."""
        moved = SpeechBatch({name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()})
        if self.frames is not None:
            moved["states"], moved["frames"] = frames_of(self.frames.to(device), moved.pop("wav"), moved.pop("lengths"))
        moved.cut_ids = batch.cut_ids
        return moved

    def describe(self, batch: SpeechBatch) -> dict[str, float]:
        wav, lengths = ("wav", "lengths") if "wav" in batch else ("states", "frames")
        size, filled = batch[wav].shape[0] * batch[wav].shape[1], float(batch[lengths].sum())
        return {"batch_size": len(batch[wav]), "frames": filled, "padding": 1 - filled / size}

    def validation_batches(self, world: World, *, of_train: bool = False) -> Iterator[SpeechBatch]:
        speech = (self.train_speech if of_train else self.valid_speech)[: self.options.valid_max_cuts]
        dataset = self._batches(speech, seed=0, epoch=0)
        return (dataset[index] for index in range(world.rank, len(dataset), world.size))

    def validation_loss(self, batch: SpeechBatch) -> Mapping[str, LossTerm]:
        return self.model.terms(batch)

    def part_of(self, valid_name: str) -> str:
        return self.part

    def seen_seconds(self, batch: SpeechBatch) -> Mapping[str, float]:
        return {}

    def longest_batches(self) -> Iterator[SpeechBatch]:
        return iter(())

    def after_step(self, step: int, share_done: float) -> None:
        """Nothing follows a step."""

    def checkpoint_fields(self, seen: Mapping[str, float] | None = None) -> dict[str, Any]:
        frames = self.frames
        return {
            **hyper_parameters(self.options),
            "speech_llama": self.model.config.to_dict(),
            "identities": {
                "frames": frames.identity.to_dict() if frames is not None else None, "text": self.text.identity.to_dict(),
                "ctc_text": self.ctc_text.identity.to_dict(),
            },
            "timeline": None,
            "tokenizers": {
                "frames": tokenizer_to_checkpoint(frames) if frames is not None else None, "text": text_tokenizer_to_state(self.text),
                "ctc_text": text_tokenizer_to_state(self.ctc_text),
            },
            "has_ctc": self.has_ctc,
            "longest_seconds": max(float(utterance.cut.duration) for utterance in self.train_speech),
        }  # fmt: skip

    def samples(self, step: int) -> list[tuple[str, Tensor, int]]:
        """Text has no sound."""
        return []
