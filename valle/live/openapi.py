"""What programs may ask over HTTP: an OpenAPI document, and a page of it for people."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

from jinja2 import Environment, FileSystemLoader, select_autoescape

from valle.inference.sound_output import SoundFormat
from valle.live.continue_file import OF_HELLO
from valle.live.options import ServeOptions
from valle.live.protocol import Hello

TEMPLATES = Path(__file__).parent / "templates"
SAYS = {  # of the fields of a hello
    "model": "a name of /v1/models; the first if not given",
    "prompt_seconds": "how much of the file is the prompt",
    "max_seconds": "longest new audio",
    "min_seconds": "no end is drawn before it",
    "seed": "of all random choices",
    "temperature": "of all stages; each stage's own if not given",
    "level": "speech or none: whether stages hear the prompt at one level; the model's own if not given",
    "block_seconds": "new audio that stages which look ahead make at once; 0.5, and less at first, if not given",
    "include_prompt": "whether the prompt stands before the new audio",
}
KINDS = {int: "integer", float: "number", bool: "boolean", str: "string"}
REFUSALS = {
    400: "a query that cannot be used", 401: "the token is missing or wrong", 403: "a Host or an Origin that is not allowed",
    404: "no model of that name", 413: "the file is too large", 422: "the file cannot be decoded or continued",
    503: "all places and the queue are taken, or the server is being stopped; Retry-After says seconds",
}  # fmt: skip


def openapi(options: ServeOptions, *, version: str, wants_token: bool) -> dict[str, Any]:
    """The document (OpenAPI 3.1)."""
    sound = {"type": "string", "format": "binary"}
    answers: dict[str, Any] = {
        "200": {
            "description": "new audio, mono; with stream, in chunks while later ones are made (a wav then says no length)",
            "headers": {
                "Valle-Sample-Rate": _header("Hz"),
                "Valle-Prompt-Samples": _header("the prompt's length in samples"),
                "Valle-Own-Samples": _header("up to here the prompt's samples are its own; those behind are generated anew"),
            },
            "content": {"audio/wav": {"schema": sound}, "application/octet-stream": {"schema": sound}},
        },
        **{str(status): _refusal(text) for status, text in REFUSALS.items()},
    }
    paths: dict[str, Any] = {
        "/v1/continue": {
            "post": {
                "summary": "Continue a recording",
                "description": f"The body is a wav, flac, ogg, mp3, mp4 or webm file of at most {options.max_body_mib:g} MiB.",
                "parameters": [*_of_format(), *(_parameter(name, options) for name in OF_HELLO)],
                "requestBody": {"required": True, "content": {"application/octet-stream": {"schema": sound}, "audio/*": {"schema": sound}}},
                "responses": answers,
            }
        },
        "/v1/models": {"get": _get("The models, and the longest prompt and new audio", "application/json")},
        "/v1/samples": {"get": _get("Prompts that come along", "application/json")},
        "/v1/samples/{name}.wav": {
            "get": {
                **_get("One of them", "audio/wav"),
                "parameters": [{"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}],
            }
        },
        "/health": {"get": _get("Whether new streams are taken (503 while the server is being stopped)", "application/json")},
        "/metrics": {"get": _get("Figures for Prometheus", "text/plain")},
    }
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "valle-serve", "version": version, "description": "Audio goes in, and the same voice goes on."},
        "paths": paths,
    }
    if wants_token:
        document["components"] = {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}}
        document["security"] = [{"token": []}]
    return document


def page_of(document: dict[str, Any]) -> str:
    """HTML without scripts, styles or anything from elsewhere."""
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=select_autoescape(), trim_blocks=True, lstrip_blocks=True)
    return environment.get_template("openapi.html").render(document=document)


def _parameter(name: str, options: ServeOptions) -> dict[str, Any]:
    default = next(entry.default for entry in fields(Hello) if entry.name == name)
    hint = get_type_hints(Hello)[name]
    kinds = [KINDS.get(kind, "string") for kind in (get_args(hint) or (hint,)) if kind is not type(None)]
    schema: dict[str, Any] = {"type": kinds[0]}
    most = {"prompt_seconds": options.max_prompt_seconds, "max_seconds": options.longest_seconds}.get(name)
    if most is not None:
        schema["maximum"] = most
    if default is not None:
        schema["default"] = default
    return {"name": name, "in": "query", "description": SAYS[name], "schema": schema}


def _of_format() -> list[dict[str, Any]]:
    formats = {"type": "string", "enum": list(get_args(SoundFormat)), "default": "wav"}
    return [
        {"name": "format", "in": "query", "description": "a wav of 16 bits, or raw little-endian samples", "schema": formats},
        {
            "name": "stream", "in": "query", "description": "send audio while later audio is made",
            "schema": {"type": "boolean", "default": False},
        },
    ]  # fmt: skip


def _get(summary: str, content_type: str) -> dict[str, Any]:
    return {"summary": summary, "responses": {"200": {"description": summary, "content": {content_type: {}}}}}


def _header(text: str) -> dict[str, Any]:
    return {"description": text, "schema": {"type": "integer"}}


def _refusal(text: str) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"code": {"type": "string"}, "message": {"type": "string"}}}
    return {"description": text, "content": {"application/json": {"schema": schema}}}
