# Generated from src/doubleweave/_async/__init__.py by "make generate". Do not edit.
"""What waits: the loop that performs the effects of a run."""
