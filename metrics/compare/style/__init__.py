"""Style-transfer models compared on one list of pairs, with turned and mixed styles."""
