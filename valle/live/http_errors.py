"""What is refused, as an answer of HTTP."""

from __future__ import annotations

from aiohttp import web
from aiohttp.typedefs import Handler

from valle.live.protocol import ProtocolError

STATUS = {"too_large": 413, "unauthorized": 401, "unknown_model": 404, "bad_prompt": 422, "busy": 503, "stopping": 503, "internal": 500}


@web.middleware
async def errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """``{"code", "message", ...}`` as on the socket, with a status; 400 for what has none of its own."""
    try:
        return await handler(request)
    except ProtocolError as error:
        headers = {"Retry-After": str(error.more["retry_after"])} if "retry_after" in error.more else {}
        code = "bad_request" if error.code == "bad_hello" else error.code
        content = {"code": code, "message": str(error), **error.more}
        return web.json_response(content, status=STATUS.get(error.code, 400), headers=headers)
