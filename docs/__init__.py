"""The pages of documentation; ``docs.build`` writes what is generated in them."""
