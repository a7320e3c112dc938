"""What a run will take is counted on shapes alone, and is what a real pass takes."""

from pathlib import Path

import pytest
from torch.nn.attention import SDPBackend, sdpa_kernel

from valle.bin import estimate as program
from valle.config import parse_flags
from valle.errors import UserError
from valle.models import AudioLM
from valle.models.audio_lm import count_parameters
from valle.training.estimate import EstimateOptions, estimate, stage_costs

RECIPE = Path(__file__).parents[2] / "egs" / "librispeech"
PAPERS = [RECIPE / "conf" / name for name in ("librispeech_960.yaml", "librilight_60k.yaml")]


def options(config: Path, *flags: str) -> EstimateOptions:
    return parse_flags(EstimateOptions, usage="", argv=["--config", str(config), *flags])


@pytest.mark.parametrize("config", PAPERS, ids=lambda path: path.stem)
def test_the_papers_sizes_are_built_and_take_a_step_without_memory(config: Path) -> None:
    found = estimate(options(config))
    assert [stage.name for stage in found.stages] == ["semantic", "coarse", "fine"]
    assert all(150e6 < stage.parameters < 175e6 for stage in found.stages)
    for stage, tokens in zip(found.stages, (25 * 12.3, 50 * 10, 50 * 3), strict=True):
        cuts = int(options(config).max_duration / 12.3)
        assert stage.operations == pytest.approx(6 * stage.parameters * tokens * cuts, rel=0.35), "not 6 operations a weight and token"


@pytest.mark.parametrize("config", PAPERS, ids=lambda path: path.stem)
def test_a_real_pass_at_a_tenth_of_the_width_takes_what_was_estimated(config: Path) -> None:
    small = options(config, "--decoder-dim", "96", "--nhead", "2", "--num-decoder-layers", "2", "--max-duration", "25", "--num-units", "50")
    with sdpa_kernel(SDPBackend.MATH):  # whose products torch counts on a CPU too
        real = list(stage_costs(small, device="cpu"))
    for expected, found in zip(stage_costs(small), real, strict=True):
        assert found.name == expected.name and found.parameters == expected.parameters
        assert found.operations == pytest.approx(expected.operations, rel=0.02)
        assert found.activations == pytest.approx(expected.activations, rel=0.1)
    assert sum(stage.parameters for stage in real) == count_parameters(AudioLM.from_config(small.model_config))


def test_work_grows_with_hours_and_is_shared_among_gpus(tmp_path: Path) -> None:
    one, twice, eight = (
        estimate(EstimateOptions(decoder_dim=32, nhead=2, num_decoder_layers=1, **changes))
        for changes in ({}, {"hours": 1920.0}, {"world_size": 8})
    )
    assert twice.gpu_hours == pytest.approx(2 * one.gpu_hours, rel=1e-3) and twice.steps == pytest.approx(2 * one.steps, rel=1e-3)
    assert eight.gpu_hours == pytest.approx(one.gpu_hours, rel=1e-3) and eight.steps == pytest.approx(one.steps / 8, rel=1e-3)


def test_weights_that_are_spread_out_take_less_of_each_gpu() -> None:
    sizes = {"decoder_dim": 64, "nhead": 2, "num_decoder_layers": 2, "world_size": 4}
    whole, spread = (estimate(EstimateOptions(**sizes, fsdp=fsdp)) for fsdp in (False, True))
    state = 16 * sum(stage.parameters for stage in whole.stages)
    assert whole.memory - spread.memory == pytest.approx(state * 3 / 4, rel=1e-6)


@pytest.mark.parametrize(
    ("changes", "said"), [({"hours": 0.0}, "--hours"), ({"utilisation": 1.5}, "--utilisation"), ({"tflops": -1.0}, "--tflops")]
)
def test_an_impossible_corpus_or_machine_is_refused(changes: dict[str, float], said: str) -> None:
    with pytest.raises(UserError, match=said):
        EstimateOptions(**changes)


def test_the_program_says_hours(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    flags = ["--decoder-dim", "32", "--nhead", "2", "--num-decoder-layers", "1", "--world-size", "2"]
    monkeypatch.setattr("sys.argv", ["estimate.py", *flags])
    program.main()
    said = capsys.readouterr().out
    assert "semantic: " in said and "GPU hours" in said and "hours on 2" in said


def test_a_stage_that_collects_batches_keeps_all_of_them_and_works_as_much() -> None:
    sizes = {"decoder_dim": 64, "nhead": 2, "num_decoder_layers": 1, "train_stage": "fine"}
    [one], [three] = (list(stage_costs(EstimateOptions(**sizes, fine_batches=batches))) for batches in (1, 3))
    assert three.operations == pytest.approx(one.operations, rel=1e-6)
    assert three.activations == pytest.approx(3 * one.activations, rel=0.05)
