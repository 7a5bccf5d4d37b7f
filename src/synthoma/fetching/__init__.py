"""Public data sets, fetched when a person asks for them in so many words: with licence, sums, and resumed when broken."""

from synthoma.fetching.catalogue import catalogue, find_entry
from synthoma.fetching.conditions import Conditions, free_bytes
from synthoma.fetching.entries import Entry
from synthoma.fetching.failure import FetchError
from synthoma.fetching.job import Plan, fetch, plan_fetch

__all__ = ["Conditions", "Entry", "FetchError", "Plan", "catalogue", "fetch", "find_entry", "free_bytes", "plan_fetch"]
