"""DelayLM: what is learned of a crop, and what is never a target."""

from math import log
from typing import Any, get_args, get_type_hints

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import CODEBOOKS, CODES, UNITS, fresh_model, padded, random_row, tiny_model
from torch import Tensor
from twin_delay import twin_logits

from valle.models import AudioLM, AudioLMConfig
from valle.modules.code_pattern import PATTERNS

KINDS: dict[str, dict[str, Any]] = {
    **{pattern: {"num_units": UNITS, "delay_pattern": pattern} for pattern in PATTERNS},
    "codes only": {},
    "50 Hz units beside 75 Hz codes": {"num_units": UNITS, "units_per_period": 2, "frames_per_period": 3},
}
MODELS = {kind: tiny_model(acoustic_model="delay", **fields) for kind, fields in KINDS.items()}
kinds = pytest.mark.parametrize("kind", KINDS)


def clips(model: AudioLM, *lengths: int, filler: int = 0) -> dict[str, Tensor]:
    """What ``DelayLM.loss`` takes of clips of ``lengths`` periods."""
    rows = [random_row(model, periods=periods, seed=seed) for seed, periods in enumerate(lengths)]
    codes, frames = padded([row["codes"] for row in rows], size=CODES, filler=filler)
    batch = {"codes": codes, "lengths": frames}
    if model.config.num_units is not None:
        batch["units"], batch["unit_lengths"] = padded([row["units"] for row in rows], size=UNITS, filler=filler)
    return batch


def alone(batch: dict[str, Tensor], row: int) -> dict[str, Tensor]:
    """One clip of a batch without its padding."""
    frames, cut = int(batch["lengths"][row]), {name: values[row : row + 1] for name, values in batch.items()}
    cut["codes"] = cut["codes"][:, :frames]
    if "units" in cut:
        cut["units"] = cut["units"][:, : int(batch["unit_lengths"][row])]
    return cut


@kinds
@torch.inference_mode()
def test_the_loss_is_the_mean_over_levels_of_a_slow_loop(kind: str) -> None:
    """Each level's cross entropy given all steps before, from the start; steps of the tail are dropped."""
    model = MODELS[kind].delay
    clip = clips(MODELS[kind], 4)
    frames, pattern = int(clip["lengths"]), model.pattern
    nats: dict[int, list[float]] = {level: [] for level in range(CODEBOOKS)}
    units = clip["units"][0] if "units" in clip else None
    for step in range(pattern.steps_per_frame * frames):
        logits = twin_logits(model, clip["codes"][0], step, units=units)
        for level, offset in enumerate(pattern.offsets):
            if step >= offset and (step - offset) % pattern.steps_per_frame == 0:
                code = clip["codes"][0, (step - offset) // pattern.steps_per_frame, level]
                nats[level].append(-float(logits[level].log_softmax(-1)[code]))
    term, terms = model.loss(**clip), model.validation_terms(**clip)
    means = [sum(values) / len(values) for values in nats.values()]
    assert float(term.sum / term.count) == pytest.approx(sum(means) / CODEBOOKS, rel=1e-6)
    assert int(term.count) == sum(map(len, nats.values()))
    assert list(terms) == [f"delay_{level}" for level in range(CODEBOOKS)]
    for level, (found, mean) in enumerate(zip(terms.values(), means, strict=True)):
        assert int(found.count) == len(nats[level]) == frames - pattern.delays[level]
        assert float(found.sum / found.count) == pytest.approx(mean, rel=1e-6)


@kinds
def test_the_special_id_has_no_logit_and_is_no_target(kind: str) -> None:
    """Every target is a code of the crop: the partly special first steps stay, their special positions do not count."""
    model = MODELS[kind].delay
    assert model.head.shape == (CODEBOOKS, CODES, 16) and model.embed.num_embeddings == CODEBOOKS * (CODES + 1)
    clip = clips(MODELS[kind], 3, 2)
    for logits, targets, valid in model.predictions(**{"units": None, "unit_lengths": None, **clip}):
        assert logits.shape == (*targets.shape, CODES) and valid.shape == targets.shape
        assert int(targets.max()) < model.special == CODES
    histograms = model.histograms(**clip)
    terms = model.validation_terms(**clip)
    assert {name: int(counts.sum()) for name, [counts] in histograms.items()} == {name: int(term.count) for name, term in terms.items()}


@given(kind=st.sampled_from(list(KINDS)), lengths=st.lists(st.integers(1, 5), min_size=2, max_size=4))
@settings(max_examples=30, deadline=None, derandomize=True)
@torch.inference_mode()
def test_a_batchs_loss_is_the_sum_of_its_clips_losses(kind: str, lengths: list[int]) -> None:
    """Regression: padding counted in the loss.  Weights of levels are a matter of each clip alone."""
    model = MODELS[kind].delay
    batch = clips(MODELS[kind], *lengths)
    together, parts = model.loss(**batch), [model.loss(**alone(batch, row)) for row in range(len(lengths))]
    for name in ("sum", "count", "correct"):
        expected = sum(float(getattr(part, name)) for part in parts)
        assert float(getattr(together, name)) == pytest.approx(expected, rel=1e-9)


@kinds
@torch.inference_mode()
def test_padding_is_never_seen(kind: str) -> None:
    model = MODELS[kind].delay
    sums = [float(model.loss(**clips(MODELS[kind], 2, 5, filler=filler)).sum) for filler in (0, 1)]
    odd = clips(MODELS[kind], 2, 5)
    odd["codes"][0, int(odd["lengths"][0]) :] = 10**6  # no code
    assert sums[0] == sums[1] == float(model.loss(**odd).sum)


@kinds
def test_no_code_is_predicted_from_itself_or_from_a_later_step(kind: str) -> None:
    model = MODELS[kind].delay
    clip = {"units": None, "unit_lengths": None, **clips(MODELS[kind], 4)}
    before = [logits for logits, _, _ in model.predictions(**clip)]
    for frame, level in [(0, 0), (2, 1), (1, 2)]:
        codes = clip["codes"].clone()
        codes[0, frame, level] = (codes[0, frame, level] + 1) % CODES
        step = model.pattern.steps_per_frame * frame + model.pattern.offsets[level]
        for other, (logits, _, _) in enumerate(model.predictions(**{**clip, "codes": codes})):
            for at in range(logits.shape[1]):
                same = torch.allclose(logits[0, at], before[other][0, at], rtol=1e-12, atol=1e-12)
                assert same == (model.pattern.steps_per_frame * at + model.pattern.offsets[other] <= step)


def test_a_steps_window_of_units_is_that_of_its_newest_frame() -> None:
    """Of level q, whose frame is q older, the window lies q frames ahead."""
    model = MODELS["delay"].delay
    clip = clips(MODELS["delay"], 12)
    before = [logits for logits, _, _ in model.predictions(**clip)]
    reach, per_period = 2, 2
    units = clip["units"].clone()
    units[0, 9] = (units[0, 9] + 1) % UNITS
    first = (9 - reach) * per_period  # frame whose window holds unit 9
    for level, (logits, _, _) in enumerate(model.predictions(**{**clip, "units": units})):
        changed = [at for at in range(logits.shape[1]) if not torch.allclose(logits[0, at], before[level][0, at])]
        assert changed[0] == first - level


@pytest.mark.parametrize("kind", ["delay", "flatten", "codes only"])
def test_the_first_loss_is_the_log_of_the_codebook(kind: str) -> None:
    model = fresh_model(acoustic_model="delay", codebook_size=1024, d_model=32, **KINDS[kind]).eval()
    codes = torch.randint(1024, (2, 40, CODEBOOKS), generator=torch.Generator().manual_seed(0))
    clip = clips(MODELS[kind], 20, 20)
    term = model.delay.loss(**{**clip, "codes": codes})
    assert abs(float(term.sum.detach() / term.count) - log(1024)) < 0.03


@kinds
def test_clips_shorter_than_a_levels_delay_give_every_parameter_a_gradient(kind: str) -> None:
    """Regression: crash when the shortest clip has under 4 frames; DDP waits for a parameter without a gradient."""
    model = fresh_model(acoustic_model="delay", **KINDS[kind])
    one = {name: values[:, :1] if values.ndim > 1 else torch.ones_like(values) for name, values in clips(model, 1).items()}
    term = model.delay.loss(**one)
    term.sum.backward()
    assert torch.isfinite(term.sum) and int(term.count) >= 1
    assert all(parameter.grad is not None and torch.isfinite(parameter.grad).all() for parameter in model.delay.parameters())


def test_one_clip_can_be_learned_by_heart() -> None:
    model = fresh_model(acoustic_model="delay", d_model=32, num_units=UNITS)
    clip, optimizer = clips(model, 8), torch.optim.AdamW(model.delay.parameters(), lr=0.01)
    for _ in range(60):
        term = model.delay.loss(**clip)
        optimizer.zero_grad()
        (term.sum / term.count).backward()
        optimizer.step()
    assert float(term.sum.detach() / term.count) < 0.1


def test_weights_of_another_pattern_mean_something_else() -> None:
    stage, config = type(MODELS["delay"].delay), MODELS["delay"].config
    assert stage.means_the_same(config, {}) and not stage.means_the_same(config, {"delay_pattern": "flatten"})


def test_codes_start_where_the_codecs_vectors_lie() -> None:
    model = fresh_model(acoustic_model="delay", d_model=64)
    books = torch.randn(CODEBOOKS, CODES, 8, generator=torch.Generator().manual_seed(0))
    books[:, 1] = books[:, 0] + 1e-3
    model.start_from_codebooks(books)
    rows = model.delay.embed.weight.detach().view(CODEBOOKS, CODES + 1, 64)
    for table in (rows, model.delay.head.detach()):
        assert ((table[:, 0] - table[:, 1]).norm(dim=-1) < 0.1 * (table[:, 0] - table[:, 2]).norm(dim=-1)).all()


def test_the_setting_names_every_pattern() -> None:
    assert get_args(get_type_hints(AudioLMConfig)["delay_pattern"]) == PATTERNS
