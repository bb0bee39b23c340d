"""Arguments of calls in scenarios."""

from stakesim.scenario.actions import CallFunction


def test_an_address_is_spelled_as_the_chain_spells_it() -> None:
    """Otherwise what the model expects and what the contract's events say would differ in capital letters."""
    address = "0x00000000000000000000000000000000000ABcDE"
    other = ("0x", "abcde", "a text", 7, True, (1, 2), "0x" + "ab" * 32)
    for spelled in (address, address.lower(), "0x" + address[2:].upper()):
        assert CallFunction(function="bookEventFor", args=(spelled, *other)).args[1:] == other
        assert CallFunction(function="bookEventFor", args=(spelled,)).args[0].lower() == address.lower()  # type: ignore[union-attr]
    first, second = (CallFunction(function="f", args=(each,)).args for each in (address.lower(), address))
    assert first == second
