"""Files in place of a microphone: chosen or dropped, whatever their rate and length, also where browsers give a page no microphone."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
from served import Served, Watched, serve
from tiny_pipeline import recording

ROUNDING = 1 / 32767  # Chromium scales positive samples of 16 bits by 32767
OF_PLAIN_HTTP = ("The ScriptProcessorNode is deprecated", "The Cross-Origin-Opener-Policy header has been ignored")  # notes of the browser
DROP = """packed => {
  const bytes = Uint8Array.from(atob(packed), letter => letter.charCodeAt(0));
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File([bytes], "mine.flac"));
  document.body.dispatchEvent(new DragEvent("dragover", { dataTransfer, bubbles: true, cancelable: true }));
  window.dropShown = !document.getElementById("drop").hidden;
  document.body.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
}"""


def sound_file(rate: int, seconds: float, *, kind: str = "WAV") -> tuple[bytes, np.ndarray]:
    """A file of 16 bits, and its samples."""
    wav = np.resize(recording(3), round(seconds * rate))
    packed = io.BytesIO()
    soundfile.write(packed, wav, rate, format=kind, subtype="PCM_16")
    return packed.getvalue(), soundfile.read(io.BytesIO(packed.getvalue()), dtype="float32")[0]


def test_of_a_chosen_file_the_first_three_seconds_are_sent_at_its_own_rate(server: Served, watched: Watched) -> None:
    page = watched.open(server.url, model="codes", seconds=1)
    content, wav = sound_file(24000, 5)
    page.set_input_files("#file", {"name": "mine.wav", "mimeType": "audio/wav", "buffer": content})
    watched.wait("done")
    assert watched.number("app.result.source.sampleRate") == 24000
    assert np.allclose(watched.samples("app.result.source.samples"), wav[:72000], atol=ROUNDING)


def test_a_short_file_can_be_dropped_anywhere(server: Served, watched: Watched) -> None:
    page = watched.open(server.url, model="codes", seconds=1)
    content, wav = sound_file(44100, 1.2, kind="FLAC")
    page.evaluate(DROP, base64.b64encode(content).decode())
    watched.wait("done")
    assert page.evaluate("window.dropShown") and page.is_hidden("#drop")
    prompt = watched.samples("app.result.source.samples")
    assert len(prompt) == len(wav) and np.allclose(prompt, wav, atol=ROUNDING)
    assert "1.2 seconds of recording" in page.get_attribute("#picture", "aria-label")


UNUSABLE = {"could not be read as sound": b"no sound at all", "too short": sound_file(16000, 0.3)[0]}


@pytest.mark.parametrize(("said", "content"), UNUSABLE.items(), ids=["text", "short"])
def test_a_file_that_cannot_be_used_gets_a_line_that_says_what_to_do(server: Served, watched: Watched, said: str, content: bytes) -> None:
    page = watched.open(server.url, model="codes")
    page.set_input_files("#file", {"name": "mine.wav", "mimeType": "audio/wav", "buffer": content})
    line = page.get_by_role("alert").filter(has_text=said)
    line.wait_for()
    watched.wait("idle")
    assert said in line.inner_text()


def test_over_plain_http_from_another_machine_files_are_heard_and_the_microphone_is_explained(
    playwright: object, models: dict[str, Path], watched: Watched
) -> None:
    with serve({"codes": models["codes"]}, "--allow-host", "elsewhere.test") as served:
        page = watched.open(served.url.replace("127.0.0.1", "elsewhere.test"), seconds=1)
        assert page.evaluate("isSecureContext") is False
        page.get_by_role("button", name="Record").click()
        page.get_by_role("alert").filter(has_text="no microphone to a page that comes over plain http").wait_for()
        content, _ = sound_file(16000, 3)
        page.set_input_files("#file", {"name": "mine.wav", "mimeType": "audio/wav", "buffer": content})
        watched.wait("done")
        assert watched.number("app.result.newSamples") == 16000 and page.get_by_role("alert").inner_text() == ""
        watched.errors[:] = [error for error in watched.errors if not error.startswith(OF_PLAIN_HTTP)]
