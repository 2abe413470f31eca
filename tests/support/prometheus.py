"""A real Prometheus over samples of our choosing, for tests and measurements.

Samples are written as OpenMetrics text, made into blocks by ``promtool``, and served by ``prometheus`` on a
free port of the loopback interface. It scrapes nothing, so what is asked is what was written.

    with prometheus_serving(series) as url:
        ...
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Protocol

START_SECONDS_MAX = 20.0  # usually 0.3; a loaded machine takes longer
STOP_SECONDS_MAX = 5.0  # usually 0.1
_READY = b"Server is ready to receive web requests"


class SeriesLike(Protocol):
    """What is needed of a series: `advisor.evidence.Series` has it."""

    @property
    def name(self) -> str:
        """Return the metric's name."""
        ...

    @property
    def labels(self) -> tuple[tuple[str, str], ...]:
        """Return pairs of label and value, without the name."""
        ...

    @property
    def times(self) -> tuple[float, ...]:
        """Return epoch seconds, increasing."""
        ...

    @property
    def values(self) -> tuple[float, ...]:
        """Return one number for each time; NaN and infinities are allowed here."""
        ...


def require_programs(*names: str) -> None:
    """Skip the running test by name if a program is missing; fail it where ADVISOR_REQUIRE_REAL=1."""
    import pytest  # only here: measurements use this module without pytest

    for name in names:
        if shutil.which(name) is None:
            message = f"{name} is not installed"
            if os.environ.get("ADVISOR_REQUIRE_REAL") == "1":
                pytest.fail(message)
            pytest.skip(message)


def write_openmetrics(series: Iterable[SeriesLike], path: Path) -> None:
    """Write series as OpenMetrics text with timestamps."""
    with path.open("w", encoding="utf-8") as file:
        for one in series:
            pairs = ",".join(f'{label}="{_escape(value)}"' for label, value in one.labels)
            head = f"{one.name}{{{pairs}}}" if pairs else one.name
            file.writelines(
                f"{head} {_number(value)} {moment:.3f}\n" for moment, value in zip(one.times, one.values, strict=True)
            )
        file.write("# EOF\n")


def backfill(path: Path, data_directory: Path) -> None:
    """Make blocks of an OpenMetrics file; a file without samples makes none.

    Raises:
        RuntimeError: promtool refused the file; the message carries its words.
    """
    data_directory.mkdir(parents=True, exist_ok=True)
    # The file is read once for each block: blocks of 31 days, not of 2 hours, make that once or twice.
    command = [
        "promtool",
        "tsdb",
        "create-blocks-from",
        "--max-block-duration=744h",
        "openmetrics",
        "--quiet",
    ]
    done = subprocess.run(
        [*command, str(path), str(data_directory)], capture_output=True, text=True, timeout=120, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"promtool could not read {path.name}: {done.stderr.strip()[-500:]}")


class PrometheusServer:
    """A Prometheus on the loopback interface over a folder of blocks; use it with ``with``.

    Args:
        data_directory: What `backfill` wrote.
        port: 0 takes a free one.
        web_config: Text of a ``--web.config.file``, for TLS and basic authentication.
        arguments: Further arguments of the command line.
    """

    def __init__(
        self,
        data_directory: Path,
        port: int = 0,
        *,
        web_config: str | None = None,
        arguments: tuple[str, ...] = (),
    ) -> None:
        """Keep what to start; nothing runs yet."""
        self.data_directory = data_directory
        self.port = port
        self._web_config = web_config
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Return where it answers."""
        scheme = "https" if "tls_server_config" in (self._web_config or "") else "http"
        return f"{scheme}://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """Return the process id while it runs."""
        return self._process.pid if self._process else None

    def __enter__(self) -> PrometheusServer:
        """Start it and wait until it answers."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop it."""
        self.stop()

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            RuntimeError: It did not start; the message carries the end of its log.
        """
        wanted = self.port
        for attempt in range(5):
            self.port = wanted or free_port()
            log = self._launch()
            if self._await_ready(log):
                return
            text = log.read_bytes().decode("utf-8", "replace")
            self.stop()
            # Between finding a port free and taking it, another test may have taken it.
            if wanted or "address already in use" not in text or attempt == 4:
                raise RuntimeError(f"prometheus did not start: {text[-1500:]}")

    def stop(self) -> None:
        """Stop it and wait for its end."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _launch(self) -> Path:
        self.data_directory.mkdir(parents=True, exist_ok=True)
        (self.data_directory / "prometheus.yml").write_text("scrape_configs: []\n")
        command = [
            "prometheus",
            f"--config.file={self.data_directory / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.data_directory}",
            "--storage.tsdb.retention.time=100y",  # otherwise blocks older than 15 days go at start
            f"--web.listen-address=127.0.0.1:{self.port}",
            *self._arguments,
        ]
        if self._web_config is not None:
            (self.data_directory / "web.yml").write_text(self._web_config)
            command.append(f"--web.config.file={self.data_directory / 'web.yml'}")
        log = self.data_directory / "prometheus.log"
        with log.open("wb") as file:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT)
        return log

    def _await_ready(self, log: Path) -> bool:
        """Return whether it said that it is ready; its log says so even where its pages want a password."""
        ends_at = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < ends_at and self._process is not None and self._process.poll() is None:
            if _READY in log.read_bytes():
                return True
            time.sleep(0.02)
        return False


@contextlib.contextmanager
def prometheus_serving(
    samples: str | Iterable[SeriesLike], *, web_config: str | None = None, arguments: tuple[str, ...] = ()
) -> Iterator[str]:
    """Serve samples (series, or OpenMetrics text ending in ``# EOF``); all is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="prometheus-", ignore_cleanup_errors=True) as folder:
        text = Path(folder) / "samples.txt"
        if isinstance(samples, str):
            text.write_text(samples, encoding="utf-8")
        else:
            write_openmetrics(samples, text)
        backfill(text, Path(folder) / "data")
        with PrometheusServer(Path(folder) / "data", web_config=web_config, arguments=arguments) as server:
            yield server.url


def free_port() -> int:
    """Return a port of the loopback interface that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}.get(repr(value), repr(value))
