"""A report of ``bin/evaluate.py`` with sounds, written without a model: what comparisons and listening tests read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from valle.evaluation.figures import Figure
from valle.evaluation.kept_sounds import keep_sounds
from valle.evaluation.kept_suites import suite_to_json
from valle.evaluation.suites import SuiteResult
from valle.measures.intervals import bootstrap_mean

RATE = 16000


def constant(level: float, seconds: float) -> np.ndarray:
    return np.full(round(seconds * RATE), level, np.float32)


def write_report(
    folder: Path, *, model: str, prompts: int = 4, values: Sequence[float] = (), names: Sequence[str] = (), tokenizers: str = "tiny"
) -> Path:
    """Prompts of 1 s: the recording lies at 0.1 and its round trip at 0.2 for 4 s, what was generated at 0.4 up to 3 s."""
    rows = [
        SimpleNamespace(
            cut=SimpleNamespace(id=f"prompt-{number}"), recording=constant(0.1, 4), codec=constant(0.2, 4),
            continuation=np.concatenate([constant(0.1, 1), constant(0.4, 2)]), prompt_samples=RATE, judged_from=RATE,
        )
        for number in range(prompts)
    ]  # fmt: skip
    scores = list(values) or [float(number) for number in range(prompts)]
    figures = {
        name: Figure.of(
            bootstrap_mean(scores), names=list(names) or [f"item-{number}" for number in range(len(scores))], corpus="corpus",
            definition="a definition", meaning="A meaning.", better=better, controls={"real speech": 2.0},
        )
        for name, better in (("silence_share", "neither"), ("codec_stoi", "higher"), ("nll_semantic", "lower"))
    }  # fmt: skip
    result = SuiteResult(figures, sounds=keep_sounds(folder / "sounds", rows, RATE))  # type: ignore[arg-type]
    (folder / "suites").mkdir(parents=True)
    text = suite_to_json(result, {"model_sha256": model, "max_items": prompts}, {"tokenizers": [tokenizers]})
    (folder / "suites" / "continuation.json").write_text(text)
    return folder
