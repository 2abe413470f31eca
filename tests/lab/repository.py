"""Builds the configuration repository of one incident: a bare remote, five days of history, a checkout.

The history is what a small team leaves behind in a week: two services, four people, comments, odd layout,
changes that matter and many that do not. All git runs with its own environment, so nobody's global
configuration takes part.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.lab.incidents import (
    APPLICATION,
    DEPLOYMENT,
    IMAGE,
    PAYMENTS,
    PAYMENTS_DEPLOYMENT,
    Edit,
    Settings,
)

README = """# Shop configuration

One folder for each service under `apps/`. A change on `main` is rolled out by the deployment controller.

* Ask the owner of a service before you change its numbers.
"""

CHECKOUT_APPLICATION = """# checkout: baskets, orders, payment hand-over
server:
  port: 8080
  servlet:
    session:
      timeout: {session_timeout}        # idle time after which a basket is dropped
  tomcat:
      threads:
          max: {threads}
          min-spare: 5

spring:
  application: {{name: checkout}}
  datasource:
    url: "jdbc:postgresql://sessions-db.example.org/shop"
    hikari:
      maximum-pool-size: {pool}
      connection-timeout: 3000   # milliseconds

cache:
  products:   # product pages, see README
    maximum-size: {cache_size}
    record-stats: true

logging:
  level:
    root: INFO
    org.springframework.web: DEBUG
management.endpoints.web.exposure.include: "health,prometheus"
"""

CHECKOUT_DEPLOYMENT = """apiVersion: apps/v1
kind: Deployment
metadata:
  name: checkout
  namespace: shop
  labels: {{app: checkout, team: orders}}
spec:
  replicas: 1
  selector:
    matchLabels: {{app: checkout}}
  template:
    metadata:
      labels: {{app: checkout}}
    spec:
      containers:
      - name: checkout
        image: {image}:2.3.1
        env:
        - name: JAVA_OPTS
          value: "{java_options}"
        - {{name: TZ, value: UTC}}
        resources:
          requests: {{cpu: 200m, memory: 160Mi}}
          limits:
            memory: {memory_limit}   # heap plus metaspace, stacks and buffers
        readinessProbe:
          httpGet: {{path: /health, port: 8080}}
          periodSeconds: 10
"""

PAYMENTS_APPLICATION = """server: {port: 8081}
provider:
  base-url: https://provider.example.org/v2
  timeout: 4s
  retries: 1     # the provider asks for no more than three
spring:
  datasource:
    hikari:
      maximum-pool-size: 8
logging:
  level: {root: INFO, org.example.payments.provider: WARN}
"""

PAYMENTS_MANIFEST = """apiVersion: apps/v1
kind: Deployment
metadata: {name: payments, namespace: shop}
spec:
  replicas: 2
  template:
    spec:
      containers:
      - name: payments
        image: registry.example.org/shop/payments:1.8.0
        env:
        - name: JAVA_OPTS
          value: "-Xmx256m -XX:+UseG1GC"
"""


@dataclass(frozen=True)
class Past:
    """A commit of the days before."""

    hours_ago: float
    author: str
    message: str
    edits: tuple[Edit, ...]


def past(hours_ago: float, author: str, message: str, *edits: tuple[str, str, str]) -> Past:
    """Shorthand for a commit of the table below."""
    return Past(hours_ago, author, message, tuple(Edit(*edit) for edit in edits))


def history(settings: Settings) -> tuple[Past, ...]:
    """Return the commits after the import, oldest first; they end at the given settings."""
    return (
        past(
            116.2,
            "bob",
            "README: say how a change gets live",
            ("README.md", "* Ask", "* Small commits, please.\n* Ask"),
        ),
        past(
            110.5,
            "carol",
            "payments: release 1.8.1",
            (PAYMENTS_DEPLOYMENT, "payments:1.8.0", "payments:1.8.1"),
        ),
        past(99.0, "alice", "checkout: web log back to INFO", (APPLICATION, "web: DEBUG", "web: INFO")),
        past(93.4, "bob", "checkout: release 2.3.2", (DEPLOYMENT, f"{IMAGE}:2.3.1", f"{IMAGE}:2.3.2")),
        past(
            92.9,
            "bob",
            "checkout: probe a little earlier",
            (DEPLOYMENT, "periodSeconds: 10", "periodSeconds: 5"),
        ),
        past(75.1, "dave", "payments: ten connections", (PAYMENTS, "pool-size: 8", "pool-size: 10")),
        past(
            73.8,
            "carol",
            "payments: release 1.9.0",
            (PAYMENTS_DEPLOYMENT, "payments:1.8.1", "payments:1.9.0"),
        ),
        past(
            70.0,
            "alice",
            "checkout: comment the pool timeout",
            (APPLICATION, "# milliseconds", "# in milliseconds"),
        ),
        past(52.6, "dave", "payments: wait longer for the provider", (PAYMENTS, "timeout: 4s", "timeout: 6s")),
        past(49.9, "bob", "checkout: more request memory", (DEPLOYMENT, "memory: 160Mi", "memory: 176Mi")),
        past(
            47.3,
            "carol",
            f"checkout: release {settings.release}",
            (DEPLOYMENT, f"{IMAGE}:2.3.2", f"{IMAGE}:{settings.release}"),
        ),
        past(
            30.2,
            "alice",
            "README: name the owners",
            ("README.md", "the owner of", "the owner (alice: checkout) of"),
        ),
        past(27.5, "dave", "payments: release 1.9.1", (PAYMENTS_DEPLOYMENT, "payments:1.9.0", "payments:1.9.1")),
        past(22.1, "bob", "checkout: cpu request as measured", (DEPLOYMENT, "cpu: 200m", "cpu: 250m")),
        past(
            5.3,
            "carol",
            "checkout: expose the info endpoint",
            (APPLICATION, '"health,prom', '"health,info,prom'),
        ),
    )


def first_files(settings: Settings) -> dict[str, str]:
    """Return the files of the first commit."""
    values = {
        "session_timeout": settings.session_timeout,
        "cache_size": settings.cache_size,
        "threads": settings.threads,
        "pool": settings.pool,
    }
    manifest = CHECKOUT_DEPLOYMENT.format(
        image=IMAGE, java_options=settings.java_options, memory_limit=settings.memory_limit
    )
    return {
        "README.md": README,
        APPLICATION: CHECKOUT_APPLICATION.format(**values),
        DEPLOYMENT: manifest,
        PAYMENTS: PAYMENTS_APPLICATION,
        PAYMENTS_DEPLOYMENT: PAYMENTS_MANIFEST,
    }


def git(folder: Path, *arguments: str, author: str = "alice", at: datetime | None = None) -> str:
    """Run git in a folder and return what it printed."""
    when = (at or datetime.now(UTC)).isoformat(timespec="seconds")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_AUTHOR_NAME": author,
        "GIT_AUTHOR_EMAIL": f"{author}@example.org",
        "GIT_COMMITTER_NAME": author,
        "GIT_COMMITTER_EMAIL": f"{author}@example.org",
        "GIT_AUTHOR_DATE": when,
        "GIT_COMMITTER_DATE": when,
    }
    done = subprocess.run(
        ["git", *arguments],
        cwd=folder,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.stdout.strip()


def apply_edits(folder: Path, edits: tuple[Edit, ...]) -> None:
    """Make the edits in the files of a checkout."""
    for edit in edits:
        file = folder / edit.path
        text = file.read_text()
        if text.count(edit.old) != 1:
            raise ValueError(f"{edit.path}: {edit.old!r} occurs {text.count(edit.old)} times, not once")
        file.write_text(text.replace(edit.old, edit.new))


@dataclass(frozen=True)
class ConfigRepository:
    """A bare remote, a desk where the team commits, and the checkout that the service is started from."""

    bare: Path
    desk: Path
    checkout: Path

    def commit(self, author: str, message: str, edits: tuple[Edit, ...], at: datetime | None = None) -> str:
        """Commit edits at the desk, push them, and return the commit."""
        git(self.desk, "pull", "-q", "--rebase")
        apply_edits(self.desk, edits)
        git(self.desk, "commit", "-q", "-a", "-m", message, author=author, at=at)
        git(self.desk, "push", "-q", "origin", "HEAD:main")
        return git(self.desk, "rev-parse", "HEAD")

    def pull(self) -> str:
        """Bring the checkout to the head of the remote, as a controller would, and return that commit."""
        git(self.checkout, "fetch", "-q", "origin", "main")
        git(self.checkout, "reset", "-q", "--hard", "FETCH_HEAD")
        return git(self.checkout, "rev-parse", "HEAD")


def build(folder: Path, settings: Settings, now: datetime) -> ConfigRepository:
    """Build the repository of one incident with its history up to now."""
    bare, desk, checkout = folder / "config.git", folder / "desk", folder / "checkout"
    git(folder, "init", "-q", "--bare", "--initial-branch=main", str(bare))
    git(folder, "init", "-q", "--initial-branch=main", str(desk))
    git(desk, "remote", "add", "origin", "../config.git")
    for path, text in first_files(settings).items():
        (desk / path).parent.mkdir(parents=True, exist_ok=True)
        (desk / path).write_text(text)
    git(desk, "add", ".")
    imported_at = now - timedelta(hours=118)
    git(desk, "commit", "-q", "-m", "Import the configuration of checkout and payments", at=imported_at)
    for commit in history(settings):
        apply_edits(desk, commit.edits)
        at = now - timedelta(hours=commit.hours_ago)
        git(desk, "commit", "-q", "-a", "-m", commit.message, author=commit.author, at=at)
    git(desk, "push", "-q", "-u", "origin", "main")
    git(folder, "clone", "-q", "config.git", "checkout")
    return ConfigRepository(bare, desk, checkout)
