"""A text LM with its tokenizer and its BOS and EOS: this project's own, or a released one by its folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from valle.errors import UserError
from valle.models.joint_lm import JointLM
from valle.models.joint_released import load_joint
from valle.models.text_model import load_text_model, read_special_pieces
from valle.tokenizers.text_pieces import TextTokenizer, load_text_tokenizer


@dataclass(frozen=True)
class TextLm:
    """What continues text; ``bos`` stands before it and ``eos`` after it."""

    model: JointLM
    text: TextTokenizer
    bos: int
    eos: int


def load_text_lm(path: Path) -> TextLm:
    """The LM of a ``joint-lm`` run (a checkpoint, a trainer's folder, a released folder), or of the folder of a released text model."""
    if (path / "config.json").is_file():
        return _released(path)
    joint = load_joint(path)
    return TextLm(joint.model, joint.text, joint.model.bos, joint.model.eos)


def _released(folder: Path) -> TextLm:
    found, text = load_text_model(folder), load_text_tokenizer(folder)
    if text.num_pieces > found.config.num_pieces:
        raise UserError(
            f"expected a tokenizer of at most {found.config.num_pieces} pieces, as the model in {folder} has rows, found one of "
            f"{text.num_pieces}; download both again"
        )
    model = JointLM(found.config)
    model.take_text_model(found.weights, new_rows="zero")  # which no token of this LM uses
    bos, eos = read_special_pieces(folder)
    return TextLm(model, text, bos, eos)
