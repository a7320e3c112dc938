"""Links lead somewhere, pictures exist, versions agree, and no document speaks of one machine."""

import ast
import re
from pathlib import Path

import pytest
import yaml
from doc_commands import FENCE, LINK, ROOT, anchors, documents, name_of

# A folder of somebody's, a registry.
ELSEWHERE = re.compile(r"(?<![\w./$>])/(home|root|mnt|srv|work|data|Users)/\w|--(extra-)?index-url", re.IGNORECASE)


@pytest.mark.parametrize("document", documents(), ids=name_of)
def test_every_link_leads_to_something(document: Path) -> None:
    for match in LINK.finditer(FENCE.sub("", document.read_text(encoding="utf-8"))):
        target, _, anchor = match["target"].partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        place = (document.parent / target).resolve() if target else document
        assert place.exists(), f"{name_of(document)} leads to {target}, which is not there"
        assert place.is_relative_to(ROOT)
        assert not anchor or anchor in anchors(place), f"{target} has no heading #{anchor}"


@pytest.mark.parametrize("document", [*documents(), ROOT / "CITATION.cff"], ids=name_of)
def test_no_document_speaks_of_one_machine(document: Path) -> None:
    assert ELSEWHERE.search(document.read_text(encoding="utf-8")) is None


def test_every_page_of_docs_is_reached_from_their_index() -> None:
    assert "](docs/README.md)" in (ROOT / "README.md").read_text(encoding="utf-8")
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    for page in sorted({*ROOT.glob("docs/*.md"), *ROOT.glob("docs/*/README.md")} - {ROOT / "docs" / "README.md"}):
        name = page.relative_to(ROOT / "docs").as_posix()
        assert f"]({name})" in index, f"docs/README.md does not lead to {name}"


def test_issue_templates_are_forms_that_ask_for_something() -> None:
    for form in sorted(set(ROOT.glob(".github/ISSUE_TEMPLATE/*.yml")) - {ROOT / ".github/ISSUE_TEMPLATE/config.yml"}):
        fields = yaml.safe_load(form.read_text(encoding="utf-8"))
        assert {"name", "description", "body"} <= fields.keys()
        assert any(item.get("validations", {}).get("required") for item in fields["body"]), f"{form.name} requires nothing"


def test_every_recipe_is_documented() -> None:
    listed = (ROOT / "egs" / "README.md").read_text(encoding="utf-8")
    for script in sorted(ROOT.glob("egs/*/run.sh")):
        assert (script.parent / "README.md").is_file(), f"{script.parent.name} has no README"
        assert f"]({script.parent.name}/README.md)" in listed


def test_versions_agree() -> None:
    setup = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    version = next(node.value.value for node in setup.body if isinstance(node, ast.Assign) and node.targets[0].id == "VERSION")  # type: ignore[attr-defined]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    newest = re.search(r"^## (\d\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert newest and citation["version"] == version == newest[1]


def test_the_citation_has_what_its_format_asks_for() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["license"] == "Apache-2.0" and "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert citation["authors"] == [{"name": "The valle developers"}]
    for reference in citation["references"]:
        assert {"type", "title", "authors", "year", "url"} <= reference.keys()
        assert all(author.keys() == {"family-names", "given-names"} for author in reference["authors"])
