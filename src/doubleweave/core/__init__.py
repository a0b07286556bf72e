"""Everything that decides. No await, no thread, no clock, no random numbers, no input or output."""
