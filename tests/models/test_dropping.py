"""Conditions left out of training examples: which, how often, and that a model without dropping has what it always had."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import CODEBOOKS, CODES, UNITS, tiny_model
from torch import Tensor

from valle.crops import CroppedTokens, Span
from valle.decoding.sampling import Sampling
from valle.errors import UserError
from valle.models.coarse import CoarseLM
from valle.models.config import AudioLMConfig
from valle.models.delay import DelayLM
from valle.models.dropping import dropped, refuse_guidance
from valle.models.fine import FineLM
from valle.models.rq import RqLM
from valle.models.soundstorm import SoundStormLM
from valle.models.stage import ExampleSettings, Stage

SIZES: dict[str, Any] = {"d_model": 16, "nhead": 2, "num_layers": 2, "num_quantizers": CODEBOOKS, "codebook_size": CODES, "unit_window": 2}
BOTH: dict[str, Any] = {"drop_conditions": 0.1, "drop_prompt": 0.05}


def config_of(**fields: Any) -> AudioLMConfig:
    return AudioLMConfig(**{**SIZES, "num_units": UNITS, **fields})


def crop_of(name: str, *, epoch: int = 1, periods: int = 5, units: bool = True) -> CroppedTokens:
    """All of an utterance of 1 unit and 2 frames a period."""
    rng = np.random.default_rng([*name.encode()])
    whole = Span(rng.integers(UNITS, size=periods if units else 0), rng.integers(CODES, size=(2 * periods, CODEBOOKS)))
    return CroppedTokens(
        cut_id=name, units=whole.units, codes=whole.codes, starts=True, ends=True, seed=3, epoch=epoch, whole=whole
    )  # fmt: skip


def share(what: str, crops: list[CroppedTokens], config: AudioLMConfig) -> float:
    return float(np.mean([getattr(dropped(crop, config), what) for crop in crops]))


@pytest.mark.parametrize(
    ("fields", "units", "prompt", "voice"),
    [
        ({}, 0.0, 0.0, 0.1),
        (BOTH, 0.10, 0.15, 0.15),
        ({"drop_conditions": 0.3, "drop_prompt": 0.0, "drop_voice": 0.5}, 0.3, 0.3, 0.5),
        ({"drop_conditions": 1.0, "drop_voice": 0.0}, 1.0, 1.0, 1.0),
    ],
)
def test_units_prompts_and_voices_are_dropped_in_the_shares_that_the_configuration_says(
    fields: dict[str, float], units: float, prompt: float, voice: float
) -> None:
    config, crops = config_of(**fields), [crop_of(f"cut-{number}") for number in range(2500)]
    found = [share(what, crops, config) for what in ("units", "prompt", "voice")]
    assert found == pytest.approx([units, prompt, voice], abs=0.03)  # three deviations at one half
    for crop in crops:
        each = dropped(crop, config)
        assert each.units <= each.prompt <= each.voice  # without units there is no prompt, without a prompt no voice


def test_nothing_is_dropped_in_validation() -> None:
    config = config_of(drop_conditions=1.0)
    assert share("voice", [crop_of(f"cut-{number}", epoch=0) for number in range(50)], config) == 0


def test_what_an_example_goes_without_is_its_own_and_changes_with_the_epoch() -> None:
    config = config_of(drop_conditions=0.5)
    crops = [crop_of(f"cut-{number}") for number in range(200)]
    first = [dropped(crop, config) for crop in crops]
    assert [dropped(crop, config) for crop in crops] == first
    assert [dropped(replace(crop, epoch=2), config) for crop in crops] != first
    assert [dropped(replace(crop, number=1), config) for crop in crops] != first


STAGES = pytest.mark.parametrize("stage", [CoarseLM, FineLM])


@pytest.mark.parametrize("stage", [CoarseLM, FineLM, DelayLM, RqLM])
@pytest.mark.parametrize("units", [True, False])
def test_with_shares_of_0_the_tensors_are_the_same(stage: type[Stage], units: bool) -> None:
    config = config_of(num_units=UNITS if units else None, drop_voice=0.0)
    crops = [crop_of(f"cut-{number}", units=units) for number in range(40)]
    plain = stage.collate(crops, ExampleSettings(config))
    for other in (config_of(num_units=config.num_units), replace(config, **BOTH)):
        again = stage.collate(crops, ExampleSettings(other))
        assert again.keys() == plain.keys()
        if other.drop_conditions == 0:
            assert all(torch.equal(again[name], plain[name]) for name in plain)
        else:  # no tensor more, and only lengths differ
            assert all(torch.equal(again[name], plain[name]) for name in plain if name not in ("unit_lengths", "prompt_lengths"))
            for name in plain.keys() & {"unit_lengths", "prompt_lengths"}:
                kept = again[name] == plain[name]
                assert (again[name][~kept] == 0).all() and (name != "unit_lengths" or 0 < int((~kept).sum()) < 15)


def loss_of(model: Stage, batch: dict[str, Tensor]) -> Tensor:
    return model.loss(**batch).sum


@STAGES
@pytest.mark.parametrize("conditioning", ["aligned", "prefix"])
def test_an_example_without_conditions_shows_neither_units_nor_prompt(stage: type[Stage], conditioning: str) -> None:
    """Its loss is the same whatever units it has, and every frame of it is a target."""
    model = tiny_model(num_units=UNITS, coarse_conditioning=conditioning)
    config = replace(model.config, drop_conditions=1.0)
    crops = [crop_of("one"), crop_of("other", periods=3)]
    others = [replace(crop, units=(crop.units + 1) % UNITS) for crop in crops]
    part = model.stages()[stage.name]
    here, there = (stage.collate(row, ExampleSettings(config)) for row in (crops, others))
    assert torch.equal(loss_of(part, here), loss_of(part, there))
    assert int(part.loss(**here).count) == 16
    kept = (stage.collate(row, ExampleSettings(replace(config, drop_conditions=0.0))) for row in (crops, others))
    assert len({float(loss_of(part, batch).detach()) for batch in kept}) == 2


@pytest.mark.parametrize("stage", [SoundStormLM, DelayLM, RqLM])
def test_an_example_without_conditions_shows_no_units_in_any_acoustic_model(stage: type[Stage]) -> None:
    model = tiny_model(num_units=UNITS, acoustic_model=stage.name)
    config = replace(model.config, drop_conditions=1.0)
    crops = [crop_of("one"), crop_of("other", periods=3)]
    others = [replace(crop, units=(crop.units + 1) % UNITS) for crop in crops]
    part = model.stages()[stage.name]
    here, there = (stage.collate(row, ExampleSettings(config)) for row in (crops, others))
    assert here["unit_lengths"].tolist() == [0, 0] and torch.equal(loss_of(part, here), loss_of(part, there))
    kept = (stage.collate(row, ExampleSettings(replace(config, drop_conditions=0.0))) for row in (crops, others))
    assert len({float(loss_of(part, batch).detach()) for batch in kept}) == 2


@pytest.mark.parametrize("units", [True, False])
def test_soundstorms_masks_reach_the_beginning_of_a_crop_without_a_prompt(units: bool) -> None:
    """And all other examples are as they were."""
    config = config_of(num_units=UNITS if units else None)
    crops = [crop_of(f"cut-{number}", units=units) for number in range(200)]
    plain, some = (SoundStormLM.collate(crops, ExampleSettings(replace(config, **fields))) for fields in ({}, BOTH))
    without = torch.tensor([dropped(crop, replace(config, **BOTH)).prompt for crop in crops])
    assert 10 < int(without.sum()) < 50 and plain.keys() == some.keys()
    assert not some["prompt_lengths"][without].any() and bool(plain["prompt_lengths"][without].any())
    assert some["masked"][without, 0].any() and some["masked"].any(1).all()
    for name in ("masked", "prompt_lengths", "levels", "codes"):
        assert torch.equal(some[name][~without], plain[name][~without])


def test_without_units_the_coarse_prompt_is_dropped_and_all_is_target() -> None:
    config = config_of(num_units=None, **BOTH)
    crops = [crop_of(f"cut-{number}", units=False) for number in range(200)]
    prompts = CoarseLM.collate(crops, ExampleSettings(config))["prompt_lengths"].tolist()
    assert prompts == [0 if dropped(crop, config).prompt else 4 for crop in crops]


@given(order=st.permutations(range(12)))
@settings(max_examples=10, deadline=None, derandomize=True)
def test_batch_mates_decide_nothing(order: list[int]) -> None:
    config = config_of(drop_conditions=0.4, drop_prompt=0.3)
    crops = [crop_of(f"cut-{number}") for number in range(12)]
    together = FineLM.collate([crops[index] for index in order], ExampleSettings(config))
    for place, index in enumerate(order):
        alone = FineLM.collate([crops[index]], ExampleSettings(config))
        assert all(torch.equal(together[name][place], alone[name][0]) for name in alone)


@pytest.mark.parametrize(
    "fields", [{"drop_conditions": -0.1}, {"drop_prompt": 1.5}, {"drop_conditions": 0.6, "drop_prompt": 0.6}, {"drop_voice": 2.0}]
)
def test_shares_that_are_none_are_refused(fields: dict[str, float]) -> None:
    with pytest.raises(UserError, match=r"in 0\.\.1, the first two together too, found"):
        config_of(**fields)


def test_a_stage_without_conditions_refuses_guidance_and_1_is_always_allowed() -> None:
    model = tiny_model(num_units=UNITS, **BOTH)
    refuse_guidance(model.config, model.stages(), {"coarse": Sampling(guidance=2), "semantic": Sampling()})
    with pytest.raises(UserError, match="expected guidance 1 for the semantic stage, which has no condition to leave out, found 2"):
        refuse_guidance(model.config, model.stages(), {"semantic": Sampling(guidance=2)})
