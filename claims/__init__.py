"""The papers' claims: what was run for each, what was measured, and the verdict that follows."""
