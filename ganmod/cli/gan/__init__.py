"""Commands of trained GANs: `ganmod generate`, `project`, `translate`."""
