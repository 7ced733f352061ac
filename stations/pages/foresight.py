"""What would become of a text if it were taken now: the stages that need no memory, and the routing tree. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from schemas.records import Place, Tip
from schemas.times import format_time
from stations.pages.site import Likely, Preview
from streams.pipeline import Facts, analyse
from streams.stages.classify import Model
from streams.stages.county import County
from streams.stages.route import Case, route

#: The incidents that a draft may tell of, the likeliest first: whoever knows the recent ones says it.
LikelyOf = Callable[[Facts], Sequence[Likely] | None]


def foresee(county: County, model: Model, draft: dict[str, Any], now: int, likely: LikelyOf) -> Preview:
    """A submission as far as it is filled in -> its preview."""
    place = msgspec.convert(draft["place"], Place) if draft.get("place") else None
    tip = Tip(
        county=county.id,
        tip_id="draft",
        source=draft.get("source", "hotline:desk"),
        channel="hotline",
        text=draft["text"],
        received_at=format_time(now),
        place=place,
        category_hint=draft.get("category_hint"),
    )
    facts = analyse(county, model, tip)
    routed = route(county, _case(county, facts))
    where, said, known = facts.located, facts.classified, likely(facts)
    reasons = (*facts.reasons, *said.reasons, *where.reasons, *routed.reasons)
    return Preview(
        category=said.category,
        subtype=said.subtype,
        urgent=said.urgent,
        confidence=said.confidence,
        area=where.area,
        area_candidates=tuple(candidate.area for candidate in where.candidates[:5]),
        station=routed.station,
        cc=routed.cc,
        level=routed.level,
        due_at=None if routed.due_at is None else format_time(routed.due_at, county.offset_minutes),
        reasons=tuple({"kind": one.kind, "cue": one.cue, "detail": one.detail} for one in reasons),
        likely=None if known is None else tuple(known),
    )


def _case(county: County, facts: Facts) -> Case:
    said, where = facts.classified, facts.located
    cues = [found for cue in county.cues.values() if (found := cue.find(facts.normal.text))]
    return Case(
        category=said.category,
        subtype=said.subtype,
        urgent=said.urgent,
        confidence=said.confidence,
        area=where.area,
        precision=where.precision,
        candidates=where.candidates,
        cc_areas=where.cc_areas,
        flags=where.flags,
        zones=where.zones,
        channel=facts.tip.channel,
        source=facts.tip.source,
        text=" ".join(dict.fromkeys(cues)),
        link="new",
        occurred_at=facts.occurred_at,
        received_at=facts.received_at,
    )
