"""Adapt pages to the site: links out of docs/, and wide tables on narrow screens."""

import re
from pathlib import Path
from typing import Any

_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!\w+:)([^)#\s]+)\)")


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """Replace links to files outside docs/ by their names. MkDocs calls this for each page."""
    docs = Path(config.docs_dir)
    folder = Path(page.file.abs_src_path).parent

    def replace(link: re.Match[str]) -> str:
        target = (folder / link[2]).resolve()
        if target.is_relative_to(docs) or not target.exists():
            return link[0]  # MkDocs reports missing pages
        return f"{link[1]} (`{target.relative_to(docs.parent)}`)"

    return _LINK.sub(replace, markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Label each cell with its column, for site.css. MkDocs calls this for each page."""
    return re.sub(r"(?s)<table>.*?</table>", lambda table: _labelled(table[0]), html)


def _labelled(table: str) -> str:
    columns = [re.sub(r"<.*?>", "", head) for head in re.findall(r"<th>(.*?)</th>", table)]
    cells = iter(range(table.count("<td>")))
    return re.sub(
        r"<td>", lambda _: f'<td data-label="{columns[next(cells) % len(columns)]}">', table
    )
