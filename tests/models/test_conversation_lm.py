"""The next turn's codes: what the loss counts, what a turn depends on, and CSM's own shape and arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_dialogues import tiny_conversation
from torch import Tensor

from valle.decoding.sampling import Sampling
from valle.errors import UserError
from valle.models.audio_lm import count_parameters
from valle.models.conversation import NO_PIECE, ConversationLM
from valle.models.conversation_config import CSM_1B, ConversationConfig
from valle.models.conversation_decoding import NextTurn, next_turns
from valle.models.conversation_released import ReleasedConversation
from valle.models.conversation_turns import Positions, SpokenTurn, TurnSequences
from valle.modules.transformer import Attend

GATED = {"body": "gated", "num_kv_heads": 1, "depth_num_kv_heads": 1, "depth_dim_feedforward": 24}
SAMPLING = Sampling(temperature=4.0)


@pytest.fixture(params=[{}, GATED], ids=["transformer", "gated"])
def released(request: pytest.FixtureRequest) -> ReleasedConversation:
    return tiny_conversation(**request.param)


def turn(speaker: str, text: str, frames: int, seed: int, *, config: ConversationConfig) -> SpokenTurn:
    codes = np.random.default_rng(seed).integers(0, config.codebook_size, (frames, config.num_levels))
    return SpokenTurn(speaker, text, codes)


def talk(config: ConversationConfig, *, seed: int = 0, frames: int = 7) -> list[SpokenTurn]:
    """Three turns of two speakers."""
    said = (("Anna", "Who lost the hat?"), ("Peter", "The king lost the hat."), ("Anna", "Where did you find the lamp?"))
    return [turn(*line, frames + place, seed + place, config=config) for place, line in enumerate(said)]


def batch_of(rows: Sequence[Positions]) -> dict[str, Tensor]:
    """As the data's batches have it, every frame learned whole."""
    size = max(map(len, rows))
    pieces = torch.zeros(len(rows), size, dtype=torch.int64)
    codes = torch.zeros(len(rows), size, rows[0].codes.shape[1], dtype=torch.int64)
    places, deep = list[int](), list[int]()
    for number, row in enumerate(rows):
        pieces[number, : len(row)], codes[number, : len(row)] = torch.from_numpy(row.pieces), torch.from_numpy(row.codes)
        places += [number * size + place for place in range(row.start, len(row))]
        deep += [number * size + place for place in range(row.start, len(row) - 1)]
    return {
        "pieces": pieces, "codes": codes, "lengths": torch.tensor([len(row) for row in rows]), "places": torch.tensor(places),
        "depth_places": torch.tensor(deep), "depth_weights": torch.ones(len(deep)),
    }  # fmt: skip


def sums(model: ConversationLM, batch: dict[str, Tensor]) -> list[float]:
    with torch.inference_mode():
        return [float(term.sum) for term in model.level_terms(**batch)]


def test_a_row_holds_text_frames_and_ends_of_all_turns(released: ReleasedConversation) -> None:
    config, text = released.model.config, released.text
    row = TurnSequences(config, text).row(talk(config))
    frames = row.pieces == NO_PIECE
    assert int(frames.sum()) == 7 + 8 + 9 + 3 and row.start == len(row) - 10
    assert bool((row.codes[~frames] == config.missing).all())
    ends = row.codes[:, 0] == config.end
    assert int(ends.sum()) == 3 and ends[-1] and bool((row.codes[ends, 1:] == config.missing).all())
    said = [int(piece) for piece in row.pieces if 0 <= piece < config.num_pieces]
    assert text.decode(said).count("[0]") == 2 and text.decode(said).count("[1]") == 1
    open_row = TurnSequences(config, text).prompt(talk(config))
    assert len(open_row) == row.start and np.array_equal(open_row.pieces, row.pieces[: row.start])


def test_the_loss_counts_the_last_turn_alone(released: ReleasedConversation) -> None:
    model, turns = released.model, talk(released.model.config)
    sequences = TurnSequences(model.config, released.text)
    batch = batch_of([sequences.row(turns)])
    terms = model.level_terms(**batch)
    assert [int(term.count) for term in terms] == [10, 9, 9], "level 0 has the end too"
    model.zero_grad()
    model.loss(**batch).sum.backward()
    grad = model.head.weight.grad
    assert grad is not None and bool(grad[model.config.end].abs().sum() > 0)
    earlier = [turn.codes[:, 0] for turn in turns[:-1]]
    swapped = [replace(turn, codes=np.flip(turn.codes, 0)) for turn in turns[:-1]]
    assert earlier and sums(model, batch_of([sequences.row([*swapped, turns[-1]])])) != pytest.approx(sums(model, batch)), "context counts"


def test_a_row_in_a_batch_weighs_as_alone(released: ReleasedConversation) -> None:
    model = released.model
    sequences = TurnSequences(model.config, released.text)
    rows = [sequences.row(talk(model.config, seed=seed, frames=4 + seed)) for seed in range(3)]
    together = sums(model, batch_of(rows))
    alone = [sums(model, batch_of([row])) for row in rows]
    assert together == pytest.approx([sum(level) for level in zip(*alone, strict=True)], rel=1e-5)


def test_few_frames_stand_for_all(released: ReleasedConversation) -> None:
    model = released.model
    batch = batch_of([TurnSequences(model.config, released.text).row(talk(model.config))])
    count = len(batch["depth_places"])
    whole = sums(model, batch)
    parts = []
    for place in range(count):
        chosen = {"depth_places": batch["depth_places"][place : place + 1], "depth_weights": torch.full((1,), float(count))}
        parts.append(sums(model, {**batch, **chosen}))
    assert np.mean(parts, 0) == pytest.approx(whole, rel=1e-5)
    assert all(part[0] == pytest.approx(whole[0]) for part in parts), "level 0 is learned on all frames"


def asked(released: ReleasedConversation, turns: list[SpokenTurn], seed: int = 0) -> NextTurn:
    return NextTurn(TurnSequences(released.model.config, released.text).prompt(turns), max_frames=12, min_frames=3, seed=seed)


def test_a_turn_in_a_batch_is_the_turn_alone(released: ReleasedConversation) -> None:
    rows = [asked(released, talk(released.model.config, seed=seed, frames=3 + 2 * seed), seed) for seed in range(3)]
    together = next_turns(released.model, rows, SAMPLING)
    for row, codes in zip(rows, together, strict=True):
        [alone] = next_turns(released.model, [row], SAMPLING)
        assert torch.equal(alone, codes) and 3 <= len(codes) <= 12
        assert bool(((codes >= 0) & (codes < released.model.config.codebook_size)).all())


def test_earlier_turns_change_what_is_likely_next(released: ReleasedConversation) -> None:
    model, turns = released.model, talk(released.model.config)
    sequences = TurnSequences(model.config, released.text)
    weighed = sums(model, batch_of([sequences.row(turns)]))
    other_sound = [replace(turns[0], codes=turns[0].codes[::-1].copy()), *turns[1:]]
    other_speaker = [turns[0], replace(turns[1], speaker="Anna"), turns[2]]
    other_text = [turns[0], replace(turns[1], text="I have seven lamps."), turns[2]]
    for changed in (other_sound, other_speaker, other_text, turns[1:]):
        assert sums(model, batch_of([sequences.row(changed)])) != pytest.approx(weighed, rel=1e-5)


def test_greedy_codes_are_those_of_the_training_pass(released: ReleasedConversation) -> None:
    model, turns = released.model, talk(released.model.config)
    row = asked(released, turns)
    [codes] = next_turns(model, [row], Sampling(temperature=0))
    assert len(codes) > 2
    whole = TurnSequences(model.config, released.text).row([*turns[:-1], replace(turns[-1], codes=codes.numpy())])
    pieces, frames = torch.from_numpy(whole.pieces)[None], torch.from_numpy(whole.codes)[None]
    with torch.inference_mode():
        hidden = model.transformer(model.inputs(pieces, frames), Attend.causally())[0, whole.start - 1 : whole.start - 1 + len(codes)]
        first = model.head(hidden)[3:, : model.config.codebook_size]
        deeper = model.depth_logits(hidden, codes)[..., : model.config.codebook_size]
    assert torch.equal(deeper.argmax(-1).T, codes[:, 1:])
    assert torch.equal(first.argmax(-1), codes[3:, 0])


def test_csm_has_the_released_parameter_count_and_runs_on_the_meta_device() -> None:
    from transformers import CsmConfig, CsmForConditionalGeneration

    with torch.device("meta"):
        ours, theirs = ConversationLM(CSM_1B), CsmForConditionalGeneration(CsmConfig())
    tied = "depth_decoder.model.embed_tokens.weight"
    counted = {name: value.numel() for name, value in theirs.named_parameters() if not name.startswith("codec_model.") and name != tied}
    assert count_parameters(ours) == sum(counted.values()) == 1_552_791_552
    frames = 5
    batch = {
        "pieces": torch.zeros(1, 20, dtype=torch.int64), "codes": torch.zeros(1, 20, 32, dtype=torch.int64), "lengths": torch.tensor([20]),
        "places": torch.arange(frames), "depth_places": torch.arange(frames), "depth_weights": torch.ones(frames),
    }  # fmt: skip
    nats = ours.loss(**{name: value.to("meta") for name, value in batch.items()}).sum
    nats.backward()
    assert nats.device.type == "meta" and all(parameter.grad is not None for parameter in ours.parameters())


def test_its_arithmetic_is_that_of_the_public_code() -> None:
    from transformers import CsmConfig, CsmDepthDecoderForCausalLM
    from transformers.models.csm.modeling_csm import CsmBackboneModel

    sizes: dict[str, Any] = {"vocab_size": 19, "num_key_value_heads": 1, "num_codebooks": 3, "attention_bias": False}
    depth = {
        **sizes, "hidden_size": 8, "backbone_hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2,
        "head_dim": 4,
    }  # fmt: skip
    peer = CsmConfig(
        **sizes, text_vocab_size=402, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, head_dim=8,
        depth_decoder_config=depth, pad_token_id=0, bos_token_id=1, audio_token_id=2, audio_eos_token_id=3,
    )  # fmt: skip
    model = tiny_conversation(**GATED, num_pieces=400, spare_codes=3, rotary_base=500000.0).model
    backbone, decoder = CsmBackboneModel(peer).eval(), CsmDepthDecoderForCausalLM(peer.depth_decoder_config).eval()
    _copy_llama(model.transformer, backbone)
    _copy_llama(model.depth.transformer, decoder.model)  # type: ignore[union-attr]
    weights = model.state_dict()
    with torch.no_grad():
        decoder.model.embed_tokens.weight.copy_(weights["embed.weight"].flatten(0, 1))
        decoder.model.inputs_embeds_projector.weight.copy_(weights["depth.projection.weight"])
        decoder.codebooks_head.weight.copy_(weights["depth.head"].transpose(1, 2))
        pieces = torch.tensor([[3, 5, NO_PIECE, NO_PIECE, 7]])
        codes = torch.randint(0, 19, (1, 5, 3), generator=torch.Generator().manual_seed(0))
        codes[pieces != NO_PIECE] = model.config.missing
        x = model.inputs(pieces, codes)
        hidden = model.transformer(x, Attend.causally())
        torch.testing.assert_close(hidden, backbone(inputs_embeds=x).last_hidden_state, rtol=1e-4, atol=1e-5)
        frame = codes[0, 2:3]
        ours = model.depth_logits(hidden[0, 1:2], frame)[:, 0]
        theirs = decoder(input_ids=torch.cat([torch.zeros(1, 1, dtype=torch.int64), frame[:, :-1]], 1),
                         backbone_last_hidden_state=hidden[0, 1:2]).logits[0]  # fmt: skip
        torch.testing.assert_close(ours, theirs[-2:], rtol=1e-4, atol=1e-5)


def _copy_llama(ours: Any, theirs: Any) -> None:
    with torch.no_grad():
        for block, layer in zip(ours.blocks, theirs.layers, strict=True):
            heads = block.heads * block.head_dim, block.kv_heads * block.head_dim
            q, k, v = block.qkv.weight.split([heads[0], heads[1], heads[1]])
            gate, up = block.expand.weight.chunk(2)
            for to, value in (
                (layer.self_attn.q_proj, q), (layer.self_attn.k_proj, k), (layer.self_attn.v_proj, v), (layer.mlp.gate_proj, gate),
                (layer.mlp.up_proj, up), (layer.self_attn.o_proj, block.out.weight), (layer.mlp.down_proj, block.project.weight),
                (layer.input_layernorm, block.attention_norm.weight), (layer.post_attention_layernorm, block.feedforward_norm.weight),
            ):  # fmt: skip
                to.weight.copy_(value)
        theirs.norm.weight.copy_(ours.final_norm.weight)


@pytest.mark.parametrize("changes", [{"num_levels": 1}, {"nhead": 3}, {"body": "lstm"}, {"spare_codes": 0}, {"num_pieces": -1}])
def test_sizes_that_cannot_be_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="found"):
        ConversationConfig(**changes)


def test_weights_of_other_sizes_are_refused(released: ReleasedConversation) -> None:
    fields, weights = asdict(released.model.config), released.model.state_dict()
    with pytest.raises(UserError, match="the weights do not fit the settings"):
        ConversationLM.from_weights({**fields, "num_pieces": 10}, weights)
    with pytest.raises(UserError, match="expected the fields of a conversation model"):
        ConversationLM.from_weights({**fields, "words": 10}, weights)
