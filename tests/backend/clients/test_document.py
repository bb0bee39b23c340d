"""The OpenAPI document in the repository is the one that the app serves."""

from __future__ import annotations

import json

from app.main import api_document
from stakesim.paths import checkout

ROOT = checkout()
assert ROOT is not None


def test_the_document_is_what_the_app_serves() -> None:
    kept = json.loads((ROOT / "backend/openapi.json").read_text(encoding="utf-8"))
    assert kept == api_document(), "renew it: stakesim openapi --out backend/openapi.json"
