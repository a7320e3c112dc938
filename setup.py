"""Installs the package ``valle``: ``pip install -e .[dev]``, with ``-c requirements.txt`` for the versions that were tested."""

from pathlib import Path

from setuptools import find_packages, setup

VERSION = "0.1.0"

setup(
    name="valle",
    version=VERSION,
    description="AudioLM: audio goes in, and the same voice goes on",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["valle", "valle.*"]),
    package_data={
        "valle": [
            "assets/*/*",
            "assets/*/*/*",
            "assets/*/*/*/*",
            "inference/*.html",
            "inference/templates/*",
            "evaluation/templates/*",
            "corpora/*.html",
            "corpora/templates/*",
            "corpora/lexicons/*",
            "training/presets/*",
            "live/page/*",
            "live/templates/*",
            "py.typed",
        ]
    },
    entry_points={
        "console_scripts": [
            "valle-infer = valle.bin.commands:infer",
            "valle-train = valle.bin.commands:train",
            "valle-tokenize = valle.bin.commands:tokenize",
            "valle-evaluate = valle.bin.commands:evaluate",
            "valle-serve = valle.bin.commands:serve",
            "valle-detect = valle.bin.commands:detect",
        ]
    },
    install_requires=[
        "torch>=2.6",
        "numpy",
        "lhotse>=1.33,<2",
        "urllib3",  # lhotse imports it without saying so
        "h5py",
        "soundfile",
        "soxr",
        "safetensors",
        "pyyaml",
        "jsonargparse",
        "tqdm",
        "tensorboard",
        "matplotlib",
        "jinja2",
        "scikit-learn",
        "scipy",
        "pystoi",
        "espeakng-loader",
        "transformers",
        "huggingface_hub",
        "sentencepiece",
        "av",
    ],
    extras_require={
        "dev": ["ruff", "mypy", "pytest", "pytest-xdist", "pytest-timeout", "hypothesis", "import-linter", "types-PyYAML", "sacrebleu"],
        "encodec": ["encodec", "torchaudio"],
        "native": ["numba>=0.61"],
        "pesq": ["pesq"],
        "pocketsphinx": ["pocketsphinx"],
        "judges": ["faster-whisper"],
        "lora": ["peft"],
        "synthetic": ["hibari-tts", "onnxruntime"],
        "live": ["aiohttp>=3.14", "prometheus-client"],
        "browser": ["playwright"],
        "sign": ["cryptography"],
    },
)
