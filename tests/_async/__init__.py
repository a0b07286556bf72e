# The hand-written lane tests; see CONTRIBUTING.md.
"""Tests of what both lanes do, written once."""
