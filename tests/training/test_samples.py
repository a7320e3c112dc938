"""Continuations of dev cuts, heard and seen in tensorboard, and every other tag there."""

from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_training import tiny_loop, tiny_manifests, tiny_options

from valle.training.audio_lm_task import AudioLMTask

HOP = 320  # samples a frame of the tiny codec, at 16 kHz


@pytest.mark.parametrize("units", [True, False])
def test_dev_cuts_are_continued_by_three_seconds_with_units_and_without(units: bool, tmp_path: Path) -> None:
    manifests = tiny_manifests(tmp_path / "data", num_train=2, num_dev=4, shortest=2.0, longest=5.0, units=units)
    task = AudioLMTask(tiny_options(manifests, tmp_path))
    task.model.eval()
    sounds = {tag: (wav, rate) for tag, wav, rate in task.samples(0)}
    assert list(sounds) == [f"valid/{name}_{number}" for number in (1, 2, 3) for name in ("original", "continuation")]
    for number, cut in enumerate(list(task.manifests.cuts("dev"))[:3], start=1):
        wav, rate = sounds[f"valid/continuation_{number}"]
        prompt = min(cut.custom["codes"].shape[0], 150) * HOP
        assert rate == 16000 and wav.ndim == 1 and wav.dtype == torch.float32 and bool(wav.isfinite().all())
        if units:  # may end of itself, after a second
            assert prompt + 16000 <= len(wav) <= prompt + 3 * 16000
        else:
            assert len(wav) == prompt + 3 * 16000
        original, _ = sounds[f"valid/original_{number}"]
        assert len(original) == min(cut.custom["codes"].shape[0] * HOP, len(wav))


def test_continuations_begin_with_the_prompts_own_codes_and_are_the_same_at_every_call(tmp_path: Path) -> None:
    manifests = tiny_manifests(tmp_path / "data", num_train=2, num_dev=2, shortest=4.0, longest=5.0)
    task = AudioLMTask(tiny_options(manifests, tmp_path))
    task.model.eval()
    first = task.samples(0)
    torch.rand(5)
    again = task.samples(0)
    for (tag, wav, _), (other_tag, other, _) in zip(first, again, strict=True):
        assert tag == other_tag and torch.equal(wav, other)
    for (_, original, _), (_, continuation, _) in zip(first[::2], first[1::2], strict=True):
        settled = 2 * 16000  # two of the three seconds, far from what follows
        torch.testing.assert_close(original[:settled], continuation[:settled], rtol=0, atol=1e-5)
        assert not torch.equal(original[-8000:], continuation[: len(original)][-8000:])


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> EventAccumulator:
    """What one short run with everything on leaves in tensorboard."""
    folder = tmp_path_factory.mktemp("seen")
    manifests = tiny_manifests(folder / "data", num_dev=1, longest=1.2)
    options = tiny_options(manifests, folder / "exp", tensorboard=True, visualize=True, max_steps=4, valid_interval=3, max_duration=8)
    loop = tiny_loop(options)
    loop.run()
    loop.recorder.close()
    found = EventAccumulator(str(folder / "exp" / "tensorboard"), size_guidance={"scalars": 0, "audio": 0, "images": 0})
    found.Reload()
    return found


def test_tensorboard_holds_audio_and_spectrogram_of_continuations(events: EventAccumulator) -> None:
    tags = events.Tags()
    for name in ("original_1", "continuation_1"):
        assert f"valid/{name}" in tags["audio"] and f"valid/{name}/spectrogram" in tags["images"]
    heard = events.Audio("valid/continuation_1")
    assert [event.step for event in heard] == [3, 4] and heard[0].sample_rate == 16000 and heard[0].length_frames > 16000
    seen = events.Images("valid/continuation_1/spectrogram")
    assert [event.step for event in seen] == [3, 4] and seen[0].width > 200


def test_tensorboard_has_the_tags_of_icefall_over_the_steps(events: EventAccumulator) -> None:
    scalars = set(events.Tags()["scalars"])
    expected = {"train/learning_rate", "train/grad_norm", "train/targets_per_second", "train/padding"}
    for prefix, parts in (("current", ("semantic", "coarse", "fine")), ("tot", ("semantic", "coarse", "fine"))):
        expected |= {f"train/{prefix}_loss"} | {f"train/{prefix}_{part}_{kind}" for part in parts for kind in ("loss", "accuracy")}
    expected |= {"train/valid_loss"} | {
        f"train/valid_{part}_{kind}" for part in ("semantic", "coarse", "fine_1", "fine_2") for kind in ("loss", "accuracy")
    }
    assert expected <= scalars
    assert [event.step for event in events.Scalars("train/current_loss")] == [1, 2, 3, 4]
    assert [event.step for event in events.Scalars("train/valid_loss")] == [3, 4]
    assert events.Scalars("train/learning_rate")[0].value == pytest.approx(0.05 * 0.625, rel=1e-4)
