import json
from pathlib import Path

import pytest
import torch
from tiny_audio import write_sound
from tiny_models import KINDS, UNITS, batch_of, random_row, tiny_model
from tiny_pipeline import RATE, recording, tiny_released

from valle.errors import UserError
from valle.evaluation.score import Likelihood, ScoreOptions, score, score_recordings, scored_stages
from valle.inference.pipeline import Pipeline
from valle.models.released import save_released

MORE_KINDS = {**KINDS, "runs": {"num_units": UNITS, "unit_sequence": "runs", "longest_run": 3}}


@pytest.mark.parametrize("kind", MORE_KINDS)
def test_the_nats_of_all_tokens_add_up_to_the_loss(kind: str) -> None:
    model = tiny_model(**MORE_KINDS[kind])
    batch = batch_of(model, [random_row(model, periods=periods, seed=periods) for periods in (4, 2, 6)], filler=3)
    with torch.inference_mode():
        for name, term in model.loss(batch).items():
            nats = model.stages()[name].token_nats(**batch[name])
            if nats is None:
                assert name == "fine"
                continue
            assert int((~nats.isnan()).sum()) == int(term.count)
            torch.testing.assert_close(nats.nansum(), term.sum.to(nats.dtype), rtol=1e-9, atol=1e-9)


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline(tiny_released(seconds=2.0))


def test_a_recording_scores_the_same_alone_and_in_a_batch(pipeline: Pipeline) -> None:
    wavs = [recording(seconds, seed=seed) for seed, seconds in enumerate((1.0, 3.1, 0.5, 5.3))]
    together = score_recordings(pipeline, wavs, batch_size=3)
    for wav, likelihoods in zip(wavs, together, strict=True):
        [alone] = score_recordings(pipeline, [wav], batch_size=1)
        for one, other in zip(likelihoods, alone, strict=True):
            assert one.stage == other.stage and one.tokens == pytest.approx(other.tokens, abs=2e-4)


def test_a_recording_within_the_trained_length_has_a_likelihood_for_every_unit_its_end_and_every_code(pipeline: Pipeline) -> None:
    [[semantic, coarse]] = score_recordings(pipeline, [recording(1.0)])
    assert (semantic.stage, len(semantic.tokens)) == ("semantic", 25 + 1)
    assert (coarse.stage, len(coarse.tokens)) == ("coarse", 50)
    assert semantic.mean == pytest.approx(semantic.sum / 26) and semantic.sum < 0


def test_a_longer_recording_is_scored_in_pieces_whose_first_units_are_context(pipeline: Pipeline) -> None:
    [[semantic, coarse]] = score_recordings(pipeline, [recording(5.0)])  # pieces of 2, 2 and 1 s
    assert len(semantic.tokens) == 125 + 1 - 2 and len(coarse.tokens) == 250


def test_louder_recordings_are_as_likely(pipeline: Pipeline) -> None:
    """Stages hear speech at one level, here as in a continuation."""
    [quiet], [loud] = (score_recordings(pipeline, [gain * recording(1.0)]) for gain in (0.25, 1.0))
    assert quiet[0].sum == pytest.approx(loud[0].sum, rel=0.05)


def test_stages_that_give_no_likelihood_are_refused(pipeline: Pipeline) -> None:
    assert scored_stages(pipeline) == ["semantic", "coarse"]
    with pytest.raises(UserError, match="one token after another"):
        scored_stages(pipeline, ["fine"])


def test_the_program_writes_a_line_of_json_for_each_recording_and_stage(tmp_path: Path) -> None:
    save_released(tiny_released(), tmp_path / "model", dtype=torch.float32)
    audio = [write_sound(tmp_path / f"{seed}.wav", 1.0, rate=RATE, seed=seed) for seed in range(2)]
    rows = score(ScoreOptions(audio=audio, model=tmp_path / "model", output=tmp_path / "scores.jsonl"))
    written = [json.loads(line) for line in (tmp_path / "scores.jsonl").read_text().splitlines()]
    assert written == rows and [Path(row["audio"]).name for row in rows] == ["0.wav", "0.wav", "1.wav", "1.wav"]
    for row in rows:
        assert row["count"] == len(row["log_likelihoods"]) and row["sum"] == pytest.approx(sum(row["log_likelihoods"]))


def test_a_recording_without_predicted_tokens_has_no_mean() -> None:
    assert Likelihood("coarse", []).to_dict()["mean"] is None
