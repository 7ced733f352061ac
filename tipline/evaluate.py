"""How well the stages decide: labelled texts through the same analysis and fold as production, scored and compared.

A labelled file has one JSON object a line: `text` with `category`, `subtype`, `urgent` for classification, or with
`incident_id` for grouping; `area`, `ts`, `channel`, `source`, `reporter_id`, `place_text`, `lat`, `lon` where they are
known. What `tipline export --labels` writes is read too.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import orjson

from producers.admission import admit
from schemas.errors import Rejected, TiplineError
from schemas.records import Reason, Tip
from schemas.times import parse_time
from schemas.vocabulary import CATEGORIES, Category
from streams.embedded.offline import Offline
from streams.pipeline import analyse
from streams.ports import Bundle, Principal
from streams.stages.classify import Model
from streams.stages.county import compile_county
from tipline.process import fixed_keyring

#: Bins of the calibration table.
BINS = 10
#: Resamples of an interval; the seed is fixed, so that the same answers give the same interval.
RESAMPLES = 1000
_CHANNELS = {"wechat": "volunteer"}


class BadLabels(TiplineError):
    """A labelled file that cannot be read; the message says where and why."""

    exit_code = 65


class Labelled(msgspec.Struct, frozen=True):
    """One labelled text: the tip as admitted, and what the label says of it."""

    id: str
    tip: Tip
    label: dict[str, Any]


class Judged(msgspec.Struct, frozen=True):
    """One text, its label and its decision."""

    id: str
    text: str
    category: Category
    subtype: str | None
    urgent: bool | None
    said_category: Category
    said_subtype: str | None
    said_urgent: bool
    confidence: float
    reasons: tuple[Reason, ...]
    #: Whether the label says where; then `area` is it, and `said_area` the answer of the stages.
    placed: bool = False
    area: str | None = None
    said_area: str | None = None

    @property
    def right(self) -> bool:
        """Whether the category is."""
        return self.category == self.said_category

    @property
    def subtype_right(self) -> bool:
        """Whether category and subtype are."""
        return self.right and self.subtype == self.said_subtype


# --- reading --------------------------------------------------------------------------------------------------------------


def read_labelled(path: Path, county: str) -> list[Labelled]:
    """The labelled texts of a file, admitted as at the door. Raises BadLabels."""
    keyring, drawn = fixed_keyring(), 0

    def draw(size: int) -> bytes:
        nonlocal drawn
        drawn += 1
        return drawn.to_bytes(size, "big")

    texts: list[Labelled] = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = orjson.loads(line)
            if not isinstance(row, dict):
                raise BadLabels(f"{path}:{number}: not a JSON object")
            submission = _submission(row, number)
            stamp = submission.get("reported_at")
            received = parse_time(stamp) if stamp else 0
            tip = admit(submission, Principal("evaluate", "admin"), county, received, keyring, draw).tip
        except Rejected as error:
            told = "; ".join(f"{m.pointer} {m.detail}" for m in error.mistakes) or error.title
            raise BadLabels(f"{path}:{number}: {told}") from None
        except orjson.JSONDecodeError:
            raise BadLabels(f"{path}:{number}: not JSON in UTF-8; write an object a line (docs/quality.md)") from None
        except (ValueError, OverflowError) as error:
            raise BadLabels(f"{path}:{number}: {error}") from None
        texts.append(Labelled(str(row.get("id", number)), tip, row))
    if not texts:
        raise BadLabels(f"{path}: no labelled texts in it")
    return texts


def _submission(row: dict[str, Any], number: int) -> dict[str, Any]:
    """A labelled row as the submission that it was."""
    if not isinstance(row.get("text"), str):
        raise ValueError("`text` is missing")
    place = {"text": row.get("place_text"), "lat": row.get("lat"), "lon": row.get("lon")}
    channel = row.get("channel") or "volunteer"
    found: dict[str, Any] = {
        "text": row["text"],
        "source": row.get("source") or "file:evaluate",
        "message_id": f"{number}-{row.get('id', '')}"[:100],
        "channel": _CHANNELS.get(channel, channel),
    }
    if row.get("occurred_at"):
        found["occurred_at"] = row["occurred_at"]
    if row.get("ts") or row.get("reported_at"):
        found["reported_at"] = row.get("ts") or row["reported_at"]
    if any(v is not None for v in place.values()):
        found["place"] = {k: v for k, v in place.items() if v is not None}
    if row.get("reporter_id"):
        found["reporter"] = {"id": str(row["reporter_id"])}
    return found


# --- classification -------------------------------------------------------------------------------------------------------


def judge(texts: Iterable[Labelled], bundle: Bundle, model: Model) -> list[Judged]:
    """Every labelled text by itself through the stages that need no memory."""
    county = compile_county(bundle)
    judged = []
    for one in texts:
        facts, label = analyse(county, model, one.tip), one.label
        said = facts.classified
        if label.get("category") not in CATEGORIES:
            raise BadLabels(f"{one.id}: `category` is none of {', '.join(CATEGORIES)}")
        urgent = label.get("urgent")
        judged.append(
            Judged(
                id=one.id,
                text=one.tip.text,
                category=label["category"],
                subtype=label.get("subtype"),
                urgent=None if urgent is None else bool(urgent),
                said_category=said.category,
                said_subtype=said.subtype,
                said_urgent=said.urgent,
                confidence=said.confidence,
                reasons=said.reasons,
                placed=label.get("area") is not None,
                area=label.get("area"),
                said_area=facts.located.area,
            )
        )
    return judged


def classify_figures(judged: Sequence[Judged], intervals: bool = True) -> dict[str, Any]:
    """All figures of classification as plain data."""
    table = _tables(judged)
    figures: dict[str, Any] = {
        "texts": len(judged),
        **_headline(table),
        "classes": _per_class(judged),
        "calibration": calibration([(j.confidence, j.right) for j in judged]),
        "confusion": {
            f"{a} -> {b}": n
            for (a, b), n in Counter((j.category, j.said_category) for j in judged).most_common()
            if a != b
        },
    }
    if intervals:
        chance = np.random.default_rng(11)
        count = len(judged)
        draws = [_headline(table[chance.integers(0, count, count)]) for _ in range(RESAMPLES)]
        figures["intervals"] = _intervals(draws)
    return figures


def _intervals(draws: Sequence[dict[str, float | None]]) -> dict[str, list[float]]:
    """Figures of resamples -> 95 % of each; a resample may lack what a figure is taken of."""
    told = {name: [v for d in draws if (v := d[name]) is not None] for name in draws[0]}
    return {name: [round(float(q), 3) for q in np.quantile(of, (0.025, 0.975))] for name, of in told.items() if of}


def _tables(judged: Sequence[Judged]) -> Any:
    """Columns: true category, said category, has a subtype, subtype right, has urgency, urgent, said urgent, has an area, area right."""
    return np.array(
        [
            (
                CATEGORIES.index(j.category), CATEGORIES.index(j.said_category),
                bool(j.subtype) and j.category != "other", j.subtype_right, j.urgent is not None, bool(j.urgent), j.said_urgent,
                j.placed, j.area == j.said_area,
            )
            for j in judged
        ],
        dtype=np.int8,
    )  # fmt: skip


def _headline(table: Any) -> dict[str, float | None]:
    true, said = table[:, 0], table[:, 1]
    hits = [((true == c) & (said == c)).sum() for c in range(len(CATEGORIES))]
    f1 = [2 * hit / max(1, (true == c).sum() + (said == c).sum()) for c, hit in enumerate(hits)]
    present = [f1[c] for c in sorted(set(true.tolist()))]
    concrete, known, placed = table[table[:, 2] == 1], table[table[:, 4] == 1], table[table[:, 7] == 1]
    hit = (known[:, 5] & known[:, 6]).sum()
    return {
        "accuracy": _share(sum(hits), len(table)),
        "macro_f1": _share(sum(f1), len(f1)),
        # A short file may lack whole categories, which `macro_f1` counts as nought.
        "macro_f1_present": _share(sum(present), len(present)),
        "subtype_accuracy": _share(concrete[:, 3].sum(), len(concrete)),
        "urgent_recall": _share(hit, known[:, 5].sum()),
        "urgent_precision": _share(hit, known[:, 6].sum()),
        "area_accuracy": _share(placed[:, 8].sum(), len(placed)),
    }


def _share(part: Any, whole: Any) -> float | None:
    """None where there is nothing to take a share of."""
    return round(float(part / whole), 4) if whole else None


def _per_class(judged: Sequence[Judged]) -> dict[str, dict[str, float]]:
    classes: dict[str, dict[str, float]] = {}
    for name in CATEGORIES:
        hit = sum(j.category == j.said_category == name for j in judged)
        said, true = sum(j.said_category == name for j in judged), sum(j.category == name for j in judged)
        precision, recall = hit / max(1, said), hit / max(1, true)
        classes[name] = {
            "precision": round(precision, 4),
            "recall": round(recall, 4),
            "f1": round(2 * hit / max(1, said + true), 4),
            "texts": true,
        }
    return classes


def calibration(answers: Sequence[tuple[float, bool]]) -> dict[str, Any]:
    """(confidence, right) pairs -> the expected calibration error and a table of bins."""
    bins: dict[int, list[tuple[float, bool]]] = defaultdict(list)
    for confidence, right in answers:
        bins[min(BINS - 1, int(confidence * BINS))].append((confidence, right))
    table = []
    for at in sorted(bins):
        members = bins[at]
        said = sum(c for c, _ in members) / len(members)
        was = sum(r for _, r in members) / len(members)
        table.append({"from": at / BINS, "texts": len(members), "confidence": round(said, 3), "right": round(was, 3)})
    off = sum(abs(row["confidence"] - row["right"]) * row["texts"] for row in table)
    return {"ece": round(off / max(1, len(answers)), 4), "bins": table}


def worst_of(judged: Sequence[Judged], most: int = 10) -> list[Judged]:
    """The mistakes that cost most: urgent ones missed first, then wrong categories by confidence, areas, subtypes."""

    def cost(j: Judged) -> float:
        missed = 3.0 if j.urgent and not j.said_urgent else 0.0
        category = 0.0 if j.right else 1.0 + j.confidence
        subtype = 0.5 if j.right and j.subtype and not j.subtype_right else 0.0
        return missed + category + subtype + (0.75 if j.placed and j.area != j.said_area else 0.0)

    found = [j for j in judged if cost(j) > 0 or (j.said_urgent and j.urgent is False)]
    return sorted(found, key=lambda j: (-cost(j), j.id))[:most]


def run_classify(
    path: Path, bundle: Bundle, model: Model, worst: int = 10, other: tuple[Bundle, Model] | None = None
) -> dict[str, Any]:
    """Scores a labelled file; with `other`, what another county directory or model would decide differently."""
    texts = read_labelled(path, bundle["county"]["id"])
    judged = judge(texts, bundle, model)
    result = {"file": str(path), "model": model.digest[:12], **classify_figures(judged)}
    result["worst"] = [_shown(j) for j in worst_of(judged, worst)]
    if other is not None:
        again = judge(texts, *other)
        result["compare"] = {
            "model": other[1].digest[:12],
            **_headline(_tables(again)),
            "different": [_difference(a, b) for a, b in zip(judged, again, strict=True) if _decided(a) != _decided(b)],
        }
    return result


def _decided(j: Judged) -> tuple[str, str | None, bool, str | None]:
    return j.said_category, j.said_subtype, j.said_urgent, j.said_area if j.placed else None


def _name(category: str, subtype: str | None, urgent: bool | None, area: str | None = None) -> str:
    return category + (f"/{subtype}" if subtype else "") + (" urgent" if urgent else "") + (f" in {area}" if area else "")


def _shown(j: Judged) -> dict[str, Any]:
    return {
        "id": j.id,
        "text": j.text[:120],
        "label": _name(j.category, j.subtype, j.urgent, j.area),
        "said": _name(*_decided(j)),
        "confidence": j.confidence,
        "reasons": [{"kind": r.kind, "cue": r.cue, "detail": r.detail} for r in j.reasons],
    }


def _difference(a: Judged, b: Judged) -> dict[str, Any]:
    return {
        "id": a.id,
        "text": a.text[:120],
        "label": _name(a.category, a.subtype, a.urgent, a.area),
        "running": _name(*_decided(a)),
        "candidate": _name(*_decided(b)),
    }


# --- grouping -------------------------------------------------------------------------------------------------------------


class Grouped(msgspec.Struct, frozen=True):
    """One text, its true incident and the one it was put in."""

    id: str
    text: str
    incident: str
    said: str
    link: str
    reasons: tuple[Reason, ...]


def group(texts: Sequence[Labelled], bundle: Bundle, model: Model) -> list[Grouped]:
    """All texts through the fold, in the order of the file -> each with its last decision's incident."""
    for one in texts:
        if not isinstance(one.label.get("incident_id"), str):
            raise BadLabels(f"{one.id}: `incident_id` is missing")
    offline = Offline(bundle, model)
    offline.decide(one.tip for one in texts)
    grouped = []
    for one in texts:
        said = offline.latest[one.tip.tip_id]
        grouped.append(
            Grouped(one.id, one.tip.text, one.label["incident_id"], said.incident_id, said.link, said.reasons)
        )
    return grouped


def with_thresholds(bundle: Bundle, told: dict[str, float]) -> Bundle:
    """A county directory with other thresholds (`join`, `suggest`)."""
    head = bundle["county"]
    return {**bundle, "county": {**head, "thresholds": {**head.get("thresholds", {}), **told}}}


def group_figures(grouped: Sequence[Grouped], intervals: bool = True) -> dict[str, Any]:
    """Pairwise and B-cubed figures, incidents wrongly joined and incidents split."""
    pairs = [(g.incident, g.said) for g in grouped]
    figures: dict[str, Any] = {"texts": len(grouped), **_clusters(pairs)}
    if intervals:
        # What is drawn are blocks: incidents with all that was joined to them. Every figure is made of sums over blocks.
        chance = np.random.default_rng(11)
        sums = np.array([_counts(block) for block in _blocks(pairs)])
        count = len(sums)
        draws = [_figures(sums[chance.integers(0, count, count)].sum(axis=0).tolist()) for _ in range(RESAMPLES)]
        figures["intervals"] = _intervals(draws)
    return figures


def _blocks(pairs: Sequence[tuple[str, str]]) -> list[list[tuple[str, str]]]:
    """(true incident, said incident) pairs in blocks that share neither."""
    leads: dict[str, str] = {}

    def lead(name: str) -> str:
        while leads.setdefault(name, name) != name:
            name = leads[name]
        return name

    for true, said in pairs:
        leads[lead("t" + true)] = lead("s" + said)
    blocks: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for true, said in pairs:
        blocks[lead("t" + true)].append((true, said))
    return list(blocks.values())


def _counts(pairs: Sequence[tuple[str, str]]) -> list[float]:
    """Texts, pairs right / true / said, B-cubed sums of precision / recall, incidents said / wrongly joined / true / split."""
    true, said, both = Counter(t for t, _ in pairs), Counter(s for _, s in pairs), Counter(pairs)

    def couples(counts: Counter[Any]) -> int:
        return sum(n * (n - 1) // 2 for n in counts.values())

    inside, spread = Counter(s for _, s in both), Counter(t for t, _ in both)
    return [
        len(pairs), couples(both), couples(true), couples(said),
        sum(both[p] / said[p[1]] for p in pairs), sum(both[p] / true[p[0]] for p in pairs),
        len(said), sum(n > 1 for n in inside.values()), len(true), sum(n > 1 for n in spread.values()),
    ]  # fmt: skip


def _figures(sums: Sequence[float]) -> dict[str, float | None]:
    texts, hit, real, found, b_precision, b_recall, said, joined, true, split = sums
    precision, recall = hit / found if found else 1.0, hit / real if real else 1.0
    b_precision, b_recall = b_precision / max(1, texts), b_recall / max(1, texts)
    return {
        "pairwise_precision": round(precision, 4),
        "pairwise_recall": round(recall, 4),
        "pairwise_f1": round(_harmonic(precision, recall), 4),
        "bcubed_precision": round(b_precision, 4),
        "bcubed_recall": round(b_recall, 4),
        "bcubed_f1": round(_harmonic(b_precision, b_recall), 4),
        "falsely_joined": round(joined / max(1, said), 4),
        "split": round(split / max(1, true), 4),
    }


def _clusters(pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    sums = _counts(pairs)
    return {"incidents": sums[8], "said_incidents": sums[6], **_figures(sums)}


def _harmonic(a: float, b: float) -> float:
    return 2 * a * b / (a + b) if a + b else 0.0


def run_group(
    path: Path, bundle: Bundle, model: Model, worst: int = 10, other: tuple[Bundle, Model] | None = None
) -> dict[str, Any]:
    """Scores the grouping of a labelled file; with `other`, what another county or model would group differently."""
    texts = read_labelled(path, bundle["county"]["id"])
    grouped = group(texts, bundle, model)
    result: dict[str, Any] = {"file": str(path), "model": model.digest[:12], **group_figures(grouped)}
    result["false_merges"] = _merges(grouped)[:worst]
    result["splits"] = _splits(grouped)[:worst]
    if other is not None:
        again = group(texts, *other)
        mates, mates_again = _mates(grouped), _mates(again)
        result["compare"] = {
            "model": other[1].digest[:12],
            **_clusters([(g.incident, g.said) for g in again]),
            "different": [
                {
                    "id": g.id,
                    "text": g.text[:120],
                    "label": g.incident,
                    "running": sorted(mates[g.id] - mates_again[g.id]),
                    "candidate": sorted(mates_again[g.id] - mates[g.id]),
                }
                for g in grouped
                if mates[g.id] != mates_again[g.id]
            ],
        }
    return result


def _mates(grouped: Sequence[Grouped]) -> dict[str, set[str]]:
    by_said: dict[str, set[str]] = defaultdict(set)
    for g in grouped:
        by_said[g.said].add(g.id)
    return {g.id: by_said[g.said] - {g.id} for g in grouped}


def _merges(grouped: Sequence[Grouped]) -> list[dict[str, Any]]:
    """Incidents that hold texts of several, the largest first, with the reasons of their links."""
    return _mixed(grouped, lambda g: g.said, lambda g: g.incident)


def _splits(grouped: Sequence[Grouped]) -> list[dict[str, Any]]:
    """True incidents that were put in several, the largest first."""
    return _mixed(grouped, lambda g: g.incident, lambda g: g.said)


def _mixed(
    grouped: Sequence[Grouped], by: Callable[[Grouped], str], of: Callable[[Grouped], str]
) -> list[dict[str, Any]]:
    found: dict[str, list[Grouped]] = defaultdict(list)
    for g in grouped:
        found[by(g)].append(g)
    mixed = [(name, members) for name, members in found.items() if len({of(g) for g in members}) > 1]
    mixed.sort(key=lambda one: (-len(one[1]), one[0]))
    return [
        {
            "incident": name,
            "texts": [
                {
                    "id": g.id,
                    "in": of(g),
                    "text": g.text[:80],
                    "reasons": [f"{r.kind}: {r.cue}" for r in g.reasons if r.kind in _GROUPING],
                }
                for g in members
            ],
        }
        for name, members in mixed
    ]


#: Reasons that speak of links.
_GROUPING = frozenset({"link", "group", "join", "suggest", "gate", "incident", "pattern", "same", "apart"})


# --- showing --------------------------------------------------------------------------------------------------------------


def shown(result: dict[str, Any]) -> list[str]:
    """A result as lines to read."""
    lines = [f"{result['file']}: {result['texts']} texts, model {result['model']}", ""]
    intervals = result.get("intervals", {})
    for name, value in result.items():
        if value is None:
            lines.append(f"  {name:<20} -       nothing in the file to take it of")
        elif isinstance(value, float):
            low, high = intervals.get(name, (math.nan, math.nan))
            lines.append(f"  {name:<20} {value:.3f}" + ("" if math.isnan(low) else f"   {low:.3f} - {high:.3f}"))
    if "classes" in result:
        lines += ["", f"  {'category':<16}{'precision':>10}{'recall':>8}{'F1':>8}{'texts':>7}"]
        lines += [
            f"  {name:<16}{c['precision']:>10.3f}{c['recall']:>8.3f}{c['f1']:>8.3f}{c['texts']:>7}"
            for name, c in result["classes"].items()
        ]
        lines += ["", f"  calibration: expected error {result['calibration']['ece']:.3f}"]
        lines += [
            f"    {row['from']:.1f}+ said {row['confidence']:.2f}, right {row['right']:.2f} of {row['texts']}"
            for row in result["calibration"]["bins"]
        ]
        lines += ["", "  taken for another: " + "; ".join(f"{k} {n}" for k, n in result["confusion"].items())]
    for one in result.get("worst", ()):
        lines += [
            "",
            f"  {one['id']}: {one['label']}, said {one['said']} ({one['confidence']:.2f})",
            f"    {one['text']}",
        ]
        lines += [f"    {r['kind']}: {r['cue']} - {r['detail']}" for r in one["reasons"]]
    for title in ("false_merges", "splits"):
        for one in result.get(title, ()):
            lines += ["", f"  {title} {one['incident']}"]
            lines += [f"    {t['id']} ({t['in']}) {t['text']}  {'; '.join(t['reasons'])}" for t in one["texts"]]
    return lines + _compared(result)


def _compared(result: dict[str, Any]) -> list[str]:
    other = result.get("compare")
    if other is None:
        return []
    lines = ["", f"  with {other['model']}: {len(other['different'])} decided differently"]
    lines += [
        f"  {name:<20} {result[name]:.3f} -> {value:.3f} ({value - result[name]:+.3f})"
        for name, value in other.items()
        if isinstance(value, float)
    ]
    for one in other["different"]:
        lines.append(f"    {one['id']} ({one['label']}): {one['running']} -> {one['candidate']}  {one['text']}")
    return lines
