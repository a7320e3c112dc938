"""Stage 2 of recipes with transcripts: text pieces, fitted on the training texts or taken from a text model.

python3 bin/fit_text_pieces.py --num-pieces 1000
"""

from __future__ import annotations

from valle.errors import end_on_ctrl_c

if __name__ == "__main__":
    end_on_ctrl_c()  # also while what follows is imported

from valle.config import parse_flags
from valle.errors import run_program
from valle.tokenizing.fit_text_pieces import TextPiecesConfig, prepare_text_pieces


def main() -> None:
    identity = prepare_text_pieces(parse_flags(TextPiecesConfig, usage=__doc__ or ""))
    print(f"text: {identity}, {identity.num_pieces} pieces")


if __name__ == "__main__":
    run_program(main)
