"""`ganmod bench`: speed against an alternative."""
