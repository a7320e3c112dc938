import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from valle.measures.intervals import bootstrap, bootstrap_mean, bootstrap_ratio, share


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=30))
def test_the_mean_lies_within_its_interval(values: list[float]) -> None:
    estimate = bootstrap_mean(values)
    assert estimate.low - 1e-6 <= estimate.mean <= estimate.high + 1e-6
    assert estimate.count == len(values)


def test_an_interval_holds_the_truth_about_19_times_in_20() -> None:
    generator = np.random.default_rng(0)
    held = sum((estimate := bootstrap_mean(generator.normal(3, 1, 40))).low <= 3 <= estimate.high for _ in range(300))
    assert 0.90 <= held / 300 <= 0.98


def test_items_without_a_value_are_left_out() -> None:
    estimate = bootstrap_mean([1.0, float("nan"), 3.0])
    assert (estimate.mean, estimate.count) == (2.0, 2)


def test_few_items_have_no_interval() -> None:
    assert np.isnan(bootstrap_mean([]).mean)
    single = bootstrap_mean([4.0])
    assert single.mean == 4.0 and np.isnan(single.low) and single.count == 1


def test_the_same_values_give_the_same_interval() -> None:
    assert bootstrap_mean([1.0, 2.0, 5.0]) == bootstrap_mean([1.0, 2.0, 5.0])


@given(count=st.integers(1, 500), part=st.floats(0, 1))
def test_a_share_and_its_interval_lie_within_0_and_1(count: int, part: float) -> None:
    estimate = share(int(part * count), count)
    assert 0 <= estimate.low <= estimate.mean <= estimate.high <= 1


def test_wilsons_interval_equals_the_published_example() -> None:
    estimate = share(81, 263)  # Newcombe 1998, table I
    assert (estimate.low, estimate.high) == (pytest.approx(0.2553, abs=1e-4), pytest.approx(0.3662, abs=1e-4))


def test_all_hits_are_not_certainty() -> None:
    assert share(10, 10).low < 0.8 and share(0, 10).high > 0.2
    assert share(0, 0).count == 0


def test_more_hits_than_items_are_refused() -> None:
    with pytest.raises(ValueError, match="within 0"):
        share(4, 3)


def test_a_ratio_weighs_items_by_their_size() -> None:
    """Errors over words: one short item that is all wrong is not half of the corpus."""
    estimate = bootstrap_ratio([2, 0], [2, 98])
    assert estimate.mean == 0.02 and estimate.count == 2 and estimate.low == 0 and estimate.high == 1


def test_the_ratio_of_equal_items_is_their_mean() -> None:
    values = np.random.default_rng(1).random(30).tolist()
    ratio, mean = bootstrap_ratio(values, [1.0] * 30), bootstrap_mean(values)
    assert ratio.mean == pytest.approx(mean.mean) and (ratio.low, ratio.high) == pytest.approx((mean.low, mean.high))


def test_resamples_that_say_nothing_are_left_out() -> None:
    estimate = bootstrap_ratio([1, 0, 0], [2, 0, 0])
    assert estimate.mean == estimate.low == estimate.high == 0.5
    assert np.isnan(bootstrap_ratio([0, 0], [0, 0]).mean) and np.isnan(bootstrap(lambda rows: rows.mean(1), 0).mean)
