"""Minimum-Bayes-risk decoding: candidates from outputs of ``fairseq-generate``, utilities, and the choice."""
