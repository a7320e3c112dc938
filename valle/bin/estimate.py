#!/usr/bin/env python3
"""Parameters, work, memory and hours of a training run, before it is started.

python3 bin/estimate.py --config conf/large.yaml --hours 960 --num-epochs 20 --world-size 8 --tflops 989
"""

from __future__ import annotations

from valle.errors import end_on_ctrl_c

if __name__ == "__main__":
    end_on_ctrl_c()  # also while what follows is imported

from valle.config import parse_flags
from valle.errors import run_program
from valle.training.estimate import GIB, EstimateOptions, estimate


def main() -> None:
    options = parse_flags(EstimateOptions, usage=__doc__ or "")
    found = estimate(options)
    for stage in found.stages:
        print(
            f"{stage.name}: {stage.parameters / 1e6:.1f} M parameters, {stage.operations / 1e12:.2f} TFLOP a step, "
            f"{stage.activations / GIB:.1f} GiB of activations"
        )
    total = sum(stage.parameters for stage in found.stages)
    print(f"all: {total / 1e6:.1f} M parameters; {found.memory / GIB:.1f} GiB on a GPU in float32, less in bfloat16")
    print(
        f"{found.steps} steps of {options.max_duration * options.world_size * options.accumulate_grad_steps:g} s: "
        f"{found.gpu_hours:.1f} GPU hours, {found.gpu_hours / options.world_size:.1f} hours on {options.world_size}"
    )
    print(f"estimated at {options.utilisation:.0%} of {options.tflops:g} TFLOP/s")


if __name__ == "__main__":
    run_program(main)
