"""The figures of a study's page, each a pure function: numbers in, a picture and the rows of its CSV out."""
