"""A prompt in pieces has the tokens that are kept of the whole, those too that come only with its end."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_pipeline import RATE, recording, tiny_codec
from tiny_speech import tiny_hubert

from valle.inference.prompt_stream import PromptStream
from valle.tokenizers.stream import encode_pieces


@pytest.mark.parametrize("size", [800, 16000, 40000])
def test_tokens_that_nothing_after_settles_are_made_at_the_end(size: int) -> None:
    wav, acoustic, semantic = recording(2), tiny_codec(), tiny_hubert(left_reach=8, right_reach=6)
    kept = semantic.kept_of_prompt(len(wav))
    assert kept > semantic.settled(len(wav))
    stream = PromptStream(acoustic, semantic, sample_rate=RATE, most=3 * RATE, at_speech_level=False)
    for first in range(0, len(wav), size):
        stream.push(wav[first : first + size])
    heard = stream.finish()
    assert np.array_equal(heard.wav, wav) and heard.gain_db == 0 and heard.units is not None
    assert torch.equal(heard.units, encode_pieces(semantic, [wav])[:kept])
    assert torch.equal(heard.codes, encode_pieces(acoustic, [wav])[: acoustic.kept_of_prompt(len(wav))])
