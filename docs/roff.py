"""From our Markdown to roff's man macros: what the pages of docs/reference have, and no more.

Headings, paragraphs, lists, fenced blocks, tables; in a line code, emphasis and links, of which
the text stays. A table becomes a list of terms: the first column is the term, the last one says
what it is, those between stand before that in brackets.
"""

import re
from collections.abc import Iterator, Sequence

_ROFF = str.maketrans(
    {"\\": "\\e", "-": "\\-", "'": "\\(aq", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti"}
)
_ELSEWHERE = re.compile(r" \(\[(?:how|why)\]\([^)]*\)\)|[;,:] \[(?:how|why)\]\([^)]*\)")
"""Links whose text alone says nothing."""
_NOTHING = "\\&"
_BULLET = "\\(bu"
_INLINE = re.compile(
    r"`(?P<code>[^`]+)`|\[(?P<link>(?:[^\]`]|`[^`]*`)+)\]\([^)]*\)"
    r"|\*\*(?P<strong>[^*]+)\*\*|\*(?P<light>[^*\s][^*]*)\*"
)


def escape(text: str) -> str:
    """Plain text as roff shows it, wherever it stands in a line."""
    text = text.translate(_ROFF)
    return f"\\&{text}" if text.startswith((".", '"')) else text


def bold(text: str) -> str:
    return f"\\fB{escape(text)}\\fR"


def italic(text: str) -> str:
    return f"\\fI{escape(text)}\\fR"


def inline(text: str) -> str:
    """One paragraph of Markdown, as one line of roff."""
    parts: list[str] = []
    end = 0
    for found in _INLINE.finditer(text):
        parts.append(text[end : found.start()].translate(_ROFF))
        end = found.end()
        if found["code"]:
            parts.append(bold(found["code"]))
        elif found["link"]:
            parts.append(inline(found["link"]))
        else:
            parts.append(italic(found["strong"] or found["light"]))
    parts.append(text[end:].translate(_ROFF))
    line = "".join(parts)
    return f"\\&{line}" if line.startswith((".", "'")) else line


def header(name: str, section: int, version: str) -> str:
    """The first lines of a page."""
    return (
        f'.\\" Made by docs/generate.py; do not edit.\n'
        f'.TH {escape(name.upper())} {section} "" "tunneld {version}" "tunneld"\n.nh\n.ad l\n'
    )


def heading(title: str) -> str:
    """Of a section: in capitals, unless something in it must stand as it is."""
    text = plain(title)
    exact = "`" in title or '"' in title
    return f'.SH "{_argument(text if exact else text.upper())}"\n'


def subheading(title: str) -> str:
    return f'.SS "{_argument(plain(title))}"\n'


def _argument(text: str) -> str:
    """Plain text between the quotes of a macro's argument."""
    return escape(text).replace('"', "\\(dq")


def term(name: str, meaning: str) -> str:
    """An entry of a list of terms; both are roff already."""
    return f".TP\n{name}\n{meaning or _NOTHING}\n"


def literal(text: str) -> str:
    """A block that is shown as it stands."""
    lines = "\n".join(escape(line) for line in text.rstrip("\n").split("\n"))
    return f".PP\n.RS 4\n.EX\n{lines}\n.EE\n.RE\n"


def plain(text: str) -> str:
    """Without the marks of Markdown."""
    return _INLINE.sub(lambda found: plain(next(filter(None, found.groups()))), text)


def convert(markdown: str, lowest: int = 2) -> str:
    """A page, or a part of one; its title is left out.

    Args:
      lowest: level of the headings that become sections; deeper ones become subsections.
    """
    return "".join(_blocks(markdown, lowest))


def section_of(markdown: str, title: str) -> str:
    """What stands below a heading of the second level, without it."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", markdown, re.M | re.S)
    assert found, title
    return found[1]


def _blocks(markdown: str, lowest: int) -> Iterator[str]:
    text = re.sub(r"<!--.*?-->\n?", "", markdown, flags=re.S)
    text = _ELSEWHERE.sub("", text)
    pattern = re.compile(r"^```\w*\n(.*?)^```$", re.M | re.S)
    end = 0
    for found in pattern.finditer(text):
        yield from _texts(text[end : found.start()], lowest)
        yield literal(found[1])
        end = found.end()
    yield from _texts(text[end:], lowest)


def _texts(text: str, lowest: int) -> Iterator[str]:
    for block in re.split(r"\n\s*\n", text.strip("\n")):
        lines = block.split("\n")
        while lines and (found := re.match(r"(#+) (.*)", lines[0])):
            level = len(found[1])
            if level > 1:
                yield heading(found[2]) if level <= lowest else subheading(found[2])
            del lines[0]
        if not lines or not lines[0].strip():
            continue
        if lines[0].startswith("|"):
            yield from _table([_cells(line) for line in lines])
        elif re.match(r"(-|\d+\.) ", lines[0]):
            yield from _list(lines)
        else:
            yield f".PP\n{inline(_joined(lines))}\n"


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    titles = rows[0]
    for row in rows[2:]:
        between = [
            cell if title in ("type", "") or cell == "required" else f"{title} {cell}"
            for title, cell in zip(titles[1:-1], row[1:-1], strict=True)
            if cell
        ]
        note = f"({', '.join(between)}) " if between else ""
        yield term(inline(row[0]) or "\\&", inline(f"{note}{row[-1]}".strip()))


def _cells(line: str) -> list[str]:
    cells = re.split(r"(?<!\\)\|", line.strip().strip("|"))
    return [cell.strip().replace("\\|", "|") for cell in cells]


def _list(lines: Sequence[str]) -> Iterator[str]:
    items: list[list[str]] = []
    for line in lines:
        if re.match(r"(-|\d+\.) ", line):
            items.append([line])
        else:
            items[-1].append(line)
    for item in items:
        mark, _, rest = _joined(item).partition(" ")
        yield f".IP {_BULLET if mark == '-' else mark} 3\n{inline(rest)}\n"


def _joined(lines: Sequence[str]) -> str:
    return " ".join(line.strip() for line in lines)
