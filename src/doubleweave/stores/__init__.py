"""Where snapshots, cached outputs and traces are kept: in memory, or in files of one folder."""
