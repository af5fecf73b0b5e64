"""A page's files, as browsers get them: they may load nothing from anywhere else, and run nothing but these files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

INDEX = "index.html"
COMMON = "lora_operator.pages"
CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


@dataclass(frozen=True, slots=True)
class File:
    data: bytes
    headers: Mapping[str, str]

    def known(self, tag: str | None) -> bool:
        """Whether who sends this If-None-Match has it."""
        return tag == self.headers["ETag"]


class Files:
    """Those of a package's `static` beside the common ones, read once. `tag` changes with any of them."""

    def __init__(self, package: str) -> None:
        self._files: dict[str, File] = {}
        for each in (COMMON, package):
            for item in (resources.files(each) / "static").iterdir():
                content_type = CONTENT_TYPES.get("." + item.name.rpartition(".")[2])
                if content_type is not None:
                    data = item.read_bytes()
                    tag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
                    self._files[item.name] = File(data, HEADERS | {"Content-Type": content_type, "ETag": tag})
        everything = b"".join(self._files[name].data for name in sorted(self._files))
        self.tag = hashlib.sha256(everything).hexdigest()[:16]

    def get(self, name: str) -> File | None:
        """The page itself where none is named."""
        return self._files.get(name or INDEX)
