"""The upper limit: pyrevm itself, without signatures, nonces, fees, receipts and JSON."""

from eth_abi import encode
from eth_utils import function_signature_to_4byte_selector as selector
from eth_utils import to_checksum_address
from lifecycle import ARTIFACT, ATTENDED, ETH, HOST_STAKE, LEAD, PRICE, SEATS, STAKE, TERMS, check, options, timed
from pyrevm import EVM, BlockEnv

platform, host, *attendees = (to_checksum_address(f"0x{0xBEEF0000 + n:040x}") for n in range(SEATS + 2))
evm = EVM()
for account in (platform, host, *attendees):
    evm.set_balance(account, 10**9 * ETH)
now = 4_102_444_800
evm.set_block_env(BlockEnv(timestamp=now))
terms = encode(["address", "(uint256,uint256,uint256,uint256,uint256)"], [platform, TERMS])
stake = evm.deploy(platform, bytes.fromhex(ARTIFACT["bytecode"][2:]) + terms)
runs = bookings = 0


def data(signature: str, *values: object) -> bytes:
    return selector(signature) + encode(signature[signature.index("(") + 1 : -1].split(","), values)


def run_lifecycle() -> None:
    global now, runs, bookings
    start = now + LEAD
    create = data("createEventRun(string,uint256,uint256,uint256)", "pottery", PRICE, SEATS, start)
    evm.message_call(host, stake, calldata=create, value=HOST_STAKE)
    runs += 1
    book = data("bookEvent(uint256,uint256)", runs, 1)
    for attendee in attendees:
        evm.message_call(attendee, stake, calldata=book, value=PRICE + STAKE)
    before, earned = [evm.get_balance(a) for a in (host, *attendees)], balance()
    now = start
    evm.set_block_env(BlockEnv(timestamp=now))
    attended = [bookings + n + 1 for n in range(ATTENDED)]
    evm.message_call(host, stake, calldata=data("completeEvent(uint256,uint256[])", runs, attended))
    bookings += SEATS
    received = [evm.get_balance(a) - b for a, b in zip((host, *attendees), before, strict=True)]
    check(received[1 : ATTENDED + 1], received[ATTENDED + 1 :], received[0], balance() - earned)


def balance() -> int:
    return int.from_bytes(evm.message_call(platform, stake, calldata=selector("platformBalance()"), is_static=True))


timed(run_lifecycle, options().lifecycles, "pyrevm")
