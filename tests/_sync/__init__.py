# Generated from tests/_async/__init__.py by "make generate". Do not edit.
"""Tests of what both lanes do, written once."""
