"""Runs as pages for a browser: a finished one as one file, a running one served while it runs."""
