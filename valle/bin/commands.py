"""The console commands, each of which is a program of this folder: ``valle-infer --help`` says what ``bin/infer.py --help`` does."""

from __future__ import annotations

from importlib import import_module

from valle.errors import end_on_ctrl_c, run_program


def infer() -> None:
    """``valle-infer``: continue audio."""
    _run("infer")


def train() -> None:
    """``valle-train``: train an AudioLM on tokenized cuts."""
    _run("trainer_audiolm")


def tokenize() -> None:
    """``valle-tokenize``: audio to tokens and back, and all else about tokenizers."""
    _run("tokenizer")


def evaluate() -> None:
    """``valle-evaluate``: measure a model on a corpus."""
    _run("evaluate")


def serve() -> None:
    """``valle-serve``: a page and an interface on which the voice goes on while you listen."""
    _run("serve")


def detect() -> None:
    """``valle-detect``: what marks files carry, and whether they sound generated."""
    _run("detect")


def _run(program: str) -> None:
    end_on_ctrl_c()  # also while what follows is imported
    run_program(import_module(f"valle.bin.{program}").main)
