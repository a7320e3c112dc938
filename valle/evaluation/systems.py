"""The systems that a recogniser hears, under the names that reports use."""

from __future__ import annotations

REAL, CODEC, ACOUSTIC, CONTINUATION, BABBLE = "real speech", "through the codec", "true units spoken", "continuation", "babble"
SHORT = {REAL: "real", CODEC: "codec", ACOUSTIC: "acoustic", CONTINUATION: "continuation", BABBLE: "babble"}
DESCRIBED = {
    REAL: "real speech", CODEC: "real speech that went through the codec", ACOUSTIC: "the model's sound of a recording's own units",
    CONTINUATION: "the model's continuations", BABBLE: "babble, which is the model's sound of shuffled units",
}  # fmt: skip
CONTROLS = frozenset({REAL, CODEC, BABBLE})
