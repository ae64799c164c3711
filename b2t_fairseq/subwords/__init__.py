"""Subwords that are drawn anew in every epoch of a training (``--subword-sampling``).

models.py reads the file that made the pieces; unigram.py and merging.py draw the pieces of a word; data.py draws those
of a sentence, within the length that was planned for it; task.py has the flags, and changes fairseq's translation task.
"""
