"""`ganmod compare`."""
