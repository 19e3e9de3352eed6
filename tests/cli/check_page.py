#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks a report page: check_page.py FILE. Well-formed, self-contained, with everything that a person looks for.

Where a headless Chromium is installed, the page is drawn as well, and the picture must hold more than one colour.
"""
import html.parser
import os
import re
import shutil
import subprocess
import sys
import tempfile

VOID = {"meta", "link", "br", "hr", "img", "input", "rect", "line", "path", "circle", "polyline", "use", "stop"}


class Page(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.faults, self.tags = [], [], {}
        self.links = []

    def handle_starttag(self, tag, attributes):
        self.tags[tag] = self.tags.get(tag, 0) + 1
        self.links += [value for name, value in attributes if name in ("src", "href", "xlink:href") and value]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags[tag] = self.tags.get(tag, 0) + 1

    def handle_endtag(self, tag):
        if tag in VOID:
            return
        if not self.open or self.open[-1] != tag:
            self.faults.append(f"</{tag}> closes {self.open[-1:] or 'nothing'} at {self.getpos()}")
        else:
            self.open.pop()


def drawn(path):
    """None where there is no browser, else whether the picture has more than one colour."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not browser:
        return None
    with tempfile.TemporaryDirectory() as folder:
        picture = os.path.join(folder, "page.png")
        subprocess.run([browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}/profile",
                        "--window-size=1200,1600", f"--screenshot={picture}", "file://" + os.path.abspath(path)],
                       capture_output=True, timeout=50, check=False)
        return os.path.exists(picture) and os.path.getsize(picture) > 20_000


def main():
    text = open(sys.argv[1], encoding="utf-8").read()
    page = Page()
    page.feed(text)
    faults = page.faults + [f"<{t}> is never closed" for t in page.open]
    if not text.lower().startswith("<!doctype html>"):
        faults.append("no doctype")
    if not re.search(r'<html[^>]* lang="', text):
        faults.append("no language")
    faults += [f"refers to {link}" for link in page.links if not link.startswith(("#", "data:"))]
    if re.search(r"@import|url\((?!['\"]?(data:|#))", text):
        faults.append("styles load something")
    for tag, least in (("h1", 1), ("svg", 2), ("table", 2), ("th", 5), ("rect", 20), ("title", 1)):
        if page.tags.get(tag, 0) < least:
            faults.append(f"{page.tags.get(tag, 0)} <{tag}>, expected at least {least}")
    for words in ("prefers-color-scheme", "@media print"):
        if words not in text:
            faults.append(f"no {words}")
    if len(text) > 2_000_000:
        faults.append(f"{len(text)} bytes")
    if drawn(sys.argv[1]) is False:
        faults.append("the browser drew nothing")
    print("\n".join(faults) if faults else "page holds")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
