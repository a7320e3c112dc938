"""Cuts to batches: streams aligned, one read an example, no example changed by its mates."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lhotse import CutSet
from lhotse.cut import Cut
from lhotse.features.io import close_cached_file_handles, lookup_cache_or_open
from lhotse.utils import fastcopy
from tiny_corpus import CODEBOOKS, CODES, UNITS, Corpus, write_corpus
from tiny_crops import tiny_crops
from torch import Tensor

from valle.crops import pad
from valle.data import dataset as dataset_module
from valle.data.dataset import TokenDataset, padding_share, read_tokens
from valle.timeline import Grid, Timeline
from valle.tokenizing.token_manifests import ManifestError, TokenManifests, read_manifests

SECONDS = {"semantic": 2.0, "coarse": 1.0, "fine": 0.6}


@pytest.fixture(scope="module")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> TokenManifests:
    return read_manifests(write_corpus(tmp_path_factory.mktemp("corpus")))


@pytest.fixture(scope="module")
def codes_only(tmp_path_factory: pytest.TempPathFactory) -> TokenManifests:
    return read_manifests(write_corpus(tmp_path_factory.mktemp("codes"), Corpus(units=False)))


def cuts_of(manifests: TokenManifests) -> list[Cut]:
    return list(manifests.cuts("train"))


def make(manifests: TokenManifests, *, epoch: int = 1, **changes: object) -> TokenDataset:
    return TokenDataset(manifests, tiny_crops(**{"seconds": SECONDS, "units": manifests.semantic is not None, **changes}), epoch=epoch)


def row(batch: dict[str, dict[str, Tensor]], index: int) -> dict[str, dict[str, Tensor]]:
    """One example of a batch without its padding."""
    found: dict[str, dict[str, Tensor]] = {}
    for stage, tensors in batch.items():
        found[stage] = {}
        for name, values in tensors.items():
            length = {"units": tensors.get("unit_lengths", tensors["lengths"]), "codes": tensors["lengths"]}.get(name)
            found[stage][name] = values[index] if length is None else values[index, : length[index]]
    return found


def assert_equal(one: dict[str, dict[str, Tensor]], other: dict[str, dict[str, Tensor]]) -> None:
    assert one.keys() == other.keys()
    for stage, tensors in one.items():
        assert tensors.keys() == other[stage].keys()
        for name, values in tensors.items():
            assert torch.equal(values, other[stage][name]), (stage, name)


def test_a_piece_that_does_not_end_its_recording_has_no_eos(manifests: TokenManifests) -> None:
    cut = next(iter(manifests.cuts("train")))
    for custom, ends in (({}, (True, True)), ({"is_first_piece": True, "is_last_piece": False}, (True, False)),
                         ({"is_first_piece": False, "is_last_piece": True}, (False, True))):  # fmt: skip
        piece = fastcopy(cut, custom={**cut.custom, **custom})
        batch = make(manifests, seconds={"semantic": 30.0, "coarse": 1.0, "fine": 1.0})[CutSet.from_cuts([piece])]["semantic"]
        assert (bool(batch["starts"]), bool(batch["ends"])) == ends


@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31), epoch=st.integers(0, 100))
def test_units_and_codes_of_a_crop_are_of_the_same_time(manifests: TokenManifests, seed: int, epoch: int) -> None:
    """Free offsets would misalign 46 % of crops at 25 and 50 Hz; in this corpus a code tells the unit of its frame."""
    batch = make(manifests, seed=seed, epoch=epoch)[CutSet.from_cuts(cuts_of(manifests)[:6])]
    for stage in ("coarse", "fine"):
        for index in range(6):
            example = row(batch, index)[stage]
            frames = torch.arange(len(example["codes"]))
            assert len(example["codes"]) == 2 * len(example["units"]) > 0
            expected = (example["units"][frames // 2] + frames % 2)[:, None] + 3 * torch.arange(CODEBOOKS)
            assert torch.equal(example["codes"], expected % CODES)


def test_shapes_and_types_are_those_the_models_take(manifests: TokenManifests) -> None:
    batch = make(manifests)[CutSet.from_cuts(cuts_of(manifests)[:5])]
    lengths = {stage: int(batch[stage]["lengths"].max()) for stage in batch}
    assert batch["semantic"]["units"].shape == (5, lengths["semantic"])
    for stage in ("coarse", "fine"):
        assert batch[stage]["codes"].shape == (5, lengths[stage], CODEBOOKS)
        assert batch[stage]["units"].shape == (5, lengths[stage] // 2)
    assert all(values.dtype in (torch.int64, torch.bool) for tensors in batch.values() for values in tensors.values())
    assert lengths["coarse"] == 50 and lengths["fine"] == 30 and lengths["semantic"] <= 50


def test_bos_and_eos_stand_only_where_a_crop_holds_the_utterances_true_ends(manifests: TokenManifests) -> None:
    """An EOS after every random crop would teach the model to stop at the crop's length."""
    cuts = cuts_of(manifests)
    seen = set()
    for epoch in range(6):
        batch = make(manifests, epoch=epoch)[CutSet.from_cuts(cuts)]["semantic"]
        for index, cut in enumerate(cuts):
            whole = cut.units.load().astype(np.int64)
            crop = batch["units"][index, : batch["lengths"][index]].numpy()
            at_start, at_end = bool(batch["starts"][index]), bool(batch["ends"][index])
            assert not at_start or np.array_equal(crop, whole[: len(crop)])
            assert not at_end or np.array_equal(crop, whole[len(whole) - len(crop) :])
            if len(crop) == len(whole):
                assert at_start and at_end
            elif len(whole) - len(crop) < UNITS:  # the pattern does not repeat within so little: the crop's place is known
                place = (crop[0] - whole[0]) % UNITS
                assert (at_start, at_end) == (place == 0, place == len(whole) - len(crop))
            seen.add((at_start, at_end))
    assert (False, False) in seen and (True, True) in seen


def test_one_cut_is_read_once_and_each_stage_takes_its_own_crop(tmp_path: Path) -> None:
    manifests = read_manifests(write_corpus(tmp_path))
    cuts, dataset = cuts_of(manifests), make(manifests)
    expected = dataset[CutSet.from_cuts(cuts)]
    examples = [read_tokens(cut, manifests, CODEBOOKS) for cut in cuts]
    close_cached_file_handles()
    (manifests.folder / "train.h5").unlink()
    assert_equal(dataset.collate(examples), expected)  # no stage reads again
    firsts = {stage: [dataset.cropped([example], stage)[0].codes[0].tolist() for example in examples] for stage in SECONDS}
    assert firsts["semantic"] != firsts["coarse"] != firsts["fine"]


@pytest.mark.parametrize("corpus", ["manifests", "codes_only"])
def test_an_example_is_the_same_whatever_its_mates(corpus: str, request: pytest.FixtureRequest) -> None:
    """Crop, level and length of the prompt come from the example itself: "prompt length decided by batch mates"."""
    manifests: TokenManifests = request.getfixturevalue(corpus)
    dataset = make(manifests, prompt_share_to=0.7, seconds={"semantic": 4.0, "coarse": 3.0, "fine": 2.0})
    cuts = cuts_of(manifests)
    alone = [dataset[CutSet.from_cuts([cut])] for cut in cuts]
    for order in (list(range(len(cuts))), list(reversed(range(0, len(cuts), 3)))):
        batch = dataset[CutSet.from_cuts([cuts[index] for index in order])]
        for place, index in enumerate(order):
            assert_equal(row(batch, place), row(alone[index], 0))


def test_crops_change_with_the_epoch_and_the_seed_and_with_nothing_else(manifests: TokenManifests) -> None:
    cuts = CutSet.from_cuts(cuts_of(manifests))
    first = make(manifests, epoch=1)[cuts]
    assert_equal(make(manifests, epoch=1)[cuts], first)
    for other in (make(manifests, epoch=2)[cuts], make(manifests, epoch=1, seed=6)[cuts]):
        assert not torch.equal(other["coarse"]["codes"], first["coarse"]["codes"])


def test_padding_holds_zeros_and_is_counted(manifests: TokenManifests) -> None:
    batch = make(manifests)[CutSet.from_cuts(cuts_of(manifests))]
    padded = real = 0
    for tensors in batch.values():
        for name in set(tensors) & {"units", "codes"}:
            lengths = tensors.get("unit_lengths", tensors["lengths"]) if name == "units" else tensors["lengths"]
            beyond = torch.arange(tensors[name].shape[1]) >= lengths[:, None]
            assert not tensors[name][beyond].any()
        stream = tensors.get("codes", tensors.get("units"))
        padded, real = padded + stream.shape[0] * stream.shape[1], real + int(tensors["lengths"].sum())
    assert padding_share(batch) == pytest.approx(1 - real / padded) and 0 < padding_share(batch) < 1


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.lists(st.lists(st.integers(0, 9), max_size=5), min_size=1, max_size=6))
def test_padding_and_cutting_is_a_round_trip(rows: list[list[int]]) -> None:
    padded, lengths = pad([np.array(values, np.int64) for values in rows])
    assert padded.shape == (len(rows), max(map(len, rows)))
    assert [values[:length].tolist() for values, length in zip(padded, lengths, strict=True)] == rows


def test_levels_are_of_the_fine_stage_and_prompts_leave_something_to_learn(manifests: TokenManifests) -> None:
    cuts = CutSet.from_cuts(cuts_of(manifests))
    levels = set()
    for epoch in range(8):
        fine = make(manifests, epoch=epoch)[cuts]["fine"]
        levels |= set(fine["levels"].tolist())
        assert (fine["prompt_lengths"] < fine["lengths"]).all() and fine["prompt_lengths"].max() > 0
    assert levels == {1, 2}
    assert not make(manifests, prefix_mode=0)[cuts]["fine"]["prompt_lengths"].any()


def test_without_units_the_prompt_is_a_share_of_the_crop(codes_only: TokenManifests) -> None:
    cuts = CutSet.from_cuts(cuts_of(codes_only))
    batch = make(codes_only)[cuts]["coarse"]
    assert "units" not in batch
    assert torch.equal(batch["prompt_lengths"], (0.4 * batch["lengths"].double()).long())
    shares = make(codes_only, prompt_share=0.2, prompt_share_to=0.8)[cuts]["coarse"]
    found = shares["prompt_lengths"] / shares["lengths"]
    assert found.min() >= 0.15 and found.max() <= 0.8 and len(set(found.tolist())) > 5


def test_the_first_codebooks_are_read_and_more_than_there_are_is_refused(manifests: TokenManifests) -> None:
    cut = cuts_of(manifests)[0]
    whole = read_tokens(cut, manifests, CODEBOOKS)
    assert np.array_equal(read_tokens(cut, manifests, 2).codes, whole.codes[:, :2])
    with pytest.raises(ManifestError, match=rf"expected at least 4 codebooks in cut {cut.id}, found shape .* lower --num-quantizers"):
        read_tokens(cut, manifests, 4)


def test_tokens_of_other_tokenizers_are_refused_with_both_named(manifests: TokenManifests) -> None:
    cut = cuts_of(manifests)[0]
    other = replace(manifests, acoustic=replace(manifests.acoustic, sha256="f" * 64))
    with pytest.raises(ManifestError) as refused:
        read_tokens(cut, other, CODEBOOKS)
    assert (
        manifests.tag in str(refused.value) and "tiny-codec (ffffffffffff)" in str(refused.value) and "./prepare.sh" in str(refused.value)
    )
    cut.custom.pop("tokenizers")
    with pytest.raises(ManifestError, match="was tokenized by None"):
        read_tokens(cut, manifests, CODEBOOKS)


@pytest.mark.parametrize("field", ["units", "codes"])
def test_tokens_out_of_range_are_refused_before_a_model_sees_them(manifests: TokenManifests, field: str) -> None:
    kind, size = ("semantic", UNITS) if field == "units" else ("acoustic", CODES)
    smaller = replace(manifests, **{kind: replace(getattr(manifests, kind), codebook_size=size - 1)})
    with pytest.raises(
        ManifestError, match=rf"expected {field} in 0..{size - 2} as tiny-.* makes them, found 0..{size - 1} in cut train-000"
    ):
        read_tokens(cuts_of(manifests)[0], smaller, CODEBOOKS)


def test_a_cut_without_tokens_or_without_a_whole_period_is_refused(manifests: TokenManifests) -> None:
    cut = cuts_of(manifests)[0]
    cut.custom.pop("units")
    with pytest.raises(ManifestError, match=rf"expected units in cut {cut.id}, found none; run ./prepare.sh"):
        read_tokens(cut, manifests, CODEBOOKS)
    rarely_meeting = replace(manifests, timeline=Timeline(units=Grid(16000, 8000), codes=Grid(16000, 16)))
    with pytest.raises(ManifestError, match="holds no whole period of tokens; raise --filter-min-duration"):
        read_tokens(cuts_of(manifests)[0], rarely_meeting, CODEBOOKS)


@pytest.mark.parametrize("damage", ["missing", "cut short", "not HDF5", "another's"])
def test_damaged_token_files_are_named_with_what_to_do(tmp_path: Path, damage: str) -> None:
    manifests = read_manifests(write_corpus(tmp_path))
    path = manifests.folder / "train.h5"
    close_cached_file_handles()
    if damage == "missing":
        path.unlink()
    elif damage == "another's":
        (manifests.folder / "dev.h5").replace(path)
    else:
        path.write_bytes(path.read_bytes()[:2000] if damage == "cut short" else b"not HDF5")
    with pytest.raises(ManifestError) as refused:
        make(manifests)[CutSet.from_cuts(cuts_of(manifests)[:1])]
    assert str(path) in str(refused.value) and "delete data/tokenized and run ./prepare.sh" in str(refused.value)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 400


def test_no_more_files_are_kept_open_than_a_process_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset_module, "MAX_OPEN_FILES", 2)
    close_cached_file_handles()
    for number in range(4):
        manifests = read_manifests(write_corpus(tmp_path / str(number), Corpus(num_train=2, num_dev=1)))
        for _ in range(2):
            make(manifests)[CutSet.from_cuts(cuts_of(manifests))]
            assert lookup_cache_or_open.cache_info().currsize <= 2


def test_several_crops_of_a_cut_are_rows_of_their_own_and_the_first_is_what_it_was(manifests: TokenManifests) -> None:
    cuts = CutSet.from_cuts(cuts_of(manifests)[:4])
    one, three = make(manifests)[cuts], make(manifests, crops={"fine": 3})[cuts]
    assert_equal({stage: three[stage] for stage in ("semantic", "coarse")}, {stage: one[stage] for stage in ("semantic", "coarse")})
    assert len(three["fine"]["lengths"]) == 12
    for name, values in one["fine"].items():
        assert torch.equal(three["fine"][name][:4, ...][..., : values.shape[-1]] if values.ndim == 2 else three["fine"][name][:4], values)
    first, second = (three["fine"]["codes"][start : start + 4] for start in (0, 4))
    assert not torch.equal(first, second), "crops of a cut lie at other places"
