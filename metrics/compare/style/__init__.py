"""Compare style-transfer models on one list of pairs, and with turned and mixed styles."""
