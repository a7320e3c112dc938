"""Where handlers find what they share."""

from aiohttp import web

from valle.live.service import Service

SERVICE = web.AppKey("service", Service)
