"""Codes that start where the codec's vectors lie."""

from __future__ import annotations

import math

import pytest
import torch
from tiny_models import CODEBOOKS, CODES, fresh_model, random_row
from torch import Tensor

from valle.errors import UserError
from valle.models.code_geometry import embeddings_like, heads_like


def codebooks(levels: int = CODEBOOKS, codes: int = CODES) -> Tensor:
    """Each level a quarter of the size of the one before."""
    generator = torch.Generator().manual_seed(3)
    return torch.randn(levels, codes, 32, generator=generator) * 0.25 ** torch.arange(levels)[:, None, None]


def distances(table: Tensor) -> Tensor:
    return torch.pdist(table) / torch.pdist(table).mean()


def test_distances_within_a_level_are_the_codecs() -> None:
    torch.manual_seed(0)
    vectors = codebooks()
    for table in (embeddings_like(vectors, 4096), heads_like(vectors, 4096)):
        for ours, theirs in zip(table, vectors, strict=True):
            torch.testing.assert_close(distances(ours), distances(theirs), atol=0.05, rtol=0.05)


def test_the_first_level_has_unit_size_and_finer_ones_are_drawn_half_the_way_to_it() -> None:
    torch.manual_seed(0)
    sizes = embeddings_like(codebooks(), 4096).square().mean((1, 2)).sqrt()
    torch.testing.assert_close(sizes, torch.tensor([1.0, 0.5, 0.25]), atol=0.05, rtol=0.1)


def test_levels_share_one_map_so_that_their_sum_resembles_the_codecs() -> None:
    torch.manual_seed(0)
    vectors = codebooks().expand(2, -1, -1, -1)[:, 0]  # two equal levels
    one, other = embeddings_like(vectors, 64)
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize("fields", [{"num_units": 7}, {"num_coarse": 2}, {"num_coarse": 3}])
def test_the_first_loss_is_still_ln_v_of_every_stage_of_codes(fields: dict) -> None:
    model = fresh_model(**fields)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    model.start_from_codebooks(codebooks())
    changed = {name for name, parameter in model.named_parameters() if not torch.equal(before[name], parameter)}
    fine = {"fine.embed.weight", "fine.head"} if "fine" in model.stages() else set()
    assert changed == {"coarse.embed.weight", "coarse.head.weight", *fine}
    row = random_row(model, periods=200, seed=1)
    units = {"units": row["units"][None], "unit_lengths": torch.tensor([len(row["units"])])} if "units" in row else {}
    frames = torch.tensor([len(row["codes"])])
    prompt = {} if units else {"prompt_lengths": torch.tensor([1])}
    coarse = model.coarse.loss(codes=row["codes"][None], lengths=frames, **units, **prompt)
    assert (coarse.sum / coarse.count).item() == pytest.approx(math.log(CODES), abs=0.05)
    if "fine" in model.stages():
        level = torch.tensor([model.config.num_coarse])
        fine = model.fine.loss(codes=row["codes"][None], lengths=frames, prompt_lengths=torch.tensor([3]), levels=level, **units)
        assert (fine.sum / fine.count).item() == pytest.approx(math.log(CODES), abs=0.05)


def test_more_codebooks_than_the_model_has_are_ignored_and_fewer_refused() -> None:
    model = fresh_model()
    model.start_from_codebooks(codebooks(levels=CODEBOOKS + 2))
    for wrong in (codebooks(levels=CODEBOOKS - 1), codebooks(codes=CODES + 1)):
        with pytest.raises(UserError, match=r"expected codebooks of shape \(3, 11, D\)"):
            model.start_from_codebooks(wrong)
