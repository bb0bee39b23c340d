"""A world to play scenarios in: an engine, the deployed contract, funded actors, the backend's services on a database,
and a price feed. One snapshot covers all of them.

The services are those of production, handed their chain, their database and their feed from here; nothing in them knows
that the chain is a simulated one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from app.core.errors import AppError, ContractRejected
from app.db.session import connect, migrate
from app.services.blockchain_service import BlockchainService
from app.services.booking_service import BookingService
from app.services.event_run_service import EventRunService
from app.services.pricing import Pricing, Rate
from app.services.transaction_sender import TransactionSender, decode_revert
from eth_account.signers.local import LocalAccount
from sqlalchemy import Connection
from sqlalchemy.orm import sessionmaker
from web3 import Web3
from web3.middleware import Web3Middleware
from web3.types import RPCEndpoint, RPCResponse

from harness.evm.compiler import Artifact, compile_contracts
from harness.evm.engine import Engine
from harness.runner.picture import Books, Camera, Codec, Picture
from harness.runner.step import BookingRow, Observed, Rows, RunRow, Sent
