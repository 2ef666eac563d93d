"""The words both sides speak: calls, programs, environments and traces. Imports nothing of ours."""
