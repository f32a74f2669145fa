"""A browser, where there is one, and a page of the site, parsed."""

import shutil
from html.parser import HTMLParser

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
