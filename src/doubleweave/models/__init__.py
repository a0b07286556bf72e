"""Data and its validation: tools, flows, steps, policies, records, events."""
