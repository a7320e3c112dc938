"""What a person does with the hub, one after another in a process of its own: its client reads its settings as it is imported.

    python hub_client.py FOLDER TOKEN   -> one line of JSON, what each call gave or said
"""

import json
import sys
from collections.abc import Callable
from typing import Any

from tiny_pipeline import RATE, recording

from valle.errors import UserError
from valle.inference.pipeline import Pipeline
from valle.models.audio_lm import AudioLM


def codes_of(pipeline: Pipeline) -> list[int]:
    """The codes of a continuation of one second."""
    [result] = pipeline.continue_audio(recording(2), RATE, max_seconds=1)
    return result.codes.flatten().tolist()


def said(call: Callable[..., Any], *args: Any, **options: Any) -> str:
    """The one sentence with which a call is refused."""
    try:
        call(*args, **options)
    except UserError as error:
        return str(error)
    return "nothing"


def main(folder: str, token: str) -> None:
    pipeline = Pipeline.from_pretrained(folder)
    found: dict[str, Any] = {"stranger": said(pipeline.push_to_hub, "someone/small-lm")}
    found["addresses"] = [
        pipeline.push_to_hub("someone/small-lm", private=True, commit_message="Small and new", token=token),
        pipeline.push_to_hub("someone/known", token=token),
    ]
    found["codes"] = codes_of(Pipeline.from_pretrained("someone/small-lm"))
    found["width"] = AudioLM.from_pretrained("someone/twin").config.d_model
    found["revision"] = said(Pipeline.from_pretrained, "someone/small-lm", revision="old")
    found["nothing"] = said(Pipeline.from_pretrained, "someone/nothing")
    found["other"] = said(Pipeline.from_pretrained, "someone/other")
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
