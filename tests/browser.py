"""A headless Chromium, driven by the DevTools protocol over a pipe: it needs no further package and no port."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from select import select
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 120.0  # seconds; a busy machine takes long to start a browser
# Nothing outside the page may be asked for, and nothing of the user's own profile is read.
OPTIONS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-extensions",
    "--disable-background-networking", "--disable-component-update", "--hide-scrollbars", "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
)  # fmt: skip


def chromium() -> str | None:
    """The path of a Chromium; None if none is installed."""
    return next((found for found in map(shutil.which, NAMES) if found), None)


class Tab:
    """A tab. problems: console errors, exceptions, refusals of the security policy, and requests of the network."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands, self._answers = commands, answers
        self._text, self._count, self._session = b"", 0, ""
        self._events: list[dict[str, Any]] = []
        self.problems: list[str] = []
        target = self._call("Target.createTarget", {"url": "about:blank"})["targetId"]
        self._session = self._call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")
        self._call("Performance.enable", {"timeDomain": "threadTicks"})

    def _call(self, method: str, arguments: Mapping[str, Any] | None = None) -> dict[str, Any]:
        self._count += 1
        message = {"id": self._count, "method": method, "params": dict(arguments or {})}
        message |= {"sessionId": self._session} if self._session else {}
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._count:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return dict(answer["result"])
            self._note(answer)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._text:
            ready, _, _ = select([self._answers], [], [], PATIENCE)
            if not ready:
                raise TimeoutError(f"expected an answer of Chromium within {PATIENCE:.0f} s, found none")
            self._text += os.read(self._answers, 1 << 20)
        line, self._text = self._text.split(b"\0", 1)
        return dict(json.loads(line))

    def _note(self, event: dict[str, Any]) -> None:
        method, given = event.get("method"), event.get("params", {})
        self._events.append(event)
        if method == "Runtime.exceptionThrown":
            self.problems.append(given["exceptionDetails"].get("exception", {}).get("description", "exception"))
        elif method == "Runtime.consoleAPICalled" and given["type"] in ("error", "warning"):
            self.problems.append(str(given["args"]))
        elif method == "Log.entryAdded" and given["entry"]["level"] in ("error", "warning"):
            self.problems.append(given["entry"]["text"])
        elif method == "Network.requestWillBeSent" and not given["request"]["url"].startswith(("file:", "data:")):
            self.problems.append(f"request: {given['request']['url']}")

    def open(self, path: Path) -> None:
        """Loads a file and waits until it is there."""
        self._events.clear()
        self._call("Page.navigate", {"url": path.resolve().as_uri()})
        while not any(event.get("method") == "Page.loadEventFired" for event in self._events):
            self._note(self._next())

    def js(self, expression: str) -> Any:
        """The value of an expression in the page."""
        given = {"expression": expression, "returnByValue": True, "awaitPromise": True}
        answer = self._call("Runtime.evaluate", given)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def busy(self) -> float:
        """Milliseconds of computing time that scripts, styles and layout have taken so far."""
        found = {one["name"]: one["value"] for one in self._call("Performance.getMetrics")["metrics"]}
        return 1000 * float(sum(found[f"{part}Duration"] for part in ("Script", "RecalcStyle", "Layout")))

    def press(self, key: str) -> None:
        """A key, as a person presses it; printable ones aren't needed."""
        codes = {"Enter": 13, "Escape": 27, "Tab": 9, "ArrowRight": 39, "ArrowDown": 40, "ArrowLeft": 37, "ArrowUp": 38}
        given = {"key": key, "code": key, "windowsVirtualKeyCode": codes[key]}
        text = {"text": "\r"} if key == "Enter" else {}
        self._call("Input.dispatchKeyEvent", {"type": "keyDown", **given, **text})
        self._call("Input.dispatchKeyEvent", {"type": "keyUp", **given})

    def resize(self, width: int, height: int = 900) -> None:
        """A window of so many pixels; a narrow one is that of a phone."""
        given = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self._call("Emulation.setDeviceMetricsOverride", given)

    def prefer(self, scheme: str) -> None:
        """What the person likes: "dark" or "light"."""
        self._call("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})

    def screenshot(self, path: Path, whole: bool = False) -> None:
        """The window as PNG, or the whole page."""
        shot = self._call("Page.captureScreenshot", {"format": "png", "captureBeyondViewport": whole})
        path.write_bytes(base64.b64decode(shot["data"]))

    def pdf(self, path: Path) -> None:
        """The page as printed on A4."""
        given = {"paperWidth": 8.27, "paperHeight": 11.69, "printBackground": True}
        path.write_bytes(base64.b64decode(self._call("Page.printToPDF", given)["data"]))


@contextmanager
def browser_tab(profile: Path, options: Sequence[str] = ()) -> Iterator[Tab]:
    """A tab of a new browser, which ends with the context. profile: an empty folder."""
    program = chromium()
    assert program is not None
    commands_out, commands_in = os.pipe()
    answers_out, answers_in = os.pipe()
    # The browser reads from descriptor 3 and writes to 4; copies above them can be moved there in any order.
    ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (commands_out, answers_in)]

    def connect() -> None:
        os.dup2(ends[0], 3)
        os.dup2(ends[1], 4)

    command = [program, *OPTIONS, f"--user-data-dir={profile}", *options, "about:blank"]
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(
        command, preexec_fn=connect, pass_fds=(3, 4), env={**os.environ, "HOME": str(profile)}, **quiet
    )
    for end in (commands_out, answers_in, *ends):
        os.close(end)
    try:
        yield Tab(commands_in, answers_out)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        os.close(commands_in)
        os.close(answers_out)
