"""Pictures made from nothing: procedural phantoms in the classes and file layouts of real collections.

They let one learn, demonstrate and test the whole way without any patient. They show no person and prove nothing
about patients; what looks like disease in them is a drawing of the textbook's signs.
"""

from synthoma.phantoms.registry import PHANTOMS, Phantom, draw
from synthoma.phantoms.writer import PhantomReport, write_phantom

__all__ = ["PHANTOMS", "Phantom", "PhantomReport", "draw", "write_phantom"]
