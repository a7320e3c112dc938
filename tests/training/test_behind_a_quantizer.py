"""vq-wav2vec's tokenizer takes the path that was trained: front end, quantizer and back, blocks; and its codes are units, as published."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_speech_encoder_task import options
from tiny_speech import babble, write_spoken

from valle.errors import UserError
from valle.evaluation.evaluate_units import EvaluateUnitsOptions, choose_units
from valle.models.speech_objectives import generator_of
from valle.models.speech_prediction import FutureObjective
from valle.modules.masks import valid_mask
from valle.tokenizers.code_units import CodeUnits
from valle.tokenizers.hubert import HubertConfig, hubert_from_encoder
from valle.tokenizers.registry import load_semantic
from valle.training.fit_units import FitConfig, FitError, fit_tokenizer
from valle.training.speech_encoder_fit import load_encoder
from valle.training.speech_encoder_options import SpeechEncoderOptions
from valle.training.speech_encoder_task import SpeechEncoderTask
from valle.training.train_speech_encoder import train_speech_encoder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("spoken")
    write_spoken(folder / "cuts_train.jsonl.gz", num_cuts=6, seed=0)
    write_spoken(folder / "cuts_dev.jsonl.gz", num_cuts=2, seed=50)
    return folder


@pytest.fixture(scope="module", params=["gumbel", "kmeans"])
def run(request: pytest.FixtureRequest, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> SpeechEncoderOptions:
    """One that has ended."""
    settings: dict[str, Any] = {"objective": "vq-wav2vec", "quantizer": request.param, "batches_per_epoch": 6, "num_epochs": 1}
    trained = options(corpus, tmp_path_factory.mktemp("exp"), **settings)
    train_speech_encoder(trained)
    return trained


def trained_task(run: SpeechEncoderOptions) -> tuple[SpeechEncoderTask, FutureObjective]:
    """The objective with the weights that ``load_encoder`` takes."""
    task = SpeechEncoderTask(replace(run, init_encoder=run.exp_dir))
    assert isinstance(task.model, FutureObjective)
    return task, task.model.eval()


def test_the_tokenizers_path_has_the_loss_of_the_trained_path(run: SpeechEncoderOptions) -> None:
    task, objective = trained_task(run)
    objective.load_state_dict(torch.load(run.exp_dir / "best-valid-loss.pt", weights_only=True)["model"])
    batch = next(iter(task.validation_batches(task_world())))
    encoder = load_encoder(run.exp_dir)
    frames = encoder.num_frames(batch["lengths"])

    def contrast(embedded: torch.Tensor, context: torch.Tensor) -> float:
        part = objective._contrast(encoder.finish(context), embedded, valid_mask(frames, embedded.shape[1]), generator_of(batch))
        return float(part.sum.detach() / part.count)

    with torch.inference_mode():
        objective.penalty = 0.0
        part = objective(batch)["vq-wav2vec"]
        context = encoder(batch["wav"], batch["lengths"], layer=encoder.config.num_layers)
        heard = encoder.hear(batch["wav"], batch["lengths"])
        assert encoder.bottleneck is not None
        ours = contrast(encoder.embed(encoder.bottleneck(heard)), context)
        *_, raw = encoder.states(encoder.embed(heard), frames)  # the path on which nothing was trained
        other = contrast(encoder.embed(heard), raw)
    assert ours == pytest.approx(float(part.sum / part.count), rel=1e-5)
    assert abs(other - ours) > 1e-3


def task_world() -> Any:
    from valle.training.distributed import World

    return World()


def test_units_of_a_layer_hear_through_the_quantizer_and_are_kept_so(run: SpeechEncoderOptions, tmp_path: Path) -> None:
    config = FitConfig(encoder=str(run.exp_dir), layer=2, num_units=4, manifests=[run.valid_manifest], output_dir=tmp_path)
    identity = fit_tokenizer(config)
    units = load_semantic(str(tmp_path))
    assert units.identity == identity and units.config()["encoder"]["bottleneck"]["kind"] == run.quantizer
    encoder = load_encoder(run.exp_dir)
    wav = torch.from_numpy(babble(1.0, seed=5))[None]
    lengths = torch.tensor([wav.shape[1]])
    twin = hubert_from_encoder(encoder, HubertConfig(num_units=4), layer=2)
    torch.testing.assert_close(units.hidden(wav, lengths), twin.hidden(wav, lengths))  # type: ignore[operator]
    plain = hubert_from_encoder(load_encoder_without_bottleneck(run.exp_dir), HubertConfig(num_units=4), layer=2)
    assert not torch.allclose(plain.hidden(wav, lengths), twin.hidden(wav, lengths), atol=1e-2)


def load_encoder_without_bottleneck(exp_dir: Path) -> Any:
    encoder = load_encoder(exp_dir)
    encoder.bottleneck, encoder.config = None, replace(encoder.config, bottleneck=None)
    return encoder


def test_codes_are_units(run: SpeechEncoderOptions, tmp_path: Path) -> None:
    """A unit a combination of codes; with fewer units than combinations, the nearest kept one."""
    fit_tokenizer(FitConfig(encoder=str(run.exp_dir), layer=0, num_units=36, manifests=run.manifests, output_dir=tmp_path / "all"))
    units = load_semantic(str(tmp_path / "all"))
    assert isinstance(units, CodeUnits) and 2 <= units.num_units <= 36 and units.name == f"{run.exp_dir.name}-codes"
    wav = torch.from_numpy(babble(2.0, seed=3))[None]
    lengths = torch.tensor([wav.shape[1]])
    tokens = units.encode(wav, lengths)[0][0]
    vectors = units.hidden(wav, lengths)[0]
    known = {tuple(vector.tolist()): unit for unit, vector in enumerate(units.centroids)}
    assert len(known) == units.num_units
    found = [
        (known[tuple(vector.tolist())], int(token))
        for vector, token in zip(vectors, tokens, strict=True)
        if tuple(vector.tolist()) in known
    ]
    assert len(found) > 20 and all(unit == token for unit, token in found)
    fit_tokenizer(FitConfig(encoder=str(run.exp_dir), layer=0, num_units=2, manifests=run.manifests, output_dir=tmp_path / "two"))
    few = load_semantic(str(tmp_path / "two"))
    assert isinstance(few, CodeUnits) and few.num_units == 2
    nearest = torch.cdist(few.hidden(wav, lengths)[0], few.centroids).argmin(1)
    assert torch.equal(few.encode(wav, lengths)[0][0], nearest)


def test_codes_are_a_layer_to_choose_among(run: SpeechEncoderOptions, corpus: Path, tmp_path: Path) -> None:
    chosen, tried = choose_units(
        EvaluateUnitsOptions(
            exp_dir=run.exp_dir, output_dir=tmp_path, num_units=[4], num_triples=50, fit_manifest=run.manifests[0],
            choose_manifest=run.valid_manifest, max_minutes=1.0, fit_minutes=1.0,
        )
    )  # fmt: skip
    assert [row["layer"] for row in tried] == [0, 1, 2]
    assert chosen.num_units <= 4


def test_another_objective_cannot_go_on_from_an_encoder_behind_a_quantizer(run: SpeechEncoderOptions, tmp_path: Path) -> None:
    for changes in ({"objective": "wav2vec"}, {"quantizer_codes": 5}):
        with pytest.raises(UserError, match="whose encoder hears through its quantizer"):
            SpeechEncoderTask(replace(run, exp_dir=tmp_path, init_encoder=run.exp_dir, **changes))
    _, objective = trained_task(run)
    before = load_encoder(run.exp_dir)
    assert before.bottleneck is not None and objective.quantizer is not None
    assert torch.equal(objective.quantizer.codebook, before.bottleneck.quantizer.codebook)


def test_other_runs_have_no_codes(corpus: Path, tmp_path: Path) -> None:
    plain = options(corpus, tmp_path / "exp", objective="wav2vec2", batches_per_epoch=2, num_epochs=1)
    train_speech_encoder(plain)
    assert load_encoder(plain.exp_dir).bottleneck is None
    with pytest.raises(FitError, match="expected the layer of"):
        fit_tokenizer(FitConfig(encoder=str(plain.exp_dir), layer=0, manifests=plain.manifests, output_dir=tmp_path / "units"))


def test_the_quantizer_cools_by_the_share_of_the_run_where_asked_to(corpus: Path, tmp_path: Path) -> None:
    shared = SpeechEncoderTask(options(corpus, tmp_path, objective="wav2vec2", gumbel_share=0.5))
    stepped = SpeechEncoderTask(options(corpus, tmp_path, objective="wav2vec2"))
    for task, temperatures in ((shared, [2.0, 1.0, 0.5]), (stepped, [2.0 * 0.9995**40] * 3)):
        for share, wanted in zip((0.0, 0.25, 0.8), temperatures, strict=True):
            task.after_step(40, share)
            assert task.model.quantizer.temperature == pytest.approx(wanted)  # type: ignore[union-attr]
