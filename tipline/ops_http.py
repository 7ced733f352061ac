"""What ops and tools read over HTTP: health, metrics, the API's description and its offline page."""

from __future__ import annotations

import hashlib
import html
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from sinks import web
from streams.ports import Authority


class Health:
    """What `/readyz` asks: named checks, each returning None when well or a sentence when not."""

    def __init__(self) -> None:
        self.checks: dict[str, Callable[[], str | None]] = {}

    def failing(self) -> dict[str, str]:
        """The checks that are not well, with their sentence."""
        found: dict[str, str] = {}
        for name, check in self.checks.items():
            try:
                problem = check()
            except Exception as error:  # a check that cannot be made is a failing check
                problem = type(error).__name__
            if problem:
                found[name] = problem
        return found


def ops_routes(health: Health, render_metrics: Callable[[], bytes], authority: Authority) -> list[Route]:
    """`/healthz /readyz /metrics /openapi.json /docs`. Metrics: from this machine, or with an ops token."""

    async def healthz(_: Request) -> Response:
        return Response(b'{"status":"ok"}', media_type="application/json")

    async def readyz(_: Request) -> Response:
        failing = health.failing()
        document: dict[str, Any] = {"status": "unready", "failing": sorted(failing)} if failing else {"status": "ready"}
        return Response(
            orjson.dumps(document),
            503 if failing else 200,
            {"retry-after": "5"} if failing else None,
            "application/json",
        )

    async def metrics(request: Request) -> Response:
        if request.client is None or request.client.host not in ("127.0.0.1", "::1"):
            web.bearer(request, authority, ("ops", "admin"))
        return Response(render_metrics(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def openapi(_: Request) -> Response:
        return Response(orjson.dumps(openapi_document()), media_type="application/json")

    async def docs(_: Request) -> Response:
        page, style_hash = docs_page()
        policy = f"default-src 'none'; style-src 'sha256-{style_hash}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        return HTMLResponse(
            page,
            headers={
                "content-security-policy": policy,
                "x-content-type-options": "nosniff",
                "referrer-policy": "no-referrer",
            },
        )

    def guarded(endpoint: web.Endpoint) -> web.Endpoint:
        return web.guarded(endpoint, lambda: "ops")

    return [
        Route("/healthz", guarded(healthz)),
        Route("/readyz", guarded(readyz)),
        Route("/metrics", guarded(metrics)),
        Route("/openapi.json", guarded(openapi)),
        Route("/docs", guarded(docs)),
    ]


@cache
def openapi_document() -> dict[str, Any]:
    """The OpenAPI 3.1 document, from `schemas/openapi.yaml`."""
    import yaml

    document: dict[str, Any] = yaml.safe_load(files("schemas").joinpath("openapi.yaml").read_text("utf-8"))
    return document


_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1c2430;background:#fff}"
    "h2{margin:1.6rem 0 .2rem;font-size:1rem;font-family:ui-monospace,monospace}h2 b{display:inline-block;min-width:4rem;color:#0b5cad}"
    "p{margin:.2rem 0}code{background:#eef2f6;padding:0 .3em;border-radius:3px}@media(prefers-color-scheme:dark){body{background:#12161c;color:#dfe6ee}h2 b{color:#7ab8ff}code{background:#26303b}}"
)


@cache
def docs_page() -> tuple[str, str]:
    """A page that lists every operation, and the hash of its style for the policy. No script, nothing from elsewhere."""
    import base64

    document = openapi_document()
    rows = []
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if method not in ("get", "post", "put", "delete", "patch"):
                continue
            roles = ", ".join(operation.get("x-roles", ())) or "no token"
            answers = ", ".join(f"<code>{html.escape(str(code))}</code>" for code in operation.get("responses", {}))
            rows.append(
                f"<h2><b>{method.upper()}</b> {html.escape(path)}</h2><p>{html.escape(operation.get('summary', ''))}</p>"
                f"<p>{html.escape(operation.get('description', ''))}</p><p>Roles: {html.escape(roles)}. Answers: {answers}</p>"
            )
    title = html.escape(document["info"]["title"])
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1"><title>{title}</title><style>{_STYLE}</style></head>'
        f'<body><h1>{title}</h1><p>The whole description for programs: <a href="/openapi.json">/openapi.json</a></p>{"".join(rows)}</body></html>'
    )
    return page, base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
