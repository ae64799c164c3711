"""The flags of the models, and what they must not contradict."""
