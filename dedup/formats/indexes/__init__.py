"""Files that say where tensors lie in files beside them, and hold none themselves.

One module for each format, with `recognise(name, head)` and `list_external(name, file, size)`, and
listed in `companions`. ONNX models, which hold tensors and name others, are among the formats.

Imports `model`, and `cutting`, `protobuf` and `source` of the formats.
"""
