"""speech-llama: a loss on text and EOS alone, padding that changes nothing, LoRA that begins as nothing, drafts that change no text."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny_text_models import KINDS, write_text_model
from torch import Tensor

from valle.errors import UserError
from valle.models.joint_config import JointLMConfig
from valle.models.joint_lm import JointLM
from valle.models.speech_llama import CTC, LLAMA, SpeechLlama
from valle.models.speech_llama_config import SPEECH_LLAMA_7B, SpeechLlamaConfig
from valle.models.speech_llama_decoding import write_down
from valle.models.text_model import load_text_model, read_special_pieces
from valle.modules.lora import merge_lora
from valle.modules.transformer import Attend
from valle.tokenizers.speech_encoder import SpeechEncoderConfig

LM = JointLMConfig(d_model=16, nhead=2, num_layers=2, dim_feedforward=32, num_pieces=30)
ENCODER = SpeechEncoderConfig(d_model=16, nhead=2, num_layers=1, dim_feedforward=32, positional_groups=4)
CONFIG = SpeechLlamaConfig(
    lm=LM, bos=30, eos=31, encoder=ENCODER, frame_dim=16, ctc_pieces=10, stride_ms=80, lora_rank=2, lora_alpha=4.0
)
FRAMES = replace(CONFIG, encoder=None, frame_dim=6)  # of a tokenizer


def random_model(config: SpeechLlamaConfig = CONFIG, *, std: float = 0.4) -> SpeechLlama:
    """With weights so large that every input shows in the output; LoRA's among them."""
    torch.manual_seed(0)
    model = SpeechLlama(config).eval()
    for parameter in model.parameters():
        parameter.data.normal_(std=std)
    return model


def batch(rows: list[tuple[int, list[int], list[int]]], *, dim: int = 6, ctc: list[int] | None = None) -> dict[str, Tensor]:
    """Rows of so many frames, a prompt with BOS, and pieces; frames are a function of their row's number of them."""

    def padded(sequences: list[list[int]]) -> tuple[Tensor, Tensor]:
        longest = max(map(len, sequences))
        return torch.tensor([row + [0] * (longest - len(row)) for row in sequences]), torch.tensor([len(row) for row in sequences])

    states = torch.full((len(rows), max(frames for frames, _, _ in rows), dim), 9.0)  # padding that shows, if it counts
    for place, (frames, _, _) in enumerate(rows):
        states[place, :frames] = torch.randn(frames, dim, generator=torch.Generator().manual_seed(frames))
    found = {"states": states, "frames": torch.tensor([frames for frames, _, _ in rows])}
    found["prompts"], found["prompt_lengths"] = padded([prompt for _, prompt, _ in rows])
    found["pieces"], found["piece_lengths"] = padded([pieces for _, _, pieces in rows])
    found["ctc_pieces"], found["ctc_lengths"] = padded([ctc or [1, 2]] * len(rows))
    return found


def wavs(seconds: list[float]) -> dict[str, Tensor]:
    lengths = [round(16000 * each) for each in seconds]
    wav = torch.full((len(lengths), max(lengths)), 0.5)
    for row, length in zip(wav, lengths, strict=True):
        row[:length] = torch.randn(length, generator=torch.Generator().manual_seed(length)) * 0.1
    return {"wav": wav, "lengths": torch.tensor(lengths)}


ROWS = [(13, [30, 5], [1, 2, 3]), (8, [30], [4]), (21, [30, 6, 7], [8, 9, 10, 11, 12])]


def test_the_loss_counts_text_and_eos_after_speech_bos_and_prompt() -> None:
    model, (frames, prompt, pieces) = random_model(FRAMES), ROWS[0]
    one = batch([ROWS[0]])
    speech, counts = model.embed_speech(one["states"], one["frames"])
    assert speech.shape == (1, 4, 16) and counts.tolist() == [4]  # 13 frames, four to an embedding
    inputs = torch.cat([speech[0], model.embed(torch.tensor([*prompt, *pieces]))])[None]
    log_probability = model.scores(model.lm.transformer(inputs, Attend.causally()))[0].log_softmax(-1)
    nats = sum(-log_probability[4 + len(prompt) - 1 + place, token] for place, token in enumerate([*pieces, 31]))
    term = model.terms(one)[LLAMA]
    assert int(term.count) == len(pieces) + 1 and frames == 13
    torch.testing.assert_close(term.sum, nats)


@pytest.mark.parametrize("stride_ms", [20, 80, 960])
def test_batch_mates_and_padding_change_no_loss(stride_ms: int) -> None:
    model = random_model(replace(FRAMES, stride_ms=stride_ms, drafts=2))
    together = model.terms(batch(ROWS))
    alone = [model.terms(batch([row])) for row in ROWS]
    for name, term in together.items():
        torch.testing.assert_close(term.sum, sum(found[name].sum for found in alone), rtol=1e-4, atol=1e-4)
        assert int(term.count) == sum(int(found[name].count) for found in alone)


def test_what_is_heard_of_audio_is_that_of_the_row_alone() -> None:
    model = random_model()
    together, frames = model.hear(**wavs([0.5, 0.31]))
    alone, [count] = model.hear(**wavs([0.31]))
    assert frames.tolist() == [25, 16] and int(count) == 16
    torch.testing.assert_close(together[1, :16], alone[0], rtol=1e-4, atol=1e-4)
    embedded = model.embed_speech(together, frames)[0][1, :4]
    torch.testing.assert_close(embedded, model.embed_speech(alone, count[None])[0][0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("trained", "lm_training", "names"),
    [
        ("ctc", "full", {"encoder", "ctc_head"}),
        ("llama", "frozen", {"project", "drafts"}),
        ("llama", "lora", {"project", "drafts", "lora"}),
        ("all", "full", {"encoder", "ctc_head", "project", "drafts", "lm"}),
    ],
)
def test_what_is_trained_moves_and_nothing_else(trained: Any, lm_training: Any, names: set[str]) -> None:
    model = random_model(replace(CONFIG, lm_training=lm_training, drafts=1)).train()
    model.train_only(trained, tunes_encoder=False)
    terms = model({**batch(ROWS, dim=16), **wavs([0.3, 0.4, 0.5])})
    assert set(terms) == {CTC if trained == "ctc" else LLAMA}
    next(iter(terms.values())).sum.backward()
    moved = {"lora" if "lora_" in name else name.partition(".")[0]
             for name, parameter in model.named_parameters() if parameter.grad is not None}  # fmt: skip
    assert moved == names
    assert all(parameter.grad is not None for parameter in model.parameters() if parameter.requires_grad), "or DDP waits for ever"


def test_the_lms_loss_reaches_the_encoder_only_if_asked() -> None:
    inputs, gradients = {**batch(ROWS, dim=16), **wavs([0.3, 0.4, 0.5])}, []
    for trained, tunes in (("ctc", False), ("all", False), ("all", True)):
        model = random_model(replace(CONFIG, lm_training="full"))
        model.train_only(trained, tunes_encoder=tunes)  # type: ignore[arg-type]
        next(iter(model(inputs).values())).sum.backward()
        assert model.encoder is not None
        gradients.append(model.encoder.project.weight.grad)
    torch.testing.assert_close(gradients[0], gradients[1])
    assert not torch.allclose(gradients[1], gradients[2])


@pytest.mark.parametrize("kind", ["own", *KINDS])
def test_lora_begins_as_the_text_lm_and_its_changes_go_into_the_weights(kind: str, tmp_path: Any) -> None:
    if kind == "own":
        torch.manual_seed(0)
        lm = JointLM(LM)
    else:
        write_text_model(kind, tmp_path)
        found = load_text_model(tmp_path)
        lm = JointLM(found.config)
        lm.take_text_model(found.weights, new_rows="zero")
    lm.eval()
    tokens = torch.randint(30, (2, 9), generator=torch.Generator().manual_seed(1))
    before = lm.logits(tokens).detach()
    names = set(lm.state_dict())
    config = replace(FRAMES, lm=lm.config, bos=1, eos=2)
    model = SpeechLlama(config, lm).eval()
    torch.testing.assert_close(model.lm.logits(tokens), before)
    changes = {name: parameter for name, parameter in model.named_parameters() if "lora_" in name}
    layers, kv = lm.config.num_layers, (lm.config.num_kv_heads or lm.config.nhead) * (lm.config.head_dim or 8)
    width = lm.config.d_model
    numbers = layers * 2 * (2 * (width + width) + 2 * (width + kv))
    assert sum(change.numel() for change in changes.values()) == numbers, "rank 2 on q, k, v, o"
    for change in changes.values():
        change.data.normal_(std=0.3)
    changed = model.lm.logits(tokens).detach()
    assert not torch.allclose(changed, before)
    merge_lora(model.lm.transformer)
    assert set(model.lm.state_dict()) == names
    torch.testing.assert_close(model.lm.logits(tokens), changed, rtol=1e-4, atol=1e-4)


def embedded(model: SpeechLlama) -> list[Tensor]:
    whole = batch(ROWS)
    speech, counts = model.embed_speech(whole["states"], whole["frames"])
    return [row[:count] for row, count in zip(speech, counts.tolist(), strict=True)]


def test_what_is_written_is_the_likeliest_of_the_whole_sequence_alone_as_together() -> None:
    model = random_model(replace(FRAMES, lm_training="full"))
    prompts, speech = [prompt for _, prompt, _ in ROWS], embedded(model)
    rows = write_down(model, speech, prompts, max_new=12)
    assert rows == [write_down(model, [one], [prompt], max_new=12)[0] for one, prompt in zip(speech, prompts, strict=True)]
    for heard, prompt, row in zip(speech, prompts, rows, strict=True):
        tokens = list(prompt)
        for piece in row:
            inputs = torch.cat([heard, model.embed(torch.tensor(tokens))])[None]
            assert int(model.scores(model.lm.transformer(inputs, Attend.causally()))[0, -1].argmax()) == piece < 30
            tokens.append(piece)
    assert len({tuple(row) for row in rows}) > 1, "what is heard counts"
    assert write_down(model, [speech[0][:0]], [prompts[0]], max_new=12) != [rows[0]]


@pytest.mark.parametrize("chained", [False, True])
@pytest.mark.parametrize("std", [0.1, 0.4])
def test_draft_heads_change_no_text(chained: bool, std: float) -> None:
    model = random_model(replace(FRAMES, lm_training="full", drafts=3, chained_drafts=chained), std=std)
    prompts, speech = [prompt for _, prompt, _ in ROWS], embedded(model)
    plain = write_down(model, speech, prompts, max_new=30)
    for tokens in (1, 3):
        assert write_down(model, speech, prompts, max_new=30, draft_tokens=tokens) == plain
    with pytest.raises(UserError, match="needs as many draft heads, found 3"):
        write_down(model, speech, prompts, max_new=5, draft_tokens=4)


def test_sizes_that_do_not_fit_are_refused() -> None:
    for changes in ({"stride_ms": 90}, {"stride_ms": 0}, {"bos": 99}, {"lm_training": "some"}, {"frame_dim": 12}, {"drafts": 99}):
        with pytest.raises(UserError, match="found"):
            replace(CONFIG, **changes)
    fields = CONFIG.to_dict()
    assert SpeechLlamaConfig.from_fields(fields) == CONFIG
    for broken in ({**fields, "more": 1}, {"lm": fields["lm"]}, {**fields, "lm": {"d_model": "wide"}}, {**fields, "encoder": {"width": 3}}):
        with pytest.raises(UserError, match="expected"):
            SpeechLlamaConfig.from_fields(broken)


def test_bos_and_eos_are_those_of_the_released_model(tmp_path: Any) -> None:
    write_text_model("qwen2", tmp_path, bos_token_id=None, eos_token_id=[7, 8])
    assert read_special_pieces(tmp_path) == (7, 7)
    write_text_model("llama", tmp_path, bos_token_id=1, eos_token_id=2)
    assert read_special_pieces(tmp_path) == (1, 2)
    write_text_model("llama", tmp_path, bos_token_id=None, eos_token_id=None)
    with pytest.raises(UserError, match="the number of EOS"):
        read_special_pieces(tmp_path)


def test_the_papers_size_has_the_parameters_of_llama_7b_and_lora_of_rank_8_and_steps_on_the_meta_device() -> None:
    config = SPEECH_LLAMA_7B
    with torch.device("meta"):
        model = SpeechLlama(config)
        model.train_only("llama", tunes_encoder=False)
        counts: dict[str, int] = {}
        for name, parameter in model.named_parameters():
            part = "lora" if "lora_" in name else name.partition(".")[0]
            counts[part] = counts.get(part, 0) + parameter.numel()
        new_rows = 2 * config.lm.d_model * 3  # of both tables, which no token of LLaMA's uses
        assert counts["lm"] - new_rows == 6_738_415_616
        assert counts["lora"] == 32 * 4 * 8 * (4096 + 4096) == 8_388_608
        assert counts["project"] == 4 * 512 * 4096 + 4096
        trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
        assert trained == counts["lora"] + counts["project"]
        rows = torch.full((2,), 40)
        inputs = {name: torch.zeros(2, 40, dtype=torch.int64) for name in ("pieces", "prompts")}
        inputs |= {"piece_lengths": rows, "prompt_lengths": rows, "frames": rows, "states": torch.zeros(2, 40, 512)}
        assert model.encoder is not None and model.encoder.context(model.encoder.embed(torch.zeros(2, 40, 160)), rows).shape == (2, 40, 512)
        model.encoder = None  # of frames that are given
        model(inputs)[LLAMA].sum.backward()
    assert all(parameter.grad is not None for parameter in model.parameters() if parameter.requires_grad)
