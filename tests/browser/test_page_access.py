"""Keyboard, screen reader, small screens, and the content policy."""

from __future__ import annotations

from typing import Any

import pytest
from served import Served, Watched

CONTROLS = {
    "button": ["Record"], "combobox": ["Sample", "Model"], "spinbutton": ["Seconds", "Temperature", "Seed"],
    "img": ["Spectrogram, empty"],
}  # fmt: skip


def focused(page: Any) -> str:
    return page.evaluate("document.activeElement.id")


def tab_to(page: Any, name: str, *, most: int = 15) -> None:
    for _ in range(most):
        page.keyboard.press("Tab")
        if focused(page) == name:
            return
    raise AssertionError(f"{name} cannot be reached with the Tab key")


def test_all_of_it_can_be_done_with_the_keyboard(server: Served, watched: Watched) -> None:
    page = watched.open(server.url, model="codes", seconds=1)
    page.evaluate("document.activeElement.blur()")
    tab_to(page, "main")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    watched.wait("done")
    assert focused(page) == "main"
    page.fill("#seconds", "30")
    tab_to(page, "again", most=30)
    page.keyboard.press("Enter")
    watched.wait("waiting", "continuing")
    assert focused(page) == "main"  # the pressed button is gone: focus is on what stops it
    page.keyboard.press("Escape")
    watched.wait("done", "idle")
    for name in ("file", "sample", "seconds"):
        tab_to(page, name)


def test_less_than_three_seconds_are_enough(server: Served, watched: Watched) -> None:
    page = watched.open(server.url, model="codes", seconds=1)
    page.evaluate("""() => {
      const main = document.getElementById("main");
      const timer = setInterval(() => {
        if (!(parseFloat(document.getElementById("clock").textContent) >= 0.8)) return;
        clearInterval(timer);
        window.said = main.textContent;
        main.click();
      }, 10);
    }""")
    page.get_by_role("button", name="Record").click()
    watched.wait("done")
    assert page.evaluate("window.said") == "That is enough"
    assert 0.5 <= watched.number("app.result.source.samples.length / app.result.source.sampleRate") < 3


def test_a_screen_reader_finds_every_control_and_hears_what_happens(server: Served, watched: Watched) -> None:
    page = watched.open(server.url)
    for role, names in CONTROLS.items():
        for name in names:
            assert page.get_by_role(role, name=name, exact=True).count() == 1, f"{role} {name}"
    assert page.get_by_label("Choose a file").count() == 1
    assert page.get_by_role("status").inner_text() == "Ready when you are."
    unnamed = "[...document.querySelectorAll('input,select,button')].filter(e => !e.labels?.length && !e.textContent.trim()).map(e => e.id)"
    assert page.evaluate(unnamed) == []
    assert page.get_by_text("one whose owner has agreed").is_visible()


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_nothing_is_wider_than_the_screen_and_every_button_is_large_enough_for_a_finger(server: Served, browser: Any, width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 800}, reduced_motion="reduce")
    watched = Watched(context.new_page())
    page = watched.open(server.url, model="codes", seconds=1)
    page.select_option("#sample", index=1)
    watched.wait("done")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    small = "[...document.querySelectorAll('button,.button,select')].filter(e => e.offsetParent && e.offsetHeight < 44).map(e => e.id)"
    assert page.evaluate(small) == []
    assert page.evaluate("document.getAnimations().length") == 0
    context.close()
    watched.assert_nothing_went_wrong()


def test_the_content_policy_lets_nothing_in_or_out(server: Served, browser: Any) -> None:
    page = browser.new_page()
    answer = page.goto(server.url)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy and "unsafe" not in policy
    page.evaluate("document.addEventListener('securitypolicyviolation', event => (window.broken ??= []).push(event.effectiveDirective))")
    page.evaluate("""() => {
      const script = document.createElement("script");
      script.textContent = "window.ran = true";
      document.body.append(script);
      document.body.setAttribute("style", "color: red");
      return fetch("http://localhost:9/").catch(() => {});
    }""")
    assert page.evaluate("window.ran") is None
    assert set(page.evaluate("window.broken")) == {"script-src-elem", "style-src-attr", "connect-src"}
    page.close()
