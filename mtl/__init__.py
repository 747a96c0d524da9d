"""One shared GPT decoder under every paradigm of multi-task learning, compared fairly."""

__version__ = "0.1.0"
