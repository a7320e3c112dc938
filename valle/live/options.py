"""Flags of ``bin/serve.py``, and what they must not be."""

from __future__ import annotations

import os
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from valle.errors import UserError
from valle.inference.continuation import MIN_PROMPT_SECONDS
from valle.live.models import Dtype
from valle.modules.transformer import Engine
from valle.settings import refuse_small, setting

LEAST_TOKEN = 16  # characters
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
EVERYWHERE = frozenset({"0.0.0.0", "::"})


@dataclass(frozen=True)
class ServeOptions:
    """Where the server listens, which models it has, and what it lets a client ask for."""

    model: list[str] = setting([], "released folders or names on the hub, or NAME= one of these; not given: the bundled model")
    host: str = setting("127.0.0.1", "address to listen on; another than this machine's own needs --token-file")
    port: int = setting(8000, "port to listen on; 0 takes a free one", least=0)
    token_file: Path | None = setting(None, "a file with the token that clients must send")
    allow_host: list[str] = setting([], "further names by which clients may call this server, beside its address")
    allow_origin: list[str] = setting([], "further pages that may use it, such as https://voice.example.org")
    places: int = setting(0, "listeners at once; 0: as many as there are cores", least=0)
    queue: int = setting(8, "listeners that may wait for a place", least=0)
    max_prompt_seconds: float = setting(30.0, "longest prompt", least=MIN_PROMPT_SECONDS)
    longest_seconds: float = setting(120.0, "longest new audio that a client may ask for", least=0.1)
    max_body_mib: float = setting(32.0, "largest file that is taken", least=0.001)
    max_sockets: int = setting(64, "connections that may be open at once", least=1)
    grace_seconds: float = setting(60.0, "that what plays has to end when the server is stopped", least=0)
    save: Path | None = setting(None, "a folder for prompts and new audio; not given: neither is kept")
    device: str = setting("cpu", "cpu, cuda or mps; auto takes the fastest available")
    dtype: Dtype = setting("float32", "of the language models; tokenizers compute in float32")
    engine: Engine = setting("auto", "what takes the steps: torch, native (numba, CPU), or native where it can run")

    def __post_init__(self) -> None:
        refuse_small(self)
        if self.port > 65535:
            raise UserError(f"--port must be 65535 or less, found {self.port}")
        if not self.is_local and self.token_file is None:
            raise UserError(
                f"expected --token-file with --host {self.host}, which others can reach; write a long secret into a file and name it, "
                "or leave out --host"
            )
        if self.save is not None and self.save.exists() and not self.save.is_dir():
            raise UserError(f"expected a folder for --save, found the file {self.save}; name another")

    @property
    def is_local(self) -> bool:
        """Whether nothing but this machine can reach the server."""
        if self.host in LOOPBACK_NAMES:
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def places_at_once(self) -> int:
        return self.places or os.cpu_count() or 1

    @property
    def most_bytes(self) -> int:
        """Of a body."""
        return round(self.max_body_mib * 2**20)

    def read_token(self) -> str | None:
        """Raises ``UserError``."""
        if self.token_file is None:
            return None
        try:
            token = self.token_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"expected a token in {self.token_file}, which cannot be read; write a line of text into it") from error
        if len(token) < LEAST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
            raise UserError(f"expected {LEAST_TOKEN} ASCII letters or more in {self.token_file}, without spaces; write a longer token")
        return token
