"""Which format a file is written in: by its name, and by its content where names such as ``app.conf`` say nothing.

Content is judged by most lines, not by all: one odd line makes a file malformed, not a file of another kind, because two
versions of one file have to be read alike. Called by `reading`, and by what asks whether a file is read by key at all.
"""

from __future__ import annotations

import re

from advisor.config_file.json_reader import read_json
from advisor.config_file.records import Unreadable
from advisor.config_file.template_reader import TEMPLATE_SUFFIX

_SAMPLE_CHARACTERS = 64 << 10  # enough to know a format by
_SAMPLE_LINES = 400
_FITTING = 0.8  # share of lines that have to look like the format
_MANIFEST = re.compile(r"^apiVersion:", re.M)
_KIND = re.compile(r"^kind:", re.M)
_UNIT = re.compile(r"(?:[ \t]*+(?:[#;][^\r\n]*+)?(?:\r\n|\r|\n))*+[ \t]*+\[[A-Z][\w\-]*+\]")
_UNITS = r"service|socket|timer|mount|automount|swap|slice|target|path|scope|network|netdev|container|pod"

_FORMATS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
        (r"^pg_(?:hba|ident)\.conf\Z", "text"),
        (r"\.ya?ml\Z|^mongo[ds]\.conf\Z", "yaml"),
        (r"\.json\Z", "json"),
        (r"\.(?:hcl|nomad|tf|tfvars)\Z", "hcl"),
        (r"\.toml\Z|^(?:telegraf|influxdb)\.conf\Z", "toml"),
        (r"\.properties\Z", "properties"),
        (r"(?:^|\.)env(?:\.[\w-]+)*\Z|^env\.\w+\Z", "env"),
        (r"^[\w.-]*env\.sh\Z", "shell"),
        (r"^(?:[\w.-]*jvm[\w.-]*|java)\.options\Z|\.vmoptions\Z|^jvm\.config\Z", "jvm_options"),
        (r"^(?:docker|container)file(?:\.[\w.-]+)?\Z|\.(?:docker|container)file\Z", "dockerfile"),
        (r"^(?:nginx|openresty|tengine)[\w.-]*\.conf\Z|\.nginx\Z", "nginx"),
        (r"^haproxy[\w.-]*\.(?:cfg|conf)\Z", "haproxy"),
        (r"^(?:httpd|apache2?)[\w.-]*\.conf\Z|^\.htaccess\Z", "apache"),
        (r"^(?:fluentd?|td-agent)\.conf\Z", "fluentd"),
        (r"^(?:redis|valkey|keydb|kvrocks|sentinel)[\w.-]*\.conf\Z", "redis"),
        (r"^sshd?_config\Z", "sshd"),
        (r"^caddyfile(?:\.[\w-]+)?\Z|^keepalived\.conf\Z|^logrotate\.conf\Z", "blocks"),
        (r"^(?:mosquitto|chrony|ntp|squid|resolv|memcached|nslcd|unbound-control)\.conf\Z", "lines"),
        (r"\.xml\Z|^(?:web|app)(?:\.[\w-]+)?\.config\Z|\.exe\.config\Z", "xml"),
        (r"\.(?:ini|cnf|cfg)\Z|^\.(?:gitconfig|editorconfig|my\.cnf|pgpass)\Z", "ini"),
        (
            r"^(?:postgresql|recovery|supervisord?|php-fpm|pgbouncer|sysctl|rabbitmq|dnsmasq|fluent-bit)[\w.-]*\.conf\Z",
            "ini",
        ),
        (r"^(?:vsftpd|wg\d+|journald|pgpool)\.conf\Z", "ini"),
    )
)
# Folders whose files are called anything.
_FOLDERS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
        (r"jvm\.options\.d/[^/]*\.options\Z", "jvm_options"),
        (rf"\.(?:{_UNITS})\.d/[^/]+\.conf\Z|(?:^|/)systemd/(?:[^/]+/)*[^/]+\.conf\Z", "systemd"),
        (r"(?:^|/)nginx/(?:[^/]+/)*(?:[^/]+\.conf|[^/.]+)\Z", "nginx"),
        (r"(?:^|/)(?:apache2?|httpd)/(?:[^/]+/)*[^/]+\.conf\Z", "apache"),
        (r"(?:^|/)haproxy/(?:[^/]+/)*[^/]+\.cfg\Z", "haproxy"),
        (r"(?:^|/)(?:redis|valkey)/(?:[^/]+/)*[^/]+\.conf\Z", "redis"),
        (r"(?:^|/)sshd?_config\.d/[^/]+\.conf\Z", "sshd"),
        (
            r"(?:^|/)sysctl\.d/[^/]+\.conf\Z|(?:^|/)(?:postgres|postgresql|php-fpm\.d|supervisor)/(?:[^/]+/)*[^/]+\.conf\Z",
            "ini",
        ),
    )
)
_UNIT_NAME = re.compile(rf"\.(?:{_UNITS})\Z")
_OPEN_NAME = re.compile(r"\.(?:conf|config|cfg|cnf|ini|txt)\Z")  # JSON and manifests are kept under these too

_SIGNIFICANT = re.compile(r"^[ \t]*+([^\s#;][^\r\n]*)", re.M)
_SECTION = re.compile(r"\[[^\]\r\n]+\]\s*(?:[#;].*)?\Z")
_ASSIGNED = re.compile(r"[A-Za-z_][\w.\-]*+(?:\[[\w.\-]*\])?[ \t]*+=")
_STATEMENT = re.compile(r"(?:[^{}#]*+\{[ \t]*+)?+[\w\-]++[ \t]++[^={};][^{};]*+;")
_TAG = re.compile(r"</?(?:VirtualHost|IfModule|IfDefine|IfVersion|Directory|DirectoryMatch|Location|LocationMatch|Files|"
                  r"FilesMatch|Proxy|ProxyMatch|Limit|LimitExcept|Macro|If|Else|ElseIf|RequireAll|RequireAny)\b", re.I)  # fmt: skip
_FLUENT = re.compile(r"</?(?:source|match|filter|system|label|buffer|parse|store|format|inject|worker)\b")
_HAPROXY = re.compile(r"(?:global|defaults|frontend|backend|listen)(?:[ \t]+[\w.\-]+)?\s*\Z")
_XML = re.compile(r"\s*+<(?:\?xml\b|!DOCTYPE\b|!--|[A-Za-z_][\w.:\-]*+[\s>/])")


def detect(path: str, text: str = "") -> str:
    """Return the format of a file; ``text`` if its keys are not read.

    Args:
        path: Its path in the repository.
        text: What it holds. Without it only names that say enough have a format.
    """
    path = TEMPLATE_SUFFIX.sub("", path.lower())
    name = path.rsplit("/", 1)[-1]
    if text and ("." not in name or _OPEN_NAME.search(name)):
        if _MANIFEST.search(text) and _KIND.search(text):
            return "yaml"
        if text.lstrip()[:1] == "{" and _reads_as_json(text):
            return "json"
    for pattern, found in _FORMATS:
        if pattern.search(name):
            return found
    if _UNIT_NAME.search(name):
        return "systemd" if not text or _UNIT.match(text) else "text"
    for pattern, found in _FOLDERS:
        if pattern.search(path):
            return found
    if name.endswith((".conf", ".config")):
        return _by_content(text[:_SAMPLE_CHARACTERS], name.endswith(".config"))
    return "text"


def _reads_as_json(text: str) -> bool:
    try:
        read_json(text)
    except Unreadable:
        return False
    return True


def _is_braced(line: str) -> bool:
    return line.partition(" #")[0].rstrip()[-1:] in (";", "{", "}") and not _ASSIGNED.match(line)


def _by_content(text: str, may_be_xml: bool) -> str:
    lines = []
    for match in _SIGNIFICANT.finditer(text):
        lines.append(match[1].rstrip())
        if len(lines) >= _SAMPLE_LINES:
            break
    if not lines:
        return "text"
    if _XML.match(text) and (may_be_xml or text.lstrip().startswith(("<?xml", "<!"))):
        return "xml"
    fitting = _FITTING * len(lines)
    if any(_TAG.match(line) for line in lines):
        return "apache"
    if sum(1 for line in lines if _FLUENT.match(line)) >= 2:
        return "fluentd"
    if sum(1 for line in lines if _HAPROXY.match(line)) >= 2:
        return "haproxy"
    braced = sum(1 for line in lines if _is_braced(line))
    if braced >= fitting and any(_STATEMENT.match(line) for line in lines):
        return "nginx"
    if sum(1 for line in lines if _SECTION.match(line) or _ASSIGNED.match(line)) >= fitting:
        unit = bool(_UNIT.match(text)) and any(line in ("[Unit]", "[Service]") for line in lines)
        return "systemd" if unit else "ini" if not any(line.endswith("{") for line in lines) else "text"
    return "text"
