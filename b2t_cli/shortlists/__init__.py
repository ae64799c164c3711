"""What ``b2t shortlist`` does: reads sentence pairs, learns translations of symbols, and writes the file."""
