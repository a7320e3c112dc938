"""Neighbours: other utterances by the same voice, and what the fine stage is given of them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lhotse import CutSet
from tiny_corpus import CODEBOOKS, Corpus, write_corpus
from tiny_crops import tiny_crops

from valle.data.dataset import TokenDataset, read_tokens
from valle.data.neighbours import Neighbours
from valle.tokenizing.cut_index import write_index
from valle.tokenizing.token_manifests import TokenManifests, read_manifests

SECONDS = {"semantic": 2.0, "coarse": 1.0, "fine": 1.0}


def rewrite(manifests: TokenManifests, part: str, change: Any) -> None:
    """The manifest of a part with ``change(number, cut)`` made to each cut, in another order of lines."""
    path = manifests.folder / f"cuts_{part}.jsonl.gz"
    with gzip.open(path, "rt") as stream:
        cuts = [json.loads(line) for line in stream]
    for number, cut in enumerate(cuts):
        change(number, cut)
    with gzip.open(path, "wt") as stream:
        stream.writelines(json.dumps(cut) + "\n" for cut in sorted(cuts, key=lambda cut: cut["id"][::-1]))


def speech_by(speaker: str, cut: dict[str, Any]) -> dict[str, Any]:
    return {"id": cut["id"], "recording_id": cut["id"], "start": 0.0, "duration": cut["duration"], "speaker": speaker}


def name_speakers(number: int, cut: dict[str, Any]) -> None:
    """Cuts 0 to 3 by A, 4 by B, 5 by C twice (the second is the same utterance again), the others by recordings of their own."""
    speakers = {0: "A", 1: "A", 2: "A", 3: "A", 4: "B", 5: "C", 6: "C"}
    if number in speakers:
        cut["supervisions"] = [speech_by(speakers[number], cut)]
    if number == 6:
        cut["recording"]["id"] = "train-005"
    if number in (8, 9):
        cut["recording"]["id"], cut["start"] = "long", float(number)


@pytest.fixture(params=["manifest", "index"])
def manifests(request: pytest.FixtureRequest, tmp_path: Path) -> TokenManifests:
    found = read_manifests(write_corpus(tmp_path, Corpus(num_train=12, num_dev=3)))
    rewrite(found, "train", name_speakers)
    if request.param == "index":
        with gzip.open(found.folder / "cuts_train.jsonl.gz", "rt") as stream:
            write_index(((line, -1) for line in stream), found.folder, "train")
    return found


def beside(neighbours: Neighbours, cut_id: str) -> set[str]:
    chosen = [neighbours.choose(cut_id, chance) for chance in np.linspace(0, 0.999, 20)]
    return {"" if cut is None else cut.id for cut in chosen}


def test_neighbours_are_the_utterances_before_and_after_by_the_same_voice(manifests: TokenManifests) -> None:
    neighbours = Neighbours(manifests)
    expected = {0: {1}, 1: {0, 2}, 2: {1, 3}, 3: {2}, 8: {9}, 9: {8}}
    for number in range(12):
        ids = {f"train-{other:03d}" for other in expected.get(number, ())} or {""}
        assert beside(neighbours, f"train-{number:03d}") == ids, number
    assert beside(neighbours, "dev-000") == {""} and beside(neighbours, "nobody") == {""}


def test_the_fine_stage_is_prompted_by_a_neighbours_tokens(manifests: TokenManifests) -> None:
    cuts = [cut for cut in manifests.cuts("train") if cut.id in ("train-000", "train-001", "train-004")]
    tokens = {cut.id: read_tokens(cut, manifests, CODEBOOKS) for cut in cuts}
    prompts, plain = [], []
    for epoch in range(1, 12):
        settings = tiny_crops(seconds=SECONDS, prefix_mode=4)
        dataset = TokenDataset(manifests, settings, epoch=epoch, neighbours=Neighbours(manifests))
        batch = dataset[CutSet.from_cuts(cuts)]
        alone = TokenDataset(manifests, tiny_crops(seconds=SECONDS, prefix_mode=0), epoch=epoch)[CutSet.from_cuts(cuts)]
        for row, cut in enumerate(cuts):
            prompt, length = int(batch["fine"]["prompt_lengths"][row]), int(batch["fine"]["lengths"][row])
            assert length == int(alone["fine"]["lengths"][row])
            codes = batch["fine"]["codes"][row, :length]
            assert (codes[prompt:] == alone["fine"]["codes"][row, prompt:length]).all()
            if cut.id == "train-004":  # of a voice that says nothing else
                assert prompt == 0
            elif cut.id == "train-000" and prompt:
                neighbour = tokens["train-001"]
                places = [
                    start for start in range(0, len(neighbour.codes) - prompt + 1, 2)
                    if (codes[:prompt].numpy() == neighbour.codes[start : start + prompt]).all()
                ]  # fmt: skip
                units = batch["fine"]["units"][row, : prompt // 2].numpy()
                assert places and (units == neighbour.units[places[0] // 2 :][: prompt // 2]).all()
                prompts.append(prompt)
        plain.append(batch["coarse"])
    assert len(prompts) > 5 and all("prompt_lengths" not in batch for batch in plain)


def test_dev_cuts_are_each_others_neighbours_and_never_training_cuts(tmp_path: Path) -> None:
    manifests = read_manifests(write_corpus(tmp_path, Corpus(num_train=3, num_dev=2)))

    def one_speaker(number: int, cut: dict[str, Any]) -> None:
        cut["supervisions"] = [speech_by("A", cut)]

    for part in ("train", "dev"):
        rewrite(manifests, part, one_speaker)
    neighbours = Neighbours(manifests)
    assert beside(neighbours, "dev-000") == {"dev-001"} and beside(neighbours, "train-002") == {"train-001"}
