"""The use cases, and the modules that they share: contract, transactions, operations, prices."""
