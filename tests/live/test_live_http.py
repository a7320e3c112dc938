"""Files over HTTP, and who may call: hosts, pages, tokens, sizes; nothing from elsewhere on any page."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from tiny_live import TinyServer, converse, endless_pipeline, run, tiny_server
from tiny_pipeline import RATE, lean_to_end, recording, tiny_released

from valle.audio import read_audio, wav_bytes
from valle.inference.continuation import ContinueSettings
from valle.inference.pipeline import Pipeline
from valle.live.protocol import Hello

PIPELINE = endless_pipeline()
ASKED = {"prompt_seconds": 1.0, "max_seconds": 0.5, "block_seconds": 0.2}
QUERY = {name: str(value) for name, value in ASKED.items()} | {"seed": "5"}
FILE = bytes(wav_bytes(recording(1.5), RATE))
TOKEN = "a long and secret word".replace(" ", "-")


def expected() -> Any:
    [found] = PIPELINE.continue_audio(recording(1.5), RATE, seed=5, settings=ContinueSettings(**ASKED))
    return found


async def post(there: TinyServer, content: bytes, **query: str) -> tuple[int, dict[str, str], bytes]:
    async with there.client.post(f"{there.address}/v1/continue", params=query, data=content) as answer:
        return answer.status, dict(answer.headers), await answer.read()


def with_server(work: Any, **flags: Any) -> None:
    async def inside() -> None:
        async with tiny_server(PIPELINE, **flags) as there:
            await work(there)

    run(inside())


def test_a_file_goes_on_as_offline_whole_and_in_chunks_with_and_without_its_prompt() -> None:
    one = expected()

    async def work(there: TinyServer) -> None:
        status, headers, content = await post(there, FILE, **QUERY)
        samples, rate = soundfile.read(io.BytesIO(content), dtype="float32")
        assert status == 200 and headers["Content-Type"] == "audio/wav" and rate == RATE
        assert np.allclose(samples, one.wav[one.prompt_samples :], atol=1e-4)
        assert headers["Valle-Prompt-Samples"] == str(one.prompt_samples) and headers["Valle-Own-Samples"] == str(one.own_samples)
        _, _, raw = await post(there, FILE, **QUERY, format="float32", stream="true", include_prompt="true")
        assert np.allclose(np.frombuffer(raw, "<f4"), one.wav, atol=1e-5)
        _, _, streamed = await post(there, FILE, **QUERY, stream="true")
        assert streamed[:4] == b"RIFF" and streamed[44:] == content[44:]

    with_server(work)


def test_speech_that_ends_at_once_is_an_answer_without_new_audio() -> None:
    silent = Pipeline(lean_to_end(tiny_released(), 1e9), engine="torch")

    async def work() -> None:
        async with tiny_server(silent) as there:
            for more in ({}, {"stream": "true"}):
                status, _, content = await post(there, FILE, **QUERY, min_seconds="0", **more)
                assert status == 200 and len(content) < 44 + 2 * 0.1 * RATE
            heard = await converse(there, Hello(protocol=1, sample_rate=RATE, min_seconds=0.0, prompt_seconds=0.5), [recording(0.5)])
            assert heard.order[-2:] == ["joint", "done"] or len(heard.wav) < 0.1 * RATE

    run(work())


@pytest.mark.parametrize(
    "content, query, status, code",
    [
        (b"", {}, 422, "bad_prompt"),
        (b"#EXTM3U\nfile:///etc/passwd\n", {}, 422, "bad_prompt"),
        (FILE, {"model": "other"}, 404, "unknown_model"),
        (FILE, {"max_seconds": "1e9"}, 400, "bad_request"),
        (FILE, {"seed": "-1"}, 400, "bad_request"),
        (FILE, {"seed": "x"}, 400, "bad_request"),
        (FILE, {"temprature": "1"}, 400, "bad_request"),
        (bytes(200_000), {}, 413, "too_large"),
    ],
)
def test_what_cannot_be_used_has_a_status_a_code_and_one_line(content: bytes, query: dict[str, str], status: int, code: str) -> None:
    async def work(there: TinyServer) -> None:
        found, _, said = await post(there, content, **query)
        assert (found, json.loads(said)["code"]) == (status, code) and "\n" not in json.loads(said)["message"]

    with_server(work, max_body_mib=0.1)


def test_all_places_taken_is_503_with_a_time_to_come_back() -> None:
    async def work(there: TinyServer) -> None:
        async with there.client.ws_connect(f"{there.address}/v1/live") as first:
            await first.send_bytes(Hello(protocol=1, sample_rate=RATE).message())
            await first.receive()
            status, headers, said = await post(there, FILE, **QUERY)
            assert status == 503 and int(headers["Retry-After"]) >= 1 and json.loads(said)["code"] == "busy"

    with_server(work, places=1, queue=0)


@pytest.mark.parametrize(
    "headers, status",
    [
        ({}, 200),
        ({"Host": "localhost:8000"}, 200),
        ({"Host": "[::1]:8000"}, 200),
        ({"Host": "voice.example.org"}, 200),
        ({"Host": "rebound.example.com"}, 403),
        ({"Host": "127.0.0.1.example.com"}, 403),
        ({"Host": ""}, 403),
        ({"Host": "localhost", "Origin": "http://localhost"}, 200),
        ({"Host": "localhost", "Origin": "https://page.example.org"}, 200),
        ({"Host": "localhost", "Origin": "http://localhost:9999"}, 403),
        ({"Host": "localhost", "Origin": "https://evil.example"}, 403),
        ({"Host": "localhost", "Origin": "null"}, 403),
    ],
)
def test_names_and_pages_that_were_not_allowed_are_refused_also_on_the_socket(headers: dict[str, str], status: int) -> None:
    async def work(there: TinyServer) -> None:
        async with there.client.get(f"{there.address}/health", headers=headers) as answer:
            assert answer.status == status
        upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "a" * 22 + "=="}
        async with there.client.get(f"{there.address}/v1/live", headers={**headers, **upgrade}) as answer:
            assert answer.status == (101 if status == 200 else status)

    with_server(work, allow_host=["voice.example.org"], allow_origin=["https://page.example.org"])


def test_a_token_is_wanted_in_a_header_or_in_the_hello_and_nowhere_else() -> None:
    async def work(there: TinyServer) -> None:
        async def status(path: str, **headers: str) -> int:
            async with there.client.get(there.address + path, headers=headers) as answer:
                return answer.status

        for path in ("/v1/models", "/v1/samples", "/metrics"):
            assert await status(path) == await status(path, Authorization="Bearer other") == await status(f"{path}?token={TOKEN}") == 401
            assert await status(path, Authorization=f"Bearer {TOKEN}") == 200
        assert await status("/health") == await status("/docs") == 200
        assert (await post(there, FILE))[0] == 401
        asked = {"protocol": 1, "sample_rate": RATE, "prompt_seconds": 0.5, "max_seconds": 0.2}
        refused = await converse(there, Hello(**asked), [], end=False)
        assert refused.error["code"] == "unauthorized" and refused.close_code == 1008
        assert (await converse(there, Hello(**asked, token="é" * 20), [], end=False)).error["code"] == "unauthorized"
        assert (await converse(there, Hello(**asked, token=TOKEN), [recording(0.5)])).close_code == 1000
        async with there.client.ws_connect(f"{there.address}/v1/live", headers={"Authorization": f"Bearer {TOKEN}"}) as socket:
            await socket.send_bytes(Hello(**asked).message())
            assert (await socket.receive()).data[:1] == b"\0"

    with_server(work, token=TOKEN)


def test_every_answer_says_that_a_page_may_load_nothing_from_elsewhere() -> None:
    async def work(there: TinyServer) -> None:
        for path in ("/", "/docs", "/health", "/v1/models", "/no-such-page"):
            async with there.client.get(there.address + path) as answer:
                policy = answer.headers["Content-Security-Policy"]
                assert policy.startswith("default-src 'self';") and "unsafe" not in policy and "http" not in policy
                assert answer.headers["X-Content-Type-Options"] == "nosniff" and answer.headers["Referrer-Policy"] == "no-referrer"

    with_server(work)


def test_models_and_samples_are_listed_and_a_sample_is_the_recording_that_comes_along() -> None:
    async def work(there: TinyServer) -> None:
        async def get(path: str) -> bytes:
            async with there.client.get(there.address + path) as answer:
                assert answer.status == 200
                return await answer.read()

        listed = json.loads(await get("/v1/models"))
        assert listed["models"] == [{"name": "tiny", "sample_rate": RATE, "default": True}] and listed["limits"]["max_seconds"] == 120
        samples = json.loads(await get("/v1/samples"))["samples"]
        assert len(samples) == 5 and all(one["licence"] == "CC BY 4.0" for one in samples)
        found, rate = soundfile.read(io.BytesIO(await get(samples[0]["url"])), dtype="float32")
        stored = Path(__file__).parents[2] / "valle" / "assets" / "samples" / f"{samples[0]['name']}.flac"
        assert rate == samples[0]["sample_rate"] and np.array_equal(found, read_audio(stored)[0])

    with_server(work)


def test_the_interface_is_described_for_programs_and_people() -> None:
    async def work(there: TinyServer) -> None:
        async with there.client.get(f"{there.address}/openapi.json") as answer:
            document = await answer.json()
        routes = {route.resource.canonical for route in there.server._runner.app.router.routes() if route.resource}
        assert document["openapi"].startswith("3.1") and set(document["paths"]) <= routes
        names = {one["name"] for one in document["paths"]["/v1/continue"]["post"]["parameters"]}
        assert {"model", "seed", "format", "stream", "include_prompt"} <= names
        async with there.client.get(f"{there.address}/docs") as answer:
            page = await answer.text()
        assert all(name in page for name in names) and "<script" not in page and "://" not in page

    with_server(work)


def test_figures_are_counted_and_name_no_one() -> None:
    async def work(there: TinyServer) -> None:
        asked = Hello(protocol=1, sample_rate=RATE, prompt_seconds=0.5, max_seconds=0.2)
        await converse(there, asked, [recording(0.5)])
        await converse(there, Hello(protocol=1, sample_rate=RATE, model="other"), [], end=False)
        async with there.client.get(f"{there.address}/metrics") as answer:
            text = await answer.text()
        assert 'valle_streams_total{model="tiny",outcome="done"} 1.0' in text and 'valle_refused_total{code="unknown_model"} 1.0' in text
        assert "valle_first_audio_seconds_count 1.0" in text and "valle_audio_seconds_total 0.2" in text
        assert "valle_streams_active 0.0" in text and "process_open_fds" in text

    with_server(work)


def test_voices_are_written_nowhere_unless_a_folder_is_named(tmp_path: Path) -> None:
    asked = Hello(protocol=1, sample_rate=RATE, prompt_seconds=1, max_seconds=0.5, block_seconds=0.2, seed=5, level="none")

    async def work(there: TinyServer) -> None:
        await converse(there, asked, [recording(1)])
        await post(there, FILE, **QUERY)

    with_server(work)
    assert not list(tmp_path.iterdir())
    with_server(work, save=tmp_path / "kept")
    kept = sorted((tmp_path / "kept").iterdir())
    assert len(kept) == 2 and all(len(read_audio(path)[0]) == 1.5 * RATE for path in kept)


