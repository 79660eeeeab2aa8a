"""What reading a damaged `.npz` file raises, besides `OSError`."""

import lzma
import zipfile
import zlib

# RuntimeError: a member is encrypted, or (NotImplementedError) of a compression or zip version that Python lacks.
NPZ_ERRORS = (EOFError, KeyError, RuntimeError, TypeError, ValueError, lzma.LZMAError, zipfile.BadZipFile, zlib.error)
"""The types of errors of `numpy.load` and of reading an array; TypeError in `with`, if the file is not an archive."""
