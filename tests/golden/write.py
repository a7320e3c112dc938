"""Writes golden values anew: ``python tests/golden/write.py NAME...`` from the project's root, where NAME is one of ``values/``.

A value is renewed only in a commit that changes it on purpose and says why.  ``--compare FILE`` writes nothing: it puts values
of this process beside the committed ones, which is how it was checked on which processors tokens are exact::

    for isa in default avx2 avx512; do ATEN_CPU_CAPABILITY=$isa python tests/golden/write.py --compare; done
    ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 ATEN_CPU_CAPABILITY=avx2 python tests/golden/write.py --compare
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # tiny_training and the like
sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[2]))

import torch
from golden_values import VALUES, largest_difference

FOLDER = Path(__file__).parent / "values"


def main(arguments: list[str]) -> None:
    torch.set_num_threads(1)
    compares = "--compare" in arguments
    chosen = [name for name in arguments if name != "--compare"] or list(VALUES)
    unknown = set(chosen) - set(VALUES)
    if unknown:
        sys.exit(f"expected names among {', '.join(VALUES)}, found {', '.join(sorted(unknown))}")
    for name in chosen:
        path, values = FOLDER / f"{name}.json", json.loads(json.dumps(VALUES[name]()))
        if compares:
            print(f"{name}: largest difference {largest_difference(values, json.loads(path.read_text())):.2g}")
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(values, separators=(",", ":")) + "\n")
            print(f"wrote {path}")


if __name__ == "__main__":
    main(sys.argv[1:])
