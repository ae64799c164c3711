"""BLEU, chrF and COMET of runs on the papers' test sets, beside the papers' own results."""
