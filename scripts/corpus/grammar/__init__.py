"""A small grammar that gives the same sentence in English and in German.

``lexicon`` has the words of both languages, ``spelling`` puts them into the forms and the order of each language, and
``drawing`` draws phrases and clauses at random. ``make_grammar_corpus.py`` beside this folder makes sentences of them.
"""
