"""The microworld: a generated world of people, things and events, its running text and eight tasks."""

from mtl.tasks.microworld.documents import documents
from mtl.tasks.microworld.generation import SIZES, TASKS, rows
from mtl.tasks.microworld.keeping import kept_documents, kept_rows

__all__ = ["SIZES", "TASKS", "documents", "kept_documents", "kept_rows", "rows"]
