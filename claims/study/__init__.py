"""The study that decides the claims on training: each model at its own best learning rate (README.md)."""
