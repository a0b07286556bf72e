"""Bundled tools: deterministic helpers without input or output of their own."""

from doubleweave.contrib.lists import filter_list, map_list
from doubleweave.contrib.tools import assert_equal, json_pluck, json_set, passthrough

__all__ = ["assert_equal", "filter_list", "json_pluck", "json_set", "map_list", "passthrough"]
