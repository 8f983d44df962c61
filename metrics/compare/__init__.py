"""Comparisons of runs and of style models: tables, sheets and reports."""
