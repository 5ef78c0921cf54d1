"""Links from pages to files that are not pages: on the site their names alone are shown."""

import re
from pathlib import Path
from typing import Any

_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!\w+:)([^)#\s]+)\)")


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """Replace links to what is there but not in docs/; called by MkDocs for each page."""
    docs = Path(config.docs_dir)
    folder = Path(page.file.abs_src_path).parent

    def replace(link: re.Match[str]) -> str:
        target = (folder / link[2]).resolve()
        if target.is_relative_to(docs) or not target.exists():
            return link[0]  # MkDocs says if there is no such page
        return f"{link[1]} (`{target.relative_to(docs.parent)}`)"

    return _LINK.sub(replace, markdown)
