"""A choice in the grid reaches the strip and the map, and back, by pointer and by keyboard."""

import pytest
import xarray as xr

import slt_notebook as slt
from slt_notebook.views.base.widget import STATIC
from tests.estimators.components.test_structure import planted

pytestmark = pytest.mark.browser


def views():
    chi, _ = planted()
    chi = chi.assign(stderr=chi["chi"] * 0 + 0.5)
    chi = chi.assign_coords(component=[f"l{i}.h{j}" for i in (0, 1) for j in range(3)])
    focus = slt.Focus()
    weak = xr.DataArray([0.2, 0.9, 0.9, 0.9, 0.9, 0.9], {"component": chi.component.values},
                        ("component",))  # fmt: skip
    grid = slt.ComponentGrid(
        chi["chi"].mean(("example", "token")), tokens=chi["chi"], reliability=weak, focus=focus
    )
    return chi, grid, slt.component_strip(chi, focus=focus), focus


def test_a_click_chooses_the_component_everywhere(show):
    chi, grid, strip, _ = views()
    page = show(grid, strip)
    cell = page.get_by_role("button", name="l1.h2")
    cell.click()
    assert cell.get_attribute("aria-pressed") == "true"
    picker = page.get_by_label("Metric")
    assert picker.evaluate("s => s.selectedOptions[0].textContent") == "chi of l1.h2"
    # It also goes to the token that contributes most.
    at = page.locator(".strip [data-at]")
    assert at.count() == 1
    picker.select_option("chi of l0.h1")
    assert page.get_by_role("button", name="l0.h1").get_attribute("aria-pressed") == "true"
    assert cell.get_attribute("aria-pressed") == "false"


def test_the_keyboard_moves_from_cell_to_cell(show):
    _, grid, strip, _ = views()
    page = show(grid, strip)
    first = page.get_by_role("button", name="l0.h0")
    first.focus()
    for key in ("ArrowRight", "ArrowDown", "Enter"):
        page.keyboard.press(key)
    assert page.get_by_role("button", name="l1.h1").get_attribute("aria-pressed") == "true"
    assert page.get_by_role("button", name="l1.h1").get_attribute("tabindex") == "0"
    assert first.get_attribute("tabindex") == "-1"
    assert "l1.h1" in page.locator(".grid [role=status]").text_content()


def test_weak_cells_are_striped_and_say_so(show):
    _, grid, strip, _ = views()
    page = show(grid, strip)
    cell = page.get_by_role("button", name="l0.h0")
    assert "mut" in cell.get_attribute("class")
    assert "low split-half reliability" in cell.get_attribute("aria-label")
    assert "1 with low split-half" in page.locator(".grid .legend").inner_text()


def test_hostile_names_are_text(show):
    name = "<img src=x onerror=window.hit=1>"
    grid = slt.ComponentGrid(
        xr.DataArray([1.0, 2.0], {"component": [name, "l0.h0"]}, ("component",))
    )
    page = show(grid)
    assert page.evaluate("window.hit") is None
    assert page.get_by_role("button", name="<img").count() == 1


def test_the_bundle_is_small():
    assert (STATIC / "grid.js").stat().st_size < 40_000
