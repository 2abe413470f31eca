"""Log lines digested: shapes with counts, stack traces folded, starts and kills of the process.

A million lines become some hundred templates, so that "what is new since the onset" can be asked at all. Variable
parts are masked (``masking.py``), lines of one shape are one template (``mining.py``), blocks of lines are known again
by keys (``shapes.py``), stack traces are read (``traces.py``), all of it becomes one answer (``digest.py``), and
templates are ranked by what the onset changed (``moves.py``). Everything is bounded: a hostile log costs memory and
time like an ordinary one.

Does not open files, and does not know how time is written in them: ``adapters/log_files`` and its siblings hand over
an instant and the rest of the line. Everything kept goes through ``redact`` first, and what a user chose (quoted text,
queries, addresses, names) is masked in it.
"""

from __future__ import annotations

from advisor.evidence.log_templates.digest import LogDigest, Place
from advisor.evidence.log_templates.masking import (
    ANY,
    KEPT_CHARACTERS_MAX,
    OTHER,
    Redact,
    abstract,
    clean,
    keep,
    level_of,
    normal_level,
    status_at,
)
from advisor.evidence.log_templates.mining import TemplateMiner, utc
from advisor.evidence.log_templates.moves import TemplateMove, relevant_templates
from advisor.evidence.log_templates.shapes import line_keys, quotes_prose
from advisor.evidence.log_templates.traces import Trace, out_of_memory, parse_traces

__all__ = [
    "ANY",
    "KEPT_CHARACTERS_MAX",
    "OTHER",
    "LogDigest",
    "Place",
    "Redact",
    "TemplateMiner",
    "TemplateMove",
    "Trace",
    "abstract",
    "clean",
    "keep",
    "level_of",
    "line_keys",
    "normal_level",
    "out_of_memory",
    "parse_traces",
    "quotes_prose",
    "relevant_templates",
    "status_at",
    "utc",
]
