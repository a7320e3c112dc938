"""CTC: the sum over all alignments, and what is likeliest frame by frame."""

from __future__ import annotations

from itertools import groupby, product

import pytest
import torch
from torch import Tensor

from valle.models.ctc import ctc_greedy, ctc_term

PIECES = 2  # the blank is class 2


def collapsed(path: tuple[int, ...]) -> list[int]:
    return [piece for piece, _ in groupby(path) if piece != PIECES]


def slow_nats(logits: Tensor, pieces: list[int]) -> Tensor:
    """By every path of frames."""
    log_probability = logits.log_softmax(-1)
    paths = [path for path in product(range(PIECES + 1), repeat=len(logits)) if collapsed(path) == pieces]
    return -torch.stack([sum(log_probability[place, piece] for place, piece in enumerate(path)) for path in paths]).logsumexp(0)


@pytest.mark.parametrize("pieces", [[0], [1, 0], [0, 0], [1, 0, 1]])
def test_the_loss_sums_over_all_alignments(pieces: list[int]) -> None:
    torch.manual_seed(0)
    logits = torch.randn(1, 5, PIECES + 1)
    term = ctc_term(logits, torch.tensor([5]), torch.tensor([pieces]), torch.tensor([len(pieces)]))
    torch.testing.assert_close(term.sum, slow_nats(logits[0], pieces))
    assert int(term.count) == len(pieces)


def test_padding_changes_no_loss_and_too_few_frames_have_none() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 6, PIECES + 1)
    rows = [(6, [0, 1, 0]), (3, [1])]
    alone = [ctc_term(logits[row : row + 1, :frames], torch.tensor([frames]), torch.tensor([said]), torch.tensor([len(said)])).sum
             for row, (frames, said) in enumerate(rows)]  # fmt: skip
    together = ctc_term(logits, torch.tensor([6, 3]), torch.tensor([[0, 1, 0], [1, 0, 0]]), torch.tensor([3, 1]))
    torch.testing.assert_close(together.sum, alone[0] + alone[1])
    assert float(ctc_term(logits[:1, :2], torch.tensor([2]), torch.tensor([[0, 0]]), torch.tensor([2])).sum) == 0


def test_repetitions_count_once_and_blanks_part_them() -> None:
    paths = [[0, 0, 2, 0, 1, 1], [2, 1, 2, 2, 2, 0]]
    logits = torch.nn.functional.one_hot(torch.tensor(paths), PIECES + 1).float()
    assert ctc_greedy(logits, torch.tensor([6, 5])) == [[0, 0, 1], [1]]
