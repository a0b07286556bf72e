"""The product's name, from which loggers, threads, entry-point groups and variables take theirs."""

PRODUCT = "doubleweave"
__version__ = "0.1.0"
