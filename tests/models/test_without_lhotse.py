"""What a released model needs at run time."""

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import importlib, pkgutil, sys
sys.modules["lhotse"] = None  # importing it raises ImportError
import valle
names = ["valle.inference.pipeline", "valle.timeline", "valle.audio", "valle.tokenizing.flat_tokens"]
for room in ("models", "decoding", "tokenizers", "modules", "measures"):
    package = importlib.import_module(f"valle.{room}")
    names += [module.name for module in pkgutil.walk_packages(package.__path__, f"valle.{room}.")]
for name in names:
    importlib.import_module(name)
print(len(names))
"""


def test_models_decoding_and_tokenizers_import_without_lhotse() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 20
