"""The hand-written seam between the lanes: twins for calling, waiting, sleeping and side-by-side work."""
