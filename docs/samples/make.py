"""Makes the five sample sounds beside it, and the README's picture of the first.

python3 docs/samples/make.py

Recording k of ``valle/assets/samples``, in order of name, is continued with seed k.  Nothing is chosen by ear, and everything
but lengths and seeds is the default of ``Pipeline.continue_audio``.
"""

from pathlib import Path

import soundfile

from valle import Pipeline, read_audio
from valle.inference.spectrogram import write_spectrogram

HERE = Path(__file__).parent
PROMPTS = HERE.parent.parent / "valle" / "assets" / "samples"
PICTURE = HERE.parent / "images" / "continuation.png"
PROMPT_SECONDS, MAX_SECONDS = 3, 5


def main() -> None:
    """Writes ``1.flac`` to ``5.flac``: the prompt's own samples, then the continuation."""
    pipeline = Pipeline.from_pretrained()  # the bundled model
    for seed, prompt in enumerate(sorted(PROMPTS.glob("*.flac")), start=1):
        wav, sample_rate = read_audio(prompt)
        [continued] = pipeline.continue_audio(wav, sample_rate, prompt_seconds=PROMPT_SECONDS, max_seconds=MAX_SECONDS, seed=seed)
        soundfile.write(HERE / f"{seed}.flac", continued.wav, continued.sample_rate)
        if seed == 1:
            write_spectrogram(PICTURE, continued.wav, continued.sample_rate, prompt_seconds=continued.prompt_seconds)


if __name__ == "__main__":
    main()
