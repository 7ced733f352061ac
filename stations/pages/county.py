"""The county's view: every station at a glance, what is open, what is late, what is oldest, and where."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response
from starlette.routing import BaseRoute

from schemas.vocabulary import Role
from sinks.database import reading
from stations.pages.queue import Load, by_area, loads, unacted
from stations.pages.shading import shaded
from stations.pages.site import Site, Visit

ROLES: Final[tuple[Role, ...]] = ("county", "admin")
#: What nobody need act on, on one page: to look over, not to work on.
SHORT: Final = 10


def routes(site: Site) -> list[BaseRoute]:
    """`/county`."""
    return [site.route("/county", _page, roles=ROLES)]


def _page(visit: Visit) -> Response:
    county, now = visit.county(), visit.pages.clock()
    with reading(visit.pages.desk.engine) as connection:
        found = loads(connection, county.id, now)
        areas = by_area(connection, county.id)
        closed, following = unacted(connection, county.id, visit.after(), SHORT)
    everything = [found.get(station) or Load(station, 0, 0, 0, 0, None) for station in county.stations]
    everything += [load for name, load in found.items() if name not in county.stations]
    # What is late first, then what is oldest: the page is read from the top.
    busy = sorted(
        (load for load in everything if load.open or load.work),
        key=lambda load: (-load.overdue, -load.urgent, load.oldest or now, load.station),
    )
    total = Load(
        "",
        sum(load.open for load in everything),
        sum(load.work for load in everything),
        sum(load.overdue for load in everything),
        sum(load.urgent for load in everything),
        min((load.oldest for load in everything if load.oldest is not None), default=None),
    )
    return visit.site.render(
        visit,
        "county.html",
        county=county,
        busy=busy,
        idle=[load.station for load in everything if not (load.open or load.work)],
        total=total,
        most=max((load.open + load.work for load in busy), default=0),
        unacted=closed,
        following=following,
        map=shaded(county.outlines, areas),
    )
