"""The server's addresses: page, socket, models, samples, health and figures."""

from __future__ import annotations

import json
import mimetypes
from importlib.metadata import version
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Handler

from valle.live.continue_file import continue_file
from valle.live.guard import add_headers, bearer
from valle.live.http_errors import errors_as_json
from valle.live.keys import SERVICE
from valle.live.metrics import CONTENT_TYPE
from valle.live.openapi import openapi, page_of
from valle.live.samples import bundled_samples
from valle.live.service import Service
from valle.live.session import CLOSE_SECONDS, MOST_BYTES, LiveSession

PAGE = Path(__file__).parent / "page"
PING_SECONDS = 20.0
MIME_TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".css": "text/css", ".html": "text/html", ".svg": "image/svg+xml"}


def make_app(service: Service) -> web.Application:
    """All of it, ready to be run."""
    page = {f"/{path.relative_to(PAGE).as_posix()}": path for path in sorted(PAGE.rglob("*")) if path.is_file()}
    public = frozenset({"/", *page})
    app = web.Application(middlewares=[service.guard.middleware(public), errors_as_json], client_max_size=service.options.most_bytes)
    app[SERVICE] = service
    app.on_response_prepare.append(add_headers)
    for address, path in {"/": PAGE / "index.html", **page}.items():
        app.router.add_get(address, _file_handler(path))
    app.router.add_get("/v1/live", live)
    app.router.add_post("/v1/continue", continue_file)
    app.router.add_get("/v1/models", models)
    app.router.add_get("/v1/samples", samples)
    app.router.add_get("/v1/samples/{name}.wav", sample)
    app.router.add_get("/health", health)
    app.router.add_get("/metrics", metrics)
    document = openapi(service.options, version=version("valle"), wants_token=service.guard.wants_token)
    app.router.add_get("/openapi.json", _constant(json.dumps(document), "application/json"))
    app.router.add_get("/docs", _constant(page_of(document), "text/html"))
    return app


async def live(request: web.Request) -> web.StreamResponse:
    """A stream (docs/live-protocol.md)."""
    service = request.app[SERVICE]
    socket = web.WebSocketResponse(
        timeout=CLOSE_SECONDS, heartbeat=PING_SECONDS, max_msg_size=4 * MOST_BYTES, compress=False, writer_limit=2**14
    )
    with service.handling():
        await socket.prepare(request)
        given = bearer(request)
        trusted = not service.guard.wants_token or (given is not None and service.guard.is_token(given))
        await LiveSession(service, socket, request.transport, trusted=trusted).run()
    return socket


async def models(request: web.Request) -> web.Response:
    """What a hello may name and ask for."""
    service = request.app[SERVICE]
    first = next(iter(service.shelf))
    listed = [{"name": name, "sample_rate": pipeline.sample_rate, "default": name == first} for name, pipeline in service.shelf.items()]
    limits = {"prompt_seconds": service.options.max_prompt_seconds, "max_seconds": service.options.longest_seconds}
    return web.json_response({"models": listed, "limits": limits})


async def samples(request: web.Request) -> web.Response:
    """Prompts that come along."""
    return web.json_response({"samples": [one.description() for one in bundled_samples().values()]})


async def sample(request: web.Request) -> web.Response:
    """One of them."""
    found = bundled_samples().get(request.match_info["name"])
    if found is None:
        raise web.HTTPNotFound(text="expected a name of /v1/samples\n")
    return web.Response(body=found.wav(), content_type="audio/wav")


async def health(request: web.Request) -> web.Response:
    """Whether new streams are taken."""
    if request.app[SERVICE].stopping:
        return web.json_response({"status": "stopping"}, status=503)
    return web.json_response({"status": "ok"})


async def metrics(request: web.Request) -> web.Response:
    """Prometheus text."""
    return web.Response(body=request.app[SERVICE].metrics_text(), headers={"Content-Type": CONTENT_TYPE})


def _constant(text: str, content_type: str) -> Handler:
    async def constant(request: web.Request) -> web.StreamResponse:
        return web.Response(text=text, content_type=content_type)

    return constant


def _file_handler(path: Path) -> Handler:
    kind = MIME_TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"

    async def page_file(request: web.Request) -> web.StreamResponse:
        if not path.is_file():
            raise web.HTTPNotFound(text="this server comes without a page; use the socket /v1/live or POST /v1/continue\n")
        return web.FileResponse(path, headers={"Content-Type": kind, "Cache-Control": "no-cache"})

    return page_file
