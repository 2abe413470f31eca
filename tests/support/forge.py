"""A forge of our own on the loopback interface: it speaks the pull requests of GitHub, GitLab and Gitea.

It follows the public API documents for the few calls that are made, keeps pull requests in memory and really merges, in
a bare repository. What it cannot show is how a real server behaves beside its documents; for Gitea there is a real one
(`tests/support/gitea.py`). Faults are scripted: the next call that fits gets one in place of, or after, its answer.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.support.gate import git

TOKEN = "s3cr3t-token-0123456789abcdef"
OWNER, NAME = "team", "config"
PEOPLE = ("-c", "user.name=Forge", "-c", "user.email=forge@example.org")


@dataclass
class Fault:
    """What happens to the next call that fits.

    Attributes:
        method: Of the call.
        part: Of its path.
        status: Answered in place of the real one; 0 with `lost`: the call is done, and its answer never comes.
        headers: Of the answer.
        body: Of the answer.
        how: ``answer``, ``lost``, ``cut``, ``drip``.
        times: How often.
    """

    method: str
    part: str = ""
    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)
    body: str = '{"message": "no"}'
    how: str = "answer"
    times: int = 1


@dataclass
class Request:
    """One pull request."""

    number: int
    head_branch: str
    base: str
    title: str
    body: str
    head: str
    state: str = "open"
    merged_as: str | None = None
    reviews: list[dict[str, Any]] = field(default_factory=list)
    versions: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)


class ScriptedForge:
    """The server's memory, and what people do there."""

    def __init__(self, kind: str, repository: Path) -> None:
        self.kind, self.repository = kind, repository
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.calls: list[tuple[str, str, dict[str, str], Any]] = []
        self.before_merge: Callable[[], object] = lambda: None
        self.may_write = True
        self.lock = threading.RLock()
        self.url = ""

    # --- what people do

    def merge(self, number: int, method: str = "merge") -> str:
        """Merge as somebody at the screen would, over whatever the base is."""
        return self._merge(self.request(number), method)

    def review(self, number: int, login: str, state: str = "APPROVED", commit: str | None = None, **more: Any) -> None:
        one = self.request(number)
        entry = {"user": {"login": login, "username": login}, "state": state, "commit_id": commit or one.head}
        one.reviews.append({"id": len(one.reviews) + 1, **entry, **more})

    def request(self, number: int) -> Request:
        self._refresh()
        return next(one for one in self.requests if one.number == number)

    def ref(self, branch: str) -> str | None:
        return git(self.repository, "for-each-ref", "--format=%(objectname)", f"refs/heads/{branch}").strip() or None

    # --- the server

    def _refresh(self) -> None:
        for one in self.requests:
            if one.state == "open" and (head := self.ref(one.head_branch)) and head != one.head:
                one.head = head
                one.versions.append(head)

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> tuple[int, Any]:
        with self.lock:
            self._refresh()
            return getattr(self, f"_{'gitea' if self.kind == 'forgejo' else self.kind}")(method, path, query, body)

    def _github(self, method: str, path: str, query: dict[str, str], body: Any) -> tuple[int, Any]:
        rest = path.removeprefix(f"/api/v3/repos/{OWNER}/{NAME}")
        if rest == path:
            return 404, {"message": "Not Found"}
        if not rest:
            return 200, {"permissions": {"pull": True, "push": self.may_write}}
        if rest == "/pulls" and method == "GET":
            branch = query["head"].removeprefix(f"{OWNER}:")
            found = [o for o in self.requests if o.head_branch == branch and o.base == query["base"]]
            return 200, [self._shape(one) for one in found]
        if rest == "/pulls":
            return self._open(body["head"], body["base"], body["title"], body["body"], 422)
        if match := re.fullmatch(r"/issues/(\d+)/labels", rest):
            self.request(int(match[1])).labels += body["labels"]
            return 200, []
        match = re.fullmatch(r"/pulls/(\d+)(/\w+)?", rest)
        if match is None:
            return 404, {"message": "Not Found"}
        one = self.request(int(match[1]))
        if match[2] == "/reviews":
            page, size = int(query.get("page", "1")), int(query.get("per_page", "30"))
            return 200, one.reviews[(page - 1) * size : page * size]
        if match[2] == "/merge":
            return self._merge_called(one, body.get("sha"), body["merge_method"], (405, 409))
        if method == "PATCH":
            one.state = body["state"] if one.state == "open" else one.state
        return 200, self._shape(one)

    def _gitea(self, method: str, path: str, query: dict[str, str], body: Any) -> tuple[int, Any]:
        rest = path.removeprefix(f"/api/v1/repos/{OWNER}/{NAME}")
        if rest == path:
            return 404, {"message": "not found"}
        if not rest:
            return 200, {"permissions": {"pull": True, "push": self.may_write}}
        if rest == "/pulls" and method == "GET":
            page, size = int(query.get("page", "1")), int(query.get("limit", "30"))
            found = [o for o in self.requests if o.state == query["state"] and o.base == query["base_branch"]]
            return 200, [self._shape(one) for one in found[(page - 1) * size : page * size]]
        if rest == "/pulls":
            return self._open(body["head"], body["base"], body["title"], body["body"], 409)
        if match := re.fullmatch(r"/issues/(\d+)/labels", rest):
            self.request(int(match[1])).labels += body["labels"]
            return 200, []
        match = re.fullmatch(r"/pulls/(\d+)(/\w+)?", rest)
        if match is None:
            base, _, head = rest.removeprefix("/pulls/").partition("/")
            known = [o for o in self.requests if o.base == base and o.head_branch == head]
            return (200, self._shape(known[0])) if known else (404, {"message": "not found"})
        one = self.request(int(match[1]))
        if match[2] == "/reviews":
            page, size = int(query.get("page", "1")), int(query.get("limit", "30"))
            return 200, one.reviews[(page - 1) * size : page * size]
        if match[2] == "/merge":
            method = {"fast-forward-only": "fast-forward"}.get(body["Do"], body["Do"])
            return self._merge_called(one, body.get("head_commit_id"), method, (405, 409))
        if method == "PATCH":
            one.state = body["state"] if one.state == "open" else one.state
        return 201, self._shape(one)

    def _gitlab(self, method: str, path: str, query: dict[str, str], body: Any) -> tuple[int, Any]:
        rest = path.removeprefix(f"/api/v4/projects/{OWNER}/{NAME}")
        if rest == path:
            return 404, {"message": "404 Project Not Found"}
        if not rest:
            level = 30 if self.may_write else 20
            return 200, {"permissions": {"project_access": {"access_level": level}, "group_access": None}}
        if rest == "/merge_requests" and method == "GET":
            wanted = (query["source_branch"], query["target_branch"])
            return 200, [self._shape(o) for o in self.requests if (o.head_branch, o.base) == wanted]
        if rest == "/merge_requests":
            opened = self._open(body["source_branch"], body["target_branch"], body["title"], body["description"], 409)
            if opened[0] == 201:
                self.requests[-1].labels += [label for label in body["labels"].split(",") if label]
            return opened
        match = re.fullmatch(r"/merge_requests/(\d+)(/\w+)?", rest)
        if match is None:
            return 404, {"message": "404 Not Found"}
        one = self.request(int(match[1]))
        if match[2] == "/versions":
            return 200, [{"id": n, "head_commit_sha": sha} for n, sha in enumerate(one.versions)]
        if match[2] == "/approvals":
            given = [r for r in one.reviews if r["state"] == "APPROVED"]
            return 200, {"approved_by": [{"user": r["user"]} for r in given]}
        if match[2] == "/merge":
            return self._merge_called(one, body.get("sha"), "squash" if body["squash"] else "merge", (405, 409))
        if method == "PUT" and body.get("state_event") == "close" and one.state == "open":
            one.state = "closed"
        return 200, self._shape(one)

    def _open(self, head: str, base: str, title: str, body: str, known: int) -> tuple[int, Any]:
        if any(o.state == "open" and (o.head_branch, o.base) == (head, base) for o in self.requests):
            return known, {"message": f"A pull request already exists for {head}."}
        at = self.ref(head)
        if at is None:
            return 422, {"message": "head does not exist"}
        one = Request(len(self.requests) + 1, head, base, title, body, at, versions=[at])
        self.requests.append(one)
        return 201, self._shape(one)

    def _merge_called(self, one: Request, sha: str | None, method: str, codes: tuple[int, int]) -> tuple[int, Any]:
        self.before_merge()
        self._refresh()
        if one.state != "open":
            return codes[0], {"message": "not mergeable"}
        if sha is not None and one.head != sha:
            return codes[1], {"message": "Head branch was modified. Review and try the merge again."}
        if method == "fast-forward" and git(self.repository, "merge-base", one.base, one.head).strip() != self.ref(
            one.base
        ):
            return codes[0], {"message": "not possible to fast-forward"}
        self._merge(one, method)
        return 200, {"merged": True, "sha": one.merged_as}

    def _merge(self, one: Request, method: str) -> str:
        base = self.ref(one.base)
        assert base is not None and one.state == "open"
        made = one.head
        if method != "fast-forward":
            tree = git(self.repository, "merge-tree", "--write-tree", base, one.head).split("\n")[0]
            parents = ["-p", base, *(["-p", one.head] if method == "merge" else [])]
            words = f"{one.title} (#{one.number})\n\n{one.body}"
            made = git(self.repository, *PEOPLE, "commit-tree", tree, *parents, "-m", words).strip()
        git(self.repository, "update-ref", f"refs/heads/{one.base}", made, base)
        one.state, one.merged_as = "merged", made
        return made

    def _shape(self, one: Request) -> dict[str, Any]:
        merged = one.state == "merged"
        if self.kind == "gitlab":
            return {
                "iid": one.number,
                "state": {"open": "opened"}.get(one.state, one.state),
                "sha": one.head,
                "source_branch": one.head_branch,
                "target_branch": one.base,
                "source_project_id": 7,
                "target_project_id": 7,
                "merge_commit_sha": one.merged_as,
                "web_url": "https://elsewhere.example.org/x",
            }
        return {
            "number": one.number,
            "state": "open" if one.state == "open" else "closed",
            "merged": merged,
            "merged_at": "2026-11-22T08:10:00Z" if merged else None,
            "merge_commit_sha": one.merged_as,
            "head": {"sha": one.head, "ref": one.head_branch, "repo_id": 7},
            "base": {"ref": one.base, "repo_id": 7},
            "html_url": "https://elsewhere.example.org/x",
        }

    def take_fault(self, method: str, path: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.method == method and fault.part in path and fault.times > 0:
                    fault.times -= 1
                    return fault
        return None


@contextmanager
def forge_serving(kind: str, repository: Path) -> Iterator[ScriptedForge]:
    """Serve a forge for a bare repository."""
    forge = ScriptedForge(kind, repository)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

        def handle_any(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(size)) if size else None
            parts = urlsplit(self.path)
            path = unquote(parts.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            forge.calls.append((self.command, path, dict(self.headers), body))
            fault = forge.take_fault(self.command, path)
            if fault is not None and fault.how == "answer":
                return self.send(fault.status, fault.body.encode(), fault.headers)
            given = self.headers.get("Authorization", "") + self.headers.get("PRIVATE-TOKEN", "")
            if not given.endswith(TOKEN):
                return self.send(401, b'{"message": "bad credentials %s"}' % given.encode())
            status, answer = forge.answer(self.command, path, query, body)
            data = json.dumps(answer).encode()
            if fault is None:
                return self.send(status, data)
            self.close_connection = True
            if fault.how == "cut":
                self.send(status, data[: len(data) // 2], length=len(data))
            elif fault.how == "drip":
                self.send(status, b"", length=10_000)
                for _ in range(100):
                    try:
                        self.wfile.write(b" ")
                        self.wfile.flush()
                    except OSError:
                        return
                    time.sleep(0.05)

        def send(
            self, status: int, data: bytes, headers: dict[str, str] | None = None, length: int | None = None
        ) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(data) if length is None else length))
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_PATCH = handle_any

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that gave up is no news
    forge.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield forge
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
