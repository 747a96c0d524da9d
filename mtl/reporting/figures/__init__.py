"""The pictures of a study's page: each takes an answer and gives a :class:`mtl.reporting.svg.Figure`, or None."""
