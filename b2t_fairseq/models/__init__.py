"""The models that the plugin registers."""
