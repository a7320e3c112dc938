"""AudioLM: units are continued, then turned into codes (Borsos et al. 2022, 3.2), coarse to fine as in VALL-E."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from operator import index
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from valle.decoding.sampling import Sampling
from valle.device import find_device, find_dtype
from valle.errors import UserError
from valle.models.acoustic.base import AcousticRequest, pad_codes
from valle.models.config import AudioLMConfig
from valle.models.folder import (
    ReleasedModelError,
    read_model_config,
    read_released_weights,
    refuse_other_content,
    replacing_folder,
    smallest_dtype,
    write_model,
)
from valle.models.hub import find_model
from valle.models.loss import LossTerm
from valle.models.registry import acoustic_type, semantic_type
from valle.models.stage import SemanticStage, Stage
from valle.models.weights import refuse_unfitting


class AudioLM(nn.Module):
    """All stages behind one constructor; keyword arguments are the fields of ``AudioLMConfig``.

    With ``num_units`` there is a semantic stage and the acoustic ones are conditioned on units; without, it is the
    VALL-E variant that continues a prompt of codes.

    >>> import torch
    >>> from valle import AudioLM
    >>> model = AudioLM(d_model=64, nhead=4, num_layers=2, num_quantizers=4)
    >>> prompt = torch.randint(1024, (1, 150, 4))  # (B, T, Q) codes
    >>> model.inference(prompt, torch.tensor([150]), max_new_tokens=20).shape
    torch.Size([1, 20, 4])
    >>> model.save_pretrained("language-models")
    >>> AudioLM.from_pretrained("language-models").config == model.config
    True
    """

    def __init__(self, **fields: Any) -> None:
        super().__init__()
        AudioLMConfig.refuse_unknown(fields)
        config = AudioLMConfig(**fields)
        self.config = config
        semantic, acoustic = semantic_type(config), acoustic_type(config.acoustic_model)
        stages: dict[str, Stage] = {} if semantic is None else {semantic.name: semantic(config)}
        acoustic_stages = {stage.name: stage(config) for stage in acoustic.types_for(config)}
        self._stage_names = [*stages, *acoustic_stages]
        for name, stage in {**stages, **acoustic_stages}.items():
            self.add_module(name, stage)
        self.acoustic = acoustic(config, acoustic_stages)  # no module: its stages are this one's own, under their names

    @classmethod
    def from_config(cls, config: AudioLMConfig) -> AudioLM:
        return cls(**vars(config))

    @classmethod
    def from_weights(cls, fields: Any, weights: Any) -> AudioLM:
        """The model of a file's ``fields`` and ``weights``, fp32, in evaluation mode; raises ``UserError`` unless they fit.

        Names and shapes are compared before memory is taken, of which a damaged file may ask for any amount.
        """
        if not (isinstance(fields, Mapping) and isinstance(weights, Mapping) and all(isinstance(x, Tensor) for x in weights.values())):
            raise UserError("expected settings and weights by name, found something else")
        with torch.device("meta"):
            wanted = cls(**fields).state_dict()
        refuse_unfitting(weights, wanted)
        model = cls(**fields)
        model.load_state_dict(dict(weights))
        return model.eval()

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        dtype: torch.dtype | str = torch.float32,
        device: torch.device | str = "cpu",
        revision: str | None = None,
    ) -> AudioLM:
        """The stages of a released model, by its folder or its name on the hub, in evaluation mode; tokenizers stay where they are.

        ``revision`` is a branch, tag or commit on the hub.  Raises ``UserError`` where nothing usable is found.
        """
        folder = find_model(name, revision=revision, with_tokenizers=False)
        config, weights = read_model_config(folder), read_released_weights(folder)
        try:
            model = cls.from_weights(config["model"], weights)
        except UserError as error:
            raise ReleasedModelError(f"the model in {folder} is damaged ({error}); copy or export it again") from error
        return model.to(device=find_device(str(device)), dtype=find_dtype(dtype))

    def save_pretrained(self, folder: str | Path, *, dtype: torch.dtype | str | None = None) -> None:
        """Write ``config.yaml`` and ``model.safetensors``, from which ``from_pretrained`` builds the same model; no tokenizers.

        Without ``dtype``, weights that float16 holds exactly are stored so, and others as they are.
        """
        folder, weights = Path(folder), self.state_dict()
        refuse_other_content(folder)
        with replacing_folder(folder) as temporary:
            stored = smallest_dtype(weights) if dtype is None else find_dtype(dtype)
            write_model(temporary, {"model": asdict(self.config)}, weights, dtype=stored)

    def stages(self) -> dict[str, Stage]:
        """The stages by name, in the order in which they run; they share no parameter."""
        return {name: self.get_submodule(name) for name in self._stage_names}  # type: ignore[misc]

    @property
    def unit_stage(self) -> SemanticStage | None:
        """The stage that continues units; None without units."""
        return next((stage for stage in self.stages().values() if isinstance(stage, SemanticStage)), None)

    def acoustic_stages(self) -> dict[str, Stage]:
        """The stages of the acoustic model."""
        return {name: stage for name, stage in self.stages().items() if not isinstance(stage, SemanticStage)}

    def start_from_codebooks(self, codebooks: Tensor) -> None:
        """Before training, give the stages of codes the codec's ``codebooks (Q, K, D)`` to start from."""
        expected = (self.config.num_quantizers, self.config.codebook_size)
        if codebooks.ndim != 3 or len(codebooks) < expected[0] or codebooks.shape[1] != expected[1]:
            shape = f"({expected[0]}, {expected[1]}, D)"
            raise UserError(f"expected codebooks of shape {shape}, found {tuple(codebooks.shape)}; are they this model's codec's?")
        for stage in self.stages().values():
            stage.start_from_codebooks(codebooks)

    def forward(self, batch: Mapping[str, Mapping[str, Tensor]]) -> dict[str, LossTerm]:
        return self.loss(batch)

    def loss(self, batch: Mapping[str, Mapping[str, Tensor]]) -> dict[str, LossTerm]:
        """Sum and count of every stage that the batch names; each entry holds the keyword arguments of that stage's ``loss``."""
        stages = self.stages()
        for name in batch:
            if name not in stages:
                raise UserError(f"expected tensors for {', '.join(stages)}, found {name!r}, which this model does not have")
        return {name: stages[name].loss(**tensors) for name, tensors in batch.items()}

    def inference(
        self,
        x: Tensor,
        x_lens: Tensor,
        max_new_tokens: int,
        temperature: float = 1.0,
        *,
        top_k: int = 0,
        top_p: float = 1.0,
        guidance: float = 1.0,
        seed: int = 0,
        window: int | None = None,
    ) -> Tensor:
        """Continue codes without units: ``x (B, T, Q)``, ``x_lens (B,)`` frames -> the new codes ``(B, max_new_tokens, Q)``.

        Exactly ``max_new_tokens`` frames follow each row's own prompt; ``window`` is the length in frames past which the
        context slides, by default those that the stages were trained on, or none where the configuration does not know them.
        ``guidance`` above 1 follows the prompt more closely, if training left it out now and then.  ``seed`` is of any integer type.
        """
        if self.config.num_units is not None:
            raise UserError("this model is conditioned on units: continue audio by valle.Pipeline, or build AudioLM without num_units")
        if x.ndim != 3 or x.shape[2] < self.config.num_quantizers:
            raise UserError(f"expected codes of shape (B, T, Q) with Q at least {self.config.num_quantizers}, found {tuple(x.shape)}")
        if x_lens.shape != (len(x),) or (len(x) and not 0 <= int(x_lens.min()) <= int(x_lens.max()) <= x.shape[1]):
            raise UserError(f"expected {len(x)} lengths of 0 to {x.shape[1]} frames, found {x_lens.tolist()}")
        if max_new_tokens < 0:
            raise UserError(f"max_new_tokens must be 0 or more, found {max_new_tokens}")
        if len(x) == 0:
            return x.new_zeros(0, max_new_tokens, self.config.num_quantizers, dtype=torch.int64)
        prompts = [row[:length, : self.config.num_quantizers] for row, length in zip(x, x_lens.tolist(), strict=True)]
        given = torch.cat(prompts)  # without the padding, which may be any number
        if given.numel() and not 0 <= int(given.min()) <= int(given.max()) < self.config.codebook_size:
            raise UserError(
                f"expected codes of 0 to {self.config.codebook_size - 1}, found {int(given.min())} to {int(given.max())}; "
                "is codebook_size the codec's?"
            )
        totals = [len(prompt) + max_new_tokens for prompt in prompts]
        plain = Sampling(temperature=temperature, top_k=top_k, top_p=top_p)
        sampling = {
            name: replace(plain, guidance=guidance) if stage.takes_guidance else plain for name, stage in self.stages().items()
        }  # fmt: skip
        unbounded = 2 * max(totals) + 2  # half of a window is context, so that every row sees all of its prompt
        trained = self.config.trained_frames or {}
        windows = {stage: window or trained.get(stage, unbounded) for stage in self.stages()}
        request = AcousticRequest(
            prompt_codes=prompts, num_frames=totals, seeds=[index(seed) + row for row in range(len(prompts))], units=None,
            sampling=sampling, windows=windows,
        )  # fmt: skip
        rows = self.acoustic.generate(request)
        new, _ = pad_codes([codes[len(prompt) :] for codes, prompt in zip(rows, prompts, strict=True)])
        return new.clone()


def count_parameters(model: nn.Module) -> int:
    """Learned numbers in all."""
    return sum(parameter.numel() for parameter in model.parameters())


def stage_state(model: AudioLM, stage: str) -> dict[str, Tensor]:
    """The weights of one stage, by the names they have in the whole model."""
    return {name: tensor for name, tensor in model.state_dict().items() if name.startswith(f"{stage}.")}
