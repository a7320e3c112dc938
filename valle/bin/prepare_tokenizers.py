"""Stage 2 of every recipe: the tokenizers, bundled, by name, or fitted on the corpus.

python3 bin/prepare_tokenizers.py --acoustic bundled --semantic fit --num-units 200
"""

from __future__ import annotations

from valle.errors import end_on_ctrl_c

if __name__ == "__main__":
    end_on_ctrl_c()  # also while what follows is imported

from valle.bin.terminal import progress_bar
from valle.config import parse_flags
from valle.errors import run_program
from valle.tokenizing.choose_tokenizers import TokenizersConfig, prepare_tokenizers


def main() -> None:
    config = parse_flags(TokenizersConfig, usage=__doc__ or "")
    if config.semantic == "fit":
        with progress_bar("fitting units", "h") as progress:
            identities = prepare_tokenizers(config, progress=progress)
    else:
        identities = prepare_tokenizers(config)
    for identity in filter(None, identities):
        size = f"{identity.num_codebooks} x {identity.codebook_size}" if identity.kind == "acoustic" else str(identity.codebook_size)
        print(f"{identity.kind}: {identity}, {identity.grid.rate:g} Hz, {size} tokens")


if __name__ == "__main__":
    run_program(main)
