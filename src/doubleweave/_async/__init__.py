# The hand-written lane source; see CONTRIBUTING.md.
"""What waits: the loop that performs the effects of a run."""
