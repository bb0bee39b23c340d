"""The base of the library's errors."""


class StakesimError(Exception):
    """Something that the user can mend: one sentence that says what is wrong and what to do. Exit code 2."""
