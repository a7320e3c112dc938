"""What goes wrong is said on the page, in a line that says what to do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from served import FLAGS, Served, Watched, serve


def alert(page: Any, text: str) -> str:
    """Wait for an error that holds ``text`` -> the whole line."""
    line = page.get_by_role("alert").filter(has_text=text)
    line.wait_for()
    said: str = line.inner_text()
    return said


@pytest.fixture(scope="module")
def small_server(playwright: Any, models: dict[str, Path]) -> Iterator[Served]:
    """One listener at once, and one may wait."""
    with serve({"codes": models["codes"]}, "--places", "1", "--queue", "1") as served:
        yield served


def test_a_denied_microphone(server: Served, playwright: Any, chromium: str) -> None:
    flags = [*FLAGS, "--use-fake-device-for-media-stream", "--deny-permission-prompts"]
    browser = playwright.chromium.launch(executable_path=chromium, headless=True, args=flags)
    watched = Watched(browser.new_page())
    page = watched.open(server.url)
    page.get_by_role("button", name="Record").click()
    alert(page, "Allow it beside the page's address, then press Record again")
    watched.wait("idle")
    browser.close()
    watched.assert_nothing_went_wrong()


def test_no_microphone(server: Served, watched: Watched) -> None:
    """As the browser says it where none is connected."""
    page = watched.open(server.url)
    page.evaluate("() => { navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('none', 'NotFoundError'); }; }")
    page.get_by_role("button", name="Record").click()
    assert "Connect one" in alert(page, "No microphone was found")
    watched.wait("idle")


def test_a_muted_microphone(server: Served, watched: Watched) -> None:
    page = watched.open(server.url)
    silence = "new AudioContext().createMediaStreamDestination().stream"
    page.evaluate(f"() => {{ navigator.mediaDevices.getUserMedia = async () => {silence}; }}")
    page.get_by_role("button", name="Record").click()
    assert alert(page, "The recording is silent").count("\n") == 0  # one line
    watched.wait("idle")


def test_a_model_that_is_not_there(server: Served, watched: Watched) -> None:
    page = watched.open(server.url)
    told = "{ models: [{ name: 'gone', sample_rate: 16000 }], limits: { max_seconds: 9 } }"
    page.evaluate(f"import('/settings.js').then(settings => settings.showModels({told}))")
    page.select_option("#sample", index=1)
    assert "gone" in alert(page, "expected one of the models codes, units")
    watched.wait("idle")


def test_a_setting_out_of_range_is_named_by_the_browser_and_nothing_starts(server: Served, watched: Watched) -> None:
    page = watched.open(server.url, seconds=0)
    page.get_by_role("button", name="Record").click()
    assert page.evaluate("document.activeElement.id") == "seconds"
    assert page.get_attribute("body", "data-state") == "idle"


def test_a_full_server_a_queue_and_a_server_that_is_gone(small_server: Served, browser: Any) -> None:
    """One listener hears, the next waits and is told its place, the third is told that the server is full; then the server ends."""
    context = browser.new_context()
    pages = [Watched(context.new_page()) for _ in range(3)]
    for watched in pages:
        watched.open(small_server.url, seconds=20).select_option("#sample", index=1)
        watched.wait("continuing" if watched is pages[0] else "waiting", "idle")
    heard, waiting, refused = (watched.page for watched in pages)
    waiting.get_by_text("You are number 1 in the queue").wait_for()
    refused.locator("#error:not(:empty)").wait_for()
    assert "again" in refused.get_by_role("alert").inner_text()
    heard.get_by_role("button", name="Stop").click()
    pages[1].wait("continuing")
    small_server.process.kill()
    alert(waiting, "The server does not answer. Start valle-serve again")
    pages[1].wait("done")
    alert_of_the_next = heard.get_by_role("alert")
    heard.get_by_role("button", name="Again").click()
    alert_of_the_next.filter(has_text="The server does not answer").wait_for()
    context.close()


def test_a_token_is_asked_for_and_is_not_in_an_address(playwright: Any, models: dict[str, Path], browser: Any, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a long secret of tests".replace(" ", "-"))
    with serve({"codes": models["codes"]}, "--token-file", str(tmp_path / "token")) as served:
        context = browser.new_context()
        page, addresses = context.new_page(), []
        page.on("request", lambda request: addresses.append(request.url))
        page.on("websocket", lambda socket: addresses.append(socket.url))
        page.goto(served.url)
        alert(page, "wants a token")
        assert page.evaluate("document.activeElement.id") == "token"
        page.keyboard.type("a-long-secret-of-tests")
        page.keyboard.press("Enter")
        page.wait_for_selector("body[data-state=idle]")
        page.fill("#seconds", "1")
        page.select_option("#sample", index=1)
        page.wait_for_selector("body[data-state=done]")
        assert not any("secret" in address for address in addresses)
        context.close()
