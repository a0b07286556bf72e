"""Runs as pages for a browser: a finished one as one file, a running one served while it runs."""

from doubleweave.pages.render import run_page as run_page
