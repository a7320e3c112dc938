"""Write cuts of the test part as wavs, for bin/infer.py to continue.

python3 bin/write_prompts.py --output-dir exp/audio-lm/prompts --num-prompts 8
"""

from __future__ import annotations

from valle.errors import end_on_ctrl_c

if __name__ == "__main__":
    end_on_ctrl_c()  # also while what follows is imported

from valle.config import parse_flags
from valle.corpora.cut_audio import PromptsConfig, write_prompts
from valle.errors import run_program


def main() -> None:
    for path in write_prompts(parse_flags(PromptsConfig, usage=__doc__ or "")):
        print(path)


if __name__ == "__main__":
    run_program(main)
