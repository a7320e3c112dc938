"""speech-llama: a text LM that reads speech (Fathullah et al. 2023, "Prompting large language models with speech recognition abilities").

An encoder's frames are stacked, projected to the LM's width and put before its BOS; a prompt in plain text may follow; then the LM writes
what was said, to EOS, which the loss counts.  The encoder learns by CTC on text pieces.  The LM is frozen, changed by LoRA, or trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from valle.models.ctc import ctc_term
from valle.models.draft_heads import descending_too, draft_heads, draft_terms
from valle.models.joint_lm import JointLM
from valle.models.loss import LossTerm, loss_term, small_head
from valle.models.speech_llama_config import SpeechLlamaConfig
from valle.models.weights import refuse_unfitting
from valle.modules.lora import add_lora, merge_lora
from valle.modules.masks import valid_mask
from valle.modules.transformer import Attend
from valle.tokenizers.speech_encoder import SpeechEncoder

Trained = Literal["all", "ctc", "llama"]
CTC, LLAMA = "ctc", "llama"  # what is learned: by the encoder alone, and by all


class SpeechLlama(nn.Module):
    """``model(batch)`` returns the one part of what training descends, as the loop asks; ``lm`` is a text LM with its weights.

    Batches hold ``wav (B, T) lengths (B,)``, or a tokenizer's ``states (B, F, D) frames (B,)`` where the model has no encoder of its own;
    and ``pieces (B, P) piece_lengths (B,)`` in the LM's pieces, ``ctc_pieces``, ``ctc_lengths`` in those of CTC, ``prompts (B, M)`` and
    ``prompt_lengths (B,)``, a row's BOS and what else stands before its text.
    """

    possible: Tensor

    def __init__(self, config: SpeechLlamaConfig, lm: JointLM | None = None) -> None:
        super().__init__()
        self.config = config
        self.trained: Trained = "all"
        self.ctc_weight, self.draft_weight = 1.0, 0.3
        self.tunes_encoder = False  # whether the LM's loss reaches the encoder
        self.encoder = SpeechEncoder(config.encoder) if config.encoder is not None else None
        self.ctc_head = small_head(config.frame_dim, config.ctc_pieces + 1)
        self.lm = JointLM(config.lm) if lm is None else lm
        self.project = nn.Linear(config.stacked * config.frame_dim, config.lm.d_model)
        self._init_projection()
        self.drafts = draft_heads(
            dim=config.lm.d_model, vocabulary_size=config.lm.vocabulary.size, number=config.drafts, chained=config.chained_drafts
        )
        possible = torch.zeros(config.lm.vocabulary.size, dtype=torch.bool)
        possible[: config.lm.num_pieces] = True
        possible[config.eos] = True
        self.register_buffer("possible", possible, persistent=False)
        if config.has_lora:
            add_lora(self.lm.transformer, rank=config.lora_rank, alpha=config.lora_alpha)

    def _init_projection(self) -> None:
        """Embeddings of speech begin as large as those of text."""
        weight = self.lm.embed.weight
        deviation = 0.02 if weight.is_meta else float(weight.detach().float().std())
        nn.init.normal_(self.project.weight, std=deviation * self.project.in_features**-0.5)
        nn.init.zeros_(self.project.bias)

    def train_only(self, trained: Trained, *, tunes_encoder: bool) -> None:
        """Let ``trained`` alone require gradients: ``ctc`` the encoder with its head, ``llama`` the rest; a frozen LM never does."""
        self.trained, self.tunes_encoder = trained, tunes_encoder
        self.requires_grad_(False)
        learning: list[nn.Module | None] = []
        if trained != LLAMA or tunes_encoder:
            learning.append(self.encoder)
        if trained != LLAMA:
            learning.append(self.ctc_head)
        if trained != CTC:
            learning += [self.project, self.drafts, self.lm if self.config.lm_training == "full" else None]
        for module in learning:
            if module is not None:
                module.requires_grad_(True)
        if trained != CTC and self.config.has_lora:
            for name, parameter in self.lm.named_parameters():
                parameter.requires_grad_("lora_" in name)

    def hear(self, wav: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """``wav (B, T)``, ``lengths (B,)`` samples -> the encoder's frames ``(B, F, D)`` after its last norm, ``frames (B,)``."""
        assert self.encoder is not None  # else a tokenizer hears
        frames = self.encoder.num_frames(lengths)
        return self.encoder.context(self.encoder.embed(self.encoder.hear(wav, lengths)), frames), frames

    def embed_speech(self, states: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """``states (B, F, D)`` of ``frames (B,)`` -> embeddings ``(B, A, D_lm)``, and how many of them each row has.

        Frames past a row's end count as zeros, so that a row in a batch is the row alone.
        """
        stacked = self.config.stacked
        states = states * valid_mask(frames, states.shape[1])[..., None]
        states = nn.functional.pad(states, (0, 0, 0, -states.shape[1] % stacked))
        counts = torch.div(frames + stacked - 1, stacked, rounding_mode="floor")
        return self.project(states.unflatten(1, (-1, stacked)).flatten(2)), counts

    def scores(self, hidden: Tensor) -> Tensor:
        """``hidden (..., D)`` -> logits ``(..., V)`` of the next token; what is neither text nor EOS is impossible."""
        return self.lm.scores(hidden).masked_fill(~self.possible, -torch.inf)

    @property
    def sample_rate(self) -> int:
        """Of what the encoder hears, in Hz."""
        assert self.config.encoder is not None  # else a tokenizer hears
        return self.config.encoder.sample_rate

    @property
    def embed(self) -> nn.Module:
        return self.lm.embed

    @property
    def num_drafts(self) -> int:
        return 0 if self.drafts is None else self.drafts.number

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, LossTerm]:
        terms = self.terms(batch)
        if self.trained == CTC:
            return {CTC: terms[CTC]}
        drafts = [term for name, term in terms.items() if name not in (CTC, LLAMA)]
        term = descending_too(terms[LLAMA], drafts, weight=self.draft_weight)
        if self.trained == "all":  # no parameter is moved by both, unless the LM's loss reaches the encoder too
            term = descending_too(term, [terms[CTC]], weight=self.ctc_weight)
        return {LLAMA: term}

    def terms(self, batch: Mapping[str, Tensor]) -> dict[str, LossTerm]:
        """The loss of CTC, of the LM, and of every draft head, as far as they are trained."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and (self.trained != LLAMA or self.tunes_encoder)):
            states, frames = self.hear(batch["wav"], batch["lengths"]) if self.encoder is not None else (batch["states"], batch["frames"])
        found: dict[str, LossTerm] = {}
        if self.trained != LLAMA:
            found[CTC] = ctc_term(self.ctc_head(states), frames, batch["ctc_pieces"], batch["ctc_lengths"])
        if self.trained != CTC:
            speech, counts = self.embed_speech(states if self.tunes_encoder else states.detach(), frames)
            found |= self._text_terms(speech, counts, batch)
        return found

    def _text_terms(self, speech: Tensor, counts: Tensor, batch: Mapping[str, Tensor]) -> dict[str, LossTerm]:
        """Speech ``(B, A, D)``, ``counts (B,)``, then prompt and pieces: a row's three parts stand close together, its padding behind."""
        pieces, lengths = batch["pieces"], batch["piece_lengths"]
        parts = torch.cat([speech, self.lm.embed(batch["prompts"]), self.lm.embed(pieces)], 1)  # (B, A + M + P, D), padded in between
        heard, asked = counts[:, None], counts[:, None] + batch["prompt_lengths"][:, None]
        first_asked, first_said = speech.shape[1], speech.shape[1] + batch["prompts"].shape[1]
        place = torch.arange(parts.shape[1], device=pieces.device)
        source = torch.where(place < heard, place, torch.where(place < asked, first_asked + place - heard, first_said + place - asked))
        hidden = self.lm.transformer(_taken(parts, source), Attend.causally())
        place = place[: pieces.shape[1] + 1]
        hidden = _taken(hidden, asked - 1 + place)  # (B, P + 1, D): what predicts each piece, and EOS
        targets = nn.functional.pad(pieces, (0, 1)).masked_fill(place == lengths[:, None], self.config.eos)
        valid = place <= lengths[:, None]
        found = {LLAMA: loss_term(self.scores(hidden), targets, valid)}
        if self.drafts is not None:
            found |= draft_terms(LLAMA, self.drafts.terms(hidden, targets, valid, embed=self.lm.embed))
        return found

    def merge_lora(self) -> SpeechLlama:
        """Itself with LoRA's changes in the weights, for decoding and release."""
        if self.config.has_lora:
            merge_lora(self.lm.transformer)
            self.config = self.config.merged()
        return self

    @classmethod
    def from_weights(cls, fields: Any, weights: Mapping[str, Tensor]) -> SpeechLlama:
        """The model of a file's ``fields`` and ``weights``, in evaluation mode; raises ``UserError`` unless they fit."""
        config = SpeechLlamaConfig.from_fields(fields)
        model = cls(config)
        wanted = model.state_dict()
        refuse_unfitting(weights, wanted)
        model.load_state_dict(dict(weights))
        return model.eval()


def _taken(rows: Tensor, places: Tensor) -> Tensor:
    """``rows (B, S, D)`` at ``places (B, N)`` -> ``(B, N, D)``; places past the end take the last."""
    return rows.gather(1, places.clamp(max=rows.shape[1] - 1)[..., None].expand(-1, -1, rows.shape[2]))
