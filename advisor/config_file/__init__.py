"""Configuration files by key: values, their bytes, and edits that change nothing else.

A key is a dotted path. List items go by their ``name``, ``key`` or ``id`` where they have one, else by
position; a name with a dot is quoted; what is inside a value follows it:

```
server.servlet.session.timeout
spec.template.spec.containers[checkout].env[JAVA_OPTS].value
spec.template.spec.containers[checkout].env[JAVA_OPTS].value:-Xmx
spec.template.spec.containers[checkout].args:-XX:MaxRAMPercentage
data["application.yaml"].server.servlet.session.timeout
data["application.yaml"]#prod.server.port          a later document, by profile or number
:-XX:+UseG1GC                                      in jvm.options; true or false
FROM   ENV[JAVA_OPTS]   ENV[JAVA_OPTS]:-Xss        in a Dockerfile, each stage a document
mysqld.max_connections   program[web].numprocs     in INI files
http.server.location[/api].proxy_read_timeout      in nginx.conf; blocks by what they are called
backend[app].server[web1].maxconn                  in haproxy.cfg
Service.Environment[JAVA_OPTS]:-Xmx                in a systemd unit
Server.Service.Connector[0].maxThreads             in XML: attributes and text alike
spec.replicas#1   spec.replicas#2                  in two branches of a template, where none counts for certain
```

Pure functions on bytes, called by the key-level differences and by whatever builds a proposal. Of templates
only what is plain before they are rendered; values they make are shown as written. Includes are not followed. Not
read: anything above 1 MiB, formats that are not in `ConfigFile.format`.
"""

from __future__ import annotations

from advisor.config_file.editing import insert_key, remove_key, set_value
from advisor.config_file.images import image_tag
from advisor.config_file.jvm_flags import find_flags
from advisor.config_file.matching import match_documents
from advisor.config_file.reading import read_entries
from advisor.config_file.records import ConfigFile, Entry
from advisor.config_file.reverting import revert_keys
from advisor.config_file.scalars import plain_type

__all__ = [
    "ConfigFile",
    "Entry",
    "find_flags",
    "image_tag",
    "insert_key",
    "match_documents",
    "plain_type",
    "read_entries",
    "remove_key",
    "revert_keys",
    "set_value",
]
