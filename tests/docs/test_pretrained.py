"""What docs/pretrained-tokenizers.md says of released models is what the catalogue says, and what the code does."""

import re

from doc_commands import ROOT
from transformers import EncodecConfig

from valle.tokenizers.catalogue import CATALOGUE
from valle.tokenizers.dac import _reach
from valle.tokenizers.encodec import _lookahead
from valle.tokenizers.pretrained_units import ENCODERS
from valle.tokenizers.released_clusters import CLUSTERED

PAGE = (ROOT / "docs" / "pretrained-tokenizers.md").read_text(encoding="utf-8")
ROWS = {match[1]: [cell.strip() for cell in match[2].split("|")] for match in re.finditer(r"^\| `([\w.-]+)` \|(.*)\|$", PAGE, re.MULTILINE)}


def test_the_page_lists_every_released_model_with_its_rate_size_and_licence() -> None:
    entries = {entry.name: entry for entry in CATALOGUE if entry.hub is not None}
    semantic = {name: entry for name, entry in entries.items() if entry.kind == "semantic"}
    assert ROWS.keys() == entries.keys() and ENCODERS.keys() == {name for name, entry in semantic.items() if entry.codebook_size is None}
    assert {name: released.num_units for name, released in CLUSTERED.items()} == {
        name: entry.codebook_size for name, entry in semantic.items() if entry.codebook_size
    }
    for name, entry in entries.items():
        cells = ROWS[name]
        if entry.kind == "acoustic":
            assert entry.bits_per_second is not None
            assert cells[0].startswith(f"{entry.grid.rate:.4g} Hz, {entry.num_codebooks} x {entry.codebook_size}")
            assert cells[1] == f"{entry.bits_per_second / 1000:.3g}" and cells[2] == entry.licence
        else:
            assert cells[0] == f"{entry.grid.rate:g} Hz at {entry.sample_rate // 1000} kHz" and cells[2] == entry.licence
            if name in CLUSTERED:
                assert cells[1] == f"{CLUSTERED[name].encoder}, layer {CLUSTERED[name].layer}, {entry.codebook_size} units"


def test_the_page_states_the_contexts_that_the_code_states() -> None:
    for name, ratios, rate in (("dac-16khz", [2, 4, 5, 8], 16000), ("dac-24khz", [2, 4, 5, 8], 24000), ("dac-44khz", [2, 4, 8, 8], 44100)):
        assert ROWS[name][3] == f"{1000 * max(_reach(ratios)) / rate:.0f} ms before and after"
    ahead = _lookahead(EncodecConfig(upsampling_ratios=[8, 5, 4, 4], sampling_rate=32000))
    assert ROWS["encodec-32khz"][3] == f"all before it, and {1000 * ahead / 32000:.0f} ms after"
