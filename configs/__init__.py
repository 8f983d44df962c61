"""Run configurations: schema and presets."""
