"""A server from its start to its graceful end."""

from __future__ import annotations

import asyncio
import errno
import logging
import signal
import socket
from collections.abc import Callable

import torch
from aiohttp import web

from valle.errors import UserError
from valle.live.app import make_app
from valle.live.guard import Guard
from valle.live.models import ModelShelf
from valle.live.options import ServeOptions
from valle.live.service import Service
from valle.live.session import CLOSE_SECONDS
from valle.live.streams import StreamPool

LOG = logging.getLogger(__name__)
HEADER_SECONDS = 15.0  # for the headers of a request, from the connection or the answer before on; who says nothing is cut off as well
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def serve(options: ServeOptions, *, say: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM; ``say`` gets lines for the terminal.  Raises ``UserError``."""
    token = options.read_token()
    with bound_socket(options.host, options.port) as listener:  # before models are loaded, which takes seconds
        torch.set_num_threads(1)  # a stream takes one core, and several streams take several
        shelf = ModelShelf.load(options.model, device=options.device, dtype=options.dtype, engine=options.engine)
        asyncio.run(serve_until_signal(LiveServer(options, shelf, token), listener, say))


class LiveServer:
    """Accepts connections between ``start`` and ``stop``."""

    def __init__(self, options: ServeOptions, shelf: ModelShelf, token: str | None = None) -> None:
        self.options = options
        pool = StreamPool(places=options.places_at_once, queue=options.queue)
        self.service = Service(options=options, shelf=shelf, pool=pool, guard=Guard(options, token))
        self._runner = web.AppRunner(
            make_app(self.service), access_log=None, shutdown_timeout=1.0, handle_signals=False, keepalive_timeout=HEADER_SECONDS
        )
        self._site: web.SockSite | None = None

    async def start(self, listener: socket.socket) -> str:
        """Listen -> the address, ``http://...``."""
        await self._runner.setup()
        self._site = web.SockSite(self._runner, listener)
        await self._site.start()
        host, port = listener.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def stop(self, *, grace_seconds: float, at_once: asyncio.Event | None = None) -> None:
        """No more connections; what plays ends within ``grace_seconds`` or until ``at_once``, and everything is let go."""
        service = self.service
        service.stopping = True
        if self._site is not None:
            await self._site.stop()
        service.pool.refuse_waiting()
        hurry = asyncio.create_task((at_once or asyncio.Event()).wait())
        await _settled(service.handlers, grace_seconds, hurry)
        hurry.cancel()
        service.pool.cancel_all()
        await _settled(service.handlers, CLOSE_SECONDS + 1)
        await self._runner.cleanup()
        await asyncio.to_thread(service.pool.close)


def welcome(options: ServeOptions, address: str, shelf: ModelShelf) -> list[str]:
    """What is said once the server listens."""
    lines = [
        f"{address}: {', '.join(shelf)}; {options.places_at_once} listeners at once, {options.queue} may wait. Ctrl-C stops the server"
    ]
    if not options.is_local:
        lines.append(
            "others can reach this address. Browsers give a page no microphone over plain http, except on the server's own machine: "
            "put a proxy with TLS before it"
        )
    return lines


def bound_socket(host: str, port: int) -> socket.socket:
    """A socket that is bound, and does not listen yet; raises ``UserError``."""
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        bound = socket.socket(family, kind, protocol)
    except OSError as error:
        raise UserError(f"expected an address for --host, found {host}, which has none ({error.strerror}); name another") from error
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(place)
    except OSError as error:
        bound.close()
        if error.errno == errno.EADDRINUSE:
            raise UserError(f"port {port} of {host} is in use; stop what uses it, or give another --port (0 takes a free one)") from error
        raise UserError(f"port {port} of {host} cannot be used ({error.strerror}); give another --port or --host") from error
    return bound


async def serve_until_signal(server: LiveServer, listener: socket.socket, say: Callable[[str], None]) -> None:
    """A first signal lets finish what plays, a second one does not."""
    asked, again = asyncio.Event(), asyncio.Event()
    for number in STOP_SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, lambda: (again if asked.is_set() else asked).set())
    address = await server.start(listener)
    for line in welcome(server.options, address, server.service.shelf):
        say(line)
    await asked.wait()
    if server.service.handlers:
        say(f"stopping: what plays has {server.options.grace_seconds:g} s to end; Ctrl-C again stops at once")
    await server.stop(grace_seconds=server.options.grace_seconds, at_once=again)


async def _settled(handlers: set[asyncio.Task], seconds: float, hurry: asyncio.Task | None = None) -> None:
    """Until there are none, or the time is over, or there is hurry."""
    until = asyncio.get_running_loop().time() + seconds
    while handlers and (left := until - asyncio.get_running_loop().time()) > 0 and not (hurry is not None and hurry.done()):
        awaited = handlers if hurry is None else handlers | {hurry}
        await asyncio.wait(awaited, timeout=left, return_when=asyncio.FIRST_COMPLETED)
