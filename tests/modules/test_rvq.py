"""Residual vector quantization: what others' codecs got wrong."""

from datetime import timedelta
from pathlib import Path

import torch
import torch.multiprocessing

from valle.modules.rvq import Codebook, ResidualVQ


def used_book(size: int = 8, dim: int = 4) -> Codebook:
    torch.manual_seed(0)
    book = Codebook(size, dim, decay=0.9, revive_ratio=0.05)
    book.start_from(torch.randn(200, dim))
    return book


def test_a_revived_code_survives_the_next_moving_average() -> None:
    book = used_book()
    far = torch.full((4,), 50.0)
    book.embedding[3] = far
    book.vector_sum[3] = far * 1e-4
    book.count[3] = 1e-4
    batch = torch.randn(200, 4)
    assert book.revive(batch) == 1
    revived = book.embedding[3].clone()
    assert any(torch.equal(revived, vector) for vector in batch)
    book.update(batch[:1] + 100, torch.tensor([0]))  # nothing is assigned to code 3
    torch.testing.assert_close(book.embedding[3], revived, rtol=1e-3, atol=1e-3)


def test_death_is_judged_by_the_share_of_the_mean_use_not_by_an_absolute_count() -> None:
    book = used_book(size=64)
    book.count.fill_(0.4)  # below the absolute threshold of 2 that small batches never reach
    before = book.embedding.clone()
    assert book.revive(torch.randn(10, 4)) == 0
    assert torch.equal(book.embedding, before)


def test_embedding_equals_sum_over_count_after_every_change() -> None:
    book = used_book()
    vectors = torch.randn(100, 4)
    for _ in range(3):
        book.update(vectors, book.nearest(vectors))
        book.revive(vectors)
        torch.testing.assert_close(book.embedding, book.vector_sum / book.count[:, None], rtol=1e-3, atol=1e-4)


def test_quantizer_dropout_reaches_a_batch_of_one() -> None:
    torch.manual_seed(0)
    vq = ResidualVQ(4, num_codebooks=8, codebook_size=4, dropout=0.5).train()
    drawn = {int(vq._levels_used(torch.zeros(1, 3, 4))) for _ in range(200)}
    assert 8 in drawn and min(drawn) == 1 and len(drawn) >= 6


def test_each_example_draws_its_own_number_of_levels() -> None:
    torch.manual_seed(0)
    vq = ResidualVQ(4, num_codebooks=8, codebook_size=4, dropout=1.0).train()
    assert len(set(vq._levels_used(torch.zeros(64, 3, 4)).tolist())) > 4


def test_commitment_reaches_every_level() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 50, 4, requires_grad=True)
    mask = torch.ones(2, 50, dtype=torch.bool)
    vq = ResidualVQ(4, num_codebooks=3, codebook_size=8, dropout=0.0).eval()
    commitment = vq(x, mask).commitment
    first_only = ((x - vq.codebooks[0].embedding[vq.codebooks[0].nearest(x.flatten(0, 1))].view_as(x)).square().mean(-1)).mean() / 3
    assert commitment > first_only
    (gradient,) = torch.autograd.grad(commitment, x)
    assert gradient.abs().sum() > 0


def test_padding_moves_no_codebook() -> None:
    torch.manual_seed(0)
    books = []
    for padding in (0.0, 100.0):
        torch.manual_seed(1)
        vq = ResidualVQ(4, num_codebooks=2, codebook_size=8, dropout=0.0).train()
        x = torch.cat([torch.randn(1, 30, 4, generator=torch.Generator().manual_seed(5)), torch.full((1, 10, 4), padding)], 1)
        mask = torch.arange(40)[None] < 30
        vq(x, mask)
        books.append(torch.cat([book.embedding for book in vq.codebooks]))
    assert torch.equal(*books)


def test_decoding_all_levels_gives_the_quantized_vectors() -> None:
    torch.manual_seed(0)
    vq = ResidualVQ(4, num_codebooks=4, codebook_size=16, dropout=0.0).eval()
    x = torch.randn(2, 10, 4)
    quantized = vq(x, torch.ones(2, 10, dtype=torch.bool))
    assert torch.equal(vq.encode(x), quantized.codes)
    torch.testing.assert_close(vq.decode(quantized.codes), quantized.vectors)


def test_more_levels_are_never_further_from_the_input() -> None:
    torch.manual_seed(0)
    vq = ResidualVQ(4, num_codebooks=4, codebook_size=32, dropout=0.0).eval()
    x = torch.randn(500, 4)
    vq.start_from(x)
    codes = vq.encode(x[None])
    errors = [float((vq.decode(codes[..., :levels]) - x).square().mean()) for levels in range(1, 5)]
    assert errors == sorted(errors, reverse=True)


def test_a_short_start_fills_the_codebook() -> None:
    book = Codebook(16, 4, decay=0.9, revive_ratio=0.05)
    book.start_from(torch.randn(5, 4))
    assert torch.isfinite(book.embedding).all()


WORLD = 2


def test_two_processes_hold_equal_codebooks_also_where_one_has_no_example_for_a_level(tmp_path: Path) -> None:
    """Statistics that are not all-reduced let codebooks drift; a rank that skips a collective hangs the others."""
    torch.multiprocessing.spawn(_train_in_process, args=(str(tmp_path),), nprocs=WORLD)
    one, other = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(WORLD))
    assert torch.equal(one, other) and one.isfinite().all()
    assert not torch.equal(one, torch.load(tmp_path / "start.pt", weights_only=True))


def _train_in_process(rank: int, folder: str) -> None:
    import torch.distributed as dist

    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=WORLD, timeout=timedelta(seconds=60))
    torch.manual_seed(0)
    vq = ResidualVQ(4, num_codebooks=3, codebook_size=8, decay=0.9, revive_ratio=0.5, dropout=1.0).train()
    if rank == 0:
        torch.save(_embeddings(vq), f"{folder}/start.pt")
    for step in range(5):
        torch.manual_seed(10 * step + rank)  # the ranks draw different numbers of levels for their one example
        vq(torch.randn(1, 20, 4), torch.ones(1, 20, dtype=torch.bool), revive=True)
    torch.save(_embeddings(vq), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def _embeddings(vq: ResidualVQ) -> torch.Tensor:
    return torch.stack([codebook.embedding for codebook in vq.codebooks])
