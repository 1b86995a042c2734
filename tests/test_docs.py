"""Pages that are written from the code say what the code says."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import genctl.steering

DOCS = Path(__file__).parents[1] / "docs"


def test_the_page_on_json_schema_is_written_from_the_table_of_rules():
    spec = importlib.util.spec_from_file_location("json_schema_page", DOCS / "json_schema.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (DOCS / "json-schema.md").read_text(encoding="utf-8") == module.page(), "run `make docs`"


def test_the_page_on_steering_names_all_that_there_is():
    page = (DOCS / "steering.md").read_text(encoding="utf-8")
    assert {name for name in genctl.steering.__all__ if name not in page} <= {"Steered", "Auxiliary", "Term"}
