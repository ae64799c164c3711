"""What the plugin and the ``b2t`` commands share; it imports nothing but the standard library."""

__version__ = "0.2.0"
