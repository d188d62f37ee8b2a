"""Headers of HTTP, read in less time. The standard library's parser is made for mail, and takes a tenth of what a call
costs on either side.
"""

import http.client
from typing import Any


def parse_headers(lines: Any, _class: type = http.client.HTTPMessage) -> http.client.HTTPMessage:
    headers = _class()
    for line in iter(lambda: lines.readline(65537), b""):
        if line in (b"\r\n", b"\n"):
            break
        name, _, value = line.decode("iso-8859-1").partition(":")
        headers[name] = value.strip()
    return headers


def install() -> None:
    """Put it in the place of the standard library's."""
    http.client.parse_headers = parse_headers
