"""Faces on disk and in memory: the faces file, the batches that training draws from it, and the importers.

An importer (`rafd`, `mmi`, `folder`) lists pictures; `eggan.prepare` makes a faces file of them.
"""

from eggan.data.appearance import augment, relight
from eggan.data.batches import Batch, draw_batch
from eggan.data.faces_file import Faces, check_people_apart, decode_image, read_faces

__all__ = ["Batch", "Faces", "augment", "check_people_apart", "decode_image", "draw_batch", "read_faces", "relight"]
