"""Makes the five sample sounds beside it: recording k of ``valle/assets/samples``, in order of name, continued with seed k.

python3 docs/samples/make.py

Nothing is chosen by ear. Everything but the lengths and the seeds is the default of ``Pipeline.continue_audio``.
"""

from pathlib import Path

import soundfile

from valle.audio import read_audio
from valle.inference.pipeline import Pipeline

HERE = Path(__file__).parent
PROMPTS = HERE.parent.parent / "valle" / "assets" / "samples"
PROMPT_SECONDS, MAX_SECONDS = 3, 5


def main() -> None:
    """Writes ``1.flac`` to ``5.flac``: the prompt's own samples, then the continuation."""
    pipeline = Pipeline.from_pretrained()  # the bundled model
    for seed, prompt in enumerate(sorted(PROMPTS.glob("*.flac")), start=1):
        wav, sample_rate = read_audio(prompt)
        [continued] = pipeline.continue_audio(wav, sample_rate, prompt_seconds=PROMPT_SECONDS, max_seconds=MAX_SECONDS, seed=seed)
        soundfile.write(HERE / f"{seed}.flac", continued.wav, continued.sample_rate)


if __name__ == "__main__":
    main()
