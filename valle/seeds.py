"""Randomness as a function of its causes: the one place where seeds are mixed, so that no generator's state need ever be stored."""

from __future__ import annotations

from hashlib import blake2b


def draw(seed: int, epoch: int, cut_id: str, what: str) -> float:
    """A number in 0..1 that depends on its arguments alone, the same in every process and release of Python."""
    return draw_bits(seed, epoch, cut_id, what) / 2**64


def draw_bits(seed: int, epoch: int, cut_id: str, what: str) -> int:
    """The 64 bits of which ``draw`` makes a number."""
    return int.from_bytes(blake2b(f"{seed}|{epoch}|{cut_id}|{what}".encode(), digest_size=8).digest(), "big")


def step_seed(seed: int, rank: int, step: int) -> int:
    """The seed of one step of training on one process."""
    return int.from_bytes(blake2b(f"{seed}|{rank}|{step}".encode(), digest_size=7).digest(), "big")


def stage_seed(seed: int, stage: int) -> int:
    """Streams of their own for the stages of one row (splitmix64, Steele et al. 2014)."""
    state = (seed * 2 + stage + 1) * 0x9E3779B97F4A7C15 % 2**64
    state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    state = (state ^ state >> 27) * 0x94D049BB133111EB % 2**64
    return (state ^ state >> 31) % 2**62
