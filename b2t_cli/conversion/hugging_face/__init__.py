"""Folders that Hugging Face's transformers loads: models of this plugin with code of their own, and stock ones."""
