"""The operations that recipes name: pure functions from the elements of operands to raw bytes.

Each is defined in FORMAT.md ("Operations") to the last rounding, total for every bit pattern, and
the same on every processor. A definition never changes: another one is another version. `registry`
lists them by number; `values` is what they are given.

Imports `codecs` and the module of the recipe's errors, nothing else.

- **operand**: the elements that an operation reads, of one dtype.
- **prediction**: the raw bytes that an operation gives; what is stored may differ from it.
"""
