"""A picture of `eggan serve` at work, by Chromium: an example made happy.

Run from the repository while the page is served: python examples/page.py OUT.png [WIDTH]
"""

import shutil
import sys

from playwright.sync_api import sync_playwright


def main(out: str, width: int) -> None:
    """Click an example and an emotion, wait for the edit, write what is seen."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": width, "height": 1140})
        tab.goto("http://127.0.0.1:7860")
        tab.get_by_role("button", name="Example 5").click()
        first = tab.locator("#result img").get_attribute("src", timeout=60_000)
        strength = tab.locator("#strength").get_by_role("spinbutton")
        strength.fill("0.6")
        tab.get_by_role("button", name="Happy").click()
        tab.wait_for_function("first => document.querySelector('#result img').src !== first", arg=first)
        tab.locator("#result img").evaluate("image => image.decode()")
        tab.mouse.move(0, 0)
        tab.evaluate("document.activeElement.blur()")
        tab.screenshot(path=out)
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1280)
