from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from selenium.common.exceptions import TimeoutException
from selenium.webdriver import ActionChains
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.expected_conditions import visibility_of
from selenium.webdriver.support.ui import WebDriverWait

from tests.judge.conftest import TRAINED_ON

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(params=[1400, 390])
def page(server: str, chromium: WebDriver, request: pytest.FixtureRequest) -> WebDriver:
    size = {"width": request.param, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    chromium.get(server)
    chromium.get_log("browser")  # type: ignore[no-untyped-call] # it has no types
    return chromium


def choose(page: WebDriver, files: list[Path]) -> list[WebElement]:
    """Choose files; return their results when all are judged."""
    page.find_element(By.ID, "files").send_keys("\n".join(map(str, files)))
    return judged(page, len(files))


def judged(page: WebDriver, count: int) -> list[WebElement]:
    """Return the results when so many are there."""
    done = f"{count} judged"
    WebDriverWait(page, 120).until(lambda p: p.find_element(By.ID, "status").text.startswith(done))
    return page.find_elements(By.CSS_SELECTOR, ".result")


def has_no_fault(page: WebDriver) -> None:
    assert page.get_log("browser") == []  # type: ignore[no-untyped-call] # it has no types
    widths = "return [document.documentElement.scrollWidth, window.innerWidth]"
    content, window = page.execute_script(widths)
    assert content <= window


def test_pictures_have_verdicts_details_and_a_heatmap(page: WebDriver, images: Path) -> None:
    paths = [*sorted(images.rglob("*.jpg"))[:2], images / "<img src=x>.jpg"]
    paths[2].write_bytes(b"\xff\xd8\xff no picture")
    first, _, broken = choose(page, paths)
    assert first.find_element(By.CSS_SELECTOR, ".name").text == paths[0].name
    assert "probability that it was generated" in first.text
    assert broken.find_element(By.CSS_SELECTOR, ".name").text == "<img src=x>.jpg"
    assert "Not judged: " in broken.text
    first.find_element(By.CSS_SELECTOR, ".more").click()
    heat = first.find_element(By.CSS_SELECTOR, ".heat")
    WebDriverWait(page, 60).until(lambda _: heat.is_displayed())
    assert page.execute_script("return arguments[0].naturalWidth", heat) > 0
    first.find_element(By.CSS_SELECTOR, "summary").click()
    assert "generated pictures are called right in 50% of the tests" in first.text
    near = first.find_elements(By.CSS_SELECTOR, ".neighbours img")
    wide = "return arguments[0].naturalWidth"
    WebDriverWait(page, 60).until(lambda p: all(p.execute_script(wide, image) for image in near))
    assert len(near) > 0
    # What is no picture has no preview, which a browser notes.
    page.get_log("browser")  # type: ignore[no-untyped-call] # it has no types
    has_no_fault(page)


def dropped(page: WebDriver, files: list[Path]) -> bool:
    """Drop files; return whether the browser took them.

    It ignores a drop that comes before it has heard from the page that one is allowed there.
    """
    data = {"items": [], "files": list(map(str, files)), "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):  # as the browser gets them from the system
        event = {"type": kind, "x": 40, "y": 500, "data": data}
        page.execute_cdp_cmd("Input.dispatchDragEvent", event)
        if kind == "dragOver":
            WebDriverWait(page, 10).until(lambda p: p.find_elements(By.CSS_SELECTOR, "body.over"))
    wait = WebDriverWait(page, 5)
    try:
        return bool(wait.until(lambda p: p.find_element(By.ID, "status").text))
    except TimeoutException:
        return False


def test_pictures_are_dropped_anywhere(page: WebDriver, images: Path) -> None:
    paths = sorted(images.rglob("*.jpg"))[:2]
    WebDriverWait(page, 60).until(lambda p: dropped(p, paths))
    results = judged(page, 2)
    names = [result.find_element(By.CSS_SELECTOR, ".name").text for result in results]
    assert names == [path.name for path in paths]
    assert all("probability" in result.text for result in results)
    has_no_fault(page)


def test_it_says_first_what_the_detector_was_trained_on(page: WebDriver) -> None:
    assert page.find_element(By.TAG_NAME, "body").text.splitlines()[0] == TRAINED_ON


def test_fifty_pictures_at_once(page: WebDriver, tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(50)]
    for number, path in enumerate(paths):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    results = choose(page, paths)
    assert len(results) == 50
    assert all("probability" in result.text for result in results)
    has_no_fault(page)


def test_a_keyboard_is_enough(page: WebDriver, images: Path) -> None:
    choose(page, [min(images.rglob("*.jpg"))])
    page.execute_script("document.activeElement.blur()")
    reached = []
    for _ in range(12):
        ActionChains(page).send_keys(Keys.TAB).perform()
        active = page.switch_to.active_element
        reached.append(active.get_attribute("id") or active.get_attribute("class") or active.text)
        if active.get_attribute("class") == "more":
            ActionChains(page).send_keys(Keys.ENTER).perform()
            heat = page.find_element(By.CSS_SELECTOR, ".heat")
            WebDriverWait(page, 60).until(visibility_of(heat))
        if active.text == "Details":
            ActionChains(page).send_keys(Keys.ENTER).perform()
            assert page.find_element(By.CSS_SELECTOR, ".facts").is_displayed()
            break
    assert "more" in reached
    assert "Details" in reached
    status = page.find_element(By.ID, "status")
    assert status.get_attribute("aria-live") == "polite"
    silent = "return [...document.images].filter(i => !i.alt && !i.matches('[hidden], .preview'))"
    assert page.execute_script(silent) == []


@pytest.mark.parametrize("path", ["/card", "/api/docs"])
def test_the_other_pages_fit_too(page: WebDriver, server: str, path: str) -> None:
    page.get(server + path)
    WebDriverWait(page, 30).until(lambda p: p.find_elements(By.TAG_NAME, "table"))
    has_no_fault(page)
