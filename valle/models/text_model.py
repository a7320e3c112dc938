"""Released causal text models as what ``joint-lm`` grows from: Llama and SmolLM, Mistral, Qwen2, by their folder.

Only ``config.json`` and ``*.safetensors`` are read, never a pickle, and no code of the folder is run.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from valle.errors import UserError
from valle.models.joint_config import JointLMConfig

MODEL_TYPES = ("llama", "mistral", "qwen2")


class TextModelError(UserError):
    """A text model that cannot be read or grown."""


@dataclass(frozen=True)
class TextModel:
    """A text LM: its sizes, without units, and its weights under ``JointLM``'s names."""

    config: JointLMConfig
    weights: dict[str, Tensor]


def load_text_model(folder: Path) -> TextModel:
    """The text model in ``folder``, fp32; raises ``TextModelError`` for another architecture or damaged files."""
    values = _read_config(folder)
    config = _sizes(values, folder)
    weights = _read_weights(folder)
    try:
        own = {"embed.weight": weights["model.embed_tokens.weight"], "transformer.final_norm.weight": weights["model.norm.weight"]}
        if not config.tied:
            own["head.weight"] = weights["lm_head.weight"]
        for layer in range(config.num_layers):
            own.update(_block(weights, f"model.layers.{layer}.", f"transformer.blocks.{layer}.", config))
    except KeyError as error:
        raise TextModelError(f"expected the weights {error} in {folder}, found none; download the model again") from error
    return TextModel(config, {name: tensor.float() for name, tensor in own.items()})


def _block(weights: dict[str, Tensor], theirs: str, ours: str, config: JointLMConfig) -> dict[str, Tensor]:
    heads = [f"{theirs}self_attn.{name}_proj" for name in "qkv"]
    own = {
        f"{ours}attention_norm.weight": weights[f"{theirs}input_layernorm.weight"],
        f"{ours}feedforward_norm.weight": weights[f"{theirs}post_attention_layernorm.weight"],
        f"{ours}qkv.weight": torch.cat([weights[f"{name}.weight"] for name in heads]),
        f"{ours}out.weight": weights[f"{theirs}self_attn.o_proj.weight"],
        f"{ours}expand.weight": torch.cat([weights[f"{theirs}mlp.{name}_proj.weight"] for name in ("gate", "up")]),
        f"{ours}project.weight": weights[f"{theirs}mlp.down_proj.weight"],
    }
    if config.qkv_bias:
        own[f"{ours}qkv.bias"] = torch.cat([weights[f"{name}.bias"] for name in heads])
    return own


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TextModelError(f"expected a text model's config.json in {folder}, found none that can be read; name its folder") from error
    if not isinstance(values, dict) or values.get("model_type") not in MODEL_TYPES:
        found = values.get("model_type") if isinstance(values, dict) else None
        raise TextModelError(f"expected a text model of type {', '.join(MODEL_TYPES)} in {folder}, found {found!r}; choose another model")
    return values


def _sizes(values: dict[str, Any], folder: Path) -> JointLMConfig:
    scaling = values.get("rope_scaling") or {}
    rotary = values.get("rope_parameters") or scaling
    kind = rotary.get("rope_type", rotary.get("type", "default"))
    odd = {
        "rotary positions that are scaled": kind != "default",
        f"the activation {values.get('hidden_act')!r}": values.get("hidden_act", "silu") != "silu",
        "biases after attention": bool(values.get("attention_bias") or values.get("mlp_bias")),
    }
    for what, is_there in odd.items():
        if is_there:
            raise TextModelError(f"expected a plain model of type {values['model_type']} in {folder}, found {what}; choose another model")
    try:
        heads, width = int(values["num_attention_heads"]), int(values["hidden_size"])
        return JointLMConfig(
            d_model=width, nhead=heads, num_layers=int(values["num_hidden_layers"]), dim_feedforward=int(values["intermediate_size"]),
            body="gated", num_kv_heads=int(values.get("num_key_value_heads") or heads),
            head_dim=int(values.get("head_dim") or width // heads),
            norm_eps=float(values.get("rms_norm_eps", 1e-6)),
            rotary_base=float(rotary.get("rope_theta") or values.get("rope_theta") or 10000.0),
            qkv_bias=values["model_type"] == "qwen2", tied=bool(values.get("tie_word_embeddings", False)),
            num_pieces=int(values["vocab_size"]),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise TextModelError(f"expected the sizes of a text model in {folder / 'config.json'}, found no good {error}") from error


def _read_weights(folder: Path) -> dict[str, Tensor]:
    paths = sorted(folder.glob("*.safetensors"))
    if not paths:
        raise TextModelError(f"expected *.safetensors in {folder}, found none; pickled weights are not read, convert them")
    weights: dict[str, Tensor] = {}
    for path in paths:
        try:
            weights.update(load_file(path))
        except (SafetensorError, OSError) as error:
            raise TextModelError(f"{path} is damaged ({error}); download it again") from error
    return weights


def read_special_pieces(folder: Path) -> tuple[int, int]:
    """The numbers of BOS and EOS by a text model's ``config.json``; EOS for both where it names no BOS."""
    values = _read_config(folder)
    found = []
    for name in ("bos_token_id", "eos_token_id"):
        given = values.get(name)
        found.append(given[0] if isinstance(given, list) and given else given)
    bos, eos = found
    if not isinstance(eos, int) or isinstance(eos, bool):
        raise TextModelError(f"expected the number of EOS (eos_token_id) in {folder / 'config.json'}, found {eos!r}; download it again")
    return (bos if isinstance(bos, int) else eos), eos
