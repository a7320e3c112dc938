"""Objectives of speech encoders: losses on masked frames alone, distractors that are others, nothing of padding or batch mates."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tiny_speech import babble, tiny_encoder
from torch import nn

from valle.errors import UserError
from valle.models.speech_objectives import draw_others
from valle.tokenizers.hubert import HubertConfig, hubert_from_encoder
from valle.tokenizers.kmeans_fit import fit_kmeans
from valle.training.speech_encoder_options import OBJECTIVES, SpeechEncoderOptions
from valle.training.speech_encoder_task import build_objective

CLUSTERS = [7, 5]
FRAMES = (60, 41, 30)


def objective(name: str, *, front_end: str = "mel", **changes: Any) -> nn.Module:
    options = SpeechEncoderOptions(
        objective=name, quantizer_codes=6, code_dim=8, num_negatives=4, prediction_steps=3, targets_from=["mfcc"] * 2,
        num_clusters=CLUSTERS,
        **changes,
    )  # fmt: skip
    encoder = tiny_encoder(causal=options.causal, front_end=front_end)
    torch.manual_seed(1)
    return build_objective(options, encoder, CLUSTERS).eval()


def batch(rows: tuple[int, ...] = (0, 1, 2), *, filler: float = 0.0, size: int = max(FRAMES)) -> dict[str, torch.Tensor]:
    """Rows of ``FRAMES``, each the same in any batch, padded to ``size`` frames with ``filler``."""
    wav, mask = torch.full((len(rows), 320 * size), filler), torch.ones(len(rows), size, dtype=torch.bool)
    targets = torch.full((len(rows), size, 2), 3)
    for place, row in enumerate(rows):
        frames = FRAMES[row]
        wav[place, : 320 * frames] = torch.from_numpy(babble(frames * 0.02, seed=row))
        mask[place, :frames] = (torch.arange(frames) + row) % 20 < 10
        targets[place, :frames] = torch.randint(5, (frames, 2), generator=torch.Generator().manual_seed(row))
    return {
        "wav": wav,
        "lengths": torch.tensor([320 * FRAMES[row] for row in rows]),
        "mask": mask,
        "targets": targets,
        "seed": torch.tensor(5),
    }


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("quantizer", ["gumbel", "kmeans"])
def test_every_parameter_learns_from_every_batch(name: str, quantizer: str) -> None:
    if quantizer == "kmeans" and name in ("hubert", "wav2vec"):
        pytest.skip("has no quantizer")
    model = objective(name, quantizer=quantizer).train()
    ((_, part),) = model(batch()).items()
    part.sum.backward()
    assert [label for label, parameter in model.named_parameters() if parameter.grad is None] == []
    assert torch.isfinite(part.sum) and part.count > 0


@pytest.mark.parametrize("name", OBJECTIVES)
def test_padding_is_never_computed_on(name: str) -> None:
    model = objective(name)
    ((_, clean),) = model(batch()).items()
    ((_, dirty),) = model(batch(filler=0.7)).items()
    assert torch.equal(torch.stack(clean), torch.stack(dirty))


@pytest.mark.parametrize("name", ["hubert"])
def test_batch_mates_change_nothing(name: str) -> None:
    model = objective(name)
    together = model(batch())["hubert"]
    alone = [model(batch((row,), size=FRAMES[row]))["hubert"] for row in range(3)]
    torch.testing.assert_close(together.sum, torch.stack([part.sum for part in alone]).sum())
    assert int(together.count) == sum(int(part.count) for part in alone)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_longer_padding_adds_no_target(name: str) -> None:
    model = objective(name)
    counts = [int(part.count) for size in (60, 90) for part in model(batch(size=size)).values()]
    assert counts[0] == counts[1] > 0


@pytest.mark.parametrize("front_end", ["mel", "wave"])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_units_of_what_an_objective_trained_are_the_same_alone_and_in_a_padded_batch(name: str, front_end: str) -> None:
    model = objective(name, front_end=front_end).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    for _ in range(2):
        ((_, part),) = model(batch()).items()
        optimizer.zero_grad()
        (part.sum / part.count).backward()
        optimizer.step()
    encoder = model.encoder.eval()
    tokenizer = hubert_from_encoder(encoder, HubertConfig(num_units=16, window=10, left=20, right=5), layer=3)
    padded = batch(filler=0.7, size=80)
    states = tokenizer.hidden(padded["wav"], padded["lengths"])
    tokenizer.take_clusters(fit_kmeans(states[0, : FRAMES[0]].repeat(3, 1).numpy(), 16, seed=0, seconds_per_frame=0.02))
    units, counts = tokenizer.encode(padded["wav"], padded["lengths"])
    assert counts.tolist() == list(FRAMES) and len(units[0].unique()) > 5
    for row, frames in enumerate(FRAMES):
        one = batch((row,), size=frames)
        assert torch.equal(units[row, :frames], tokenizer.encode(one["wav"], one["lengths"])[0][0])
        assert not units[row, frames:].any()


def test_the_loss_of_hubert_is_on_masked_frames_alone() -> None:
    model, first = objective("hubert"), batch()
    valid = torch.arange(60) < torch.tensor(FRAMES)[:, None]
    masked = first["mask"] & valid
    other = {**first, "targets": torch.where(masked[..., None], first["targets"], (first["targets"] + 1) % 5)}
    assert torch.equal(torch.stack(model(first)["hubert"]), torch.stack(model(other)["hubert"]))
    assert int(model(first)["hubert"].count) == 2 * int(masked.sum())
    changed = {**first, "targets": torch.where(masked[..., None], (first["targets"] + 1) % 5, first["targets"])}
    assert not torch.equal(model(first)["hubert"].sum, model(changed)["hubert"].sum)


def test_frames_that_are_heard_have_the_rest_of_the_weight() -> None:
    """Hsu et al. 2021, equation 1: the loss is linear in alpha, and at 0 it would be that of the frames that are heard alone."""
    first = batch()
    masked, half, little = (_loss(objective("hubert", masked_weight=alpha), first) for alpha in (1.0, 0.5, 0.25))
    heard = masked + 2 * (half - masked)
    assert little == pytest.approx(masked + 0.75 * (heard - masked), rel=1e-5)
    valid = torch.arange(60) < torch.tensor(FRAMES)[:, None]
    assert heard != pytest.approx(masked, rel=1e-3)
    changed = {**first, "targets": torch.where(first["mask"][..., None], first["targets"], (first["targets"] + 1) % 5)}
    assert _loss(objective("hubert", masked_weight=0.5), changed) != pytest.approx(half, rel=1e-4)
    beyond = {**first, "targets": torch.where(valid[..., None], first["targets"], 0)}
    assert _loss(objective("hubert", masked_weight=0.5), beyond) == half


def _loss(model: nn.Module, what: dict[str, torch.Tensor]) -> float:
    part = model(what)["hubert"]
    return (part.sum / part.count).item()


def test_the_published_head_is_a_cosine_with_code_embeddings_over_a_tenth() -> None:
    model, first = objective("hubert", hubert_head="cosine"), batch()
    states = torch.randn(3, 32)
    for head, size in zip(model.heads, CLUSTERS, strict=True):
        told = states @ head.project.weight.T + head.project.bias
        wanted = [[float(torch.cosine_similarity(row, code, dim=0)) / 0.1 for code in head.codes] for row in told]
        torch.testing.assert_close(head(states), torch.tensor(wanted))
        assert head.codes.shape == (size, 8)
    assert type(objective("hubert").heads[0]) is nn.Linear  # not unless asked for
    part = model.train()(first)["hubert"]
    part.sum.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_what_is_masked_is_not_heard() -> None:
    model, first = objective("hubert"), batch((0,))
    wav = first["wav"].clone()
    inside = first["mask"][0].clone()
    inside[1:] &= first["mask"][0, :-1]  # the front end hears 7.5 ms of the frames beside its own
    inside[:-1] &= first["mask"][0, 1:]
    wav[0].view(-1, 320)[inside] = 0.5
    torch.testing.assert_close(model({**first, "wav": wav})["hubert"].sum, model(first)["hubert"].sum)


def test_the_first_loss_of_hubert_is_that_of_not_knowing() -> None:
    part = objective("hubert")(batch())["hubert"]
    assert float(part.sum / part.count) == pytest.approx((math.log(7) + math.log(5)) / 2, abs=0.1)


@pytest.mark.parametrize("name", ["wav2vec2", "w2v-bert"])
def test_the_contrast_is_on_masked_frames_alone(name: str) -> None:
    model, first = objective(name), batch()
    count = int((first["mask"] & (torch.arange(60) < torch.tensor(FRAMES)[:, None])).sum())
    assert int(model(first)[name].count) == count * (1 if name == "wav2vec2" else 2)
    none = {**first, "mask": torch.zeros_like(first["mask"])}
    assert int(model(none)[name].count) == 0 and float(model(none)[name].sum) == 0


def test_wav2vec_counts_every_step_that_ends_within_the_row() -> None:
    assert int(objective("wav2vec")(batch())["wav2vec"].count) == sum(frames - step for frames in FRAMES for step in (1, 2, 3))


def test_rows_shorter_than_the_steps_ahead_leave_finite_losses_and_gradients() -> None:
    model = objective("wav2vec").train()
    short = {"wav": torch.rand(1, 320), "lengths": torch.tensor([320]), "mask": torch.ones(1, 1, dtype=torch.bool), "seed": torch.tensor(0)}
    part = model(short)["wav2vec"]
    part.sum.backward()
    assert float(part.sum) == 0 and all(parameter.grad is not None for parameter in model.steps.parameters())


def test_wav2vec_scores_equal_those_of_a_loop_over_frames() -> None:
    model, first = objective("wav2vec"), batch()
    frames = model.encoder.num_frames(first["lengths"])
    future = model.encoder.embed(model.encoder.hear(first["wav"], first["lengths"]))
    context = model.encoder.context(future, frames)
    others = draw_others(torch.arange(60) < frames[:, None], 4, torch.Generator().manual_seed(5))
    total = 0.0
    for row, count in enumerate(FRAMES):
        for step, head in enumerate(model.steps, 1):
            for place in range(count - step):
                told = head(context[row, place])
                scores = [told @ future[row, index] / math.sqrt(32) for index in (place + step, *others[row, place + step].tolist())]
                total -= float(torch.sigmoid(scores[0]).log() + sum(torch.sigmoid(-score).log() for score in scores[1:]))
    assert float(model(first)["wav2vec"].sum) == pytest.approx(total, rel=1e-4)


def test_future_prediction_refuses_an_encoder_that_hears_its_future() -> None:
    options = SpeechEncoderOptions(objective="wav2vec")
    assert options.causal
    with pytest.raises(UserError, match="causal"):
        build_objective(options, tiny_encoder(), [])


def test_distractors_are_other_frames_that_are_allowed_all_equally_likely() -> None:
    among = torch.tensor([[1, 0, 1, 1, 0, 1], [0, 1, 0, 0, 1, 0]], dtype=torch.bool)
    others = draw_others(among, 3000, torch.Generator().manual_seed(0))
    for row, places in enumerate(among):
        allowed = set(places.nonzero()[:, 0].tolist())
        for place in allowed:
            drawn = torch.bincount(others[row, place], minlength=6)
            assert set(drawn.nonzero()[:, 0].tolist()) == allowed - {place}
            assert (drawn[drawn > 0].float() / 3000 - 1 / (len(allowed) - 1)).abs().max() < 0.05


@pytest.mark.parametrize("name", OBJECTIVES)
def test_one_batch_can_be_learned_by_heart(name: str) -> None:
    model, one = objective(name).train(), batch()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        ((_, part),) = model(one).items()
        loss = part.sum / part.count
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert sum(losses[-5:]) < {"hubert": 0.6, "wav2vec": 0.8, "vq-wav2vec": 0.9, "wav2vec2": 0.9, "w2v-bert": 0.9}[name] * sum(losses[:5])
