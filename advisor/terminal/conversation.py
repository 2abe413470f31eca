"""A chat answer in a terminal: steps as they run, words as they come, then the evidence, the records and the ways on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.text import Text

from advisor.terminal import safe, text
from advisor.terminal.words import heading

if TYPE_CHECKING:
    from advisor.chat import Plot, Said
    from advisor.model_port import ConversationEvent

_BARS = "▁▂▃▄▅▆▇█"
_BAR_COLUMNS = 60


class Listener:
    """Prints what happens while an answer is made."""

    def __init__(self, console: Console) -> None:
        """Keep the terminal."""
        self._console = console
        self.streamed = False
        self._open = False

    def hear(self, event: ConversationEvent) -> None:
        """Print one event."""
        if event.kind == "tool_begin":
            self.end()
            self._console.print(
                Text.assemble(("  … ", "dim"), (safe(event.tool, 60), "cyan"), f" {safe(event.text, 160)}")
            )
        elif event.kind == "text" and event.text:
            lines = event.text.split("\n")
            shown = "\n".join(safe(line, 4000) for line in lines)
            self._console.print(Text(shown), end="", soft_wrap=False)
            self._console.file.flush()
            self.streamed = self._open = True

    def end(self) -> None:
        """End the line that is being written."""
        if self._open:
            self._console.print()
            self._open = False


def draw_said(said: Said, streamed: bool) -> RenderableType:
    """Return what stands below an answer; with its text where that was not printed as it came."""
    parts: list[RenderableType] = []
    if not streamed:
        parts += [Text(safe(line, 4000)) for line in said.text.split("\n")]
    if said.note:
        parts.append(text(f"(answered by rules: {said.note})", "yellow", 400))
    parts += [draw_plot(plot) for plot in said.plots]
    for cited in said.evidence:
        if cited.summary in said.text:
            continue
        parts.append(Text.assemble((f"  {safe(cited.evidence, 12)} ", "cyan"), (safe(cited.summary, 240), "dim")))
    if said.status:
        parts.append(heading("By the records"))
        parts += [text(f"  {line}", "", 300) for line in said.status]
    for card in said.cards[:5]:
        parts.append(Text.assemble("  → ", (safe(card.id, 40), "bold cyan"), f"  {safe(card.text, 160)}"))
    return Group(*parts)


def draw_plot(plot: Plot) -> RenderableType:
    """Return a series as one line of bars."""
    values = [v for v in plot.values]
    width = max(1, -(-len(values) // _BAR_COLUMNS))
    columns = [[v for v in values[i : i + width] if v is not None] for i in range(0, len(values), width)]
    means = [sum(c) / len(c) if c else None for c in columns]
    known = [m for m in means if m is not None]
    if not known:
        return Text("")
    low, high = min(0.0, *known), max(known)
    spread = (high - low) or 1.0
    bars = "".join(" " if m is None else _BARS[min(7, int((m - low) / spread * 7.999))] for m in means)
    return Text.assemble((f"  {bars} ", "green"), (safe(plot.name, 120), "dim"))
