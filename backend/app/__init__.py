"""The backend of the booking platform."""

import importlib.util
import os

if importlib.util.find_spec("sha3"):  # seven times as fast as what eth-hash takes by itself
    os.environ.setdefault("ETH_HASH_BACKEND", "pysha3")
