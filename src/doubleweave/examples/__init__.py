"""Flows that run as they are; see `python -m doubleweave.examples.audit`."""
