"""A browser, where there is one, and a page of the site, parsed."""

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from conftest import ROOT

from walls.project import site

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)
# How tests start it: without a window, and without a network.
HEADLESS = (
    CHROMIUM,
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--host-resolver-rules=MAP * ~NOTFOUND",
)

KEYS = {"Tab": 9, "End": 35, "Home": 36}
KEYS |= {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}


def built(root: Path, heat: str = "magma", **tried: str) -> Path:
    """The page to try of the committed run's site, with these files for it (play, sweep) alone, in
    another colour map.
    """
    for part in ("figures", "metrics", "rendered"):
        shutil.copytree(ROOT / part, root / part)
    for name in ("dvc.yaml", "dvc.lock"):
        shutil.copyfile(ROOT / name, root / name)
    params = (ROOT / "params.yaml").read_text(encoding="utf-8")
    assert "\nheat: magma" in params
    chosen = params.replace("\nheat: magma", f"\nheat: {heat}")
    (root / "params.yaml").write_text(chosen, encoding="utf-8")
    for name in ("play", "sweep"):
        (root / "figures" / f"{name}.json").unlink(missing_ok=True)
    for name, text in tried.items():
        (root / "figures" / f"{name}.json").write_text(text, encoding="utf-8")
    site.build(root, root / "site")
    return root / "site" / "try.html"


class Parsed(HTMLParser):
    """A page's ids, links, everything it loads, and its visible text outside code."""

    def __init__(self, text: str):
        super().__init__()
        self.ids, self.links, self.loads, self.tags, self.text, self.inside = (
            set(),
            [],
            [],
            [],
            "",
            [],
        )
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags.append((tag, values))
        self.ids.add(values.get("id"))
        self.links += [values["href"]] if tag == "a" and "href" in values else []
        self.loads += [
            values[key]
            for key in ("src", "srcset", "href", "data", "poster")
            if tag != "a" and key in values
        ]
        if tag in ("pre", "code", "script", "style"):
            self.inside.append(tag)

    def handle_endtag(self, tag):
        if self.inside and self.inside[-1] == tag:
            self.inside.pop()

    def handle_data(self, data):
        self.text += "" if self.inside else data


class Browser:
    """One page in headless Chromium, as wide as a phone, without a network, driven through its
    debugging pipe.
    """

    def __init__(self, url: str, profile):
        (ours, self.pen), (self.eye, theirs) = os.pipe(), os.pipe()
        command = [
            *HEADLESS,
            f"--user-data-dir={profile}",
            "--remote-debugging-pipe",
        ]
        wired = ["bash", "-c", f'exec "$@" 3<&{ours} 4>&{theirs}', "bash", *command]
        self.process = subprocess.Popen(wired, pass_fds=(ours, theirs), stderr=subprocess.DEVNULL)
        os.close(ours), os.close(theirs)
        self.number, self.session, self.heard, self.events = 0, None, b"", []
        self.watch = threading.Timer(300, self.process.kill)
        self.watch.start()
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]
        for domain in ("Runtime", "Log", "Network", "Page"):
            self.call(f"{domain}.enable")
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=375,
            height=667,
            deviceScaleFactor=1,
            mobile=False,
        )
        self.call("Page.navigate", url=url)
        while not self.run("location.href !== 'about:blank' && document.readyState === 'complete'"):
            pass

    def call(self, method: str, **params) -> dict:
        self.number += 1
        session = {"sessionId": self.session} if self.session else {}
        os.write(
            self.pen,
            json.dumps({"id": self.number, "method": method, "params": params, **session}).encode()
            + b"\0",
        )
        while (message := self.next()).get("id") != self.number:
            self.events.append(message)
        assert "result" in message, message
        return message["result"]

    def next(self) -> dict:
        while b"\0" not in self.heard:
            part = os.read(self.eye, 1 << 16)
            assert part, "the browser is gone"
            self.heard += part
        message, _, self.heard = self.heard.partition(b"\0")
        return json.loads(message)

    def run(self, script: str):
        result = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def press(self, key: str):
        for kind in ("rawKeyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=KEYS[key],
            )

    def noise(self) -> list:
        """What the page threw, logged or said on the console, and what it asked of others."""
        kinds = ("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled")
        found = [event for event in self.events if event.get("method") in kinds]
        asked = [
            event["params"]["request"]["url"]
            for event in self.events
            if event.get("method") == "Network.requestWillBeSent"
        ]
        assert asked, "no request seen, not even for the page"
        return found + [url for url in asked if not url.startswith(("file:", "data:"))]

    def close(self):
        self.watch.cancel()
        self.process.kill()
        self.process.wait()


def opened(file: Path, profile: Path) -> Iterator[Browser]:
    """A page in a browser that is closed afterwards; skips where there is no Chromium."""
    if CHROMIUM is None:
        pytest.skip("no Chromium here: the page was checked, but not opened in a browser")
    found = Browser(file.as_uri(), profile)
    yield found
    found.close()
