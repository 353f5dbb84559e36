"""The main text of a web page, by trafilatura or resiliparse (the extra `html`)."""

import re
from collections.abc import Callable
from importlib import import_module
from typing import Literal

from data_prep.errors import DataError

HtmlLibrary = Literal["trafilatura", "resiliparse"]

_BEGINNING = 4096
_MARKUP = re.compile(r"<(?:!doctype\s+html|html|head|body|div|p|table|article|section|span)[\s>]", re.IGNORECASE)


def is_html(text: str) -> bool:
    """Whether a text is a web page or a part of one: its beginning holds a tag that structures pages."""
    return "<" in text and _MARKUP.search(text, 0, _BEGINNING) is not None


def html_extractor(library: HtmlLibrary) -> Callable[[str], str]:
    """A function from a page to its main text, "" where there is none; DataError when the library is missing."""
    try:
        if library == "resiliparse":
            extract_plain = import_module("resiliparse.extract.html2text").extract_plain_text
            return lambda page: extract_plain(page, main_content=True, alt_texts=False)
        extract = import_module("trafilatura").extract
    except ImportError as error:
        advice = "pip install -c constraints.txt 'provetune[html]'"
        raise DataError(f"normalise.html: {library} is not installed ({error}); {advice}") from error
    return lambda page: extract(page, include_comments=False) or ""
