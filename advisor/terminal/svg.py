"""A terminal's content as a picture that refers to nothing on the network."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme

# Rich's own template loads its font from another host; here the viewer's monospaced font is used.
_FORMAT = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", "Liberation Mono", monospace; \
font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width; }}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: system-ui, sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal"><rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/></clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""
_THEME = TerminalTheme(
    (16, 20, 27),
    (208, 214, 224),
    [
        (40, 46, 58),
        (240, 98, 104),
        (120, 200, 120),
        (230, 180, 80),
        (100, 160, 240),
        (200, 130, 220),
        (90, 195, 205),
        (208, 214, 224),
    ],
    [
        (110, 118, 132),
        (255, 125, 130),
        (150, 225, 150),
        (250, 205, 110),
        (130, 185, 255),
        (220, 160, 240),
        (120, 220, 228),
        (255, 255, 255),
    ],
)


def write_svg(console: Console, path: Path, title: str) -> None:
    """Write what a recording console printed as an SVG file; the same content gives the same bytes."""
    picture = console.export_svg(title=title, theme=_THEME, code_format=_FORMAT, unique_id="advisor")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(picture, encoding="utf-8")
