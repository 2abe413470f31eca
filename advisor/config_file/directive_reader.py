"""One directive on a line, ``name value``, to entries: redis, sshd, HAProxy, Apache, and what is written like them.

What tells these programs apart is what begins a section, which names may stand several times, and which of two values
counts: a table says it for each. Keys say the section and, for directives that name something, the name:
``backend[app].server[web1]``, ``VirtualHost[*:80].ProxyPass[/api]``, ``client-output-buffer-limit[pubsub]``. Includes are
not followed. Called by `reading`.

Source: redis.conf as shipped; ``sshd_config(5)``; HAProxy Configuration Manual 2.8, chapters 2 to 5; Apache HTTP Server
documentation, "Configuration Files"; Fluentd documentation, "Config File Syntax".
"""

from __future__ import annotations

import re
from typing import NamedTuple

from advisor.config_file.block_reader import WORDS_MAX, Word, add_words
from advisor.config_file.line_readers import Collected, Lines, Region
from advisor.config_file.records import (
    ENTRIES_MAX,
    KEY_CHARACTERS_MAX,
    NESTING_MAX,
    Entry,
    Unreadable,
    child_key,
    item_part,
)

_SKIPPED = re.compile(r"(?:[ \t\f]*+(?:#[^\r\n]*+)?(?:\r\n|\r|\n))*+")
_LINE = re.compile(r"[^\r\n\\]*+(?:\\(?:\r\n|.|\n)?[^\r\n\\]*+)*+(?:\r\n|\r|\n|\Z)", re.S)
_PLAIN_LINE = re.compile(r"[^\r\n]*+(?:\r\n|\r|\n|\Z)")
_TOKEN = re.compile(r"\"(?>[^\"\\\r\n]++|\\.)*+\"(?=\s|\Z)|'[^'\r\n]*+'(?=\s|\Z)|(?>\\.|[^\s\\])++|\\", re.S)
_GAP = re.compile(r"[ \t]*+(?:\\(?:\r\n|\r|\n)[ \t]*+)*+")
_TAG = re.compile(r"<(/?)([A-Za-z_][\w.\-]*+)")
_DIRECTIVE_NAME = re.compile(r"[@\-]{0,2}[A-Za-z_][\w.\-:]*+\Z")
_HAPROXY_PAIRS = frozenset(
    "maxconn minconn weight inter fastinter downinter rise fall maxqueue slowstart pool-max-conn pool-purge-delay"
    " size expire nbthread backlog maxconnrate password insecure-password".split()
)
_HEADERS = frozenset("header requestheader http-request http-response http-after-response".split())
_HEADER_ACTIONS = frozenset(
    "set add append merge unset edit edit* setifempty set-header add-header del-header replace-header replace-value".split()
)
_ACL_SECRETS = (">", "<", "#", "!")  # of a redis user: a password, or its hash


class Dialect(NamedTuple):
    """How one program reads its file.

    Attributes:
        sections: Words that begin a section which ends at the next one.
        tags: Whether ``<Name …>`` and ``</Name>`` hold others.
        named: Directives that stand once for each first argument.
        lists: Directives of which each more is one more.
        grouped: Directives whose first argument is part of their name (``timeout server 30s``).
        pairs: Words that are followed by their value (``maxconn 30``).
        first_wins: Whether of a repeated directive the first one counts.
        equals: Whether ``name=value`` is one too.
        continues: Whether a line that ends in a backslash goes on.
        acl: Whether ``user`` lines hold passwords as words of their own (redis).
        inline: Whether `` #`` begins a comment behind a value.
    """

    sections: frozenset[str] = frozenset()
    tags: bool = False
    named: frozenset[str] = frozenset()
    lists: frozenset[str] = frozenset()
    grouped: frozenset[str] = frozenset()
    pairs: frozenset[str] = frozenset()
    first_wins: bool = False
    equals: bool = False
    continues: bool = False
    inline: bool = False
    acl: bool = False


def _words(text: str) -> frozenset[str]:
    return frozenset(text.lower().split())


_DIALECTS = {
    "haproxy": Dialect(
        sections=_words(
            "global defaults frontend backend listen peers resolvers userlist mailers cache program http-errors ring"
            " log-forward fcgi-app crt-store traces"
        ),
        named=_words(
            "server server-template acl errorfile errorloc nameserver peer user group use-server setenv filter"
        ),
        lists=_words(
            "bind use_backend http-request http-response http-after-response http-check tcp-request tcp-response"
            " tcp-check log redirect stick capture option-list"
        ),
        grouped=_words("timeout option stats tune.ssl hold cookie-options"),
        pairs=_HAPROXY_PAIRS,
        inline=True,
    ),
    "apache": Dialect(
        tags=True,
        named=_words(
            "LoadModule SetEnv ProxyPass ProxyPassReverse ProxySet Alias ScriptAlias ErrorDocument AddType AddHandler"
            " LogFormat SetEnvIf Define php_value php_admin_value php_flag php_admin_flag AddOutputFilterByType"
        ),
        lists=_words(
            "Listen Require RewriteRule RewriteCond Include IncludeOptional Redirect RedirectMatch Header RequestHeader"
            " CustomLog BalancerMember ServerAlias Order Allow Deny"
        ),
        continues=True,
    ),
    "fluentd": Dialect(tags=True, inline=True, lists=_words("@include")),
    "sshd": Dialect(
        sections=_words("Match Host"),
        lists=_words(
            "Port ListenAddress HostKey AcceptEnv AllowUsers DenyUsers AllowGroups DenyGroups Subsystem Include SetEnv"
            " IdentityFile SendEnv"
        ),
        first_wins=True,
        equals=True,
        inline=True,
    ),
    "redis": Dialect(
        named=_words("client-output-buffer-limit rename-command user"),
        lists=_words("save include loadmodule aclfile"),
        acl=True,
    ),
    "lines": Dialect(
        lists=_words(
            "nameserver server pool listener bridge acl http_access include refresh_pattern allow deny topic peer"
            " connection keyfile options cache_peer port"
        ),
        inline=True,
    ),
}


def read_directives(text: str, dialect_name: str) -> Lines:
    """Return the entries of a text of directives, one on a line.

    Args:
        text: Without byte order mark.
        dialect_name: ``haproxy``, ``apache``, ``fluentd``, ``sshd``, ``redis``, or ``lines`` for any other.

    Raises:
        Unreadable: A line is no directive, sections do not close, or a bound is passed.
    """
    reader = _Reader(text, _DIALECTS[dialect_name])
    reader.read()
    return reader.found.lines([""])


class _Reader:
    def __init__(self, text: str, dialect: Dialect) -> None:
        self.text = text
        self.dialect = dialect
        self.found = Collected()
        self.counts: dict[str, int] = {}
        self.open: list[tuple[str, str, int]] = []  # tag, key, how many directives came before it
        self.prefix = ""
        self.section_at: tuple[str, Region] | None = None
        self.directives = 0

    def read(self) -> None:
        text, at = self.text, 0
        pattern = _LINE if self.dialect.continues else _PLAIN_LINE
        while at < len(text):
            skipped = _SKIPPED.match(text, at)
            at = skipped.end() if skipped else at
            line = pattern.match(text, at)
            if line is None or line.end() == at:
                break
            end = line.end()
            body = text[at:end].strip()
            if body and body[0] != "#":
                self.directives += 1
                if self.directives > ENTRIES_MAX:
                    raise Unreadable(f"more than {ENTRIES_MAX} keys", at)
                if self.dialect.tags and body[0] == "<":
                    self.tag(body, (at, end))
                else:
                    self.line(at, end)
            at = end
        if self.open:
            raise Unreadable(f"<{self.open[-1][0]}> does not end", len(text))
        self.close_section()

    def tag(self, body: str, region: Region) -> None:
        tag = _TAG.match(body)
        if tag is None or body[-1] != ">":
            raise Unreadable("not a section <Name …> or </Name>", region[0])
        if tag[1]:
            if not self.open or self.open[-1][0].lower() != tag[2].lower():
                raise Unreadable(f"</{tag[2][:60]}> closes nothing", region[0])
            _, key, before = self.open.pop()
            if before == self.directives - 1:
                self.found.add(Entry(0, key, "{}", None, None, "section", "directive"), None, region[0])
            self.prefix = self.open[-1][1] if self.open else ""
            return
        title = body[tag.end() : -1].strip()
        if len(title) > 2 and title[0] == title[-1] == '"' and '"' not in title[1:-1]:
            title = title[1:-1]
        key = child_key(self.prefix, tag[2]) + (item_part(title) if title else "")
        key = self.numbered(key)
        self.open.append((tag[2], key, self.directives))
        if len(self.open) > NESTING_MAX or len(key) > KEY_CHARACTERS_MAX:
            raise Unreadable(f"nested deeper than {NESTING_MAX} levels, or a key too long", region[0])
        self.prefix = key

    def numbered(self, key: str) -> str:
        number = self.counts[key] = self.counts.get(key, 0) + 1
        return key if number == 1 else f"{key}#{number}"

    def close_section(self) -> None:
        """Say that a section was empty, as it may still mean something."""
        if self.section_at is not None:
            key, region = self.section_at
            self.found.add(Entry(0, key, "{}", None, None, "section", "directive"), region)
            self.section_at = None

    def line(self, at: int, end: int) -> None:
        dialect = self.dialect
        words = self.split(at, end)
        name = words[0].text
        called = name.lower()  # most of these programs do not care
        region = (at, end)
        if called in dialect.sections:
            self.close_section()
            title = " ".join(w.text for w in words[1:])
            self.prefix = self.numbered(name + (item_part(title) if title else ""))
            self.section_at = (self.prefix, region)
            return
        if not _DIRECTIVE_NAME.match(name):
            raise Unreadable("not a directive: name and value", at)
        self.section_at = None
        words = words[1:]
        if name == "no" and words and dialect.grouped:
            key = ".".join([child_key(self.prefix, words[0].text), *(w.text for w in words[1:])])
            self.add(Entry(0, self.numbered(key), "no", None, None, "negated", "directive"), region, at)
            return
        key = child_key(self.prefix, name)
        if called == "sentinel" and len(words) > 2:  # sentinel <setting> <master> <value>
            key = child_key(key + item_part(words[1].text or '""'), words[0].text)
            words = words[2:]
        elif called in dialect.grouped and words:
            key = child_key(key, words[0].text)
            words = words[1:]
            if key.endswith("stats.auth") and len(words) == 1 and ":" in words[0].text:
                key, words = self.login(key, words[0])
        elif called in _HEADERS:
            headed = self.header(key, words)
            if headed is not None:
                self.directive(*headed, region, at)
                return
        if called in dialect.named and words:
            key = self.numbered(key + item_part(words[0].text or '""'))
            words = words[1:]
        elif called in dialect.lists:
            number = self.counts[key] = self.counts.get(key, -1) + 1
            key = f"{key}[{number}]"
        elif dialect.first_wins and (0, key) in self.found.entries:
            return
        self.directive(key, words, region, at)

    def login(self, key: str, word: Word) -> tuple[str, list[Word]]:
        """Return ``user:password`` as a key that says what the value is, for whoever hides secrets by their keys."""
        user = word.text.partition(":")[0]
        shift = word.end - len(word.text) - (1 if word.style in ("single", "double") else 0) + len(user) + 1
        secret = Word(word.text[len(user) + 1 :], shift, shift + len(word.text) - len(user) - 1, "word")
        return f"{key}{item_part(user)}.password", [secret]

    def header(self, key: str, words: list[Word]) -> tuple[str, list[Word]] | None:
        """Return a directive that sets a header as a key with the header's name; None: it sets none."""
        number = next((i for i, w in enumerate(words[:3]) if w.text.lower() in _HEADER_ACTIONS), None)
        if number is None or number + 1 >= len(words):
            return None
        for word in words[: number + 1]:
            key = child_key(key, word.text)
        return self.numbered(key + item_part(words[number + 1].text or '""')), words[number + 2 :]

    def add(self, entry: Entry, region: Region, at: int) -> None:
        self.found.add(entry, region, at)

    def directive(self, key: str, words: list[Word], region: Region, at: int) -> None:
        split = len(words) > 2 or key.endswith("]")
        if self.dialect.acl:
            split = key.startswith("user[")
        pairs, rest = self.paired(words) if split else ({}, words)
        if not pairs:
            add_words(self.found, self.text, key, rest, region, "directive", at)
            return
        text = self.text
        value = " ".join(text[w.start : w.end] for w in rest)
        single = rest[0] if len(rest) == 1 else None
        start, end = (single.start, single.end) if single else (None, None)
        style = single.style if single else "split" if rest else "bare"
        self.found.add(Entry(0, key, single.text if single else value, start, end, style, "directive"), None, at)
        for name, word in pairs.items():
            entry = Entry(0, f"{key}.{name}", word.text, word.start, word.end, word.style, "directive")
            self.found.add(entry, None, at)

    def paired(self, words: list[Word]) -> tuple[dict[str, Word], list[Word]]:
        """Return options written ``name value``, and the words that are none."""
        pairs: dict[str, Word] = {}
        rest: list[Word] = []
        i = 0
        while i < len(words):
            word = words[i]
            if self.dialect.acl and word.text[:1] in _ACL_SECRETS and len(word.text) > 1:
                name = f"password[{sum(1 for p in pairs if p.startswith('password'))}]"
                pairs[name] = Word(word.text[1:], word.start + 1, word.end, "word")
                i += 1
            elif word.text in self.dialect.pairs and word.text not in pairs and i + 1 < len(words):
                pairs[word.text] = words[i + 1]
                i += 2
            else:
                rest.append(word)
                i += 1
        return pairs, rest

    def split(self, at: int, end: int) -> list[Word]:
        text, first = self.text, at
        stop = at + len(text[at:end].rstrip())
        found: list[Word] = []
        while True:
            gap = _GAP.match(text, at, stop)
            at = gap.end() if gap else at
            if at >= stop:
                break
            token = _TOKEN.match(text, at, stop)
            if token is None:
                at += 1  # a stray line break character such as U+2028, which str.strip leaves inside
                continue
            raw = token.group()
            if raw[0] == "#" and self.dialect.inline and found:
                break
            quoted = len(raw) > 1 and raw[0] in "\"'" and raw[-1] == raw[0]
            style = ("double" if raw[0] == '"' else "single") if quoted else "plain"
            found.append(Word(raw[1:-1] if quoted else raw, at, token.end(), style))
            at = token.end()
            if len(found) > WORDS_MAX:
                raise Unreadable(f"a directive of more than {WORDS_MAX} words", first)
        if self.dialect.equals and len(found) == 1 and "=" in found[0].text and found[0].style == "plain":
            name, _, value = found[0].text.partition("=")
            start = first + text[first:stop].index("=") + 1
            found = [Word(name, found[0].start, start - 1, "plain"), Word(value, start, start + len(value), "plain")]
        if not found:
            raise Unreadable("not a directive", first)
        return found
