"""HDF5 files (Keras, PyTables), apart where datasets are contiguous.

`hdf5` walks to the datasets, `headers` reads the messages of an object's header. HDF5's own library
is C code that hostile files crash, so this reads only what places tensors.

Imports `formats/source.py`, `cutting` and `model`.
"""
