"""The words of the contract: one word per thing, the same in code, schema, metric label and docs."""

from __future__ import annotations

from typing import Final, Literal

Category = Literal["dispute", "fraud", "theft", "safety_hazard", "other"]
Channel = Literal["volunteer", "hotline", "bot", "web", "partner"]
Level = Literal["village", "township", "county"]
Link = Literal["new", "duplicate", "update", "recurrence", "suggested"]
Status = Literal["open", "claimed", "acknowledged", "in_progress", "resolved"]
Role = Literal["intake", "hotline", "station", "county", "statistician", "ops", "admin"]

CATEGORIES: Final[tuple[Category, ...]] = ("dispute", "fraud", "theft", "safety_hazard", "other")
CHANNELS: Final[tuple[Channel, ...]] = ("volunteer", "hotline", "bot", "web", "partner")
LEVELS: Final[tuple[Level, ...]] = ("village", "township", "county")
STATUSES: Final[tuple[Status, ...]] = ("open", "claimed", "acknowledged", "in_progress", "resolved")
ROLES: Final[tuple[Role, ...]] = ("intake", "hotline", "station", "county", "statistician", "ops", "admin")

SUBTYPES: Final[dict[str, tuple[str, ...]]] = {
    "dispute": ("neighbour", "land_boundary", "marital_family", "debt_wage", "traffic_accident", "consumer", "other"),
    "fraud": (
        "brushing",
        "romance_investment",
        "fake_customer_service",
        "impersonate_acquaintance",
        "impersonate_police",
        "loan",
        "fake_investment",
        "other",
    ),
    "theft": ("burglary", "vehicle", "cable_industrial", "pickpocket", "shop", "livestock_crop", "other"),
    "safety_hazard": ("fire", "electricity", "gas", "traffic", "structural", "water", "drug_plant", "other"),
    "other": ("robbery", "missing_person", "gambling", "damage", "lost_found", "publicity", "noise"),
}

#: Kinds of `other` that no station need act on: kept, counted, closed as `no_action`.
NO_ACTION: Final[frozenset[str]] = frozenset({"publicity", "noise"})
