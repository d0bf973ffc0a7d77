"""Pictures of a kept demo (`make demo KEEP=1`), taken by Debian's Chromium: run by `make screenshots`, not by tests."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Final

from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

from rejeu.cli.homes import DEMO_HOME, stack_of
from rejeu.errors import RejeuError, StackError
from rejeu.local.stack.airflow_api import AirflowApi
from rejeu.local.stack.stack import Stack

PICTURES: Final = Path(__file__).parent / "pictures"
STREAM: Final = "crypto_rates"
SIZE: Final[ViewportSize] = {"width": 1400, "height": 860}
CHROMIUM: Final = ("chromium", "chromium-browser", "google-chrome")
FLAGS: Final = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")
SETTLE_MS: Final = 2_500
"""Airflow's pages draw their graphs after the network has fallen silent."""


def main() -> int:
    """Take every picture."""
    try:
        stack = stack_of(DEMO_HOME)
        airflow = AirflowApi(stack.ui_url, stack.login.user, stack.login.password)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=find_chromium(), args=list(FLAGS))
            take_all(open_airflow(browser, stack), stack.ui_url, airflow)
            browser.close()
    except RejeuError as error:
        print(f"rejeu: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def find_chromium() -> str:
    """Raises StackError where there is none: the tests need no browser, so nothing installs one."""
    found = next((path for name in CHROMIUM if (path := shutil.which(name))), None)
    if found is None:
        raise StackError("no Chromium is on the PATH: pictures need one; on Debian, apt-get install chromium")
    return found


def open_airflow(browser: Browser, stack: Stack) -> Page:
    """A page that is logged in."""
    page = browser.new_page(viewport=SIZE, device_scale_factor=1)
    page.goto(stack.ui_url)
    page.fill("input[name=username]", stack.login.user)
    page.fill("input[name=password]", stack.login.password)
    page.click("button[type=submit]")
    page.wait_for_url("**/")
    return page


def take_all(page: Page, url: str, airflow: AirflowApi) -> None:
    """The list of DAGs, and the newest run of each DAG of the stream as a graph."""
    take(page, f"{url}/dags", "dags")
    for part in ("batch", "live", "watchdog"):
        dag_id = f"{STREAM}.{part}"
        run_id = airflow.runs(dag_id)[0]["dag_run_id"]
        take(page, f"{url}/dags/{dag_id}/runs/{run_id}", part)
    take(page, f"{url}/dags/{STREAM}.stop", "stop")


def take(page: Page, address: str, name: str) -> None:
    page.goto(address)
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(SETTLE_MS)
    page.screenshot(path=PICTURES / f"{name}.png")
    print(f"{PICTURES.name}/{name}.png")


if __name__ == "__main__":
    sys.exit(main())
