"""The papers' claims checked: what was run for each, what was measured, and the verdict that follows (README.md)."""
