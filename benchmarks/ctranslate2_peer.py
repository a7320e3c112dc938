"""CTranslate2's decoder of the same shape: a Llama of random weights, converted as its own converter does it."""

from __future__ import annotations

import tempfile
import time

from benchmarks.decoding import VOCABULARY, Decode, Shape, Span, llama


def ctranslate2_decoder(shape: Shape, span: Span, *, dtype: str, threads: int) -> Decode:
    """``decode(prompt_length, num_new)`` -> the moment of every token; ``dtype`` float32 or int8."""
    import ctranslate2
    from ctranslate2.converters.transformers import LlamaLoader

    spec = LlamaLoader().get_model_spec(llama(shape, span))
    spec.register_vocabulary([f"<{token}>" for token in range(VOCABULARY)])
    spec.config.bos_token = spec.config.eos_token = spec.config.unk_token = "<0>"
    spec.validate()
    spec.optimize()
    with tempfile.TemporaryDirectory() as folder:
        spec.save(folder)
        generator = ctranslate2.Generator(folder, device="cpu", compute_type=dtype, inter_threads=1, intra_threads=threads)

    def decode(prompt_length: int, num_new: int) -> list[float]:
        moments: list[float] = []

        def note(step: ctranslate2.GenerationStepResult) -> bool:
            if step.batch_id == shape.batch - 1:
                moments.append(time.perf_counter())
            return False

        generator.generate_batch(
            [["<1>"] * prompt_length] * shape.batch, max_length=num_new, min_length=num_new, sampling_topk=0, callback=note,
            include_prompt_in_result=False,
        )  # fmt: skip
        return moments

    return decode
