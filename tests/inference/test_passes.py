"""``--passes`` of ``bin/infer.py``: how often each level of a masked stage is passed over."""

from __future__ import annotations

import pytest

from valle.config import parse_flags
from valle.errors import UserError
from valle.inference.infer import InferOptions

GIVEN = ["--audio-prompts", "a.wav", "--output-dir", "out"]


@pytest.mark.parametrize(("flags", "passes"), [([], (16, 1)), (["--passes", "4"], (4,)), (["--passes=8,2, 1"], (8, 2, 1))])
def test_passes_reach_the_stages_sampling(flags: list[str], passes: tuple[int, ...]) -> None:
    settings = parse_flags(InferOptions, [*GIVEN, *flags, "--soundstorm-temperature", "0.5"]).settings()
    assert settings.sampling["soundstorm"].passes == passes and settings.sampling["soundstorm"].temperature == 0.5


@pytest.mark.parametrize("wrong", ["0,1", "16,", "many", "-1", "1.5"])
def test_other_words_are_refused(wrong: str) -> None:
    with pytest.raises(UserError, match=r"--passes must be numbers of 1 or more with commas, as in 16,1, found"):
        parse_flags(InferOptions, [*GIVEN, f"--passes={wrong}"]).settings()
