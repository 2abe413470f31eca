"""Hostile repositories: sixty and more, each a small script, and a driver that takes the product through every one.

`build_all` writes them with plain file operations (objects, refs and configuration by hand, so that no git refuses what git
would refuse). The driver (``python -m tests.support.hostile FOLDER``) reads the history of each, proposes, approves,
delivers and rolls back, and prints one JSON line for each; it is a process of its own so that all it runs can be traced.
Nothing here asserts: `test_hostile_repositories` does.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import sys
import time
import traceback
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

PATH = "apps/checkout/application.yaml"
KEY = "server.servlet.session.timeout"
GOOD = b"# checkout\nserver:\n  servlet:\n    session:\n      timeout: 30m  # agreed with the shop\n  port: 8080\n"
BAD = GOOD.replace(b"30m", b"24h")
ALICE = "alice@example.org"
DONE = "rolled back"
HOOKS = (
    "applypatch-msg pre-applypatch post-applypatch pre-commit pre-merge-commit prepare-commit-msg commit-msg post-commit"
    " pre-rebase post-checkout post-merge pre-push pre-receive update proc-receive post-receive post-update"
    " reference-transaction push-to-checkout pre-auto-gc post-rewrite sendemail-validate fsmonitor-watchman"
    " post-index-change"
).split()
PROGRAM_KEYS = (
    "core.fsmonitor core.sshCommand core.pager core.editor core.askPass core.gitProxy diff.external diff.evil.textconv"
    " diff.evil.command filter.evil.clean filter.evil.smudge filter.evil.process merge.evil.driver gpg.program"
    " gpg.ssh.program credential.helper sequence.editor uploadpack.packObjectsHook uploadarchive.packObjectsHook"
    " interactive.diffFilter web.browser man.evil.cmd difftool.evil.cmd mergetool.evil.cmd alias.push alias.fetch"
    " remote.origin.uploadpack remote.origin.receivepack trailer.evil.command sendemail.smtpServer"
).split()

Files = dict[bytes, Any]  # name -> bytes (a file), Files (a folder), Special


@dataclass(frozen=True)
class Special:
    """An entry that is no plain file, or an object that is there already."""

    mode: bytes
    content: bytes = b""  # of a blob; or
    id: str = ""


def link(target: bytes) -> Special:
    return Special(b"120000", target)


def module(commit: str = "1" * 40) -> Special:
    return Special(b"160000", id=commit)


def plain(**changes: Any) -> Files:
    """Return the usual tree with the fault in it; ``checkout`` and ``top`` are merged into its folders."""
    tree: Files = {
        b"apps": {
            b"checkout": {b"application.yaml": BAD, **changes.get("checkout", {})},
            b"payments": {b"application.yaml": b"a: 1\n"},
        },
        **changes.get("top", {}),
    }
    return tree


@dataclass
class Scene:
    """One hostile repository, all around it that must not change, and what is to become of it."""

    folder: Path
    ends: str = DONE  # `rolled back`, or the stage and the error's class
    words: str = ""  # that must stand in the message
    action: dict[str, Any] = field(default_factory=dict)
    moves: dict[str, str] = field(default_factory=dict)  # stage -> commit that somebody moves the branch to before it
    environment: dict[str, str] = field(default_factory=dict)
    repository: dict[str, Any] = field(default_factory=dict)
    planted: dict[str, str] = field(default_factory=dict)  # file in our own clone -> content, after the first reading
    guilty: str = ""
    head: str = ""
    clock: int = 0

    @property
    def remote(self) -> Path:
        return self.folder / "remote.git"

    @property
    def outside(self) -> Path:
        return self.folder / "outside"

    def begin(self) -> None:
        """Make an empty bare repository and what lies around it."""
        for name in ("objects/info", "objects/pack", "refs/heads", "refs/tags", "info", "hooks"):
            (self.remote / name).mkdir(parents=True)
        (self.remote / "HEAD").write_text("ref: refs/heads/main\n")
        (self.remote / "config").write_text("[core]\n\trepositoryformatversion = 0\n\tbare = true\n")
        for name in ("outside", "home", "tmp", "programs"):
            (self.folder / name).mkdir()
        (self.outside / "application.yaml").write_bytes(BAD)
        (self.outside / "secret").write_text("nobody's business\n")
        self.clock = int(time.time()) - 7200

    def object(self, kind: bytes, content: bytes) -> str:
        whole = kind + b" %d\0" % len(content) + content
        name = hashlib.sha1(whole).hexdigest()
        path = self.remote / "objects" / name[:2] / name[2:]
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(zlib.compress(whole, 1))
        return name

    def tree(self, files: Files) -> str:
        rows: list[tuple[bytes, bytes, str]] = []
        for name, what in files.items():
            if isinstance(what, dict):
                rows.append((b"40000", name, self.tree(what)))
            elif isinstance(what, Special):
                rows.append((what.mode, name, what.id or self.object(b"blob", what.content)))
            else:
                rows.append((b"100644", name, self.object(b"blob", what)))
        return self.raw_tree(sorted(rows, key=lambda row: row[1] + b"/" * (row[0] == b"40000")))

    def raw_tree(self, rows: list[tuple[bytes, bytes, str]]) -> str:
        return self.object(b"tree", b"".join(m + b" " + n + b"\0" + bytes.fromhex(i) for m, n, i in rows))

    def commit(
        self, files: Files | str, message: bytes = b"Edit\n", who: bytes = b"Dev <dev@example.org>", **more: Any
    ) -> str:
        """Put a commit onto main and return it; ``files`` may be the id of a tree."""
        tree = files if isinstance(files, str) else self.tree(files)
        self.clock += 60
        parents = [*([self.head] if self.head else []), *more.get("parents", ())]
        lines = [b"tree " + tree.encode(), *(b"parent " + p.encode() for p in parents)]
        when = more.get("when", b"%d +0000" % self.clock)
        lines += [b"author " + who + b" " + when, b"committer " + who + b" " + when, *more.get("headers", ())]
        made = self.object(b"commit", b"\n".join(lines) + b"\n\n" + message)
        if more.get("move", True):
            self.head = made
            self.ref("refs/heads/main", made)
        return made

    def ref(self, name: str, value: str) -> None:
        path = self.remote / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")

    def history(self, before: Files | None = None, after: Files | None = None, message: bytes = b"Longer\n") -> None:
        """Make the usual history: a good commit, and the guilty one."""
        good = plain()
        good[b"apps"][b"checkout"][b"application.yaml"] = GOOD
        self.commit(before if before is not None else good, b"Add checkout\n")
        self.guilty = self.commit(after if after is not None else plain(), message)

    def program(self, name: str) -> str:
        path = self.folder / "programs" / name
        path.write_text(f"#!/bin/sh\necho {name} >> '{self.folder}/canary'\ncat\n")
        path.chmod(0o755)
        return str(path)

    def configure(self, key: str, value: str, file: str = "config") -> None:
        section, _, rest = key.partition(".")
        subsection, _, name = rest.rpartition(".")
        head = f'[{section} "{subsection}"]' if subsection else f"[{section}]"
        with (self.remote / file).open("a") as out:
            out.write(f'{head}\n\t{name or rest} = "{value}"\n')

    def hook(self, folder: Path, name: str, others: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / name
        path.write_text(f"#!/bin/sh\necho hook {name} >> '{self.folder}/canary'\n")
        path.chmod(0o777 if others else 0o755)

    def refused(self, stage: str, error: str, words: str) -> None:
        self.ends, self.words = f"{stage} {error}", words

    def told(self) -> dict[str, Any]:
        skip = ("folder", "clock")
        return {name: value for name, value in vars(self).items() if name not in skip}


Build = Callable[[Scene], None]
SCENES: dict[str, Build] = {}


def scene(build: Build) -> Build:
    SCENES[build.__name__] = build
    return build


def named(name: str, build: Build) -> None:
    SCENES[name] = build


REVERT = {"type": "revert_commit"}


def setting(path: str, key: str = KEY, value: str = "45m") -> dict[str, Any]:
    return {"type": "set_value", "path": path, "keys": [key], "values": [value]}


# --- links -------------------------------------------------------------------------------------------------------------


@scene
def link_where_the_file_was(s: Scene) -> None:
    s.history()
    s.commit(plain(checkout={b"application.yaml": link(b"../../../outside/application.yaml")}))
    s.refused("propose", "SourceRefused", "symbolic link")


@scene
def link_in_place_of_the_folder(s: Scene) -> None:
    s.history()
    s.commit({b"apps": {b"checkout": link(b"../../outside")}})
    s.refused("propose", "ChangeRefused", "removed since")


@scene
def link_in_place_of_the_top_folder(s: Scene) -> None:
    s.history()
    s.commit({b"apps": link(str(s.folder).encode())})
    s.action = setting(PATH)
    s.refused("propose", "ChangeRefused", "does not exist")


@scene
def links_beside_the_file(s: Scene) -> None:
    beside = {b"a": link(b"b"), b"b": link(b"a"), b"c.yaml": link(b"/etc/passwd"), b"d": link(b"."), b"e": link(b"")}
    s.history()
    s.commit(plain(checkout=beside))


@scene
def link_that_appears_between_proposal_and_delivery(s: Scene) -> None:
    s.history()
    bad = plain(checkout={b"application.yaml": link(b"../../../outside/application.yaml")})
    s.moves = {"approve": s.commit(bad, move=False)}
    s.refused("approve", "ChangeConflict", "moved")


@scene
def folder_becomes_a_link_before_the_rollback(s: Scene) -> None:
    s.history()
    s.moves = {"rollback": "tree:" + s.tree({b"apps": {b"checkout": link(b"../../outside")}})}
    s.refused("rollback", "ChangeCollision", PATH)


@scene
def link_in_the_guilty_commit(s: Scene) -> None:
    s.history(after=plain(checkout={b"evil.yaml": link(b"/etc/passwd")}))
    s.action = REVERT
    s.refused("propose", "ChangeRefused", "symbolic link")


@scene
def file_that_becomes_executable(s: Scene) -> None:
    s.history(after=plain(checkout={b"application.yaml": Special(b"100755", BAD)}))
    s.action = REVERT
    s.refused("propose", "ChangeRefused", "changes its mode")


# --- git's own names -----------------------------------------------------------------------------------------------------

for _name, _entry in {
    "folder_dot_git": b".git",
    "folder_dot_GIT": b".GIT",
    "folder_git_tilde_1": b"git~1",
    "folder_dot_git_with_a_zero_width_joiner": ".g\u200cit".encode(),
}.items():

    def _beside(s: Scene, entry: bytes = _entry) -> None:
        s.history()
        s.commit(plain(checkout={entry: {b"config": b"[core]\n\tfsmonitor = /bin/false\n", b"hooks": {b"x": b"x"}}}))
        s.refused("propose", "ChangeRefused", "holds an entry named")

    named(_name, _beside)

for _name, _entry in {
    "touched_attributes": b".gitattributes",
    "touched_modules": b".gitmodules",
    "touched_ignore_in_capitals": b".GitIgnore",
    "touched_modules_by_its_short_name": b"GI7EBA~1",
    "touched_attributes_with_a_hidden_letter": ".git\u200dattributes".encode(),
    "touched_attributes_in_full_width": "．gitattributes".encode(),
    "touched_workflow_of_a_forge": b".github",
}.items():

    def _touched(s: Scene, entry: bytes = _entry) -> None:
        inside: Any = b"* filter=evil\n" if entry != b".github" else {b"workflows": {b"ci.yaml": b"on: push\n"}}
        s.history(after=plain(checkout={entry: inside}))
        s.action = REVERT
        s.refused("propose", "ChangeRefused", "not written")

    named(_name, _touched)


@scene
def attributes_with_every_program(s: Scene) -> None:
    words = b"filter=evil diff=evil merge=evil ident export-subst text eol=crlf working-tree-encoding=UTF-16 -delta"
    attributes = b"[attr]evil filter=evil\n* " + words + b"\n*.yaml " + words + b"\n"
    s.history(message=b"$Format:%H$ $Id$\n")
    s.commit(plain(top={b".gitattributes": attributes}, checkout={b".gitattributes": attributes}))
    for key in PROGRAM_KEYS:
        s.configure(key, s.program(key))
    for key in ("filter.evil.required", "log.showSignature", "commit.gpgSign", "push.gpgSign"):
        s.configure(key, "true")
    (s.remote / "info" / "attributes").write_bytes(attributes)


@scene
def ignore_mailmap_and_lfs(s: Scene) -> None:
    s.history()
    lfs = b"version https://git-lfs.example.org/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n"
    top = {
        b".gitignore": b"*\n",
        b".mailmap": b"Admin <alice@example.org> <dev@example.org>\n",
        b".lfsconfig": b"[lfs]\n",
    }
    s.commit(plain(top=top, checkout={b"big.yaml": lfs}))


# --- submodules --------------------------------------------------------------------------------------------------------


@scene
def modules_with_commands_for_urls(s: Scene) -> None:
    text = b""
    for number, url in enumerate([b"ext::sh -c touch%% x", b"-u./payload", b"--upload-pack=touch x", b"../../outside"]):
        text += b'[submodule "m%d"]\n\tpath = m%d\n\turl = %s\n\tupdate = !touch x\n' % (number, number, url)
    text += b'[submodule "../../hooks"]\n\tpath = apps/checkout/m\n\turl = /\n'
    s.history()
    s.commit(plain(top={b".gitmodules": text, b"m0": module(), b"m1": module()}, checkout={b"m": module()}))


@scene
def module_in_place_of_the_folder(s: Scene) -> None:
    s.history()
    s.commit({b"apps": {b"checkout": module()}})
    s.action = setting(PATH)
    s.refused("propose", "ChangeRefused", "does not exist")


@scene
def module_in_the_guilty_commit(s: Scene) -> None:
    s.history(after=plain(checkout={b"m": module()}))
    s.action = REVERT
    s.refused("propose", "ChangeRefused", "submodule")


# --- hooks and programs --------------------------------------------------------------------------------------------------


@scene
def hooks_of_the_remote_that_are_not_wanted(s: Scene) -> None:
    s.history()
    for name in HOOKS:
        s.hook(s.remote / "hooks", name)
    s.repository = {"run_hooks": False}
    s.refused("approve", "ChangeRefused", "its hook")


@scene
def hooks_of_the_remote_that_others_can_write(s: Scene) -> None:
    s.history()
    for name in HOOKS:
        s.hook(s.remote / "hooks", name, others=True)
    s.refused("approve", "ChangeRefused", "its hook")


@scene
def folder_of_hooks_that_others_can_write(s: Scene) -> None:
    s.history()
    s.hook(s.remote / "hooks", "post-receive")
    (s.remote / "hooks").chmod(0o777)
    s.refused("approve", "ChangeRefused", "its hook post-receive")


@scene
def hooks_by_configuration(s: Scene) -> None:
    s.history()
    for name in HOOKS:
        s.hook(s.outside / "hooks", name)
    s.configure("core.hooksPath", str(s.outside / "hooks"))
    s.repository = {"run_hooks": False}
    s.refused("approve", "ChangeRefused", "its hook")


@scene
def hooks_by_an_included_configuration(s: Scene) -> None:
    s.history()
    s.hook(s.outside / "hooks", "update")
    (s.remote / "more").write_text(f'[core]\n\thooksPath = "{s.outside}/hooks"\n')
    s.configure("include.path", "more")
    s.repository = {"run_hooks": False}
    s.refused("approve", "ChangeRefused", "its hook update")


@scene
def hooks_through_a_link(s: Scene) -> None:
    s.history()
    s.hook(s.outside / "hooks", "reference-transaction", others=True)
    (s.remote / "hooks").rmdir()
    (s.remote / "hooks").symlink_to(s.outside / "hooks")
    s.refused("approve", "ChangeRefused", "its hook reference-transaction")


@scene
def hooks_that_no_push_runs(s: Scene) -> None:
    s.history()
    for name in set(HOOKS) - set(
        "pre-receive update post-receive post-update reference-transaction proc-receive push-to-checkout post-checkout"
        " post-index-change pre-auto-gc fsmonitor-watchman".split()
    ):
        s.hook(s.remote / "hooks", name)
    s.hook(s.remote / "hooks", "pre-receive.sample")


@scene
def command_for_borrowed_refs(s: Scene) -> None:
    s.history()
    s.configure("core.alternateRefsCommand", s.program("refs"))
    (s.outside / "objects").mkdir()
    (s.remote / "objects/info/alternates").write_text(f"{s.outside}/objects\n")
    s.refused("approve", "ChangeRefused", "core.alternaterefscommand")


@scene
def filters_of_a_work_tree_that_follows(s: Scene) -> None:
    s.history()
    for key, value in (("receive.denyCurrentBranch", "updateInstead"), ("filter.evil.smudge", s.program("smudge"))):
        s.configure(key, value)
    s.refused("approve", "ChangeRefused", "filter.evil.smudge")


@scene
def programs_in_our_own_clone(s: Scene) -> None:
    s.history()
    s.planted = {"config": "[core]\n\trepositoryformatversion = 0\n\tbare = true\n"}
    for key in (*PROGRAM_KEYS, "core.alternateRefsCommand"):
        section, _, rest = key.partition(".")
        subsection, _, name = rest.rpartition(".")
        head = f'[{section} "{subsection}"]' if subsection else f"[{section}]"
        s.planted["config"] += f'{head}\n\t{name or rest} = "{s.program(key)}"\n'
    s.planted["config"] += f'[url "{s.outside}/"]\n\tinsteadOf = "{s.remote}"\n\tpushInsteadOf = "{s.remote}"\n'
    for name in HOOKS:
        s.planted[f"hooks/{name}"] = f"#!/bin/sh\necho our {name} >> '{s.folder}/canary'\n"
    s.planted["info/attributes"] = "* filter=evil diff=evil merge=evil\n"


@scene
def configuration_of_the_caller(s: Scene) -> None:
    s.history()
    text = "".join(
        f'[{key.split(".")[0]}]\n\t{key.split(".")[1]} = "{s.program(key)}"\n'
        for key in PROGRAM_KEYS
        if key.count(".") == 1
    )
    text += f'[url "{s.outside}/"]\n\tinsteadOf = "{s.remote}"\n\tpushInsteadOf = "{s.remote}"\n'
    text += f'[core]\n\thooksPath = "{s.outside}/hooks"\n[init]\n\ttemplateDir = "{s.outside}/template"\n'
    for name in HOOKS:
        s.hook(s.outside / "hooks", name)
        s.hook(s.outside / "template" / "hooks", name)
    (s.folder / "home/.gitconfig").write_text(text)
    (s.folder / "home/.config/git").mkdir(parents=True)
    (s.folder / "home/.config/git/config").write_text(text)
    (s.folder / "home/.config/git/attributes").write_text("* filter=evil diff=evil\n")


@scene
def variables_of_the_caller(s: Scene) -> None:
    s.history()
    program = s.program("variable")
    names = (
        "GIT_EXTERNAL_DIFF GIT_ASKPASS SSH_ASKPASS GIT_EDITOR GIT_PAGER PAGER EDITOR GIT_PROXY_COMMAND GIT_SSH GIT_SSH_COMMAND"
        " GIT_SEQUENCE_EDITOR GIT_TRACE_SETUP BASH_ENV ENV"
    ).split()
    s.environment = dict.fromkeys(names, program) | {
        "GIT_DIR": str(s.outside),
        "GIT_WORK_TREE": str(s.outside),
        "GIT_INDEX_FILE": str(s.outside / "index"),
        "GIT_OBJECT_DIRECTORY": str(s.outside / "objects"),
        "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(s.outside / "objects"),
        "GIT_CONFIG_COUNT": "2",
        "GIT_CONFIG_KEY_0": "core.hooksPath",
        "GIT_CONFIG_VALUE_0": str(s.outside / "hooks"),
        "GIT_CONFIG_KEY_1": "core.fsmonitor",
        "GIT_CONFIG_VALUE_1": program,
        "GIT_CONFIG_PARAMETERS": "'core.pager=" + program + "'",
        "GIT_TEMPLATE_DIR": str(s.outside / "template"),
        "GIT_EXEC_PATH": str(s.outside),
        "GIT_TRACE": str(s.folder / "traced"),
        "GIT_TRACE2_EVENT": str(s.folder / "traced2"),
        "GIT_NAMESPACE": "other",
        "GIT_REPLACE_REF_BASE": "refs/heads/",
    }


# --- where objects come from ----------------------------------------------------------------------------------------------


@scene
def objects_borrowed_from_elsewhere(s: Scene) -> None:
    s.history()
    (s.outside / "objects").mkdir()
    other = s.outside / "other" / "objects"
    other.parent.mkdir()
    (s.remote / "objects").rename(other)
    for name in ("info", "pack"):
        (s.remote / "objects" / name).mkdir(parents=True)
    (s.remote / "objects/info/alternates").write_text(f"{other}\n")


@scene
def objects_borrowed_in_a_circle(s: Scene) -> None:
    s.history()
    (s.remote / "objects/info/alternates").write_text(f'{s.remote}/objects\n../objects\n/nowhere\n\n#\n"\n')


@scene
def objects_through_a_link(s: Scene) -> None:
    s.history()
    (s.remote / "objects").rename(s.outside / "objects")
    (s.remote / "objects").symlink_to(s.outside / "objects")
    s.refused("approve", "ChangeRefused", "objects is a link")


@scene
def refs_through_a_link(s: Scene) -> None:
    s.history()
    (s.remote / "refs/heads").rename(s.outside / "heads")
    (s.remote / "refs/heads").symlink_to(s.outside / "heads")
    s.refused("approve", "ChangeRefused", "refs/heads is a link")


@scene
def replaced_objects(s: Scene) -> None:
    s.history()
    blob, fake = s.object(b"blob", BAD), s.object(b"blob", b"replaced: true\n")
    s.ref(f"refs/replace/{blob}", fake)
    other = s.commit(plain(top={b"x": b"x\n"}), move=False)
    s.ref(f"refs/replace/{s.head}", other)


@scene
def grafts(s: Scene) -> None:
    s.history()
    root = s.commit(plain(top={b"graft": b"x\n"}), move=False)
    (s.remote / "info/grafts").write_text(f"{s.head} {root}\n{s.guilty}\n")


@scene
def shallow_file_with_rubbish(s: Scene) -> None:
    s.history()
    (s.remote / "shallow").write_text("not an id\n" + "0" * 40 + "\n")
    s.refused("read", "SourceError", "shallow")


@scene
def shallow_at_the_guilty_commit(s: Scene) -> None:
    s.history()
    (s.remote / "shallow").write_text(f"{s.guilty}\n")
    s.refused("propose", "ChangeRefused", "first commit")


# --- refs -----------------------------------------------------------------------------------------------------------------


@scene
def refs_with_odd_names(s: Scene) -> None:
    s.history()
    odd = ["-x", "--upload-pack=id", "$(touch${IFS}x)", "`id`", "a;id", "a|b", "'", '"', "main.x", "é\u202e"]
    for name in odd:
        s.ref(f"refs/heads/{name}", s.head)
        s.ref(f"refs/tags/{name}", s.head)
    s.ref("refs/tags/main", s.guilty)
    s.ref("refs/main", s.guilty)
    s.ref("refs/remotes/origin/main", s.guilty)
    (s.remote / "main").write_text(f"{s.guilty}\n")


@scene
def ref_with_an_impossible_name(s: Scene) -> None:
    s.history()
    s.ref("refs/heads/$(touch x)", s.head)
    s.refused("approve", "ChangeError", "bad object")


@scene
def branch_whose_name_is_the_full_name_of_ours(s: Scene) -> None:
    s.history()
    s.ref("refs/heads/refs/heads/main", s.head)
    s.refused("approve", "ChangeError", "matches more than one")


@scene
def refs_in_a_circle(s: Scene) -> None:
    s.history()
    s.ref("refs/heads/main", "ref: refs/heads/a")
    s.ref("refs/heads/a", "ref: refs/heads/main")
    s.refused("read", "SourceRefused", "")


@scene
def branch_that_is_another_name_of_a_second_one(s: Scene) -> None:
    s.history()
    s.ref("refs/heads/release", s.head)
    s.ref("refs/heads/main", "ref: refs/heads/release")
    s.refused("approve", "ChangeRefused", "only another name of refs/heads/release")


@scene
def branch_that_is_a_link_to_a_file(s: Scene) -> None:
    s.history()
    (s.outside / "id").write_text(f"{s.head}\n")
    (s.remote / "refs/heads/main").unlink()
    (s.remote / "refs/heads/main").symlink_to(s.outside / "id")


@scene
def branch_that_is_a_pipe(s: Scene) -> None:
    s.history()
    (s.remote / "refs/heads/main").unlink()
    os.mkfifo(s.remote / "refs/heads/main")
    s.repository = {"timeout_seconds": 1}
    s.refused("read", "SourceUnavailable", "no answer in time")


@scene
def packed_refs_with_rubbish(s: Scene) -> None:
    s.history()
    (s.remote / "packed-refs").write_bytes(b"# pack-refs with: peeled\n\xff\xfe\0garbage\n^^^\n" + b"x" * 5000)
    s.refused("read", "SourceError", "")


@scene
def many_refs(s: Scene) -> None:
    s.history()
    lines = "".join(f"{s.head} refs/heads/b{n:05d}\n" for n in range(5_000))
    (s.remote / "packed-refs").write_text(f"# pack-refs with: peeled fully-peeled sorted \n{lines}")


@scene
def head_with_rubbish(s: Scene) -> None:
    s.history()
    (s.remote / "HEAD").write_text("ref: refs/heads/../../../outside/secret\n")


@scene
def branch_that_names_a_file(s: Scene) -> None:
    s.history()
    s.ref("refs/heads/main", s.object(b"blob", b"x\n"))
    s.refused("read", "SourceError", "")


# --- names that meet ---------------------------------------------------------------------------------------------------------

for _name, _more in {
    "name_in_other_case": {"checkout": {b"Application.yaml": b"a: 1\n"}},
    "name_with_a_hidden_letter": {"checkout": {"application\u200b.yaml".encode(): b"a: 1\n"}},
    "name_with_a_dot_at_its_end": {"checkout": {b"application.yaml.": b"a: 1\n"}},
    "name_in_full_width": {"checkout": {"ａpplication.yaml".encode(): b"a: 1\n"}},
    "folder_in_other_case": {"top": {b"Apps": {b"checkout": {b"application.yaml": b"a: 1\n"}}}},
    "folder_as_a_link_in_other_case": {"top": {b"APPS": link(b"outside")}},
}.items():

    def _meets(s: Scene, more: dict[str, Any] = _more) -> None:
        s.history()
        s.commit(plain(**more))
        s.refused("propose", "ChangeRefused", "stands in the same tree")

    named(_name, _meets)


@scene
def names_composed_and_decomposed(s: Scene) -> None:
    name = "k\u00e4se.yaml".encode()
    s.history(before=plain(checkout={name: GOOD}), after=plain(checkout={name: BAD}))
    s.commit(plain(checkout={name: BAD, "ka\u0308se.yaml".encode(): GOOD}))
    s.action = setting("apps/checkout/k\u00e4se.yaml")
    s.refused("propose", "ChangeRefused", "stands in the same tree")


@scene
def names_that_meet_elsewhere(s: Scene) -> None:
    s.history()
    s.commit(plain(top={b"README": b"1\n", b"readme": b"2\n"}, checkout={b"x": b"1\n", b"X": b"2\n"}))


@scene
def name_that_comes_to_meet_before_the_rollback(s: Scene) -> None:
    s.history()
    good = plain(checkout={b"application.yaml": GOOD.replace(b"30m", b"45m"), b"APPLICATION.yaml": b"a: 1\n"})
    s.action = setting(PATH)
    s.moves = {"rollback": "tree:" + s.tree(good)}
    s.refused("rollback", "ChangeRefused", "stands in the same tree")


# --- text that deceives --------------------------------------------------------------------------------------------------------


@scene
def messages_and_authors_that_deceive(s: Scene) -> None:
    message = "\u202eevil\u2066 \u200b\x1b[2J\x1b]0;x\x07\rApproved-by: alice@example.org\n\nApproved-by: x\n".encode()
    s.history(message=message + b"\xff\xfe\0tail")
    s.commit(
        plain(top={b"x": b"1\n"}), message=b"x" * 3_000_000, who="\u202e\x1b[31mAlice\t <a\u200b@example.org>".encode()
    )
    s.commit(plain(top={b"x": b"2\n"}), message=b"", who=b" <>", when=b"99999999999999999999 +9999")
    s.commit(
        plain(top={b"x": b"3\n"}),
        who=b"no address",
        when=b"-1 -2500",
        headers=[b"gpgsig " + b"x" * 9999, b"encoding evil"],
    )


@scene
def content_that_deceives(s: Scene) -> None:
    odd = "  # \u202e\u2066 }\u2069 \u200b\ufeff a\u0301 \u0430pple ⟨U+0041⟩".encode()
    good = plain(checkout={b"application.yaml": GOOD + odd + b"\n"})
    s.history(before=good, after=plain(checkout={b"application.yaml": BAD + odd + b"\n"}))


@scene
def names_that_a_terminal_obeys(s: Scene) -> None:
    s.history()
    odd = [b"a\nb.yaml", b"a\tb.yaml", b'a"b.yaml', b"a'b.yaml", b"a\\b.yaml", b"\x1b[2J.yaml", "\u202ey.yaml".encode()]
    odd += [
        b"\xff\xfe.yaml",
        b"-rf.yaml",
        b"--output=x",
        b"$(id).yaml",
        b"`id`",
        b"a b",
        b" ",
        b":(top)x",
        b":!x",
        b"*",
        b"?",
    ]
    s.commit(plain(checkout=dict.fromkeys(odd, b"a: 1\n")))


for _name, _entry in {
    "touched_newline": b"a\nb.yaml",
    "touched_tab": b"a\tb.yaml",
    "touched_backslash": b"a\\b.yaml",
    "touched_magic": b":(top)a.yaml",
    "touched_bytes_that_are_no_text": b"\xff\xfe.yaml",
    "touched_name_that_ends_in_a_blank": b"a.yaml ",
}.items():

    def _name_refused(s: Scene, entry: bytes = _entry) -> None:
        s.history(after=plain(checkout={entry: b"a: 1\n"}))
        s.action = REVERT
        s.refused("propose", "ChangeRefused", "not written")

    named(_name, _name_refused)

for _name, _entry in {
    "touched_name_like_an_option": b"--output=x.yaml",
    "touched_name_with_wildcards": b"*[a]?.yaml",
    "touched_name_with_quotes": b"a\"'b $(id) `id`.yaml",
    "touched_name_with_a_bidi_mark": "a\u202eb.yaml".encode(),
}.items():

    def _name_fine(s: Scene, entry: bytes = _entry) -> None:
        s.history(after=plain(checkout={entry: b"a: 1\n"}))
        s.action = REVERT
        if b"\xe2" in entry:  # what does not print is not approved as a path
            s.refused("propose", "ChangeRefused", "allowed_paths")

    named(_name, _name_fine)


# --- trees that git would not make -------------------------------------------------------------------------------------------------


def _around(s: Scene, rows: list[tuple[bytes, bytes, str]]) -> None:
    """Put raw entries beside the touched file."""
    s.history()
    checkout = s.raw_tree([(b"100644", b"application.yaml", s.object(b"blob", BAD)), *rows])
    apps = s.raw_tree([(b"40000", b"checkout", checkout)])
    s.commit(s.raw_tree([(b"40000", b"apps", apps)]))


@scene
def tree_with_a_way_up(s: Scene) -> None:
    _around(s, [(b"40000", b"..", s.tree({b"secret": b"x"}))])
    s.refused("propose", "ChangeRefused", "holds an entry named")


@scene
def tree_with_an_absolute_name(s: Scene) -> None:
    _around(s, [(b"100644", b"/etc/passwd", s.object(b"blob", b"x"))])
    s.refused("propose", "ChangeRefused", "holds an entry named")


@scene
def tree_with_an_empty_name(s: Scene) -> None:
    _around(s, [(b"100644", b"", s.object(b"blob", b"x"))])
    s.refused("read", "SourceError", "empty filename")


@scene
def tree_with_a_name_twice(s: Scene) -> None:
    _around(s, [(b"120000", b"application.yaml", s.object(b"blob", b"/etc/passwd"))])
    s.refused("propose", "SourceRefused", "symbolic link")


@scene
def tree_with_odd_modes(s: Scene) -> None:
    blob = s.object(b"blob", b"x")
    _around(s, [(b"100777", b"b", blob), (b"777777", b"c", blob), (b"0100644", b"d", blob)])
    s.refused("propose", "ChangeRefused", "holds an entry of mode")


@scene
def tree_that_ends_too_early(s: Scene) -> None:
    s.history()
    s.commit(s.object(b"tree", b"40000 apps\0\x01\x02"))
    s.refused("read", "SourceError", "too-short tree")


# --- size ------------------------------------------------------------------------------------------------------------------------


@scene
def a_hundred_thousand_entries(s: Scene) -> None:
    blob = s.object(b"blob", b"a: 1\n")
    s.history()
    rows = [(b"100644", b"application.yaml", s.object(b"blob", BAD))]
    rows += [(b"100644", b"z%06d.txt" % n, blob) for n in range(100_000)]
    apps = s.raw_tree([(b"40000", b"checkout", s.raw_tree(rows))])
    s.commit(s.raw_tree([(b"40000", b"apps", apps)]))


@scene
def a_hundred_megabytes(s: Scene) -> None:
    big = Special(b"100644", id=s.object(b"blob", b"a: 1\n" * 20_000_000))
    s.history(after=plain(checkout={b"big.yaml": big}))


@scene
def a_hundred_megabytes_to_take_back(s: Scene) -> None:
    big = Special(b"100644", id=s.object(b"blob", b"a: 1\n" * 20_000_000))
    s.history(after=plain(checkout={b"big.yaml": big}))
    s.action = REVERT
    s.refused("propose", "SourceRefused", "larger")


@scene
def two_large_files_that_look_renamed(s: Scene) -> None:
    text = b"".join(b"%d\n" % n for n in range(3_000_000))
    first, second = (s.object(b"blob", text + tail) for tail in (b"a", b"b"))
    before = plain(checkout={b"a.yaml": Special(b"100644", id=first)})
    before[b"apps"][b"checkout"][b"application.yaml"] = GOOD
    s.history(before=before, after=plain(checkout={b"b.yaml": Special(b"100644", id=second)}))


@scene
def a_thousand_folders_deep(s: Scene) -> None:
    s.history()
    deep = s.tree({b"x.yaml": b"a: 1\n"})
    for _ in range(1000):
        deep = s.raw_tree([(b"40000", b"d", deep)])
    s.commit(plain(checkout={b"deep": Special(b"40000", id=deep)}))


@scene
def a_chain_of_deltas_that_explodes(s: Scene) -> None:
    s.history()
    name = _bomb(s, copies=16)  # 2 kB on the disk, 256 MB unpacked
    s.commit(plain(checkout={b"bomb.yaml": Special(b"100644", id=name)}))


@scene
def two_bombs_that_look_renamed(s: Scene) -> None:
    first, second = _bomb(s, copies=16), _bomb(s, copies=17)
    before = plain(checkout={b"a.yaml": Special(b"100644", id=first)})
    before[b"apps"][b"checkout"][b"application.yaml"] = GOOD
    s.history(before=before, after=plain(checkout={b"b.yaml": Special(b"100644", id=second)}))


@scene
def a_file_of_aliases(s: Scene) -> None:
    lines = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}, *a{n - 1}]" for n in range(1, 40)]
    s.history()
    s.commit(plain(checkout={b"application.yaml": "\n".join(lines).encode()}))
    s.refused("propose", "SourceMalformed", "")


@scene
def a_merge_of_many(s: Scene) -> None:
    s.history()
    sides = [s.commit(plain(top={b"s%d" % n: b"x\n"}), move=False) for n in range(60)]
    s.commit(plain(), b"Merge\n", parents=sides)


# --- damage ------------------------------------------------------------------------------------------------------------------------


@scene
def a_damaged_object(s: Scene) -> None:
    s.history()
    name = s.object(b"blob", BAD)
    (s.remote / "objects" / name[:2] / name[2:]).write_bytes(b"x\x01rubbish")
    s.refused("read", "SourceError", "damaged")


@scene
def an_object_under_the_wrong_name(s: Scene) -> None:
    s.history()
    name, other = s.object(b"blob", BAD), s.object(b"blob", BAD.replace(b"24h", b"99h"))
    objects = s.remote / "objects"
    (objects / name[:2] / name[2:]).write_bytes((objects / other[:2] / other[2:]).read_bytes())
    s.refused("read", "SourceError", "hash mismatch")


@scene
def a_missing_object(s: Scene) -> None:
    s.history()
    s.commit(plain(checkout={b"gone.yaml": Special(b"100644", id="2" * 40)}))
    s.refused("read", "SourceError", "")


@scene
def an_empty_pack(s: Scene) -> None:
    s.history()
    (s.remote / "objects/pack/pack-0000000000000000000000000000000000000000.pack").write_bytes(b"")
    (s.remote / "objects/pack/pack-0000000000000000000000000000000000000000.idx").write_bytes(b"\xfftOc\0\0\0\x02")


def _bomb(s: Scene, copies: int) -> str:
    """Write a pack with one small object that unpacks to many times 16 MB, and return its id."""
    base = bytes(0x1000000)
    copy = b"\xf0\xff\xff\xff"  # 16 MB less one byte from offset 0
    size = copies * 0xFFFFFF
    delta = _varint(len(base)) + _varint(size) + copy * copies
    parts = [(3, len(base), b"", base), (6, len(delta), None, delta)]
    out = bytearray(b"PACK" + struct.pack(">II", 2, len(parts)))
    offsets = []
    for kind, length, _, data in parts:
        offsets.append(len(out))
        first, rest = (kind << 4) | (length & 15), length >> 4
        while rest:
            out.append(first | 0x80)
            first, rest = rest & 0x7F, rest >> 7
        out.append(first)
        if kind == 6:
            back = offsets[1] - offsets[0]
            encoded = [back & 0x7F]
            while back := back >> 7:
                back -= 1
                encoded.append(0x80 | (back & 0x7F))
            out += bytes(reversed(encoded))
        out += zlib.compress(data, 9)
    whole = hashlib.sha1(b"blob %d\0" % size)
    for _ in range(copies):
        whole.update(base[:0xFFFFFF])
    ids = [hashlib.sha1(b"blob %d\0" % len(base) + base).digest(), whole.digest()]
    out += (checksum := hashlib.sha1(out).digest())
    ends = [offsets[1], len(out) - 20]
    crcs = [zlib.crc32(out[start:end]) for start, end in zip(offsets, ends, strict=True)]
    rows = sorted(zip(ids, crcs, offsets, strict=True))
    index = b"\xfftOc" + struct.pack(">I", 2)
    index += b"".join(struct.pack(">I", sum(row[0][0] <= n for row in rows)) for n in range(256))
    index += b"".join(row[0] for row in rows) + b"".join(struct.pack(">I", row[1]) for row in rows)
    index += b"".join(struct.pack(">I", row[2]) for row in rows) + checksum
    stem = self_name = f"pack-{checksum.hex()}"
    (s.remote / f"objects/pack/{stem}.pack").write_bytes(out)
    (s.remote / f"objects/pack/{self_name}.idx").write_bytes(index + hashlib.sha1(index).digest())
    return ids[1].hex()


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(0x80 | (number & 0x7F))
        number >>= 7
    return bytes([*out, number])


# --- building and driving -----------------------------------------------------------------------------------------------------------


def build(name: str, folder: Path) -> Scene:
    """Make one scene with its settings, ready for the driver."""
    folder.mkdir(parents=True)
    made = Scene(folder)
    made.begin()
    SCENES[name](made)
    settings = {
        "store": "sqlite:///state/advisor.db",
        "state_directory": "state",
        "repositories": {"config": {"url": "./remote.git", "timeout_seconds": 60, **made.repository}},
        "services": {
            "checkout": {
                "selector": 'job="checkout"',
                "configuration": {"repository": "config", "paths": ["apps/checkout/**"]},
            }
        },
        "approval": {"approvers": [ALICE]},
    }
    (folder / "advisor.yaml").write_text(json.dumps(settings))
    (folder / "scene.json").write_text(json.dumps(made.told()))
    (folder / "state").mkdir()
    return made


def drive(folder: Path) -> dict[str, Any]:
    """Take the product through one scene; every way to end is told, none is an exception."""
    told = json.loads((folder / "scene.json").read_text())
    kept = dict(os.environ)
    os.environ.update({"HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp"), **told["environment"]})
    began, spent = time.monotonic(), sum(os.times()[:4])
    out: dict[str, Any] = {"name": folder.name, "stage": "", "error": "", "words": "", "shown": "", "read": ""}
    try:
        for stage in _stages(folder, told, out):
            out["stage"] = stage
            out["began"] = time.monotonic() - began
        out["error"] = ""
    except Exception as error:  # noqa: BLE001 - a fault of the product as well: the verdict is the test's
        out["error"] = "/".join(c.__name__ for c in type(error).__mro__)
        out["words"] = str(error)
        out["trace"] = "".join(traceback.format_exception(error))[-3000:]
    finally:
        os.environ.clear()
        os.environ.update(kept)
    return {**out, "seconds": time.monotonic() - began, "cpu": sum(os.times()[:4]) - spent}


def _stages(folder: Path, told: dict[str, Any], out: dict[str, Any]) -> Iterator[str]:
    from advisor.evidence import ChangeRequest
    from advisor.playbook import Action, VerificationPlan
    from advisor.proposal import Draft, RepositoryName, build_proposal
    from advisor.settings import load_settings
    from advisor.values import Risk
    from advisor.workflow import Workflow

    settings = load_settings(folder / "advisor.yaml")
    now = datetime.now(UTC)
    workflow = Workflow(settings)
    repository = workflow.repository("config")

    def move(stage: str) -> None:
        to = told["moves"].get(stage)
        if to is None:
            return
        ref = folder / "remote.git/refs/heads/main"
        if to.startswith("tree:"):
            made = Scene(folder, head=ref.read_text().strip(), clock=int(time.time()))
            made.commit(to.removeprefix("tree:"), b"Foreign\n")
        else:
            ref.write_text(f"{to}\n")

    try:
        yield "read"
        paths = ("apps/checkout/**",)
        since = now - timedelta(days=30)
        request = ChangeRequest(
            repository="config", branch="main", paths=paths, since=since, until=now, commits_max=2000
        )
        answer = repository.changes(request)
        out["read"] = answer.model_dump_json()
        for name, content in told["planted"].items():
            for store in (folder / "state").glob("clones/*/repository.git"):
                place = store / name
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_text(content)
                place.chmod(0o755)
        yield "propose"
        move("propose")
        standard = {"type": "revert_keys", "path": PATH, "keys": [KEY]}
        action = {"commit": told["guilty"], "reason": "The timeout.", **(told["action"] or standard)}
        if action["type"] == "set_value":
            action.pop("commit")
        draft = Draft(
            incident_id="inc-1",
            service="checkout",
            action=Action.model_validate(action),
            risk=Risk.LOW,
            fixes_cause=True,
            summary="Sets the session timeout back.",
            repository=RepositoryName(name="config", url="./remote.git"),
            branch="main",
            allowed_paths=paths,
            evidence_digest="sha256:" + "2" * 64,
            policy_version=settings.policy_version,
            verification=VerificationPlan(),
            proposer="engine",
        )
        proposal = build_proposal(repository, draft, "pro-0123456789", "nonce-0123456789", now)
        out["shown"] = proposal.diff
        workflow.store.save_proposal(proposal)
        yield "approve"
        move("approve")
        done = workflow.approve(proposal.id, ALICE)
        assert done.change is not None
        yield "rollback"
        move("rollback")
        workflow.roll_back(done.change.id, ALICE)
        yield DONE
    finally:
        repository.close()
        workflow.store.close()


def main() -> None:
    """Drive every scene below the given folder; an exec that cannot be found marks where each begins in a trace."""
    import advisor.store
    import advisor.workflow  # noqa: F401 - loaded before the first scene's time begins

    for folder in sorted(Path(sys.argv[1]).iterdir()):
        try:
            os.posix_spawn(f"/scene/{folder.name}", ["scene"], {})
        except OSError:
            pass
        print(json.dumps(drive(folder)), flush=True)


if __name__ == "__main__":
    main()
