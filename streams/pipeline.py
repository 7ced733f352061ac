"""The fold: a county's input, record by record, into decisions. Pure: no clock, no I/O, no randomness.

One decision record holds the answer for a tip and, under `memory`, the change it made to the state, so that the state is
rebuilt from the decisions alone (`Fold.restore`). A record that changes the state but no tip writes a `StateChange`.
Whatever a record changes for earlier tips is written as a new revision of each (cause `late_tip`, `merge`, `split`, ...).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import groupby
from typing import Any, Final, NamedTuple

import msgspec

from schemas.records import (
    AreaCandidate,
    Change,
    Closure,
    Correction,
    Decision,
    Input,
    MergedIncident,
    Output,
    Place,
    Reason,
    StateChange,
    Tip,
    Versions,
    tip_id_of,
)
from schemas.times import DAY, MINUTE, format_time, parse_time
from schemas.vocabulary import NO_ACTION, SUBTYPES, Category, Link
from streams.ports import Bundle, Recall
from streams.stages import group, pair, traits
from streams.stages.classify import Classified, Model, classify
from streams.stages.county import County, compile_county
from streams.stages.extract import Extracted, extract
from streams.stages.group import Groups, Incident, Placed, Thresholds
from streams.stages.leading import Kind, certainty, leading
from streams.stages.locate import Located, Precision, locate
from streams.stages.normalise import Normal, normalise
from streams.stages.route import Case, Routed, route
from streams.stages.traits import Traits

#: Version of the code that decides; goes up when the same input may give other decisions.
CORE: Final = "3"
SCHEMA: Final = "1"

#: A new tip changes the count of the others; in an incident larger than this only the first and the new one are revised for it.
REVISED_TOGETHER: Final = 32
#: Of so many of these what their tips tell is kept.
_MOST_STORMS: Final = 64
LATEST: Final = 5 * MINUTE
EARLIEST: Final = 90 * DAY

#: Finds a model by its digest; raises LookupError when it is not at hand.
ModelByDigest = Callable[[str], Model]


class FoldFailed(Exception):
    """Deciding the record at `position` raised: our fault, not the record's. The state must be rebuilt."""

    def __init__(self, position: int, cause: Exception) -> None:
        super().__init__(f"position {position}: {type(cause).__name__}")
        self.position = position


class Facts(msgspec.Struct, frozen=True):
    """What one tip says by itself, before any other tip is looked at."""

    tip: Tip
    normal: Normal
    classified: Classified
    extracted: Extracted
    located: Located
    occurred_at: int
    reported_at: int
    #: Report and incident time for telling gaps between tips: as told, even where the decision clamps it, so that a file of
    #: old reports is not taken for one moment; only the future is cut.
    gap_reported_at: int
    gap_occurred_at: int
    received_at: int
    #: The channel's words for the place, normalised; empty without any.
    place_words: str
    reasons: tuple[Reason, ...]


class Shown(msgspec.Struct, frozen=True):
    """What an incident's decisions say alike."""

    routed: Routed
    corroborations: int
    pattern_id: str | None
    category: Category
    subtype: str | None
    urgent: bool
    area: str | None
    master: str
    link: Link
    link_to: str | None


class _Occasion(msgspec.Struct, frozen=True):
    """What makes decisions be written: a record at a position, and the new tip if it is one."""

    position: int
    cause: str
    first: Decision | None
    traits: Traits | None
    merged: tuple[MergedIncident, ...]
    versions: Versions


def analyse(county: County, model: Model, tip: Tip) -> Facts:
    """One tip through the stages that need no memory."""
    received = parse_time(tip.received_at)
    reasons: list[Reason] = []
    gap_reported = parse_time(tip.reported_at) if tip.reported_at else received
    reported = _clamped("reported_at", gap_reported, received, reasons)
    gap_reported = min(gap_reported, reported) if gap_reported < received else reported
    normal = normalise(tip.text)
    if normal.forwarded:
        reasons.append(Reason("normalise", "forwarded", "a forward: its mark is not matched"))
    extracted = extract(normal.text, gap_reported, county.offset_minutes)
    gap_occurred, occurred = gap_reported, reported
    if tip.occurred_at:
        gap_occurred = parse_time(tip.occurred_at)
        occurred = _clamped("occurred_at", gap_occurred, received, reasons)
        gap_occurred = min(gap_occurred, occurred) if gap_occurred < received else occurred
    elif extracted.told_at is not None:
        gap_occurred = extracted.told_at
        occurred = max(gap_occurred, received - EARLIEST)
        reasons.append(Reason("time", format_time(gap_occurred, county.offset_minutes), "told in the text"))
    classified = classify(model, normal.text, tip.channel, tip.category_hint)
    place = tip.place
    words = _plain_words(place.text) if place is not None and place.text else ""
    if words and place is not None:
        place = Place(text=words, lat=place.lat, lon=place.lon, area=place.area)
    located = locate(county, normal.text, place, tip.source)
    if located.area is None and normal.whole is not normal.text:
        located = locate(county, normal.whole, place, tip.source)
    return Facts(tip, normal, classified, extracted, located, occurred, reported, gap_reported, gap_occurred, received, words, tuple(reasons))


@lru_cache(maxsize=4096)
def _plain_words(text: str) -> str:
    """A place's words in plain form; few places are named over and over."""
    return normalise(text).text


def _clamped(name: str, told: int, received: int, reasons: list[Reason]) -> int:
    """Times of a channel are taken within 5 min after and 90 days before receipt."""
    if told > received + LATEST:
        reasons.append(Reason("clamped", name, "lies more than 5 min after receipt: receipt counts"))
        return received
    if told < received - EARLIEST:
        reasons.append(Reason("clamped", name, "lies more than 90 days before receipt: 90 days count"))
        return received - EARLIEST
    return told


class Fold:
    """The decisions of one county. Feed records in order; every answer follows from the records before it."""

    def __init__(self, bundle: Bundle, model: Model, recall: Recall, models: ModelByDigest | None = None) -> None:
        """`bundle` and `model` are in force until a `Change` says otherwise. `recall` finds decisions written before."""
        self._recall = recall
        self._models = models
        self.model = model
        self._use_county(bundle)
        self.groups = Groups(model.pair_weights, _thresholds(self.county, self.model))
        #: Decisions of the batch at hand, which `recall` cannot know yet.
        self._fresh: dict[str, Decision] = {}
        #: What the next tips of the batch say by themselves.
        self._read: dict[str, tuple[Facts, Traits]] = {}
        #: Of the latest large incidents, what their tips tell; only a saving of work.
        self._storms: dict[str, Tale] = {}
        #: Keys of records other than tips that took effect: redelivered ones do nothing more.
        self._decided: set[str] = set()
        self.position = 0

    def _use_county(self, bundle: Bundle) -> None:
        self.county = compile_county(bundle)
        self._wide_names = _wide_names(self.county)
        self._wide_terms = frozenset(term for name in self._wide_names for term in traits.term_set(name))
        self._cue_words = _cue_words(self.county)

    # --- driving ---------------------------------------------------------------------------------------------------------

    def apply(self, records: Sequence[tuple[int, Input]]) -> list[Output]:
        """Decides (position, record) pairs in order -> decisions and state changes to append, in order.

        Records at or before `self.position` are passed over: they have their decisions. Raises FoldFailed; the state is
        then undefined and must be rebuilt.
        """
        self._fresh.clear()
        outputs: list[Output] = []
        for _, run in groupby(records, lambda item: isinstance(item[1], Tip)):
            together = list(run)
            self._read_ahead(together)
            for position, record in together:
                if position <= self.position:
                    continue
                try:
                    outputs.extend(self._one(position, record))
                except Exception as error:
                    raise FoldFailed(position, error) from error
                self.position = position
        return outputs

    def _read_ahead(self, run: Sequence[tuple[int, Input]]) -> None:
        """Reads what the tips of a run say by themselves, one stage after the other for all: the words and weights that a
        stage looks up then stay in the processor's cache. No record between them changes the county or the model."""
        self._read.clear()
        for position, record in run:
            if isinstance(record, Tip) and position > self.position and record.tip_id not in self.groups.tips:
                try:
                    facts = analyse(self.county, self.model, record)
                    self._read[record.tip_id] = facts, self.traits(facts)
                except Exception as error:
                    raise FoldFailed(position, error) from error

    def _one(self, position: int, record: Input) -> list[Output]:
        if isinstance(record, Tip):
            return [] if record.tip_id in self.groups.tips else self._tip(position, record)
        key = _key_of(record)
        if key in self._decided:
            return []
        if isinstance(record, Closure):
            outputs = self._closure(position, record)
        elif isinstance(record, Correction):
            outputs = self._correction(position, record)
        else:
            outputs = self._change(position, record)
        if outputs:  # What took no effect may come again and take it.
            self._decided.add(key)
        return outputs

    def recall(self, tip_id: str) -> Decision | None:
        """The latest decision of a tip, of this batch or an earlier one."""
        return self._fresh.get(tip_id) or self._recall(tip_id)

    def likely(self, facts: Facts, most: int = 5) -> list[tuple[str, float]]:
        """Incidents that a draft may tell of, the likeliest first; for a desk that types while it listens."""
        return self.groups.likely(self.traits(facts), most)

    # --- a tip -----------------------------------------------------------------------------------------------------------

    def _tip(self, position: int, tip: Tip) -> list[Output]:
        facts, remembered = self._read.pop(tip.tip_id)
        placed = self.groups.place(remembered, position)
        incident = self.groups.incidents[remembered.incident]
        reasons = [*facts.reasons, *facts.classified.reasons, *facts.located.reasons]
        if placed.best is not None and placed.best[0] in incident.tips:
            how = "is a reply to" if placed.best[0] == remembered.answers else "tells of the same incident as"
            reasons.append(Reason("group", f"p={placed.best[1]:.2f}", f"{how} tip {placed.best[0]}"))
        elif len(incident.tips) > 1:
            reasons.append(Reason("group", "", "tells of the same incident as others of it together"))
        elif incident.link != "new":
            reasons.append(Reason(incident.link, placed.link_cue, f"see incident {incident.link_to}"))
        draft = self._draft(position, facts, incident, reasons)
        self._fresh[tip.tip_id] = draft
        return self._revise(position, placed, "late_tip", first=draft, traits_of=remembered)

    def _draft(self, position: int, facts: Facts, incident: Incident, reasons: list[Reason]) -> Decision:
        """The tip's own part of its decision; `_revise` fills in the incident's part."""
        tip, said, where = facts.tip, facts.classified, facts.located
        offset = self.county.offset_minutes
        return Decision(
            county=tip.county, tip_id=tip.tip_id, message_id=tip.message_id, source=tip.source, channel=tip.channel, revision=0, cause="tip",
            category=said.category, subtype=said.subtype, urgent=said.urgent, confidence=said.confidence, area=where.area, area_candidates=where.candidates,
            parties=(*facts.extracted.names, *facts.extracted.roles), quantities=facts.extracted.quantities, incident_id=incident.id, link="new", link_to=None, pattern_id=None,
            corroborations=1, station="", cc=(), route_id="", level="county", due_at=None, title=_title(tip.text), occurred_at=format_time(facts.occurred_at, offset),
            received_at=format_time(facts.received_at, offset), no_action=False, merged=(), reasons=tuple(reasons), versions=self._versions(), position=position,
            memory={"case": self._case_bits(facts)},
        )  # fmt: skip

    def _case_bits(self, facts: Facts) -> list[Any]:
        """What routing needs of a tip besides its decision: for incidents whose lead it becomes later."""
        where = facts.located
        cues = ""
        if any(map(facts.normal.text.__contains__, self._cue_words)):
            cues = " ".join(dict.fromkeys(found for cue in self.county.cues.values() if (found := cue.find(facts.normal.text))))
        # [precision, score, cc_areas, flags, zones, cue words, the model's own category, subtype, urgent, confidence]
        said = facts.classified
        return [where.precision, where.score, where.cc_areas, where.flags, where.zones, cues, said.category, said.subtype, said.urgent, said.confidence]

    def _versions(self) -> Versions:
        return Versions(CORE, SCHEMA, self.county.digest[:12], self.model.digest[:12])

    def traits(self, facts: Facts) -> Traits:
        """What grouping remembers of a tip."""
        tip, normal, found = facts.tip, facts.normal, facts.extracted
        remembered = Traits(tip.tip_id, facts.gap_occurred_at, facts.gap_reported_at)
        said = facts.classified
        remembered.category, remembered.subtype, remembered.confidence, remembered.urgent = said.category, said.subtype, said.confidence, said.urgent
        remembered.leaves, remembered.meaning = said.leaves, said.meaning
        remembered.channel = tip.channel
        # A source's own area is no evidence of where an incident was.
        named = any(reason.kind != "source" for reason in facts.located.reasons)
        remembered.area = facts.located.area if named and "ambiguous_place" not in facts.located.flags else None
        traits.read_places(remembered, normal.text, facts.place_words, self._wide_names, self.model.term_weights)
        if tip.place is not None:
            remembered.lat, remembered.lon = tip.place.lat, tip.place.lon
        remembered.names = frozenset((*found.names, *found.plates, *found.tokens))
        remembered.money, remembered.quantities = traits.told_quantities(found.quantities)
        remembered.reporter = f"{tip.source}/{tip.reporter}" if tip.reporter else None
        remembered.answers = tip_id_of(tip.source, tip.in_reply_to) if tip.in_reply_to else None
        remembered.forwarded, remembered.follow_up = normal.forwarded, normal.follow_up
        traits.read_text(remembered, normal.text, self.model.term_weights, self._wide_terms)
        remembered.complete()
        return remembered

    # --- revisions -------------------------------------------------------------------------------------------------------

    def _revise(self, position: int, placed: Placed, cause: str, first: Decision | None = None, traits_of: Traits | None = None) -> list[Output]:
        """Writes what changed: the new tip's first decision, then every tip whose incident says something else now."""
        outputs: list[Output] = []
        merged = tuple(MergedIncident(gone, into) for gone, into in placed.merged)
        occasion = _Occasion(position, cause, first, traits_of, merged, self._versions())
        for incident_id in placed.changed:
            incident = self.groups.incidents.get(incident_id)
            if incident is None:
                continue
            before, written = incident.shown, len(outputs)
            shown = self._show(incident)
            if shown is None:
                continue
            incident.shown = _fingerprint(shown) if len(incident.tips) > REVISED_TOGETHER else 0
            same = before == incident.shown != 0 and not merged and cause == "late_tip"
            for tip_id in self._whom(incident, shown, first) if same else list(incident.tips):
                decision = self._say(occasion, tip_id, incident, shown)
                if decision is not None:
                    self._fresh[tip_id] = decision
                    outputs.append(decision)
            if len(outputs) == written:
                incident.shown = before  # Nothing was written, so nothing would bring it back.
        # The new tip's decision comes first: what it changed for others follows from it.
        outputs.sort(key=lambda o: not (first is not None and isinstance(o, Decision) and o.tip_id == first.tip_id))
        return outputs

    @staticmethod
    def _whom(incident: Incident, shown: Shown, first: Decision | None) -> list[str]:
        """Whom a change concerns that is only one of numbers: the first of the incident and the new one."""
        new = first.tip_id if first is not None else None
        return [t for t in incident.tips if t in (new, shown.master)]

    def _say(self, occasion: _Occasion, tip_id: str, incident: Incident, shown: Shown) -> Decision | None:
        """One tip's decision with its incident's part filled in; None when nothing of it changed."""
        first = occasion.first
        is_new = first is not None and first.tip_id == tip_id
        before = first if is_new else self.recall(tip_id)
        if before is None:
            return None
        said = self._with_incident(before, incident, shown)
        if not is_new and not occasion.merged and msgspec.structs.replace(said, merged=before.merged) == before:
            return None
        memory: dict[str, Any] = {"case": before.memory["case"], "incident": self._dump(incident)}
        if is_new and occasion.traits is not None:
            memory["traits"] = occasion.traits.dump()
            memory["edges"] = list(self.groups.edges_of(tip_id))  # as it is now: later tips add to it
        kept = [r for r in said.reasons if r.kind not in _INCIDENT_REASONS]
        return msgspec.structs.replace(
            said,
            revision=before.revision + 1,
            cause="tip" if is_new else occasion.cause,
            reasons=(*kept, *self._why(before.memory["case"], incident, shown, occasion.cause), *shown.routed.reasons),
            versions=occasion.versions,
            position=occasion.position,
            memory=memory,
            merged=occasion.merged if is_new or first is None else (),
        )

    def _with_incident(self, before: Decision, incident: Incident, shown: Shown) -> Decision:
        """A tip's decision with what its incident says now."""
        bits = before.memory["case"]
        category, subtype, urgent, confidence = bits[6], bits[7], bits[8], bits[9]
        if "category" in incident.overrides:
            category, subtype, confidence = shown.category, shown.subtype, 1.0
        elif _says_little(bits, incident):
            category, subtype = shown.category, shown.subtype
        own = _own_area(before)
        fills = own is None and len(incident.tips) > 1
        link, link_to = self._link(before, incident, shown)
        routed = shown.routed
        return msgspec.structs.replace(
            before,
            category=category,
            subtype=subtype,
            urgent=bool(incident.overrides.get("urgent", urgent)),
            confidence=confidence,
            area=shown.area if fills or "area" in incident.overrides else own,
            incident_id=incident.id,
            link=link,
            link_to=link_to,
            pattern_id=shown.pattern_id,
            corroborations=shown.corroborations,
            station=routed.station,
            cc=routed.cc,
            route_id=routed.route_id,
            level=routed.level,
            due_at=format_time(routed.due_at, self.county.offset_minutes) if routed.due_at is not None else None,
            no_action=routed.no_action,
            merged=(),
        )

    @staticmethod
    def _why(bits: Sequence[Any], incident: Incident, shown: Shown, cause: str) -> tuple[Reason, ...]:
        reasons: list[Reason] = []
        if len(incident.tips) > 1:
            reasons.append(Reason("incident", f"{len(incident.tips)} tips", "category and area are those of the whole incident where a tip alone does not say"))
            if (bits[6], bits[7]) != (shown.category, shown.subtype) and _says_little(bits, incident):
                alone = f"{bits[6]}/{bits[7]}" if bits[7] else bits[6]
                reasons.append(Reason("context", f"{alone} {bits[9]:.2f}", "what the tip says by itself; not sure enough to differ from its incident"))
        if incident.overrides:
            reasons.append(Reason("correction", cause if cause != "late_tip" else "kept", "a person set " + ", ".join(sorted(incident.overrides))))
        if shown.pattern_id is not None:
            reasons.append(Reason("pattern", shown.subtype or "", "one script, several victims: linked, not merged"))
        return tuple(reasons)

    def _link(self, before: Decision, incident: Incident, shown: Shown) -> tuple[Link, str | None]:
        tip_id = before.tip_id
        if tip_id == shown.master:
            return shown.link, shown.link_to
        tip, master = self.groups.tips[tip_id], self.groups.tips[shown.master]
        if not isinstance(tip, Traits) or not isinstance(master, Traits):
            # Long ago: what was said of it then stands.
            return (before.link if before.link in ("update", "duplicate") else "duplicate"), incident.id
        return ("update" if moved_on(master, tip) or _alarms_anew(incident, master, tip) else "duplicate"), incident.id

    def _show(self, incident: Incident) -> Shown | None:
        """The incident as a whole: what its tips say together, and where that sends it; None when no decision is left."""
        told = self._told(incident)
        if not told.tips:
            return None
        what = told.lead()
        bits = what.memory["case"]
        category, subtype, confidence, urgent = bits[6], bits[7], bits[9], told.urgent
        overrides: dict[str, Any] = incident.overrides
        if overrides:
            urgent = bool(overrides.get("urgent", urgent))
            if "category" in overrides:
                category, subtype, confidence = overrides["category"], overrides["subtype"], 1.0
        place = _place_of(told.best_placed(), overrides)
        routed = route(
            self.county,
            Case(
                category=category,
                subtype=subtype,
                urgent=urgent,
                confidence=confidence,
                area=place.area,
                precision=place.precision,
                candidates=place.candidates,
                cc_areas=place.cc_areas,
                flags=place.flags,
                zones=place.zones,
                channel=what.channel,
                source=what.source,
                text=" ".join(dict.fromkeys(cues for t in incident.tips if (cues := told.cues.get(t)))),
                link=incident.link,
                occurred_at=self.groups.tips[incident.tips[0]].at,
                received_at=told.received_at,
            ),
        )
        master = incident.tips[0]
        return Shown(routed, len(incident.tips), incident.pattern_id, category, subtype, urgent, place.area, master, incident.link, incident.link_to)

    def _told(self, incident: Incident) -> Tale:
        """What the incident's tips tell. Of a storm it is kept, so that one tip more costs what that tip tells."""
        told = self._storms.get(incident.id) if len(incident.tips) > REVISED_TOGETHER else None
        new = incident.tips if told is None else [t for t in incident.tips if t not in told.tips]
        if told is None or len(told.tips) + len(new) != len(incident.tips):
            told, new = Tale(), incident.tips
        for tip_id in new:
            decision = self.recall(tip_id)
            if decision is not None:
                told.add(decision)
        if len(incident.tips) > REVISED_TOGETHER:
            self._storms[incident.id] = told
            if len(self._storms) > _MOST_STORMS:
                del self._storms[next(iter(self._storms))]
        return told

    # --- corrections, closures, changes --------------------------------------------------------------------------------------

    def _closure(self, position: int, record: Closure) -> list[Output]:
        incident = self.groups.resolve(record.incident_id)
        if incident is None:
            return []
        incident.closed_at = parse_time(record.at) if record.closed else None
        return [StateChange(county=record.county, position=position, memory={"id": _key_of(record), "closed": [incident.id, incident.closed_at]})]

    def _correction(self, position: int, record: Correction) -> list[Output]:
        self._storms.clear()  # It may change what decisions say of their places.
        incident = self.groups.resolve(record.incident_id)
        if incident is None or not incident.tips:
            return []
        memory: dict[str, Any] = {"id": _key_of(record)}
        if record.action == "merge":
            into = self.groups.resolve(record.into or "")
            if into is None or into is incident or not into.tips:
                return []
            memory["merge"] = [list(incident.tips), list(into.tips)]
            placed = self.groups.merge(incident, into, position)
        elif record.action == "split":
            away = [t for t in record.tip_ids if t in incident.tips]
            if not away or len(away) == len(incident.tips):
                return []
            memory["split"] = [away, [t for t in incident.tips if t not in away]]
            placed = self.groups.split(incident, away, position)
        else:
            if record.action == "relabel":
                if record.category is not None:
                    subtype = record.subtype if record.subtype in SUBTYPES[record.category] else None
                    incident.overrides = {**incident.overrides, "category": record.category, "subtype": subtype}
                if record.urgent is not None:
                    incident.overrides = {**incident.overrides, "urgent": record.urgent}
            elif record.area in self.county.areas:
                incident.overrides = {**incident.overrides, "area": record.area}
            memory["overrides"] = [incident.id, incident.overrides]
            placed = Placed((incident.id,))
        outputs: list[Output] = list(self._revise(position, placed, record.action))
        outputs.append(StateChange(county=record.county, position=position, memory=memory))
        return outputs

    def _change(self, position: int, record: Change) -> list[Output]:
        self._put_in_force(record.what, record.digest, record.bundle)
        return [StateChange(county=record.county, position=position, memory={"id": _key_of(record), "change": [record.what, record.digest, record.bundle]})]

    def _put_in_force(self, what: str, digest: str, bundle: Bundle | None) -> None:
        if what == "county" and bundle is not None:
            self._use_county(bundle)
            self.groups.thresholds = _thresholds(self.county, self.model)
        elif what == "model" and digest != self.model.digest:
            if self._models is None:
                raise LookupError(f"model {digest[:12]} is not at hand")
            self.model = self._models(digest)
            self.groups.use(self.model.pair_weights)
            self.groups.thresholds = _thresholds(self.county, self.model)

    # --- rebuilding ----------------------------------------------------------------------------------------------------------

    def restore(self, outputs: Iterable[Output]) -> None:
        """Rebuilds the state from the log of decisions, in its order."""
        groups = self.groups
        for output in outputs:
            memory = output.memory or {}
            self.position = max(self.position, output.position)
            if isinstance(output, StateChange):
                self._restore_change(memory)
                continue
            if "traits" in memory:
                groups.restore(Traits.load(output.tip_id, memory["traits"]), memory.get("edges", ()))
            tip = groups.tips.get(output.tip_id)
            if tip is None:
                continue
            for gone in output.merged:
                groups.merged[gone.incident_id] = gone.into
            incident = groups.incidents.get(output.incident_id) or groups.adopt(Incident(output.incident_id, memory["incident"][0], output.position))
            groups.assign(tip, incident)
            self._load(incident, memory["incident"])
        for incident in list(groups.incidents.values()):
            if not incident.tips or incident.id in groups.merged:
                del groups.incidents[incident.id]

    def _restore_change(self, memory: dict[str, Any]) -> None:
        groups = self.groups
        if "id" in memory:
            self._decided.add(memory["id"])
        if "closed" in memory:
            incident = groups.resolve(memory["closed"][0])
            if incident is not None:
                incident.closed_at = memory["closed"][1]
        elif "overrides" in memory:
            incident = groups.resolve(memory["overrides"][0])
            if incident is not None:
                incident.overrides = memory["overrides"][1]
        elif "merge" in memory:
            groups.bind_all(*memory["merge"])
        elif "split" in memory:
            groups.part_all(*memory["split"])
        elif "change" in memory:
            self._put_in_force(*memory["change"])

    @staticmethod
    def _dump(incident: Incident) -> list[Any]:
        return [incident.anchor, incident.opened, incident.link, incident.link_to, incident.pattern_id, dict(incident.overrides), incident.shown]

    @staticmethod
    def _load(incident: Incident, dumped: list[Any]) -> None:
        incident.anchor, incident.opened, incident.link, incident.link_to, incident.pattern_id, incident.overrides, incident.shown = dumped


#: A tip of several that is less sure of its kind than this is of its incident's kind. On labelled files of incidents anything
#: from 0.7 to 0.95 brings macro-F1 0.01 to 0.04 up and subtypes 0.02 to 0.08.
CERTAIN: Final = 0.9
#: Reasons that speak of the incident and are written anew with every revision.
_INCIDENT_REASONS: Final = frozenset({"incident", "context", "correction", "pattern", "route", "cue", "clock", "cc"})
_PRECISIONS: Final[tuple[Precision, ...]] = ("none", "county", "township", "village")
_DEPTH: Final = {precision: depth for depth, precision in enumerate(_PRECISIONS)}


def _says_little(bits: Sequence[Any], incident: Incident) -> bool:
    """Whether a tip's kind is its incident's: its own words (`_case_bits`) leave it open, as `fixed, we can pass` does."""
    return len(incident.tips) > 1 and bits[9] < CERTAIN and bits[7] not in NO_ACTION


def _key_of(record: Correction | Closure | Change) -> str:
    """What makes a record that is no tip one: the same key at a later position is the same record delivered again."""
    if isinstance(record, Closure):
        return f"closure/{record.closure_id}"
    if isinstance(record, Correction):
        return f"correction/{record.correction_id}"
    return f"change/{record.change_id}"


class Tale:
    """What an incident's tips tell together; the same in whatever order they are added."""

    __slots__ = ("_kinds", "_places", "cues", "received_at", "tips", "urgent")

    def __init__(self) -> None:
        self.tips: set[str] = set()
        self.urgent = False
        self.received_at = 0
        #: The words of the county's lists in each tip that has some.
        self.cues: dict[str, str] = {}
        #: Kind -> the sum of its certainty, and the surest tip of it.
        self._kinds: dict[Kind, tuple[int, tuple[float, str], Decision]] = {}
        self._places: tuple[tuple[int, float, str], Decision] | None = None

    def add(self, decision: Decision) -> None:
        """One tip more, by its decision."""
        bits, tip_id = decision.memory["case"], decision.tip_id
        received = parse_time(decision.received_at)
        self.received_at = min(self.received_at, received) if self.tips else received
        self.tips.add(tip_id)
        self.urgent = self.urgent or bits[8]
        if bits[5]:
            self.cues[tip_id] = bits[5]
        kind, sure = (bits[6], bits[7] or ""), (bits[9], tip_id)
        weight, surest, tip = self._kinds.get(kind, (0, sure, decision))
        self._kinds[kind] = (weight + certainty(bits[9]), *((sure, decision) if sure >= surest else (surest, tip)))
        known = (_DEPTH[bits[0]], bits[1], tip_id)
        if self._places is None or known > self._places[0]:
            self._places = known, decision

    def lead(self) -> Decision:
        """The tip whose category speaks for all: the surest of the leading kind."""
        return self._kinds[leading({kind: found[0] for kind, found in self._kinds.items()})][2]

    def best_placed(self) -> Decision:
        """The tip that knows its place best."""
        assert self._places is not None
        return self._places[1]


class _Where(NamedTuple):
    """Where an incident lies, as far as routing asks."""

    area: str | None
    precision: Precision
    candidates: tuple[AreaCandidate, ...]
    cc_areas: tuple[str, ...]
    flags: tuple[str, ...]
    zones: tuple[str, ...]


def _place_of(best: Decision, overrides: dict[str, Any]) -> _Where:
    """Where the tip that knows it best says, unless a person set the area."""
    bits = best.memory["case"]
    if "area" in overrides:
        path = str(overrides["area"])
        return _Where(path, _PRECISIONS[min(path.count("/") + 1, 3)], (), (), (), tuple(bits[4]))
    return _Where(_own_area(best), bits[0], best.area_candidates, tuple(bits[2]), tuple(bits[3]), tuple(bits[4]))


def _own_area(decision: Decision) -> str | None:
    """Where a tip lies by itself, whatever its incidents or a person said of it since: the area that leads its candidates."""
    return decision.area_candidates[0].area if decision.memory["case"][0] != "none" else None


def _fingerprint(shown: Shown) -> int:
    """Tells whether an incident's decisions would say the same but for the count of its tips; never 0."""
    return zlib.crc32(msgspec.json.encode(msgspec.structs.replace(shown, corroborations=0))) or 1


def moved_on(master: Traits, tip: Traits) -> bool:
    """Whether a later tip of an incident tells something new rather than the same again."""
    if tip.forwarded:
        return False
    if tip.follow_up or tip.progress or tip.answers is not None:
        return True
    if any(unit == other and value != old for value, unit in tip.quantities for old, other in master.quantities):
        return True
    return tip.reporter is not None and tip.reporter == master.reporter and tip.grams != master.grams


def _alarms_anew(incident: Incident, master: Traits, tip: Traits) -> bool:
    """Whether an urgent tip in words of its own comes after its incident was closed: it may not be left with what is settled."""
    closed = incident.closed_at
    return closed is not None and tip.seen > closed and tip.urgent and not tip.forwarded and not pair.same_words(master, tip)


def _thresholds(county: County, model: Model) -> Thresholds:
    """A county's own thresholds, else those that the model was trained with."""
    learned = model.meta["pairs"]
    return Thresholds(
        join=county.thresholds.get("join", learned.get("join", Thresholds.join)),
        suggest=county.thresholds.get("suggest", learned.get("suggest", Thresholds.suggest)),
    )


def _cue_words(county: County) -> tuple[str, ...]:
    """What every entry of the lexicon's lists begins with: a text that holds none of these is spoken of by no list."""
    lists = county.lexicon
    words: set[str] = set()
    for name in county.cues:
        for entry in lists[name]:
            first = entry.split("*")[0]
            if not entry.startswith("!"):
                words.update(lists[first[1:]] if first.startswith("@") else (first,))
    # A word whose beginning is listed need not be looked for.
    return tuple(sorted(w for w in words if not any(w != other and other in w for other in words)))


def _wide_names(county: County) -> frozenset[str]:
    """Names of areas too wide to tell incidents apart: the county, its townships, its neighbours, with and without 镇 or 乡."""
    wide = [area for area in county.areas.values() if area.level != "village"]
    names = {name.lower() for area in wide for name in (area.zh, area.en)}
    return frozenset(names | {name.rstrip("镇乡县市") for name in names} | {"县城", "城关", "城区"})


def _title(text: str) -> str:
    """One line for a queue: the text's start, without line breaks."""
    line = " ".join(text.split())
    return line if len(line) <= 60 else line[:59] + "…"


__all__ = ["CORE", "NO_ACTION", "Facts", "Fold", "FoldFailed", "analyse", "group"]
