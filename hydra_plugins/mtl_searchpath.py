"""Placeholder: adds the config packages of other distributions to Hydra's search path."""
