"""The page in headless Chromium, served by the real server with tiny models.

Sound is played in real time, so ``make test`` leaves these tests to ``make test-browser``, which runs one after the other.  They are
skipped where there is no Chromium or no Playwright; with ``REQUIRE_BROWSER=1`` they fail instead.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from served import FLAGS, Served, Watched, serve
from tiny_pipeline import lean_to_end, tiny_released

from valle.models.released import save_released

CHROMIUM = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
SPEECH = Path(__file__).parents[2] / "valle" / "assets" / "samples" / "1998-15444-0000.flac"
NO_BROWSER = "Chromium was not found; install it (on Debian: apt-get install chromium), or set CHROMIUM to its path"
NO_PLAYWRIGHT = "Playwright was not found; install it: pip install -c requirements.txt -e '.[browser,live]'"


@pytest.fixture(scope="session")
def chromium() -> str:
    """Its path."""
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, CHROMIUM)), None)
    return found or _missing(NO_BROWSER)


@pytest.fixture(scope="session")
def playwright(chromium: str) -> Iterator[Any]:
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        _missing(NO_PLAYWRIGHT)
    with sync_playwright() as started:
        yield started


def _missing(reason: str) -> Any:
    if os.environ.get("REQUIRE_BROWSER"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Released folders by name: ``codes`` hears a prompt at the level that it has, ``units`` at the level of speech."""
    folder = tmp_path_factory.mktemp("models")
    kinds = {"codes": tiny_released(acoustic_model="delay", units=False), "units": lean_to_end(tiny_released(), -1e9)}
    for name, released in kinds.items():
        save_released(released, folder / name, dtype=torch.float32)
    return {name: folder / name for name in kinds}


@pytest.fixture(scope="session")
def server(playwright: Any, models: dict[str, Path]) -> Iterator[Served]:
    """With places for several listeners; only where there is a browser to use it."""
    with serve(models, "--places", "4") as served:
        yield served


@pytest.fixture(scope="session")
def microphone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve seconds of a reader, in place of a person."""
    import numpy as np
    import soundfile

    speech, rate = soundfile.read(SPEECH, dtype="int16")
    path = tmp_path_factory.mktemp("microphone") / "speech.wav"
    soundfile.write(path, np.concatenate([speech, speech]), rate, subtype="PCM_16")
    return path


@pytest.fixture(scope="session")
def browser(playwright: Any, chromium: str, microphone: Path) -> Iterator[Any]:
    """With a microphone that is allowed, and a name that leads to this machine."""
    flags = (
        *FLAGS, "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
        "--host-resolver-rules=MAP elsewhere.test 127.0.0.1", f"--use-file-for-fake-audio-capture={microphone}%noloop",
    )  # fmt: skip
    launched = playwright.chromium.launch(executable_path=chromium, headless=True, args=list(flags))
    yield launched
    launched.close()


@pytest.fixture
def watched(browser: Any) -> Iterator[Watched]:
    """A page that fails the test if it logged an error or asked another host for anything."""
    context = browser.new_context()
    page = Watched(context.new_page())
    yield page
    context.close()
    page.assert_nothing_went_wrong()
