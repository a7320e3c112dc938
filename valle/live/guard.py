"""Who may call: names of the server, pages, tokens; and the headers that every answer has."""

from __future__ import annotations

import hmac
from ipaddress import ip_address
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from valle.live.options import EVERYWHERE, LOOPBACK_NAMES, ServeOptions

OPEN_PATHS = frozenset({"/health", "/openapi.json", "/docs", "/v1/live"})  # a socket's token may stand in its first message
CONTENT_POLICY = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'"
HEADERS = {
    "Content-Security-Policy": CONTENT_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Guard:
    """What ``options`` allow.  A page elsewhere that has its name resolve to this machine sends its own name as Host, and is refused."""

    def __init__(self, options: ServeOptions, token: str | None) -> None:
        self.names = {name.lower() for name in (*LOOPBACK_NAMES, options.host, *options.allow_host)} - EVERYWHERE
        self.any_address = options.host in EVERYWHERE  # a number is no name that could resolve to another
        self.origins = {origin.rstrip("/").lower() for origin in options.allow_origin}
        self._token = None if token is None else token.encode()

    @property
    def wants_token(self) -> bool:
        return self._token is not None

    def is_token(self, given: str | None) -> bool:
        """In a time that does not tell how much of it is right; anything where none is wanted."""
        return self._token is None or (given is not None and hmac.compare_digest(given.encode("utf-8", "replace"), self._token))

    def knows_host(self, host: str) -> bool:
        """Of a ``Host`` header, with or without its port."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return name in self.names or (self.any_address and _is_address(name))

    def knows_origin(self, origin: str | None, host: str) -> bool:
        """Programs send none; a page's must be the server's own, or one that was named."""
        if origin is None:
            return True
        try:
            own = urlsplit(origin).netloc.lower() == host.lower() and urlsplit(origin).scheme in ("http", "https")
        except ValueError:
            return False
        return own or origin.lower() in self.origins

    def middleware(self, public: frozenset[str]) -> Middleware:
        """Refuses what may not call; ``public`` paths need no token."""
        public = public | OPEN_PATHS

        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            host = request.headers.get("Host", "")
            if not self.knows_host(host):
                raise web.HTTPForbidden(text="this name of the server is not allowed; start it with --allow-host NAME\n")
            if not self.knows_origin(request.headers.get("Origin"), host):
                raise web.HTTPForbidden(text="this page may not use the server; start it with --allow-origin ORIGIN\n")
            given = bearer(request)
            if (request.path not in public or given is not None) and not self.is_token(given):
                raise web.HTTPUnauthorized(text="expected the header Authorization: Bearer TOKEN\n", headers={"WWW-Authenticate": "Bearer"})
            return await handler(request)

        return guard


def bearer(request: web.Request) -> str | None:
    """The token of the ``Authorization`` header."""
    given = request.headers.get("Authorization")
    return None if given is None else given.removeprefix("Bearer ").strip()


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """To every answer, errors and sockets too."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers["Server"] = "valle"


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
