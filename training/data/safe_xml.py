"""XML from strangers: document types, and with them entity bombs and external entities, are refused."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from xml.etree import ElementTree
from xml.parsers import expat

from training.errors import DataError


def feed(parser: expat.XMLParserType, chunks: Iterable[bytes], where: str) -> Iterator[None]:
    """Give `chunks` to `parser` one by one, a pause after each for what its handlers found.

    Raises DataError with line and column for bad XML, and for a document type.
    """

    def doctype(name: str, *_: object) -> None:
        raise DataError(
            f"{where}, line {parser.CurrentLineNumber}: a document type ({name}) is not allowed here: "
            "it could define entities"
        )

    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = doctype
    try:
        for chunk in chunks:
            parser.Parse(chunk, False)
            yield
        parser.Parse(b"", True)
        yield
    except expat.ExpatError as error:
        raise DataError(
            f"{where}, line {error.lineno}, column {error.offset}: {expat.errors.messages[error.code]}"
        ) from None
    except (LookupError, ValueError) as error:  # an encoding that Python lacks, or one of several bytes
        raise DataError(f"{where}: the encoding that it declares cannot be read ({error})") from None


class _Builder(ElementTree.TreeBuilder):
    """Builds a tree and refuses a document type."""

    where = ""

    def doctype(self, name: str, *_: object) -> None:
        """Called by the parser when it meets one."""
        raise DataError(
            f"{self.where}: a document type ({name}) is not allowed here: it could define entities"
        )


def tree(data: bytes, where: str) -> ElementTree.Element:
    """The elements of a small file. Raises DataError naming `where` and the line."""
    builder = _Builder()
    builder.where = where
    parser = ElementTree.XMLParser(target=builder)  # noqa: S314 - the builder refuses document types
    try:
        parser.feed(data)
        root: ElementTree.Element = parser.close()
    except ElementTree.ParseError as error:
        raise DataError(f"{where}: not XML ({error})") from None
    return root


def local(tag: str) -> str:
    """An element's name without its namespace."""
    return tag.rpartition("}")[2]
