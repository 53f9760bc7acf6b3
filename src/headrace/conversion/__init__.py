"""Arguments and results by a function's annotations: written as plain JSON, and read again.

A ``datetime`` travels as text, a dataclass as an object, and arrives as what the annotation says. Not
touched is what has no annotation, what JSON has by itself (``int``, ``list[str]``, …), and what msgspec
cannot convert.
"""

from headrace.conversion.conversion import Conversion, conversion_of
from headrace.conversion.converter import Converter, Misfit, converter_of

__all__ = ["Conversion", "Converter", "Misfit", "conversion_of", "converter_of"]
