"""Pair: how strongly two tips tell of one incident, as a symmetric function of the two and nothing else.

Gates first (village, point, time, money: each forbids only what is certain), then a logistic score over features in
which text only ranks. The weights are learned from written incidents (`training/`), shipped in the model file, and read
as plain numbers.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from operator import mul
from typing import Final

import msgspec

from schemas.times import HOUR, MINUTE
from schemas.vocabulary import CATEGORIES, NO_ACTION
from streams.stages.concepts import (
    CHILD,
    COLOURS,
    ELDER,
    FOUGHT,
    HAPPENINGS,
    HURT,
    LOOT,
    MAKES,
    NO_FIGHT,
    PICKED_UP,
    SITES,
    STOPPED,
    THINGS,
    UNHURT,
)
from streams.stages.extract import NUMBERED
from streams.stages.traits import MEANING_LENGTH, MEANING_ZERO, OUTRIGHT, ROADS, Remembered, Traits

FEATURES: Final = (
    "dice", "containment", "terms", "terms_share", "rare_terms",
    "leaves_agree", "categories_agree", "categories_apart", "unsure", "both_other", "both_fraud", "quiet_subtype",
    "things", "things_apart", "sites", "sites_apart", "happenings", "happenings_apart", "concepts_share", "colours_same", "colours_apart", "makes_same", "makes_apart",
    "rare_things", "rare_sites", "rare_happenings", "rare_share", "rare_kind",
    "same_village", "same_place", "same_road", "place_told", "here_unlike", "here_apart", "places_apart", "townships_apart", "same_township", "placeless", "both_placeless", "near", "far", "given_apart",
    "gap", "over_10_min", "over_1_h", "over_3_h", "over_8_h", "over_16_h",
    "same_reporter", "same_reporter_soon", "same_reporter_late", "same_reporter_follow_up", "same_reporter_apart", "same_reporter_another", "same_reporter_two", "stranger_follow_up", "stranger_progress", "progress_here", "stranger_another", "another_late",
    "money_same", "money_rare", "money_conflict", "quantity_same", "quantity_apart", "names_same", "surnames_same", "surnames_apart",
    "forwarded_same", "short", "little_said", "call_and_group", "machine", "both_machines", "both_calls",
    "agree_soon", "agree_place", "agree_terms", "agree_things", "agree_placeless_soon", "place_terms", "place_soon", "machine_agree_soon",
    "at_once", "within_hours", "kind_at_once", "kind_within_hours", "kind_things", "kind_terms", "concepts_at_once",
    "both_theft", "both_dispute", "theft_at_once", "theft_things_apart", "places_apart_at_once", "here_things_apart", "same_reporter_short",
    "meaning", "kind_meaning", "loot_apart", "fight_apart", "hurt_apart",
)  # fmt: skip

#: Features that models of before 2026-11-28 do not know, the latest first. A store's log names the model that decided it, and is
#: rebuilt with it.
_LATER: Final = (
    frozenset({"meaning", "kind_meaning", "loot_apart", "fight_apart", "hurt_apart"}),
    frozenset({
        "colours_same", "colours_apart", "makes_same", "makes_apart", "same_reporter_another", "same_reporter_two", "money_rare",
        "both_theft", "both_dispute", "theft_at_once", "theft_things_apart", "places_apart_at_once", "here_things_apart", "same_reporter_short",
    }),
)  # fmt: skip


def aligned(learned: Sequence[float]) -> tuple[float, ...]:
    """A model's weights, the bias last, in the order of FEATURES; of an older model nothing for the features it does not know.
    Any other number of weights stays as it is: `streams.stages.group` refuses it."""
    unknown: frozenset[str] = frozenset()
    for later in _LATER:
        unknown |= later
        if len(learned) == len(FEATURES) - len(unknown) + 1:
            known = iter(learned)
            return (*[0.0 if feature in unknown else next(known) for feature in FEATURES], next(known))
    return tuple(learned)


class Weights(msgspec.Struct, frozen=True):
    """What a model has learned of pairs of tips."""

    #: In the order of FEATURES, then the bias.
    features: tuple[float, ...]
    #: Of each concept, how rare it is: -log of its share of tips.
    concepts: tuple[float, ...]
    #: Of each kind (category/subtype), one over its share of tips.
    kinds: dict[str, float]


#: No two reports of one incident lie further apart, ms; the score decays long before.
LONGEST_WINDOW: Final = 30 * HOUR
#: Subtypes so rare that two reports within the hour are likely one incident.
_QUIET: Final = frozenset({"structural", "drug_plant", "water", "gas", "missing_person", "cable_industrial", "livestock_crop", "land_boundary"})
#: A text below this length never joins by its words alone.
SHORT: Final = 16
_FAR_KM = 2.0
_NEAR_KM = 0.45
#: Sums that differ by less are one sum, told roughly: 五万八 and 58,600.
_ABOUT = 0.03
_FRAUD, _THEFT, _DISPUTE = [CATEGORIES.index(category) for category in ("fraud", "theft", "dispute")]
#: Frauds told this much alike with other sums have other victims.
_ALIKE = 0.4
#: From this confidence on one person's words of two categories are likely of two things.
_SAID_SURELY = 0.85
#: Texts shorter than this are a word or two about what was said before.
_WORD_OR_TWO: Final = 8
#: From this confidence on two categories are taken at their word, when they agree on no more than this ...
_SURE = 0.85
_FAIRLY_SURE = 0.7
_LITTLE = 0.15
#: ... and neither text is contained in the other by this share.
_HELD = 0.6
#: Shared words of this weight are particular to an incident; a word that is never else seen weighs 1.
_RARE_WORDS = 1.0
#: Likely kinds that overlap by this much are alike.
_KIND_ALIKE = 0.2
#: Whatever two tips say, this close in time they are compared.
_AT_ONCE = 20 * MINUTE
#: From this confidence on a tip without a kind is taken to report nothing.
_IDLE_SURE = 0.6
#: Texts this much alike are one message passed on; written incidents hold hardly any, so no weight is learned from them.
_COPIED_ALIKE = 0.95
#: Two notices, or two words of a group, are one when they are this much alike.
_NOTICE_ALIKE = 0.7
#: The least probability that a message passed on tells of the same incident.
_COPIED = 0.95
#: The least probability that a reply tells of the incident that it answers.
_ANSWERED: Final = 0.95
#: So long after a report `又` and `也` tell of another, and no longer of how it goes on.
_ONE_MORE = 5 * HOUR
#: Years told of one person by two differ by no more than this: `十来岁`, `看着有七十`.
_SAME_YEARS = 12
#: A forward of a short text is taken for one when the words are this much alike.
_FORWARD_ALIKE = 0.8


def gap(a: Traits, b: Traits) -> int:
    """Ms between two tips: by report or by the told time, whichever lies closer."""
    return min(abs(a.seen - b.seen), abs(a.at - b.at))


def forbidden(a: Traits, b: Traits) -> bool:
    """The gates: True when the two cannot be one incident, whatever the words."""
    if abs(a.seen - b.seen) > LONGEST_WINDOW:
        return True
    if answered(a, b):
        return False  # `not in Xiwa, in Dongwa` names another village and corrects what it answers.
    if goes_on(a) or goes_on(b) or villages_apart(a, b):
        return True
    if a.lat is not None and b.lat is not None and kilometres(a, b) > _FAR_KM:
        return True
    if kinds_apart(a, b) or (townships_apart(a, b) and not reporter_same(a, b)) or again(a, b) or persons_apart(a, b):
        return True
    return numbers_apart(a, b) or victims_apart(a, b)


def victims_apart(a: Traits, b: Traits) -> bool:
    """Whether both tell of a fraud and of another sum: of two victims - unless one tells what was stopped of it, or two voices
    tell of it in their own words within the hour."""
    if not a.category == b.category == "fraud" or not a.money or not b.money or reporter_same(a, b):
        return False
    if (a.concepts ^ b.concepts) & STOPPED or about_equal(a.money, b.money):
        return False
    return gap(a, b) > HOUR or likeness(a, b)[0] > _ALIKE


def answered(a: Traits, b: Traits) -> bool:
    """Whether one of the two is a reply to the other and goes on with it: no thanks, no other victim, no other thing."""
    if (a.answers == b.tip_id) == (b.answers == a.tip_id):
        return False  # Neither - or each the other, which no two messages can.
    reply, other = (a, b) if a.answers == b.tip_id else (b, a)
    if reply.another or reply.subtype in NO_ACTION or other.subtype in NO_ACTION:
        return False
    return bare(reply) or not (kinds_apart(a, b) or persons_apart(a, b) or (not reply.follow_up and victims_apart(a, b)))


def bare(tip: Traits) -> bool:
    """Whether a tip is a reply of few words: what it says it says of the message that it answers."""
    return tip.answers is not None and tip.length < SHORT


def goes_on(tip: Traits) -> bool:
    """Whether a tip is a reply of few words that goes on with what it answers: it is drawn to nothing else."""
    return bare(tip) and not tip.another and tip.subtype not in NO_ACTION


def again(a: Traits, b: Traits) -> bool:
    """Whether the later tip says that it is another: outright (`5号楼也有味`), or hours after the other as one more of its kind
    (`昨天刚淹过一回，今天又有人往下跳`). A message passed on is no other."""
    if not (a.another or b.another):
        return False
    later = a if (a.seen, a.tip_id) > (b.seen, b.tip_id) else b
    if later.another == OUTRIGHT:
        return likeness(a, b)[1] < _HELD
    return bool(later.another) and abs(a.seen - b.seen) > _ONE_MORE


def persons_apart(a: Traits, b: Traits) -> bool:
    """Whether both tell of somebody missing, and not of the same one: of other years, or one old and one a child."""
    if not a.subtype == b.subtype == "missing_person":
        return False
    years_a, years_b = _years(a), _years(b)
    if years_a and years_b:
        return min([abs(x - y) for x in years_a for y in years_b]) > _SAME_YEARS
    who = ELDER | CHILD
    return {a.concepts & who, b.concepts & who} == {ELDER, CHILD}


def numbers_apart(a: Traits, b: Traits) -> bool:
    """Whether both number a building, well or gate, and not the same one - unless one of them corrects what was said."""
    if not a.quantities or not b.quantities or a.follow_up or b.follow_up or reporter_same(a, b):
        return False
    numbered = {unit for _, unit in a.quantities if unit in NUMBERED} & {unit for _, unit in b.quantities}
    return any([{n for n, unit in a.quantities if unit == kind}.isdisjoint([n for n, unit in b.quantities if unit == kind]) for kind in sorted(numbered)])


def _years(tip: Traits) -> list[float]:
    return [value for value, unit in tip.quantities if unit == "岁"]


def kinds_apart(a: Traits, b: Traits) -> bool:
    """Whether two tips surely tell of different kinds of thing: a quarrel and a pit at one place are two incidents, and
    publicity or the noise of a group is no report of either.

    Additions, a word or two more by the same person, how their report goes on, and a text that holds the other are left to the
    score. Else one volunteer's thief, fire and quarrel of one hour are three incidents.
    """
    idle_a, idle_b = a.subtype in NO_ACTION, b.subtype in NO_ACTION
    if (a.category == b.category and idle_a == idle_b) or a.follow_up or b.follow_up:
        return False
    if reporter_same(a, b) and (a.progress or b.progress or min(a.length, b.length) < _WORD_OR_TWO):
        return False
    if min(a.confidence, b.confidence) < (_FAIRLY_SURE if idle_a != idle_b else _SURE):
        return False
    if idle_a == idle_b and sum(map(min, a.categories, b.categories)) > _LITTLE:
        return False
    # `有人打架` is held by `有人被骗` but for one word: only of longer texts one is the other with more to it.
    return min(a.length, b.length) < SHORT or likeness(a, b)[1] < _HELD


def too_short(a: Traits, b: Traits) -> bool:
    """Short texts say too little to join two tips by themselves: a place, name, number or forward must speak too."""
    if answered(a, b):
        return False
    if "lost_found" in (a.subtype, b.subtype) and (a.concepts ^ b.concepts) & PICKED_UP and (a.subtype == b.subtype or "theft" in (a.category, b.category)):
        return True  # Who lost it and who found it are brought together by a person.
    if min(a.length, b.length) >= SHORT or reporter_same(a, b):
        return False
    if a.forwarded or b.forwarded:
        return likeness(a, b)[0] < _FORWARD_ALIKE
    if max(a.length, b.length) >= SHORT and gap(a, b) <= 30 * MINUTE and a.category == b.category and a.subtype == b.subtype and a.subtype is not None and a.concepts & b.concepts:
        return False  # A fuller report of the same kind of thing, half an hour apart at most.
    if same_name(a.places, b.places) or (a.lat is not None and b.lat is not None) or (a.area is not None and a.area == b.area):
        return False
    return not (place_told(a, b) or a.names & b.names or a.money & b.money or a.quantities & b.quantities)


def particular(a: Traits, b: Traits) -> bool:
    """Whether two tips share something particular to an incident: a person, place, number or rare words - or their kind
    or subject within the hour. Without it no edge is drawn: on a busy day many strangers share what is common.

    Publicity and talk need the same person or words, and among themselves the same words; tips of two townships need more than
    kind and hour.
    """
    if a.subtype in NO_ACTION and b.subtype in NO_ACTION:
        return likeness(a, b)[0] >= _NOTICE_ALIKE
    if reporter_same(a, b) or answered(a, b):
        return True
    if a.subtype not in NO_ACTION and b.subtype not in NO_ACTION:
        if not (a.names.isdisjoint(b.names) and a.money.isdisjoint(b.money) and a.quantities.isdisjoint(b.quantities)):
            return True
        if a.area is not None and a.area == b.area and a.area.count("/") == 2:
            return True
        if (a.lat is not None and b.lat is not None) or (a.places and b.places and same_name(a.places, b.places)) or place_told(a, b):
            return True
        if sum([weight for term, weight in a.terms.items() if term in b.terms]) >= _RARE_WORDS or _kind_soon(a, b):
            return True
    alike, contained = likeness(a, b)
    return contained >= _HELD or alike >= _ALIKE


def _kind_soon(a: Traits, b: Traits) -> bool:
    """Whether two tips of one kind or subject lie so close in time that they are worth comparing for that."""
    if _idle(a) or _idle(b) or townships_apart(a, b):
        return False
    apart = gap(a, b)
    if apart <= _AT_ONCE or apart > 4 * HOUR or _elsewhere(a, b):
        return apart <= _AT_ONCE
    of_b = dict(b.leaves)
    kind = sum([min(p, of_b[leaf]) for leaf, p in a.leaves if leaf in of_b]) >= _KIND_ALIKE
    subject = a.concepts & b.concepts != 0
    return apart <= (4 * HOUR if kind and subject else HOUR if kind else 45 * MINUTE if subject else 0)


def _idle(tip: Traits) -> bool:
    """Thanks, questions, notices: what surely reports nothing."""
    return tip.category == "other" and tip.subtype is None and tip.confidence >= _IDLE_SURE


def reporter_same(a: Traits, b: Traits) -> bool:
    """Whether one person tells both of their own. A form or a camera sends for everybody, a forwarder for anybody."""
    return a.reporter is not None and a.reporter == b.reporter and "bot" not in (a.channel, b.channel) and not (a.forwarded or b.forwarded)


def villages_apart(a: Remembered, b: Remembered) -> bool:
    """Whether both name a village and not the same one."""
    if a.villages and b.villages and not same_name(a.villages, b.villages):
        return True
    if a.area is None or b.area is None or a.area == b.area:
        return False
    # Villages of two townships may bear one name.
    return a.area.count("/") == 2 and b.area.count("/") == 2


def townships_apart(a: Traits, b: Traits) -> bool:
    """Whether the two lie in different townships, as far as both say it in one way: a device's point and a person's words
    need not agree near a border, nor where a county's boundaries are drawn roughly."""
    return (a.lat is None) == (b.lat is None) and _elsewhere(a, b)


def _elsewhere(a: Traits, b: Traits) -> bool:
    """Whether the areas of the two lie in different townships, however each is known."""
    if a.area is None or b.area is None:
        return False
    one, other = a.area.split("/"), b.area.split("/")
    return len(one) > 1 and len(other) > 1 and one[1] != other[1]


def same_name(one: Collection[str], other: Collection[str]) -> bool:
    """Whether two sets of place names share one; `丰华` and `丰华小区` are one."""
    return any([u in v or v in u for u in one for v in other])


def _only_roads(one: Collection[str], other: Collection[str]) -> bool:
    """Whether all names that two sets share are those of roads."""
    return all([(u if len(u) < len(v) else v).endswith(ROADS) for u in one for v in other if u in v or v in u])


def place_told(a: Traits, b: Traits) -> bool:
    """Whether the text of one holds the name of a place of the other."""
    of_a, of_b = a.grams, b.grams
    return any([grams & of_b == grams for grams in a.place_grams]) or any([grams & of_a == grams for grams in b.place_grams])


def kilometres(a: Traits, b: Traits) -> float:
    """Distance of two points, equirectangular: good to 1 % over a county."""
    assert a.lat is not None and a.lon is not None and b.lat is not None and b.lon is not None
    x = math.radians(b.lon - a.lon) * math.cos(math.radians((a.lat + b.lat) / 2))
    return 6371.0 * math.hypot(x, math.radians(b.lat - a.lat))


def about_equal(one: frozenset[float], other: frozenset[float]) -> bool:
    """Whether two sets of sums of money tell of one loss: a sum alike, roughly alike, or the total of two others."""
    if not one.isdisjoint(other):
        return True
    for sums, targets in ((one, other), (other, one)):
        listed = sorted(sums)
        totals = listed + [x + y for i, x in enumerate(listed) for y in listed[i + 1 :]]
        if any(abs(total - target) <= _ABOUT * target for total in totals for target in targets):
            return True
    return False


def likeness(a: Traits, b: Traits) -> tuple[float, float]:
    """How much two texts are alike, and how much of the shorter one is in the other; both 0..1."""
    common = (a.grams & b.grams).bit_count()
    total = a.gram_count + b.gram_count
    smaller = min(a.gram_count, b.gram_count)
    return 2 * common / total if total else 0.0, common / smaller if smaller >= 5 else 0.0


def features(weights: Weights, a: Traits, b: Traits) -> list[float]:
    """Two traits -> values in the order of FEATURES, each about 0..1; the same for (b, a)."""
    alike, containment = likeness(a, b)
    terms, terms_share, rare = _shared_terms(a, b)
    of_b = dict(b.leaves)
    leaves_agree = sum([min(p, of_b[leaf]) for leaf, p in a.leaves if leaf in of_b])
    agree = sum(map(min, a.categories, b.categories))
    sure = min(a.confidence, b.confidence)
    apart = (1.0 - agree) * sure

    both = a.concepts & b.concepts
    said_a, said_b = a.concepts, b.concepts
    things, sites, happenings = (both & THINGS).bit_count(), (both & SITES).bit_count(), (both & HAPPENINGS).bit_count()
    fewer = min(said_a.bit_count(), said_b.bit_count())
    rare_things, rare_sites, rare_happenings = [_rarity(weights, both & mask) / 9.0 for mask in (THINGS, SITES, HAPPENINGS)]
    rare_share = 9.0 * (rare_things + rare_sites + rare_happenings) / min(_rarity(weights, said_a), _rarity(weights, said_b)) if both else 0.0
    # How much likelier two tips agree in kind this well when they tell of one incident than by chance: fires are many.
    kind = math.log1p(round(sum([p * of_b[leaf] * weights.kinds.get(leaf, 1.0) for leaf, p in a.leaves if leaf in of_b]), 6)) / 4.0

    same_village = bool(a.villages and b.villages and same_name(a.villages, b.villages)) or (a.area is not None and a.area == b.area and a.area.count("/") == 2)
    same_place = bool(a.places and b.places) and same_name(a.places, b.places)
    same_road = same_place and _only_roads(a.places, b.places)
    told = place_told(a, b)
    here = same_place or same_village or told
    placed_a, placed_b = bool(a.places) or a.area is not None, bool(b.places) or b.area is not None
    away = townships_apart(a, b)
    km = kilometres(a, b) if a.lat is not None and b.lat is not None else None

    minutes = gap(a, b) / MINUTE
    soon, at_once, within_hours = minutes <= 45, math.exp(-minutes / 30), math.exp(-minutes / 240)
    same_reporter = reporter_same(a, b)
    theft = min(a.categories[_THEFT], b.categories[_THEFT])
    places_apart = bool(a.places and b.places) and not here
    things_apart = bool(said_a & THINGS and said_b & THINGS) and not things
    later = a if (a.seen, a.tip_id) > (b.seen, b.tip_id) else b
    follow = later.follow_up or later.progress
    forwarded = a.forwarded or b.forwarded

    money_both = bool(a.money and b.money)
    money = 0.0
    if money_both:
        money = 1.0 if not a.money.isdisjoint(b.money) else 0.8 * about_equal(a.money, b.money)
    surname_same = not a.surnames.isdisjoint(b.surnames)
    machine = (a.channel == "bot") != (b.channel == "bot")
    little, meant = min(a.length, b.length) < SHORT, meaning(a, b)
    placeless, both_placeless = placed_a != placed_b, not placed_a and not placed_b
    return [
        alike,
        containment,
        terms,
        terms_share,
        rare,
        leaves_agree,
        agree,
        apart,
        1.0 - sure,
        a.category == b.category == "other",
        min(a.categories[_FRAUD], b.categories[_FRAUD]),
        a.category == b.category and a.subtype == b.subtype and a.subtype in _QUIET and minutes <= 90,
        min(things, 3) / 3.0,
        things_apart,
        min(sites, 2) / 2.0,
        bool(said_a & SITES and said_b & SITES) and not sites,
        min(happenings, 3) / 3.0,
        bool(said_a & HAPPENINGS and said_b & HAPPENINGS) and not happenings,
        (things + sites + happenings) / fewer if fewer else 0.0,
        a.marks & b.marks & COLOURS != 0,
        _marks_apart(a, b, COLOURS),
        a.marks & b.marks & MAKES != 0,
        _marks_apart(a, b, MAKES),
        min(rare_things, 1.0),
        min(rare_sites, 1.0),
        min(rare_happenings, 1.0),
        rare_share,
        kind,
        same_village,
        same_place,
        same_road,
        told,
        here and not both and leaves_agree < _KIND_ALIKE,
        apart if here else 0.0,
        places_apart,
        away,
        a.area is not None and b.area is not None and not away,
        placeless,
        both_placeless,
        km is not None and km <= _NEAR_KM,
        km is not None and km > _NEAR_KM,
        bool(a.given and b.given) and not told and a.given not in b.given and b.given not in a.given,
        math.log1p(minutes) / 7.5,
        minutes > 10,
        minutes > 60,
        minutes > 180,
        minutes > 480,
        minutes > 960,
        same_reporter,
        same_reporter and soon,
        same_reporter and minutes > 300,
        same_reporter and follow,
        apart if same_reporter else 0.0,
        same_reporter and later.another != 0,
        same_reporter and a.category != b.category and sure >= _SAID_SURELY,
        not same_reporter and later.follow_up,
        not same_reporter and later.progress and minutes <= 180,
        later.progress and here and minutes <= 90 and bool(both),
        not same_reporter and later.another != 0,
        later.another != 0 and minutes > 300,
        money,
        money == 1.0 and any([_is_particular(value) for value in a.money & b.money]),
        money_both and not money,
        not a.quantities.isdisjoint(b.quantities),
        _quantities_apart(a, b),
        not a.names.isdisjoint(b.names),
        surname_same,
        bool(a.surnames and b.surnames) and not surname_same,
        forwarded and containment > 0.8,
        little,
        fewer <= 1,
        (a.channel == "hotline") != (b.channel == "hotline"),
        machine,
        a.channel == b.channel == "bot",
        a.channel == b.channel == "hotline",
        leaves_agree if soon else 0.0,
        leaves_agree if here else 0.0,
        leaves_agree * terms,
        leaves_agree if things else 0.0,
        leaves_agree if both_placeless and soon else 0.0,
        terms if here else 0.0,
        here and soon,
        leaves_agree if machine and soon else 0.0,
        at_once,
        within_hours,
        kind * at_once,
        kind * within_hours,
        kind * (rare_things + rare_happenings),
        kind * terms,
        at_once * (rare_things + rare_happenings),
        theft,
        min(a.categories[_DISPUTE], b.categories[_DISPUTE]),
        theft * at_once,
        theft if things_apart and not same_reporter else 0.0,
        kind * at_once if places_apart else 0.0,
        here and things_apart,
        same_reporter and little,
        meant,
        kind * meant,
        theft if _marks_apart(a, b, LOOT) else 0.0,
        _told_apart(a.marks, b.marks, FOUGHT, NO_FIGHT),
        _told_apart(a.marks, b.marks, HURT, UNHURT),
    ]


def meaning(a: Traits, b: Traits) -> float:
    """How alike two texts are in meaning, -1..1: the cosine of their directions; 0 where one says nothing."""
    one, other = a.meaning, b.meaning
    if not one or not other:
        return 0.0
    product: int = sum(map(mul, one, other)) - MEANING_ZERO * (sum(one) + sum(other) - MEANING_ZERO * len(one))
    return product / MEANING_LENGTH**2


def _shared_terms(a: Traits, b: Traits) -> tuple[float, float, float]:
    """Weight of the rare words that two tips share, its share of the fewer, and how many are very rare; each 0..1.

    The words of a place that both name say where, which counts by itself; here only what happened counts.
    """
    shared = [(term, weight) for term, weight in a.terms.items() if term in b.terms]
    if not shared:
        return 0.0, 0.0, 0.0
    where = "|".join([u if len(u) < len(v) else v for u in a.places for v in b.places if u in v or v in u])
    weights = [weight for term, weight in shared if term not in where]
    total = round(sum(weights), 6)  # whatever the order
    return min(total, 4.0) / 4.0, total / min(a.term_weight, b.term_weight), min(sum([weight > 0.75 for weight in weights]), 4) / 4.0


def _rarity(weights: Weights, bits: int) -> float:
    """Sum of the rarities of some concepts."""
    total = 0.0
    while bits:
        lowest = bits & -bits
        total += weights.concepts[lowest.bit_length() - 1]
        bits ^= lowest
    return total


def _is_particular(value: float) -> bool:
    """Whether a sum is no round one: 196,000 rather than 30,000 or 800."""
    return len(f"{value:.0f}".rstrip("0")) > 1


def _marks_apart(a: Traits, b: Traits, kind: int) -> bool:
    """Whether both have marks of a kind, such as a colour, and share none."""
    return a.marks & kind != 0 and b.marks & kind != 0 and a.marks & b.marks & kind == 0


def _told_apart(one: int, other: int, it_was: int, it_was_not: int) -> bool:
    """Whether one text says that it was so and the other that it was not; `not hurt` holds `hurt`, and counts as not."""
    denied = one & it_was_not != 0
    return denied != (other & it_was_not != 0) and (other if denied else one) & it_was != 0


def _quantities_apart(a: Traits, b: Traits) -> bool:
    """Whether both count the same kind of thing and differ in every count."""
    if not a.quantities or not b.quantities or not a.quantities.isdisjoint(b.quantities):
        return False
    return not {unit for _, unit in a.quantities}.isdisjoint([unit for _, unit in b.quantities])


def copied(a: Traits, b: Traits) -> bool:
    """Whether one text is the other, passed on by somebody else: of some length, or said to be a forward. A machine says the
    same of every alarm."""
    if min(a.length, b.length) < SHORT and not (a.forwarded or b.forwarded):
        return False
    return "bot" not in (a.channel, b.channel) and same_words(a, b)


def same_words(a: Traits, b: Traits) -> bool:
    """Whether two texts say the same in the same words."""
    return likeness(a, b)[0] >= _COPIED_ALIKE


def score(weights: Weights, a: Traits, b: Traits) -> float:
    """Probability 0..1 that two tips that no gate forbids tell of one incident."""
    learned = 1.0 / (1.0 + math.exp(-(sum(map(mul, weights.features, features(weights, a, b))) + weights.features[-1])))
    if answered(a, b):
        return max(learned, _ANSWERED)
    return max(learned, _COPIED) if copied(a, b) else learned
