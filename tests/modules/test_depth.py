"""The depth transformer: the levels of a frame after each other, against the definition written out."""

from typing import Any

import pytest
import torch
from tiny_models import shaken
from torch import Tensor
from torch.nn import functional as F

from valle.errors import UserError
from valle.modules.depth import DepthConfig, DepthTransformer
from valle.modules.level_embedding import LevelEmbedding

LEVELS, CODES = 4, 5
KINDS: dict[str, dict[str, Any]] = {
    "a code before the first level": {"learned_start": False},
    "a learned start": {"learned_start": True},
    "shared blocks": {"learned_start": True, "shared_blocks": True},
    "one level": {"learned_start": False, "num_levels": 1},
}
kinds = pytest.mark.parametrize("kind", KINDS)


def depth_of(**fields: Any) -> DepthTransformer:
    sizes = {"frame_dim": 6, "dim": 8, "nhead": 2, "num_layers": 2, "num_levels": LEVELS, "codebook_size": CODES}
    torch.manual_seed(0)
    return shaken(DepthTransformer(DepthConfig(**{**sizes, **fields}))).double().eval()


def inputs_of(depth: DepthTransformer, frames: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    before = torch.randint(CODES + 1, (frames, depth.config.num_levels - depth.config.learned_start), generator=generator)
    return torch.randn(frames, depth.config.frame_dim, generator=generator, dtype=torch.float64), before


def written_out(depth: DepthTransformer, frame: Tensor, before: Tensor) -> list[Tensor]:
    """Logits of each level of one ``frame (frame_dim,)``: input k = projection_k(z) + embedding(code k - 1), no positions."""
    tables, heads = list(depth.embed.weight), depth.config.nhead
    codes: list[Any] = list(before) if depth.start is None else [None, *before]
    xs = []
    for level, code in enumerate(codes):
        known = depth.start if code is None else None
        if code is not None:
            table = tables.pop(0)
            known = torch.zeros_like(table[0]) if code == CODES else table[code]
        xs.append(depth.projection[level] @ frame + known)
    for block in depth.blocks:
        own = [0] * len(xs) if depth.config.shared_blocks else list(range(len(xs)))  # whose weights a level has

        def of(layer: Any, level: int, x: Tensor, own: list[int] = own) -> Tensor:
            return layer.weight[own[level]] @ x + layer.bias[own[level]]

        parts = [of(block.qkv, level, block.attention_norm(x)).view(3, heads, -1) for level, x in enumerate(xs)]
        after = []
        for level, x in enumerate(xs):
            mixed = []
            for head in range(heads):
                scores = torch.stack([parts[level][0, head] @ parts[other][1, head] for other in range(level + 1)])
                share = torch.softmax(scores / parts[level].shape[-1] ** 0.5, 0)
                mixed.append(sum(share[other] * parts[other][2, head] for other in range(level + 1)))
            x = x + of(block.out, level, torch.cat(mixed))
            after.append(x + of(block.project, level, F.gelu(of(block.expand, level, block.feedforward_norm(x)))))
        xs = after
    return [depth.head.weight[level] @ depth.final_norm(x) + depth.head.bias[level] for level, x in enumerate(xs)]


@kinds
def test_logits_are_those_of_the_definition(kind: str) -> None:
    depth = depth_of(**KINDS[kind])
    frames, before = inputs_of(depth)
    logits = depth(frames, before)
    assert logits.shape == (depth.config.num_levels, 3, CODES)
    for place, (frame, codes) in enumerate(zip(frames, before, strict=True)):
        for level, expected in enumerate(written_out(depth, frame, codes)):
            torch.testing.assert_close(logits[level, place], expected)


@kinds
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_levels_drawn_one_by_one_have_the_logits_of_all_at_once(kind: str, dtype: torch.dtype) -> None:
    """In float32 by the products that are made ready for steps."""
    depth = depth_of(**KINDS[kind]).to(dtype)
    frames, before = (part.to(dtype) if part.is_floating_point() else part for part in inputs_of(depth))
    whole = depth(frames, before)
    following = [*before.T[1:], before.new_zeros(3)] if depth.start is None else [*before.T, before.new_zeros(3)]
    heard: list[Tensor] = []

    def choose(level: int, logits: Tensor) -> Tensor:
        assert level == len(heard)
        heard.append(logits)
        return following[level]

    with torch.no_grad():
        steps = depth.ready_for_steps(3)
        for _ in range(2):  # nothing is kept from one frame to the next
            heard.clear()
            codes = steps.run(frames, before[:, 0] if depth.start is None else None, choose)
            torch.testing.assert_close(torch.stack(heard), whole)
    assert torch.equal(torch.stack(codes), torch.stack(following))


def test_each_level_has_projection_head_and_blocks_of_its_own_unless_they_are_shared() -> None:
    own, shared = depth_of(learned_start=True), depth_of(learned_start=True, shared_blocks=True)
    for depth, levels in ((own, LEVELS), (shared, 1)):
        assert len(depth.projection) == len(depth.head.weight) == LEVELS
        assert all(len(layer.weight) == levels for block in depth.blocks for layer in (block.qkv, block.out, block.expand, block.project))
    frames, before = inputs_of(own)
    logits = own(frames, before)
    with torch.no_grad():
        own.blocks[0].expand.weight[2] += 1.0
    moved = [not torch.equal(*pair) for pair in zip(logits, own(frames, before), strict=True)]
    assert moved == [False, False, True, True], "level 2's weights reach level 2 and, by attention, those after it"


def test_a_missing_code_embeds_as_zero_and_is_not_code_0() -> None:
    """Regression: a frame of zeros that collides with code 0."""
    embed = shaken(LevelEmbedding(2, 3, 4))
    codes = torch.tensor([[0, 3], [3, 2], [3, 3]])
    vectors = embed(codes)
    assert vectors.shape == (3, 2, 4)
    assert torch.equal(vectors[0, 0], embed.weight[0, 0]) and torch.equal(vectors[1, 1], embed.weight[1, 2])
    assert not vectors[codes == 3].any() and vectors[codes != 3].all()
    assert torch.equal(vectors, embed(codes, embed.table()))


def test_first_logits_are_nearly_equal() -> None:
    torch.manual_seed(0)
    depth = DepthTransformer(
        DepthConfig(frame_dim=6, dim=8, nhead=2, num_layers=2, num_levels=LEVELS, codebook_size=CODES, learned_start=True)
    )
    assert depth(*(part.float() if part.is_floating_point() else part for part in inputs_of(depth))).abs().max() < 0.1


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(UserError, match="found width 8 and 3 heads; change --depth-dim or --depth-nhead"):
        depth_of(learned_start=True, nhead=3)
