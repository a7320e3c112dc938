"""From wav to wav, on tiny models of random weights."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_pipeline import RATE, lean_to_end, recording, tiny_codec, tiny_kmeans, tiny_released

from valle.decoding.sampling import Sampling
from valle.errors import UserError
from valle.given_audio import PromptError
from valle.inference.pipeline import Continuation, ContinueSettings, Pipeline
from valle.measures.level import speech_gain_db, with_gain
from valle.models.released import Released, ReleasedModelError, save_released

KINDS = {
    "units": {},
    "units before codes": {"conditioning": "prefix"},
    "codes only": {"units": False},
    "50 Hz units, 75 Hz codes": {"rates": "50/75"},
    "two coarse levels": {"num_coarse": 2},
    "no fine level": {"num_coarse": 3, "conditioning": "prefix"},
}


@pytest.fixture(params=KINDS)
def released(request: pytest.FixtureRequest) -> Released:
    return tiny_released(**KINDS[request.param])


def endless(released: Released) -> Pipeline:
    """Goes on until it is told to stop."""
    return Pipeline(lean_to_end(released, -1e9) if released.semantic else released)


def same(one: Continuation, two: Continuation) -> bool:
    return np.array_equal(one.wav, two.wav) and torch.equal(one.codes, two.codes)


def test_a_prompt_alone_and_in_a_batch_has_the_same_continuation(released: Released) -> None:
    pipeline = Pipeline(released)
    prompts = [recording(1.3, seed=1), recording(3.7, seed=2), recording(2.02, seed=3)]
    together = pipeline.continue_audio(prompts, RATE, seed=5, max_seconds=1.5)
    for prompt, mate in zip(prompts, together, strict=True):
        [alone] = pipeline.continue_audio(prompt, RATE, seed=5, max_seconds=1.5)
        assert torch.equal(alone.codes, mate.codes)
        assert np.allclose(alone.wav, mate.wav, atol=1e-6)


def test_the_seed_decides_and_nothing_else(released: Released) -> None:
    pipeline = endless(released)
    [first] = pipeline.continue_audio(recording(2), RATE, seed=1, max_seconds=1)
    torch.manual_seed(99)
    torch.rand(7)
    [again] = pipeline.continue_audio(recording(2), RATE, seed=1, max_seconds=1)
    [other] = pipeline.continue_audio(recording(2), RATE, seed=2, max_seconds=1)
    assert same(first, again) and not torch.equal(first.codes, other.codes)


def test_seeds_of_rows_are_their_own(released: Released) -> None:
    pipeline = endless(released)
    one, two = pipeline.continue_audio([recording(2)] * 2, RATE, seed=[1, 2], max_seconds=1)
    [alone] = pipeline.continue_audio(recording(2), RATE, seed=2, max_seconds=1)
    assert (one.seed, two.seed) == (1, 2) and torch.equal(two.codes, alone.codes) and not torch.equal(one.codes, two.codes)


@pytest.mark.parametrize("seconds", [0.5, 1.2345, 2.0])
def test_new_audio_is_counted_from_the_prompts_end_to_the_sample(released: Released, seconds: float) -> None:
    """Regression: a continuation that drops its first prompt-length frames; ``max_new_tokens + 1`` tokens."""
    pipeline = endless(released)
    [result] = pipeline.continue_audio(recording(2.5), RATE, prompt_seconds=1.5, max_seconds=seconds)
    rate = pipeline.sample_rate
    assert len(result.wav) == round(1.5 * rate) + round(seconds * rate)
    assert result.prompt_seconds == 1.5 and result.generated_seconds == pytest.approx(seconds, abs=1 / rate)


def test_sound_goes_on_past_the_trained_length(released: Released) -> None:
    pipeline = endless(released)
    [result] = pipeline.continue_audio(recording(1.5), RATE, max_seconds=7)
    assert result.generated_seconds == pytest.approx(7)
    assert len(result.codes) == pytest.approx(8.5 * pipeline.timeline.codes.rate, abs=3)
    assert len(result.codes[-50:].unique(dim=0)) > 3


def test_the_output_begins_with_the_prompts_own_samples() -> None:
    prompt = recording(2)
    [result] = Pipeline(tiny_released()).continue_audio(prompt, RATE, max_seconds=1)
    lost = 2 * RATE - result.own_samples
    pipeline = Pipeline(tiny_released())
    assert pipeline.semantic is not None
    assert np.array_equal(result.wav[: result.own_samples], prompt[: result.own_samples])
    assert 0 < lost <= max(pipeline.acoustic.right_context, pipeline.semantic.right_context) + 640 + round(0.02 * RATE)


def test_what_was_generated_anew_within_the_prompt_is_not_the_prompt() -> None:
    prompt = recording(2)
    [result] = Pipeline(tiny_released()).continue_audio(prompt, RATE, max_seconds=1)
    faded = result.own_samples + round(0.02 * RATE)
    assert not np.allclose(result.wav[faded : 2 * RATE], prompt[faded:], atol=1e-3)


def test_tokens_of_a_prompt_equal_those_of_the_same_seconds_of_the_whole_file(released: Released) -> None:
    """Regression: statistics of the utterance; a codec's last frames that agree by chance."""
    pipeline = Pipeline(released)
    whole = recording(6)
    as_it_is = ContinueSettings(prompt_seconds=2, max_seconds=1, level="none")
    [part] = pipeline.continue_audio(whole, RATE, settings=as_it_is)
    [true] = pipeline.continue_audio(whole, RATE, settings=ContinueSettings(mode="resynthesize"))
    frames = part.own_samples // pipeline.acoustic.hop_length
    assert frames > 50 and torch.equal(part.codes[:frames], true.codes[:frames])
    if part.units is not None and true.units is not None:
        units = pipeline.timeline.units_for_frames(frames)
        assert torch.equal(part.units[:units], true.units[:units])


def test_settled_tokens_count_the_right_context() -> None:
    codec = tiny_codec()
    wav = torch.from_numpy(recording(2))[None]
    settled = codec.settled(RATE)
    whole = codec.encode(wav, torch.tensor([2 * RATE]))[0][0]
    for end in range(RATE, RATE + 400, 57):
        changed = wav.clone()
        changed[:, end:] = 0.9
        assert torch.equal(codec.encode(changed, torch.tensor([2 * RATE]))[0][0, :settled], whole[:settled])
    assert settled < 50


def test_a_sampled_end_stops_a_row_and_the_least_time_holds_it_off() -> None:
    """Regression: a loop that ignores EOS and always runs to the cap."""
    pipeline = Pipeline(lean_to_end(tiny_released(), 1e9))
    [soon] = pipeline.continue_audio(recording(2), RATE, min_seconds=0.4, max_seconds=5)
    assert soon.generated_seconds == pytest.approx(0.4, abs=0.04)


def test_an_end_at_once_leaves_the_prompt_whole_and_raises_nothing() -> None:
    """Regression: empty output raises."""
    pipeline = Pipeline(lean_to_end(tiny_released(), 1e9))
    [result] = pipeline.continue_audio(recording(2), RATE, min_seconds=0, max_seconds=5)
    assert 0 <= result.generated_seconds < 0.04 and result.seconds >= 2


def test_rows_of_a_batch_end_each_at_its_own_time() -> None:
    pipeline = Pipeline(tiny_released())
    rows = pipeline.continue_audio([recording(2)] * 6, RATE, seed=range(6), min_seconds=0, max_seconds=4)
    assert len({row.generated_seconds for row in rows}) > 2


def test_a_greedy_continuation_is_the_same_for_every_seed() -> None:
    greedy = Sampling(temperature=0)
    settings = ContinueSettings(sampling=dict.fromkeys(("semantic", "coarse", "fine"), greedy), max_seconds=1)
    one, two = Pipeline(tiny_released()).continue_audio([recording(2)] * 2, RATE, seed=[1, 2], settings=settings)
    assert same(one, two)


def test_a_shorter_recording_is_a_prompt_as_a_whole(released: Released) -> None:
    pipeline = endless(released)
    [result] = pipeline.continue_audio(recording(1.1), RATE, prompt_seconds=3, max_seconds=1)
    assert result.prompt_seconds == pytest.approx(1.1, abs=1e-3) and result.generated_seconds == pytest.approx(1)


def test_another_sample_rate_is_resampled() -> None:
    pipeline = endless(tiny_released())
    [result] = pipeline.continue_audio(np.repeat(recording(2), 3), 48000, max_seconds=1)
    assert result.sample_rate == RATE and result.prompt_seconds == 2 and result.generated_seconds == 1


def test_tensors_are_taken_like_arrays() -> None:
    pipeline = Pipeline(tiny_released())
    assert same(*[pipeline.continue_audio(wav, RATE, max_seconds=1)[0] for wav in (recording(2), torch.from_numpy(recording(2)))])


def test_nothing_in_nothing_out() -> None:
    assert Pipeline(tiny_released()).continue_audio([], RATE) == []


def acoustic(prompt_seconds: float, *, max_seconds: float = 1.5) -> ContinueSettings:
    return ContinueSettings(mode="acoustic", prompt_seconds=prompt_seconds, max_seconds=max_seconds)


@pytest.mark.parametrize("conditioning", ["aligned", "prefix"])
def test_acoustic_speaks_the_recordings_own_units(conditioning: str) -> None:
    pipeline = Pipeline(tiny_released(conditioning=conditioning))
    assert pipeline.semantic is not None
    wav = recording(3)
    [result] = pipeline.continue_audio(wav, RATE, settings=replace(acoustic(1), level="none"))
    true = pipeline.semantic.encode(torch.from_numpy(wav[: round(2.5 * RATE)])[None], torch.tensor([round(2.5 * RATE)]))[0][0]
    assert result.units is not None and torch.equal(result.units[: len(true)], true)
    assert result.prompt_seconds == 1 and result.generated_seconds == 1.5
    assert np.array_equal(result.wav[: result.own_samples], wav[: result.own_samples])


def test_acoustic_speaks_the_units_that_the_recording_has_at_the_level_of_its_prompt() -> None:
    pipeline = Pipeline(tiny_released())
    assert pipeline.semantic is not None
    wav = recording(2.5)
    [result] = pipeline.continue_audio(wav, RATE, settings=acoustic(1))
    heard = torch.from_numpy(with_gain(wav, result.gain_db))
    true = pipeline.semantic.encode(heard[None], torch.tensor([len(wav)]))[0][0]
    assert result.gain_db == speech_gain_db(wav[:RATE], RATE) != 0
    assert result.units is not None and torch.equal(result.units[: len(true)], true)


@pytest.mark.parametrize("db", [-10.0, -20.0, -30.0, -40.0, -50.0, -3.0])
def test_a_prompt_at_another_level_is_continued_at_it_with_the_same_tokens(db: float) -> None:
    pipeline = endless(tiny_released())
    wav = recording(2)
    factor = np.float32(10 ** (db / 20))
    [usual], [changed] = (pipeline.continue_audio(row, RATE, seed=3, max_seconds=1) for row in (wav, wav * factor))
    assert torch.equal(changed.codes, usual.codes) and changed.units is not None and usual.units is not None
    assert torch.equal(changed.units, usual.units)
    assert np.array_equal(changed.wav[: changed.own_samples], (wav * factor)[: changed.own_samples])
    assert np.allclose(changed.wav[changed.prompt_samples :], factor * usual.wav[usual.prompt_samples :], rtol=1e-3, atol=1e-6)


def test_the_level_is_left_as_it_is_on_request_and_for_codes_alone() -> None:
    wav = 0.01 * recording(2)
    speaking, playing = Pipeline(tiny_released()), Pipeline(tiny_released(units=False))
    gains = [
        pipeline.continue_audio(wav, RATE, settings=ContinueSettings(max_seconds=1, level=level))[0].gain_db
        for pipeline in (speaking, playing) for level in (None, "speech", "none")
    ]  # fmt: skip
    assert gains[0] == gains[1] == gains[4] > 20 and gains[2] == gains[3] == gains[5] == 0
    with pytest.raises(UserError, match="must be speech or none, found 'loud'"):
        ContinueSettings(level="loud")  # type: ignore[arg-type]


def test_integers_are_taken_as_files_of_them_are() -> None:
    pipeline = Pipeline(tiny_released())
    wav = recording(2)
    [floats], [integers] = (pipeline.continue_audio(row, RATE, max_seconds=1) for row in (wav, (wav * 32768).astype(np.int16)))
    assert same(floats, integers)
    [batched] = pipeline.continue_audio(torch.from_numpy(wav)[None], RATE, max_seconds=1, seed=np.int64(0))
    assert same(floats, batched) and batched.seed == 0
    with pytest.raises(PromptError, match=r"a peak of .* divide them by full scale"):
        pipeline.continue_audio(wav * 32768, RATE)


def test_acoustic_without_a_prompt_generates_everything() -> None:
    [result] = Pipeline(tiny_released()).continue_audio(recording(1), RATE, settings=acoustic(0))
    assert result.prompt_seconds == 0 and result.own_samples == 0 and result.generated_seconds == 1


def test_acoustic_needs_something_after_the_prompt() -> None:
    with pytest.raises(PromptError, match=r"longer than its prompt of 2 s, found 1\.50 s"):
        Pipeline(tiny_released()).continue_audio(recording(1.5), RATE, settings=acoustic(2))


def test_acoustic_needs_a_model_with_units() -> None:
    with pytest.raises(UserError, match="knows no units"):
        Pipeline(tiny_released(units=False)).continue_audio(recording(3), RATE, settings=acoustic(1))


def test_resynthesis_is_the_codecs_round_trip() -> None:
    wav = recording(1.27)
    [result] = Pipeline(tiny_released()).continue_audio(wav, RATE, settings=ContinueSettings(mode="resynthesize"), watermark=False)
    codec = tiny_codec()
    codes, lengths = codec.encode(torch.from_numpy(wav)[None], torch.tensor([len(wav)]))
    assert np.allclose(result.wav, codec.decode(codes, lengths)[0, : len(wav)].clamp(-1, 1).numpy(), atol=1e-6)
    assert result.seconds == result.generated_seconds == pytest.approx(1.27) and result.prompt_seconds == 0


@pytest.mark.parametrize("kind", ["units", "50 Hz units, 75 Hz codes"])
def test_long_sound_in_pieces_has_the_tokens_and_the_sound_of_the_whole(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = Pipeline(tiny_released(**KINDS[kind]))
    settings = ContinueSettings(mode="resynthesize")
    [whole] = pipeline.continue_audio(recording(7.3), RATE, settings=settings)
    monkeypatch.setattr("valle.tokenizers.stream.PIECE_SECONDS", 1)
    [pieces] = pipeline.continue_audio(recording(7.3), RATE, settings=settings)
    assert torch.equal(pieces.codes, whole.codes) and pieces.units is not None and whole.units is not None
    assert torch.equal(pieces.units, whole.units)
    assert np.allclose(pieces.wav, whole.wav, atol=1e-5)


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ({"prompt_seconds": 0}, "at least 0.2 s, found 0; raise"),
        ({"prompt_seconds": -1}, "found -1"),
        ({"prompt_seconds": float("nan")}, "found nan"),
        ({"max_seconds": 0}, "longer than 0 seconds, found 0"),
        ({"max_seconds": -2}, "found -2"),
        ({"max_seconds": float("inf")}, "found inf"),
        ({"min_seconds": 11}, "between 0 and --max-seconds"),
        ({"min_seconds": -1}, "found -1"),
    ],
)
def test_times_that_make_no_sense_are_refused(times: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Pipeline(tiny_released()).continue_audio(recording(3), RATE, **times)


def test_a_prompt_too_short_is_refused() -> None:
    with pytest.raises(PromptError, match=r"at least 0\.2 s, found 0\.10 s"):
        Pipeline(tiny_released()).continue_audio(recording(0.1), RATE)
    with pytest.raises(PromptError, match=r"found 0\.00 s"):
        Pipeline(tiny_released()).continue_audio(np.zeros(0, np.float32), RATE)


def test_a_prompt_within_the_tokenizers_context_is_refused() -> None:
    released = tiny_released()
    released.acoustic.right_context = RATE
    with pytest.raises(PromptError, match="right context"):
        Pipeline(released).continue_audio(recording(0.9), RATE)


def test_prompts_that_are_no_mono_sound_are_refused() -> None:
    pipeline = Pipeline(tiny_released())
    with pytest.raises(PromptError, match=r"shape \(T,\), found \(2, 16000\)"):
        pipeline.continue_audio(np.zeros((2, RATE), np.float32), RATE)
    with pytest.raises(PromptError, match="NaN or infinity"):
        pipeline.continue_audio(np.full(RATE, np.nan, np.float32), RATE)
    with pytest.raises(PromptError, match="above 0 Hz"):
        pipeline.continue_audio(recording(1), 0)
    with pytest.raises(PromptError, match="one seed, or one for each of 1"):
        pipeline.continue_audio(recording(1), RATE, seed=[1, 2])


def test_a_model_and_tokenizers_that_do_not_belong_together_are_refused() -> None:
    parts = tiny_released()
    with pytest.raises(UserError, match="trained with"):
        Pipeline(Released(parts.model, parts.timeline, parts.acoustic, None, parts.trained_seconds))


def test_a_released_folder_continues_as_the_model_did(tmp_path: Path, released: Released) -> None:
    save_released(released, tmp_path / "model", dtype=torch.float32)
    [before] = Pipeline(released).continue_audio(recording(2), RATE, max_seconds=1)
    [after] = Pipeline.from_pretrained(tmp_path / "model").continue_audio(recording(2), RATE, max_seconds=1)
    assert same(before, after)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReleasedModelError, match="found none"):
        Pipeline.from_pretrained(tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_damaged_weights_are_refused(tmp_path: Path, share: float) -> None:
    save_released(tiny_released(), tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: int(weights.stat().st_size * share)])
    with pytest.raises(UserError, match="damaged"):
        Pipeline.from_pretrained(tmp_path / "model")


@pytest.mark.parametrize("text", ["", "model: 3", "model: [", "- a", "model: {}\ntimeline: {}\ntrained_seconds: {}"])
def test_a_damaged_configuration_is_refused(tmp_path: Path, text: str) -> None:
    save_released(tiny_released(), tmp_path / "model")
    (tmp_path / "model" / "config.yaml").write_text(text)
    with pytest.raises(UserError, match=r"again"):
        Pipeline.from_pretrained(tmp_path / "model")


def test_tokenizers_of_another_model_are_refused_by_both_names(tmp_path: Path) -> None:
    """Regression: one cache file name for all k-means models, wrong centroids loaded silently."""
    from valle.tokenizers.registry import save_tokenizer

    save_released(tiny_released(), tmp_path / "model")
    other = tiny_kmeans()
    other.centroids.add_(0.1)
    save_tokenizer(other, tmp_path / "model" / "tokenizers" / "semantic")
    with pytest.raises(ReleasedModelError, match=rf"tiny-units.*{other.identity.sha256[:12]}"):
        Pipeline.from_pretrained(tmp_path / "model")


def test_the_pipeline_works_without_lhotse_transformers_and_matplotlib() -> None:
    """So that inference starts quickly and stays small."""
    heavy = ["lhotse", "transformers", "matplotlib", "av", "sklearn"]
    code = f"import sys, valle.inference.pipeline; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert done.stdout.strip() == "[]"


def test_the_usual_least_time_gives_way_to_a_shorter_longest() -> None:
    assert ContinueSettings(max_seconds=0.3).least_seconds == 0.3
    assert ContinueSettings().least_seconds == 1.0
