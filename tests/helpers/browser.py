"""A browser that reaches no network, for tests that look at a page."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.webdriver import WebDriver

# Whatever asks for a host but this one fails; most switches stop calls of Chromium's own.
CHROMIUM = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


@contextmanager
def open_chromium(profile: Path) -> Iterator[WebDriver]:
    """Yield a driver of the installed Chromium; skip the test, saying why, where it is absent."""
    programs = [Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")]
    if not all(program.is_file() for program in programs):
        pytest.skip("no Chromium here: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = str(programs[0])
    for switch in (*CHROMIUM, f"--user-data-dir={profile}"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(str(programs[1])))
    try:
        yield driver
    finally:
        driver.quit()
