"""Feature networks of losses and encoders, and the losses in their features."""
