"""Figures of the page, each a pure function: numbers in, a picture and the rows of its CSV out."""
