import numpy as np
import pytest

from valle.errors import UserError
from valle.evaluation.opus import opus_round_trip


@pytest.mark.parametrize("sample_rate", [16000, 22050, 44100])
def test_opus_gives_back_the_sound_in_time_and_more_bits_keep_more_of_it(sample_rate: int) -> None:
    time = np.arange(2 * sample_rate + 77) / sample_rate
    wav = (0.3 * np.sin(2 * np.pi * 440 * time) * (1 + np.sin(2 * np.pi * 3 * time)) / 2).astype(np.float32)
    errors, rates = [], []
    for kbps in (6, 48):
        output, taken = opus_round_trip(wav, sample_rate, kbps)
        assert output.shape == wav.shape
        errors.append(float(np.square(output - wav).mean() / np.square(wav).mean()))
        rates.append(taken)
    assert errors[1] < errors[0] < 0.5 and rates[0] < 12 < rates[1]


def test_rates_that_opus_does_not_have_are_refused() -> None:
    with pytest.raises(UserError, match="expected 6 to 256 kbit/s"):
        opus_round_trip(np.zeros(16000, np.float32), 16000, 3)
