"""What people see: the reporter's page, the officer's console, the hotline desk, the county's view, statistics, ops.

Server-rendered and workable without a script; live with it. `Site`, its `http_error` and `page_routes` are all that the
shell needs.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from stations.pages import console, county, hotline, incident, ops, report, session, statistics
from stations.pages.site import Likely, Ops, Pages, Part, Preview, Site, Take

__all__ = ["Likely", "Ops", "Pages", "Part", "Preview", "Site", "Take", "page_routes"]


def page_routes(site: Site) -> list[BaseRoute]:
    """All pages. They answer their own errors as pages; other paths are the app's."""
    rooms = (report, session, console, incident, hotline, county, statistics, ops)
    return [*(route for room in rooms for route in room.routes(site)), _static(site)]


def _static(site: Site) -> BaseRoute:
    async def asset(request: Request) -> Response:
        found = site.assets.get(request.path_params["name"])
        headers = site.headers(request.url.scheme == "https")
        if found is None or request.path_params["name"] == "worker.js":
            return Response("not found", 404, headers)
        fixed = request.query_params.get("v") == found.version
        headers["cache-control"] = "public, max-age=31536000, immutable" if fixed else "no-cache"
        headers |= {"vary": "Accept-Encoding", "etag": f'"{found.version}"'}
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(found.packed, headers={**headers, "content-encoding": "gzip"}, media_type=found.kind)
        return Response(found.body, headers=headers, media_type=found.kind)

    return Route("/static/{name:path}", asset, methods=["GET"])
