"""A pickled object that runs code where it is restored without checks."""

import os


class Attack:
    """Restoring it would create a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)
