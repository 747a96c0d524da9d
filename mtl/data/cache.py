"""The cache under the name it has here: see :mod:`mtl.storage.cache`."""

from mtl.storage.cache import build as build
from mtl.storage.cache import cache_root as cache_root
from mtl.storage.cache import content_key as content_key
