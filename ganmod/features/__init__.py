"""Feature networks for losses and encoders, and the losses on their features."""
