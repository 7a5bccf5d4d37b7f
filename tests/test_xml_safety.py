"""XML that anybody may have written: what is refused, in words that show nothing of the file."""

import sys
from xml.etree.ElementTree import Element, TreeBuilder

import pytest

pytest.importorskip("defusedxml")

from synthoma.errors import DataError, MissingExtraError
from synthoma.formats.xml_safety import DEEPEST, BadXml, feed_xml, local_name


def tree_of(content: bytes) -> Element:
    builder = TreeBuilder()
    feed_xml(content, builder, extra="ct")
    return builder.close()


def test_tags_attributes_and_text_arrive_in_order() -> None:
    # Longer than what the parser gets at once.
    filler = b"<b>" + b"x" * 3_000_000 + b"</b>"
    root = tree_of(b'<a xmlns="urn:x" k="1">' + filler + b"<c/></a>")
    assert local_name(root.tag) == "a"
    assert root.attrib == {"k": "1"}
    assert [local_name(child.tag) for child in root] == ["b", "c"]
    assert len(root[0].text or "") == 3_000_000


def test_the_depth_has_a_limit() -> None:
    whole = b"<a>" * DEEPEST + b"</a>" * DEEPEST
    assert sum(1 for _ in tree_of(whole).iter()) == DEEPEST
    with pytest.raises(BadXml, match=f"nested deeper than {DEEPEST}"):
        tree_of(b"<a>" + whole + b"</a>")
    # Tags that lie beside each other are not deep.
    assert len(tree_of(b"<a>" + b"<b/>" * 500 + b"</a>")) == 500


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<a>&Doe;</a>", r"damaged XML \(undefined entity, line 1, column 3\)"),
        (b"<a>\n<Doe></a>", r"damaged XML \(mismatched tag, line 2, column 7\)"),
        (b"<Doe", r"damaged XML \(unclosed token, line 1, column 0\)"),
        (b"", r"damaged XML \(no element found"),
        (b"<!DOCTYPE Doe><Doe/>", "has a document type"),
        (b'<!DOCTYPE a [<!ENTITY e "Doe">]><a>&e;</a>', "has a document type or entities"),
        (b'<?xml version="1.0" encoding="Doe"?><a/>', "text encoding"),
        (b"<Doe k='" + b"x" * (17 << 20) + b"'/>", "for 16 MB without a tag"),
    ],
)
def test_what_is_refused_shows_nothing_of_the_file(content: bytes, message: str) -> None:
    with pytest.raises(BadXml, match=message) as caught:
        tree_of(content)
    assert "Doe" not in str(caught.value)


def test_what_the_target_refuses_is_told_in_its_words() -> None:
    class Refuses(TreeBuilder):
        def start(self, tag: str, attrs: dict[str, str], /) -> Element:
            raise DataError(f"no {tag} is wanted")

    with pytest.raises(DataError, match="no b is wanted"):
        feed_xml(b"<b/>", Refuses(), extra="ct")


def test_a_missing_package_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "defusedxml.common", None)
    with pytest.raises(MissingExtraError, match=r"synthoma\[slides\]"):
        feed_xml(b"<a/>", TreeBuilder(), extra="slides")
