"""Training through the one loop with every prefix mode, dropping and a pooled voice; what comes out is guided and released."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import shaken
from tiny_pipeline import recording
from tiny_training import tiny_loop, tiny_manifests, tiny_options, train

from valle.decoding.sampling import Sampling
from valle.errors import UserError
from valle.inference.pipeline import ContinueSettings, Pipeline
from valle.inference.trained_model import trained_model
from valle.training.finetune import trainer_settings

SHORT: dict[str, Any] = {"num_epochs": 1, "max_steps": 2, "valid_interval": 2, "save_every_n": 0, "train_stage": "coarse,fine"}


@pytest.fixture(scope="module")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two speakers."""
    folder = tiny_manifests(tmp_path_factory.mktemp("data"), num_train=8, num_dev=2, longest=2.0)
    for part in ("train", "dev"):
        path = folder / f"cuts_{part}.jsonl.gz"
        with gzip.open(path, "rt") as stream:
            cuts = [json.loads(line) for line in stream]
        with gzip.open(path, "wt") as stream:
            for number, cut in enumerate(cuts):
                speech = {"id": cut["id"], "recording_id": cut["id"], "start": 0.0, "duration": cut["duration"]}
                stream.write(json.dumps({**cut, "supervisions": [{**speech, "speaker": "AB"[number % 2]}]}) + "\n")
    return folder


@pytest.mark.parametrize("name", ["soundstorm", "delay", "rq"])
def test_an_acoustic_model_is_trained_with_dropping_and_then_guided(name: str, manifests: Path, tmp_path: Path) -> None:
    short = {**SHORT, "train_stage": "all", "max_steps": 0, "acoustic_model": name}
    states = [
        train(tiny_options(manifests, tmp_path / str(share), drop_conditions=share, drop_prompt=share / 2, **short)) for share in (0.0, 0.5)
    ]
    plain, dropping = (state["model"] for state in states)
    assert states[1]["drop_conditions"] == 0.5
    assert any(not torch.equal(plain[key], dropping[key]) for key in plain if key.startswith(f"{name}."))
    assert all(torch.equal(plain[key], dropping[key]) for key in plain if key.startswith("semantic."))
    released = trained_model(checkpoint=tmp_path / "0.5" / "epoch-1.pt", exp_dir=None, epoch=0, avg=1, use_averaged_model=False)
    shaken(released.model)  # a few steps leave logits nearly equal, with and without conditions
    settings = ContinueSettings(prompt_seconds=1.0, max_seconds=1.0, min_seconds=1.0)
    first, second = (
        Pipeline(released).continue_audio(recording(1.0), 16000, settings=replace(settings, sampling={name: Sampling(guidance=weight)}))[0]
        for weight in (1.0, 6.0)
    )
    assert torch.equal(first.units, second.units) and not torch.equal(first.codes, second.codes)  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", [0, 1, 2, 4])
def test_every_prefix_mode_trains_and_validates(mode: int, manifests: Path, tmp_path: Path) -> None:
    loop = tiny_loop(tiny_options(manifests, tmp_path / "exp", prefix_mode=mode, **SHORT))
    before = {name: weight.clone() for name, weight in loop.task.model.state_dict().items()}
    loop.run()
    after = loop.task.model.state_dict()
    assert loop.progress.step == 2
    assert not torch.equal(before["fine.head"], after["fine.head"]) and all(weight.isfinite().all() for weight in after.values())


def test_a_model_trained_with_dropping_and_a_voice_is_guided_and_tuned_from(manifests: Path, tmp_path: Path) -> None:
    options = tiny_options(
        manifests, tmp_path / "exp", pooled_voice=True, drop_conditions=0.3, drop_prompt=0.2,
        **{**SHORT, "train_stage": "all", "max_steps": 0},
    )  # fmt: skip
    state = train(options)
    assert (state["pooled_voice"], state["drop_conditions"], state["drop_prompt"]) == (True, 0.3, 0.2)
    sizes = trainer_settings(tmp_path / "exp" / "epoch-1.pt")
    assert sizes["pooled_voice"] and "drop_conditions" not in sizes  # weights have the one and not the other
    released = trained_model(checkpoint=tmp_path / "exp" / "epoch-1.pt", exp_dir=None, epoch=0, avg=1, use_averaged_model=False)
    shaken(released.model)  # a few steps leave logits nearly equal, with and without conditions
    found = []
    for weight in (1.0, 6.0):
        sampling = {name: Sampling(guidance=weight) for name in ("coarse", "fine")}
        settings = ContinueSettings(sampling=sampling, prompt_seconds=1.0, max_seconds=1.0, min_seconds=1.0)
        found += Pipeline(released).continue_audio(recording(1.0), 16000, settings=settings)
    assert torch.equal(found[0].units, found[1].units) and not torch.equal(found[0].codes, found[1].codes)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="expected guidance 1 for the semantic stage"):
        Pipeline(released).continue_audio(recording(1.0), 16000, settings=ContinueSettings(sampling={"semantic": Sampling(guidance=2)}))
