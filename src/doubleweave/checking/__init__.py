"""Checks of flows that call no tool."""
