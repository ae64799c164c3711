"""What ``b2t grow`` does: from a trained model's layers to those of a deeper model."""
